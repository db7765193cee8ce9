"""The tables of the ledger: rows, and their sums by the hour and by the day.

Money is in two integers: whole micro-USD (10**-6) and the pico-USD (10**-12) that remain, from 0 to
999,999. The amount is their sum, exact to 10**-12 USD, and sums of each stay within 64 bits for
nine trillion USD and as many rows; one column of pico-USD would end at nine million USD.
"""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import BigInteger, Double, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from asgi_llm.stores.sql.models import Base, Json, UTCTime

__all__ = ["DailyUsage", "HourlyUsage", "LedgerEntry"]


class TokenColumns:
    """The disjoint buckets of ``asgi_llm.types.Usage``."""

    input_uncached: Mapped[int] = mapped_column(BigInteger)
    input_cached: Mapped[int] = mapped_column(BigInteger)
    cache_write_5m: Mapped[int] = mapped_column(BigInteger)
    cache_write_1h: Mapped[int] = mapped_column(BigInteger)
    audio_in: Mapped[int] = mapped_column(BigInteger)
    output_text: Mapped[int] = mapped_column(BigInteger)
    reasoning: Mapped[int] = mapped_column(BigInteger)
    audio_out: Mapped[int] = mapped_column(BigInteger)


class LedgerEntry(TokenColumns, Base):
    """One ``asgi_llm.stores.ledger.LedgerRow``."""

    __tablename__ = "llm_ledger"
    __table_args__ = (
        Index(None, "at", "id"),
        Index(None, "user_id", "at", "id"),
        Index(None, "key_id", "at", "id"),
        Index(None, "team_id", "at", "id"),
        Index(None, "organization_id", "at", "id"),
        Index(None, "request_id"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    request_id: Mapped[str] = mapped_column(String(200))
    attempt: Mapped[int]
    at: Mapped[datetime.datetime] = mapped_column(UTCTime)
    operation: Mapped[str] = mapped_column(String(200))
    key_id: Mapped[str | None] = mapped_column(String(200))
    user_id: Mapped[str | None] = mapped_column(String(200))
    team_id: Mapped[str | None] = mapped_column(String(200))
    organization_id: Mapped[str | None] = mapped_column(String(200))
    tags: Mapped[dict[str, str]] = mapped_column(Json)
    requested_model: Mapped[str] = mapped_column(String(1000))
    model: Mapped[str | None] = mapped_column(String(200))
    provider: Mapped[str | None] = mapped_column(String(200))
    deployment: Mapped[str | None] = mapped_column(String(1000))
    usage_estimated: Mapped[bool]
    # NULL where the cost is not known; the whole of it, to the last digit, is in ``cost``.
    cost_micros: Mapped[int | None] = mapped_column(BigInteger)
    cost_picos: Mapped[int | None] = mapped_column(BigInteger)
    saved_micros: Mapped[int | None] = mapped_column(BigInteger)
    saved_picos: Mapped[int | None] = mapped_column(BigInteger)
    cost: Mapped[dict[str, Any]] = mapped_column(Json)
    cached: Mapped[bool]
    cache_type: Mapped[str | None] = mapped_column(String(200))
    status: Mapped[int | None]
    error_code: Mapped[str | None] = mapped_column(String(200))
    latency_seconds: Mapped[float | None] = mapped_column(Double)
    time_to_first_token_seconds: Mapped[float | None] = mapped_column(Double)
    streamed: Mapped[bool]
    outcome: Mapped[str] = mapped_column(String(32))


class UsageColumns(TokenColumns):
    """Sums of rows that are alike in their period and all that reports group by.

    Texts that a row does not have are empty here: to a key, one NULL is not the other.
    """

    at: Mapped[datetime.datetime] = mapped_column(UTCTime, primary_key=True)
    # Of the texts below and ``cached``, which together would be too long for an index.
    digest: Mapped[str] = mapped_column(String(32), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(200))
    user_id: Mapped[str] = mapped_column(String(200))
    team_id: Mapped[str] = mapped_column(String(200))
    organization_id: Mapped[str] = mapped_column(String(200))
    provider: Mapped[str] = mapped_column(String(200))
    model: Mapped[str] = mapped_column(String(200))
    operation: Mapped[str] = mapped_column(String(200))
    cached: Mapped[bool]
    requests: Mapped[int] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    estimated: Mapped[int] = mapped_column(BigInteger)
    unknown_costs: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    cost_picos: Mapped[int] = mapped_column(BigInteger)
    saved_micros: Mapped[int] = mapped_column(BigInteger)
    saved_picos: Mapped[int] = mapped_column(BigInteger)


class HourlyUsage(UsageColumns, Base):
    """Sums by the hour, in UTC."""

    __tablename__ = "llm_usage_hourly"
    __table_args__ = (
        Index(None, "user_id", "at"),
        Index(None, "key_id", "at"),
        Index(None, "team_id", "at"),
        Index(None, "organization_id", "at"),
    )


class DailyUsage(UsageColumns, Base):
    """Sums by the day, in UTC."""

    __tablename__ = "llm_usage_daily"
    __table_args__ = (
        Index(None, "user_id", "at"),
        Index(None, "key_id", "at"),
        Index(None, "team_id", "at"),
        Index(None, "organization_id", "at"),
    )

"""What was used and what it cost: one row for each attempt that reached a provider."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from asgi_llm.types import Cost, Usage

__all__ = ["Journal", "Ledger", "LedgerRow", "RowOutcome"]

RowOutcome = Literal[
    "complete", "client_disconnect", "failed", "refused", "cache_hit", "unknown_after_crash"
]
"""How the attempt ended. ``unknown_after_crash``: its worker died; the counts are the intent's."""


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a provider, or one answer out of a cache."""

    id: str
    """Minted here, never taken from a client; an insert of the same id twice is one row."""
    request_id: str
    attempt: int
    """From 1 among the request's attempts that have a row; 0 for an answer out of a cache, and from
    2 for attempts before such an old one. So each request has one row with 0 or 1, and is counted
    by it."""
    at: datetime.datetime
    """Begin of the request, aware, in UTC."""
    operation: str
    key_id: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    tags: Mapping[str, str] = {}
    requested_model: str
    model: str | None = None
    """In the provider's words."""
    provider: str | None = None
    deployment: str | None = None
    usage: Usage
    cost: Cost
    saved_usd: Decimal | None = None
    """What a cache hit would have cost."""
    cached: bool = False
    cache_type: str | None = None
    status: int | None = None
    error_code: str | None = None
    latency_seconds: float | None = None
    time_to_first_token_seconds: float | None = None
    streamed: bool = False
    outcome: RowOutcome


class Journal(Protocol):
    """Where a worker writes on disk what it is about to do and what came of it."""

    def intend(self, row: LedgerRow) -> None:
        """Write the row of a call that is about to be made, with its estimate.

        Raises:
            StoreError: It cannot be written; the call is then refused or made without, as declared.
        """
        ...

    def settle(self, rows: Sequence[LedgerRow], *, intent: str) -> None:
        """Write what the call of that intent came to; it stands in the intent's place.

        No rows: it never reached a provider. One of several rows may have the intent's id.

        Raises:
            StoreError: It can be kept nowhere.
        """
        ...


class Ledger(Protocol):
    """Where rows come to rest."""

    async def record(self, rows: Sequence[LedgerRow]) -> None:
        """Insert rows; those whose id is there already are left as they are.

        Raises:
            StoreError: None of them is known to be kept; they may be given again.
        """
        ...

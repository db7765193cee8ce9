"""What is asked of a ledger, and what it answers."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.types import Usage

__all__ = ["Dimension", "LedgerReports", "RowPage", "UsageGroup", "UsageSummary", "UsageTotals"]

Dimension = Literal[
    "key_id",
    "user_id",
    "team_id",
    "organization_id",
    "provider",
    "model",
    "operation",
    "cached",
    "day",
    "hour",
]
"""What sums are told apart by. ``model`` is the provider's word, or the client's where there was no
provider; ``day`` and ``hour`` are in UTC."""


class UsageTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over rows."""

    requests: int = 0
    """Rows that are the first of their request (``attempt`` 0 or 1)."""
    attempts: int = 0
    """All rows."""
    errors: int = 0
    """Rows whose outcome is ``failed`` or ``refused``."""
    estimated: int = 0
    """Rows whose usage or cost is an estimate."""
    unknown_costs: int = 0
    """Rows whose cost is not known; they are not in ``cost_usd``."""
    usage: Usage
    cost_usd: Decimal = Decimal(0)
    saved_usd: Decimal = Decimal(0)
    """What answers out of a cache would have cost."""


class UsageGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of what is alike in all that was grouped by."""

    by: Mapping[str, str | bool | datetime.datetime | None]
    """None where the rows do not have it."""
    totals: UsageTotals


class UsageSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over a time, in all and by group."""

    start: datetime.datetime
    end: datetime.datetime
    totals: UsageTotals
    groups: tuple[UsageGroup, ...] = ()
    """The dearest first."""
    truncated: bool = False
    """True where there are more groups. The totals hold them all the same."""


class RowPage(msgspec.Struct, frozen=True, kw_only=True):
    """Rows, newest first."""

    rows: tuple[LedgerRow, ...]
    next: str | None = None
    """What to pass as ``after`` for the page behind; None: this is the last."""


class LedgerReports(Protocol):
    """A ledger that can be asked."""

    async def summary(
        self,
        *,
        start: datetime.datetime,
        end: datetime.datetime,
        where: Mapping[str, str | bool | None] = ...,
        tags: Mapping[str, str] = ...,
        group_by: Sequence[Dimension] = ...,
        max_groups: int = ...,
    ) -> UsageSummary:
        """Sums from ``start`` up to, not including, ``end``."""
        ...

    async def rows(
        self,
        *,
        where: Mapping[str, str | bool | None] = ...,
        tags: Mapping[str, str] = ...,
        start: datetime.datetime | None = ...,
        end: datetime.datetime | None = ...,
        limit: int = ...,
        after: str | None = ...,
    ) -> RowPage:
        """Rows newest first, a page at a time."""
        ...

    def export_csv(
        self,
        *,
        where: Mapping[str, str | bool | None] = ...,
        tags: Mapping[str, str] = ...,
        start: datetime.datetime | None = ...,
        end: datetime.datetime | None = ...,
    ) -> AsyncIterator[str]:
        """The same rows as lines of CSV, the names of the columns first."""
        ...

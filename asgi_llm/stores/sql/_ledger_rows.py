"""Rows of the ledger as columns and back, and what each adds to the sums of its hour and day."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

import msgspec

from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.types import Cost, Usage

__all__ = [
    "BUCKETS",
    "DIMENSIONS",
    "SUMS",
    "add_up",
    "as_text",
    "columns_of",
    "money",
    "row_from_columns",
]

BUCKETS: Final = tuple(name for name in Usage.__struct_fields__ if name != "estimated")
DIMENSIONS: Final = (
    "key_id",
    "user_id",
    "team_id",
    "organization_id",
    "provider",
    "model",
    "operation",
    "cached",
)
SUMS: Final = (
    "requests",
    "attempts",
    "errors",
    "estimated",
    "unknown_costs",
    *BUCKETS,
    "cost_micros",
    "cost_picos",
    "saved_micros",
    "saved_picos",
)
_PLAIN: Final = (
    "id",
    "request_id",
    "attempt",
    "operation",
    "key_id",
    "user_id",
    "team_id",
    "organization_id",
    "requested_model",
    "model",
    "provider",
    "deployment",
    "cached",
    "cache_type",
    "status",
    "error_code",
    "latency_seconds",
    "time_to_first_token_seconds",
    "streamed",
    "outcome",
)
_MOST_USD: Final = Decimal(10) ** 9
_WIDE: Final = Context(prec=400, rounding=ROUND_HALF_EVEN)


def _split(amount: Decimal | None) -> tuple[int, int] | tuple[None, None]:
    """Micro-USD and the pico-USD that remain, rounded half to even; Nones beyond 10**9 USD."""
    if amount is None or not (-_MOST_USD <= amount <= _MOST_USD):
        return None, None
    picos = int(_WIDE.to_integral_value(_WIDE.scaleb(amount, 12)))
    return divmod(picos, 1_000_000)


def money(micros: int | None, picos: int | None) -> Decimal:
    """The USD that two columns, or sums of them, stand for."""
    return Decimal(int(micros or 0) * 1_000_000 + int(picos or 0)).scaleb(-12)


def columns_of(row: LedgerRow) -> dict[str, Any]:
    """The columns of a row that ``clean_row`` gave, but for ``at``, as JSON can say them."""
    columns: dict[str, Any] = {name: getattr(row, name) for name in _PLAIN}
    usage = row.usage
    for name in BUCKETS:
        columns[name] = getattr(usage, name)
    columns["usage_estimated"] = usage.estimated
    columns["cost_micros"], columns["cost_picos"] = _split(row.cost.amount_usd)
    columns["saved_micros"], columns["saved_picos"] = _split(row.saved_usd)
    columns["tags"] = row.tags
    columns["cost"] = row.cost
    return columns


def row_from_columns(columns: Mapping[str, Any]) -> LedgerRow:
    """The row that was recorded; what it saved is rounded to 10**-12 USD.

    Raises:
        msgspec.ValidationError: Something else wrote the row, and wrote nonsense.
    """
    saved = columns["saved_micros"]
    fields = {name: columns[name] for name in _PLAIN}
    return msgspec.convert(
        {
            **fields,
            "at": columns["at"],
            "tags": columns["tags"],
            "usage": {
                **{name: columns[name] for name in BUCKETS},
                "estimated": columns["usage_estimated"],
            },
            "cost": msgspec.convert(columns["cost"], Cost),
            "saved_usd": None if saved is None else money(saved, columns["saved_picos"]),
        },
        LedgerRow,
    )


def _digest(dimensions: tuple[str | bool, ...]) -> str:
    packed = msgspec.msgpack.encode(dimensions)
    return hashlib.blake2b(packed, digest_size=16).hexdigest()


def add_up(
    rows: Iterable[LedgerRow],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What rows add to the sums of their hours and of their days, in the order of the keys.

    All who write keep to that order, so that no two wait for each other.
    """
    hours: dict[tuple[Any, ...], list[int]] = {}
    days: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        hour = row.at.replace(minute=0, second=0, microsecond=0)
        dimensions = (
            row.key_id or "",
            row.user_id or "",
            row.team_id or "",
            row.organization_id or "",
            row.provider or "",
            row.model or row.requested_model,
            row.operation,
            row.cached,
        )
        usage, cost = row.usage, row.cost
        micros, picos = _split(cost.amount_usd)
        saved_micros, saved_picos = _split(row.saved_usd)
        added = (
            row.attempt <= 1,
            1,
            row.outcome in ("failed", "refused"),
            usage.estimated or cost.estimated,
            micros is None,
            *(getattr(usage, name) for name in BUCKETS),
            micros or 0,
            picos or 0,
            saved_micros or 0,
            saved_picos or 0,
        )
        for sums, at in ((hours, hour), (days, hour.replace(hour=0))):
            key = (at, *dimensions)
            if (sum := sums.get(key)) is None:
                sums[key] = list(map(int, added))
            else:
                for index, amount in enumerate(added):
                    sum[index] += amount
    return _cells(hours), _cells(days)


def _cells(sums: Mapping[tuple[Any, ...], list[int]]) -> list[dict[str, Any]]:
    cells = [
        {
            "at": key[0],
            "digest": _digest(key[1:]),
            **dict(zip(DIMENSIONS, key[1:], strict=True)),
            **dict(zip(SUMS, amounts, strict=True)),
        }
        for key, amounts in sums.items()
    ]
    cells.sort(key=lambda cell: (cell["at"], cell["digest"]))
    return cells


def as_text(at: datetime.datetime, *, zoned: bool) -> str:
    """A time as a database reads it: with its zone, or, for SQLite, without."""
    text = at.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return text + "+00:00" if zoned else text

"""Rows of the ledger as CSV that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from asgi_llm.pricing import format_usd
from asgi_llm.stores.ledger import LedgerRow

__all__ = ["COLUMNS", "csv_header", "csv_lines", "harmless"]

_BUCKETS: Final = (
    "input_uncached",
    "input_cached",
    "cache_write_5m",
    "cache_write_1h",
    "audio_in",
    "output_text",
    "reasoning",
    "audio_out",
)
COLUMNS: Final = (
    "id",
    "request_id",
    "attempt",
    "at",
    "operation",
    "key_id",
    "user_id",
    "team_id",
    "organization_id",
    "tags",
    "requested_model",
    "model",
    "provider",
    "deployment",
    *_BUCKETS,
    "estimated",
    "cost_usd",
    "cost_unknown",
    "price_table",
    "price_version",
    "price_row",
    "saved_usd",
    "cached",
    "cache_type",
    "status",
    "error_code",
    "latency_seconds",
    "time_to_first_token_seconds",
    "streamed",
    "outcome",
)
# With the full-width forms, which some programs read as the others.
_FORMULA: Final = tuple("=+-@\t\r\n|%＝＋－＠")  # noqa: RUF001


def harmless(text: str) -> str:
    """``text``, with an apostrophe before it where a spreadsheet would calculate it.

    Source: OWASP, "CSV Injection".
    """
    if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA):
        return f"'{text}"
    return text


def csv_header() -> str:
    """The line of the columns' names."""
    return _lines([COLUMNS])


def csv_lines(rows: Iterable[LedgerRow]) -> str:
    """One line for each row. Every field is quoted; amounts are in full, without exponent."""
    return _lines(_fields(row) for row in rows)


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


def _fields(row: LedgerRow) -> Iterable[Any]:
    source = row.cost.source
    found: dict[str, Any] = {
        **{name: getattr(row.usage, name) for name in _BUCKETS},
        "at": row.at.isoformat(),
        "tags": msgspec.json.encode(row.tags).decode() if row.tags else "",
        "estimated": row.usage.estimated or row.cost.estimated,
        "cost_usd": None if row.cost.amount_usd is None else format_usd(row.cost.amount_usd),
        "cost_unknown": row.cost.unknown,
        "price_table": source and source.table,
        "price_version": source and source.version,
        "price_row": source and source.row,
        "saved_usd": None if row.saved_usd is None else format_usd(row.saved_usd),
    }
    for name in COLUMNS:
        value = found[name] if name in found else getattr(row, name)
        if value is None:
            yield ""
        elif isinstance(value, bool):
            yield "true" if value else "false"
        elif isinstance(value, str):
            yield harmless(value)
        else:
            yield value

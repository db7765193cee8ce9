"""Rows given to a journal in the short way, as the cost layer gives those of usual calls."""

from __future__ import annotations

from typing import Any

from asgi_llm.stores._journal_rows import ONE_ROW, PackedJournal, pack_result, pack_shared
from asgi_llm.stores._journal_short import ShortCall
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.types import Usage
from tests.stores.ledger.rows import make_row

__all__ = ["call_of", "ending_of", "head_of", "intend", "make_short", "settle"]


def make_short(number: int, **fields: Any) -> LedgerRow:
    """The row of a usual call, with ids as ours are."""
    values: dict[str, Any] = {
        "request_id": f"req_{number:032x}",
        "usage": Usage(input_uncached=100 + number % 50, output_text=50),
    }
    return make_row(f"row_{number:032x}", **{**values, **fields})


def call_of(row: LedgerRow) -> ShortCall:
    """What it has for its own, as far as it is known before the call."""
    tokens_in = row.usage.input_uncached
    return ShortCall(row.id, row.request_id, _microseconds(row), row.streamed, tokens_in)


def head_of(row: LedgerRow) -> bytes:
    """What its row has in common with others of its kind."""
    return ONE_ROW + pack_shared(
        row.operation,
        row.requested_model,
        row.model,
        row.provider,
        row.deployment,
        row.key_id,
        row.user_id,
        row.team_id,
        row.organization_id,
        row.tags,
    )


def ending_of(row: LedgerRow) -> bytes:
    """What its row has in common with others of the same result."""
    result = row.status, row.error_code, row.saved_usd, row.cached, row.cache_type
    return pack_result(row.attempt, row.outcome, row.usage, row.cost, *result)


def _microseconds(row: LedgerRow) -> int:
    return round(row.at.timestamp() * 1_000_000)


def intend(journal: PackedJournal, row: LedgerRow) -> None:
    """Its intent."""
    journal.intend_short(call_of(row), head_of(row), ending_of(row))


def settle(journal: PackedJournal, row: LedgerRow) -> None:
    """Its outcome."""
    call = call_of(row)
    call.tokens_out = row.usage.output_text
    call.latency_seconds = row.latency_seconds
    call.first_seconds = row.time_to_first_token_seconds
    journal.settle_short(call, head_of(row), ending_of(row))

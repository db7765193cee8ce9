"""A request, and the rows of the ledger that it has, as objects and as bytes of the journal."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Final

import msgspec

from asgi_llm.middleware._cost_budgets import BudgetPlan
from asgi_llm.middleware._cost_kinds import Kind, Place
from asgi_llm.pricing import Quantities
from asgi_llm.stores._journal_rows import encode_own, pack_result
from asgi_llm.stores._journal_short import ShortCall
from asgi_llm.stores.ledger import LedgerRow, RowOutcome
from asgi_llm.types import Cost, Document, Outcome, Usage

__all__ = [
    "INTENT_ENDING",
    "Asked",
    "Entry",
    "Served",
    "make_intent",
    "make_row",
    "pack_entry",
]

_NOT_YET: Final = Cost(amount_usd=None, unknown="no_usage")


class Asked:
    """One request, as far as its rows tell of it.

    Args:
        id: Of its intent, and of its first row: ``row_id``.
        request_id: Our own.
        seconds: When it began, in Unix time.
        microseconds: The same as rows have it.
        kind: What it has in common with others.
        plan: The budgets that it spends from.
        document: The request, as it goes on.
        streamed: Whether a stream is asked for.
        input_tokens: As counted.
        is_plain: Whether it is a chat of texts, and what it costs depends on nothing else.

    Attributes:
        call: What its short records have for their own; None where it has none.
    """

    __slots__ = (
        "call",
        "document",
        "id",
        "input_tokens",
        "is_plain",
        "kind",
        "microseconds",
        "plan",
        "request_id",
        "seconds",
        "streamed",
    )

    def __init__(
        self,
        id: str,
        request_id: str,
        seconds: float,
        microseconds: int,
        kind: Kind,
        plan: BudgetPlan,
        document: Document,
        streamed: bool,
        input_tokens: int = 0,
        is_plain: bool = False,
    ) -> None:
        self.id = id
        self.request_id = request_id
        self.seconds = seconds
        self.microseconds = microseconds
        self.kind = kind
        self.plan = plan
        self.document = document
        self.streamed = streamed
        self.input_tokens = input_tokens
        self.is_plain = is_plain
        self.call: ShortCall | None = None

    @property
    def at(self) -> datetime.datetime:
        """When it began."""
        return _EPOCH + datetime.timedelta(microseconds=self.microseconds)


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Served(msgspec.Struct, frozen=True, gc=False):
    """What came of a request."""

    outcome: Outcome
    status: int | None
    """Of the answer; None where it did not begin."""
    usage: Usage | None
    service_tier: str | None
    quantities: Quantities
    error_code: str | None
    """Why there is no whole answer, also of one that broke off after it had begun."""
    latency_seconds: float
    time_to_first_token_seconds: float | None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What a row says of its own attempt, beside what it says of the request."""

    id: str
    attempt: int
    place: Place
    usage: Usage
    cost: Cost
    outcome: RowOutcome
    status: int | None = None
    error_code: str | None = None
    latency_seconds: float | None = None
    time_to_first_token_seconds: float | None = None
    saved_usd: Decimal | None = None
    cached: bool = False
    cache_type: str | None = None


def make_row(asked: Asked, entry: Entry) -> LedgerRow:
    """The row of an entry."""
    kind = asked.kind
    principal = kind.principal
    provider, model = entry.place.provider, entry.place.model
    return LedgerRow(
        id=entry.id,
        request_id=asked.request_id,
        attempt=entry.attempt,
        at=asked.at,
        operation=kind.operation,
        key_id=principal.key_id,
        user_id=principal.user_id,
        team_id=principal.team_id,
        organization_id=principal.organization_id,
        tags=kind.tags,
        requested_model=kind.model,
        model=model,
        provider=provider,
        deployment=f"{provider}/{model}" if provider is not None else None,
        usage=entry.usage,
        cost=entry.cost,
        saved_usd=entry.saved_usd,
        cached=entry.cached,
        cache_type=entry.cache_type,
        status=entry.status,
        error_code=entry.error_code,
        latency_seconds=entry.latency_seconds,
        time_to_first_token_seconds=entry.time_to_first_token_seconds,
        streamed=asked.streamed,
        outcome=entry.outcome,
    )


def pack_entry(asked: Asked, entry: Entry) -> bytes:
    """The row of an entry as bytes of the journal, which is never made as an object.

    Raises:
        ValueError: A text cannot be written as UTF-8.
        OverflowError: A number is too large.
    """
    shared, usage = entry.place.shared, entry.usage
    if not shared:
        raise ValueError("a text cannot be written as UTF-8")
    own = (
        entry.id,
        asked.request_id,
        asked.microseconds,
        asked.streamed,
        usage.input_uncached,
        usage.output_text,
        entry.latency_seconds,
        entry.time_to_first_token_seconds,
    )
    result = pack_result(
        entry.attempt,
        entry.outcome,
        usage,
        entry.cost,
        entry.status,
        entry.error_code,
        entry.saved_usd,
        entry.cached,
        entry.cache_type,
    )
    return shared + encode_own(own) + result


INTENT_ENDING: Final = pack_result(
    1, "unknown_after_crash", Usage(estimated=True), _NOT_YET, None, None, None, False, None
)
"""What rows of intents have at their end, in bytes."""


def make_intent(asked: Asked) -> Entry:
    """The row of a call that is about to be made: what there is of it if its worker dies."""
    return Entry(
        asked.id,
        1,
        asked.kind.first,
        Usage(input_uncached=asked.input_tokens, estimated=True),
        _NOT_YET,
        "unknown_after_crash",
    )

"""Rows of the ledger: one for each attempt of a request, noted when it is over."""

from __future__ import annotations

import datetime
import os
from decimal import Decimal
from typing import Final

import msgspec
from msgspec.structs import astuple

from asgi_llm._ids import draw_ids
from asgi_llm.middleware._cost_budgets import BudgetPlan
from asgi_llm.middleware._cost_kinds import Kind, Place
from asgi_llm.middleware._cost_prices import Pricer
from asgi_llm.pricing import Quantities
from asgi_llm.pricing._money import EXACT, ZERO
from asgi_llm.pricing.rows import ONE_REQUEST
from asgi_llm.stores._journal_rows import encode_own
from asgi_llm.stores.ledger import LedgerRow, RowOutcome
from asgi_llm.types import Attempt, CacheReport, Cost, Document, Outcome, Usage

__all__ = [
    "FREE",
    "Asked",
    "Entry",
    "Served",
    "make_entries",
    "make_intent",
    "make_row",
    "make_usual",
    "pack_entry",
    "pack_intent",
    "sum_costs",
]

FREE: Final = Cost(amount_usd=ZERO)
"""The cost of what no provider charges."""
_NOT_YET: Final = Cost(amount_usd=None, unknown="no_usage")
_NO_USAGE: Final = Usage()
_NO_PARTS: Final[dict[str, Decimal]] = {}


# Codes of attempts that may have been heard, and charged, though no answer came.
_MAYBE_HEARD: Final = frozenset(
    ("provider_timeout", "connection_lost", "invalid_provider_response", "stream_truncated")
)

_new_ids: list[str] = []

# A forked process would give the same ids again.
os.register_at_fork(after_in_child=_new_ids.clear)


def new_row_id() -> str:
    """An id that no other row has."""
    if not _new_ids:
        _new_ids.extend(draw_ids("row_"))
    return _new_ids.pop()


class Asked:
    """One request, as far as its rows tell of it.

    Attributes:
        id: Of its intent, and of its first row.
        request_id: Our own.
        seconds: When it began, in Unix time.
        kind: What it has in common with others.
        plan: The budgets that it spends from.
        document: The request, as it goes on.
        input_tokens: As counted.
        streamed: Whether a stream is asked for.
    """

    __slots__ = (
        "document",
        "id",
        "input_tokens",
        "kind",
        "plan",
        "request_id",
        "seconds",
        "streamed",
    )

    def __init__(
        self,
        request_id: str,
        seconds: float,
        kind: Kind,
        plan: BudgetPlan,
        document: Document,
        streamed: bool,
    ) -> None:
        self.id = new_row_id()
        self.request_id = request_id
        self.seconds = seconds
        self.kind = kind
        self.plan = plan
        self.document = document
        self.input_tokens = 0
        self.streamed = streamed

    @property
    def at(self) -> datetime.datetime:
        """When it began."""
        return _EPOCH + datetime.timedelta(microseconds=round(self.seconds * 1_000_000))


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
    place, cost = entry.place, entry.cost
    shared = place.shared
    if not shared:
        raise ValueError("a text cannot be written as UTF-8")
    own = (
        entry.id,
        asked.request_id,
        round(asked.seconds * 1_000_000),
        entry.attempt,
        entry.outcome,
        asked.streamed,
        astuple(entry.usage),
        cost.amount_usd,
        cost.parts,
        place.packed_source if cost.source is place.source else cost.source,
        cost.service_tier,
        cost.estimated,
        cost.unknown,
        entry.status,
        entry.error_code,
        entry.latency_seconds,
        entry.time_to_first_token_seconds,
    )
    if entry.cached:
        own = (*own, entry.saved_usd, True, entry.cache_type)  # type: ignore[assignment]
    return shared + encode_own(own)


def pack_intent(asked: Asked) -> bytes:
    """``make_intent`` as bytes of the journal.

    Raises:
        ValueError: A text cannot be written as UTF-8.
    """
    shared = asked.kind.first.shared
    if not shared:
        raise ValueError("a text cannot be written as UTF-8")
    own = (
        asked.id,
        asked.request_id,
        round(asked.seconds * 1_000_000),
        1,
        "unknown_after_crash",
        asked.streamed,
        (asked.input_tokens, 0, 0, 0, 0, 0, 0, 0, True),
        None,
        _NO_PARTS,
        None,
        None,
        False,
        "no_usage",
    )
    return shared + encode_own(own)


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


def make_entries(
    asked: Asked,
    served: Served,
    pricer: Pricer,
    attempts: tuple[Attempt, ...] | None,
    cached: CacheReport | None,
) -> list[Entry]:
    """One for each attempt that reached a provider, or one for an answer out of a cache.

    Args:
        asked: The request.
        served: What came of it.
        pricer: Prices the attempts.
        attempts: As the app inside has left them; None where it says nothing of them, and the
            request itself stands for the one attempt.
        cached: The word of a cache that had the answer.
    """
    if cached is not None:
        return [_cached(asked, served, pricer, cached)]
    if attempts is None:
        return [_answered(asked, served, pricer, asked.kind.first)]
    if len(attempts) == 1 and attempts[0].error_code is None and attempts[0].status is not None:
        return [_attempted(asked, served, pricer, attempts[0], 1, served.usage)]
    shares = _shares(attempts, served)
    entries = []
    for number, attempt in enumerate(attempts, 1):
        if number in shares:
            usage = shares[number]
            entries.append(_attempted(asked, served, pricer, attempt, number, usage))
        elif attempt.status is not None or _may_be_heard(attempt):
            entries.append(_failed(asked, served, pricer, attempt, number))
    return entries


def _shares(attempts: tuple[Attempt, ...], served: Served) -> dict[int, Usage | None]:
    """The attempts that made the answer, each with its part of the usage.

    Several did where a provider gives choices one by one: nobody says which took what.
    """
    numbers = range(1, len(attempts) + 1)
    well = [number for number in numbers if _is_success(attempts[number - 1])]
    makers = [number for number in well if attempts[number - 1].error_code is None]
    if not makers and served.status is not None and served.status < 400:
        makers = well[-1:]
    usage = served.usage
    if usage is None or len(makers) < 2:
        return dict.fromkeys(makers, usage)
    return dict(zip(makers, _split(usage, len(makers)), strict=True))


def _is_success(attempt: Attempt) -> bool:
    return attempt.status is not None and 200 <= attempt.status < 300


def _split(usage: Usage, parts: int) -> list[Usage]:
    """``usage`` in parts that are about the same, and sum to it."""
    counts = {name: getattr(usage, name) for name in Usage.__struct_fields__ if name != "estimated"}
    return [
        Usage(
            **{name: (count + part) // parts for name, count in counts.items()},
            estimated=usage.estimated,
        )
        for part in range(parts)
    ]


def _answered(asked: Asked, served: Served, pricer: Pricer, place: Place) -> Entry:
    status = served.status
    # An app that failed before it said anything is taken to have called nobody.
    is_error = served.outcome is Outcome.FAILED if status is None else status >= 400
    if is_error:
        usage, cost = _NO_USAGE, FREE
    else:
        usage = served.usage or _NO_USAGE
        cost = pricer.cost(
            place.price,
            served.usage,
            asked.seconds,
            served.service_tier,
            served.quantities,
        )
    return Entry(
        asked.id,
        1,
        place,
        usage,
        cost,
        _outcome(served),
        status,
        served.error_code,
        served.latency_seconds,
        served.time_to_first_token_seconds,
    )


def _attempted(
    asked: Asked,
    served: Served,
    pricer: Pricer,
    attempt: Attempt,
    number: int,
    usage: Usage | None,
) -> Entry:
    """The entry of an attempt that made the answer, or a part of it."""
    if not _is_success(attempt):
        return _failed(asked, served, pricer, attempt, number)
    place = asked.kind.place(attempt.provider, attempt.model)
    return Entry(
        _row_id(asked, number),
        number,
        place,
        usage or _NO_USAGE,
        pricer.cost(
            place.price,
            usage,
            asked.seconds,
            served.service_tier,
            served.quantities if number == 1 or usage is served.usage else ONE_REQUEST,
        ),
        _outcome(served),
        attempt.status,
        attempt.error_code,
        attempt.duration_seconds,
        served.time_to_first_token_seconds or attempt.time_to_first_byte_seconds,
    )


def make_usual(
    asked: Asked,
    pricer: Pricer,
    provider: str,
    model: str,
    latency_seconds: float,
    first_seconds: float | None,
    usage: Usage | None,
    service_tier: str | None,
    quantities: Quantities,
) -> Entry:
    """``make_entries`` for a whole answer of status 200 that one attempt has made."""
    place = asked.kind.first
    if model != place.model or provider != place.provider:
        place = asked.kind.place(provider, model)
    return Entry(
        asked.id,
        1,
        place,
        usage or _NO_USAGE,
        pricer.cost(place.price, usage, asked.seconds, service_tier, quantities),
        "complete",
        200,
        None,
        latency_seconds,
        first_seconds,
    )


def _may_be_heard(attempt: Attempt) -> bool:
    """Whether a provider may have read, and charged, the input of an attempt without an answer."""
    if attempt.error_code is None:
        return attempt.status is None  # given up while it was waited for
    return attempt.error_code in _MAYBE_HEARD


def _failed(asked: Asked, served: Served, pricer: Pricer, attempt: Attempt, number: int) -> Entry:
    """The entry of an attempt that came to nothing."""
    place = asked.kind.place(attempt.provider, attempt.model)
    usage, cost = _NO_USAGE, FREE
    if _may_be_heard(attempt):
        usage = Usage(input_uncached=asked.input_tokens, estimated=True)
        cost = pricer.cost(place.price, usage, asked.seconds)
    outcome: RowOutcome = "failed"
    if attempt.status is None and attempt.error_code is None:
        outcome = _outcome(served)
    elif attempt.status is not None and 400 <= attempt.status < 500:
        outcome = "refused"
    return Entry(
        _row_id(asked, number),
        number,
        place,
        usage,
        cost,
        outcome,
        attempt.status,
        attempt.error_code,
        attempt.duration_seconds,
        attempt.time_to_first_byte_seconds,
    )


def _cached(asked: Asked, served: Served, pricer: Pricer, cached: CacheReport) -> Entry:
    place = asked.kind.place(cached.provider, cached.model)
    saved = pricer.cost(place.price, cached.usage, asked.seconds).amount_usd
    left = served.outcome is Outcome.DISCONNECTED
    return Entry(
        asked.id,
        0,
        place,
        _NO_USAGE,
        FREE,
        "client_disconnect" if left else "cache_hit",
        served.status,
        None,
        served.latency_seconds,
        served.time_to_first_token_seconds,
        saved,
        True,
        cached.type,
    )


def _outcome(served: Served) -> RowOutcome:
    if served.outcome is Outcome.DISCONNECTED:
        return "client_disconnect"
    if served.outcome is Outcome.FAILED:
        return "failed"
    status = served.status
    if status is not None and status >= 400:
        return "refused" if status < 500 else "failed"
    return "complete" if served.error_code is None else "failed"


def _row_id(asked: Asked, number: int) -> str:
    return asked.id if number == 1 else f"{asked.id}-{number}"


def sum_costs(entries: list[Entry]) -> Cost:
    """What all attempts of a request cost together; not known where one of them is not."""
    if len(entries) == 1:
        return entries[0].cost
    parts: dict[str, Decimal] = {}
    amount = ZERO
    unknown = None
    for entry in entries:
        cost = entry.cost
        unknown = unknown or cost.unknown
        amount = EXACT.add(amount, cost.amount_usd or ZERO)
        for name, part in cost.parts.items():
            parts[name] = EXACT.add(parts.get(name, ZERO), part)
    last = entries[-1].cost if entries else FREE
    return Cost(
        amount_usd=None if unknown is not None else amount,
        parts=parts,
        source=last.source,
        service_tier=last.service_tier,
        estimated=any(entry.cost.estimated for entry in entries),
        unknown=unknown,
    )

"""What came of a request: an entry for each attempt, with its usage, its outcome and its cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from asgi_llm.middleware._cost_kinds import Place
from asgi_llm.middleware._cost_prices import Pricer
from asgi_llm.middleware._cost_rows import Asked, Entry, Served
from asgi_llm.pricing._money import EXACT, ZERO
from asgi_llm.pricing.rows import ONE_REQUEST
from asgi_llm.stores.ledger import RowOutcome
from asgi_llm.types import Attempt, CacheReport, Cost, Outcome, Usage

__all__ = ["make_entries", "sum_costs"]

_FREE: Final = Cost(amount_usd=ZERO)  # what no provider charges
_NO_USAGE: Final = Usage()

# Codes of attempts that may have been heard, and charged, though no answer came.
_MAYBE_HEARD: Final = frozenset(
    (
        "provider_timeout",
        "connection_lost",
        "invalid_provider_response",
        "stream_truncated",
        "abandoned",
    )
)


def make_entries(
    asked: Asked,
    served: Served,
    pricer: Pricer,
    attempts: tuple[Attempt, ...] | None,
    cached: CacheReport | None,
) -> list[Entry]:
    """One for each attempt that reached a provider, behind one for an answer out of a cache.

    A cache that gives an old answer because the app failed has attempts beside it.

    Args:
        asked: The request.
        served: What came of it.
        pricer: Prices the attempts.
        attempts: As the app inside has left them; None where it says nothing of them, and the
            request itself stands for the one attempt.
        cached: The word of a cache that had the answer.
    """
    entries = []
    if cached is not None:
        entries.append(_cached(asked, served, pricer, cached))
        if not attempts:
            return entries
    elif attempts is None:
        return [_answered(asked, served, pricer, asked.kind.first)]
    elif len(attempts) == 1 and attempts[0].error_code is None and attempts[0].status is not None:
        return [_attempted(asked, served, pricer, attempts[0], 1, served.usage, True)]
    shares = _shares(attempts, served, cached is not None)
    for place, attempt in enumerate(attempts, 1):
        # Of those with an entry: the first one has the intent's id, and is the request in the sums.
        number = len(entries) + 1
        if place in shares:
            usage, is_first = shares[place], place == min(shares)
            entries.append(_attempted(asked, served, pricer, attempt, number, usage, is_first))
        elif attempt.status is not None or _may_be_heard(attempt):
            entries.append(_failed(asked, served, pricer, attempt, number))
    return entries


def _shares(
    attempts: tuple[Attempt, ...], served: Served, is_cached: bool
) -> dict[int, Usage | None]:
    """The attempts that made the answer, each with its part of the usage.

    Several did where a provider gives choices one by one: nobody says which took what. None broke
    off in the midst of an answer that a cache had.
    """
    numbers = range(1, len(attempts) + 1)
    well = [number for number in numbers if _is_success(attempts[number - 1])]
    makers = [number for number in well if attempts[number - 1].error_code is None]
    if not makers and not is_cached and served.status is not None and served.status < 400:
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
        usage, cost = _NO_USAGE, _FREE
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
    is_first: bool,
) -> Entry:
    """The entry of an attempt that made the answer, or a part of it.

    What is paid for beside tokens is told with the first part.
    """
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
            served.quantities if is_first else ONE_REQUEST,
        ),
        _outcome(served),
        attempt.status,
        attempt.error_code,
        attempt.duration_seconds,
        served.time_to_first_token_seconds or attempt.time_to_first_byte_seconds,
    )


def _may_be_heard(attempt: Attempt) -> bool:
    """Whether a provider may have read, and charged, the input of an attempt without an answer."""
    if attempt.error_code is None:
        return attempt.status is None  # given up while it was waited for
    return attempt.error_code in _MAYBE_HEARD


def _failed(asked: Asked, served: Served, pricer: Pricer, attempt: Attempt, number: int) -> Entry:
    """The entry of an attempt that came to nothing."""
    place = asked.kind.place(attempt.provider, attempt.model)
    usage, cost = _NO_USAGE, _FREE
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
        _FREE,
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
    last = entries[-1].cost if entries else _FREE
    return Cost(
        amount_usd=None if unknown is not None else amount,
        parts=parts,
        source=last.source,
        service_tier=last.service_tier,
        estimated=any(entry.cost.estimated for entry in entries),
        unknown=unknown,
    )

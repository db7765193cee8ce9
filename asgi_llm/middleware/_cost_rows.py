"""Rows of the ledger: one for each attempt of a request, made when it is over."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from asgi_llm._semconv import Operation
from asgi_llm.middleware._cost_prices import Pricer, Resolved
from asgi_llm.pricing import Quantities
from asgi_llm.pricing._money import EXACT, ZERO
from asgi_llm.stores.ledger import LedgerRow, RowOutcome
from asgi_llm.types import Attempt, CacheReport, Cost, Outcome, Principal, Usage

__all__ = ["FREE", "Asked", "Served", "cost_of", "make_intent", "make_rows", "sum_costs"]

FREE: Final = Cost(amount_usd=ZERO)
"""The cost of what no provider charges."""
_NOT_YET: Final = Cost(amount_usd=None, unknown="no_usage")
_NOBODY: Final = Principal()
_NO_USAGE: Final = Usage()

_ONE_REQUEST: Final = Quantities()

# Codes of attempts that may have been heard, and charged, though no answer came.
_MAYBE_HEARD: Final = frozenset(
    ("provider_timeout", "connection_lost", "invalid_provider_response", "stream_truncated")
)

_random_ids: list[str] = []
_IDS_AT_ONCE: Final = 256


def _draw_ids() -> None:
    digits = os.urandom(16 * _IDS_AT_ONCE).hex()
    _random_ids.extend("row_" + digits[at : at + 32] for at in range(0, len(digits), 32))


# A forked process would give the same ids again.
os.register_at_fork(after_in_child=_random_ids.clear)


def new_row_id() -> str:
    """An id that no other row has."""
    if not _random_ids:
        _draw_ids()
    return _random_ids.pop()


class Asked:
    """One request, as far as its rows tell of it.

    Attributes:
        id: Of its intent, and of its first row.
        request_id: Our own.
        at: When it began.
        operation: What is asked for.
        principal: Who asks.
        tags: Of the request and of its caller.
        model: As the client names it.
        resolved: Where it may be served.
        input_tokens: As counted.
        streamed: Whether a stream is asked for.
    """

    __slots__ = (
        "at",
        "id",
        "input_tokens",
        "model",
        "operation",
        "principal",
        "request_id",
        "resolved",
        "streamed",
        "tags",
    )

    def __init__(
        self,
        request_id: str,
        at: datetime.datetime,
        operation: Operation,
        principal: Principal | None,
        tags: Mapping[str, str],
        model: str,
        resolved: Resolved,
        streamed: bool,
    ) -> None:
        self.id = new_row_id()
        self.request_id = request_id
        self.at = at
        self.operation = operation
        self.principal = principal or _NOBODY
        self.tags = tags
        self.model = model
        self.resolved = resolved
        self.input_tokens = 0
        self.streamed = streamed


class Served(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What came of a request."""

    outcome: Outcome
    status: int | None
    """Of the answer; None where it did not begin."""
    usage: Usage | None
    service_tier: str | None = None
    quantities: Quantities = _ONE_REQUEST
    error_code: str | None = None
    """Why there is no whole answer, also of one that broke off after it had begun."""
    latency_seconds: float
    time_to_first_token_seconds: float | None = None


def make_intent(asked: Asked) -> LedgerRow:
    """The row of a call that is about to be made: what there is of it if its worker dies."""
    target = asked.resolved.priced[0].target
    return _row(
        asked,
        asked.id,
        attempt=1,
        provider=target.provider,
        model=target.model,
        usage=Usage(input_uncached=asked.input_tokens, estimated=True),
        cost=_NOT_YET,
        streamed=asked.streamed,
        outcome="unknown_after_crash",
    )


def make_rows(
    asked: Asked,
    served: Served,
    pricer: Pricer,
    attempts: tuple[Attempt, ...] | None,
    cached: CacheReport | None,
) -> list[LedgerRow]:
    """One row for each attempt that reached a provider, or one for an answer out of a cache.

    Args:
        asked: The request.
        served: What came of it.
        pricer: Prices the attempts.
        attempts: As the app inside has left them; None where it says nothing of them, and the
            request itself stands for the one attempt.
        cached: The word of a cache that had the answer.
    """
    if cached is not None:
        return [_cached_row(asked, served, pricer, cached)]
    if attempts is None:
        target = asked.resolved.priced[0].target
        return [_answer_row(asked, served, pricer, target.provider, target.model)]
    if len(attempts) == 1 and attempts[0].error_code is None and attempts[0].status is not None:
        return [_attempt_row(asked, served, pricer, attempts[0], 1, served.usage)]
    shares = _shares(attempts, served)
    rows = []
    for number, attempt in enumerate(attempts, 1):
        if number in shares:
            usage = shares[number]
            rows.append(_attempt_row(asked, served, pricer, attempt, number, usage))
        elif attempt.status is not None or _may_be_heard(attempt):
            rows.append(_failed_row(asked, served, pricer, attempt, number))
    return rows


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


def cost_of(
    asked: Asked, served: Served, pricer: Pricer, provider: str | None, model: str | None
) -> Cost:
    """What the answer cost, by whoever gave it."""
    return pricer.cost(
        asked.resolved,
        provider,
        model,
        served.usage,
        at=asked.at,
        service_tier=served.service_tier,
        quantities=served.quantities,
    )


def _answer_row(
    asked: Asked, served: Served, pricer: Pricer, provider: str, model: str
) -> LedgerRow:
    status = served.status
    # An app that failed before it said anything is taken to have called nobody.
    is_error = served.outcome is Outcome.FAILED if status is None else status >= 400
    cost = FREE if is_error else cost_of(asked, served, pricer, provider, model)
    return _row(
        asked,
        asked.id,
        attempt=1,
        provider=provider,
        model=model,
        usage=_NO_USAGE if is_error else served.usage or _NO_USAGE,
        cost=cost,
        status=status,
        error_code=served.error_code,
        latency_seconds=served.latency_seconds,
        time_to_first_token_seconds=served.time_to_first_token_seconds,
        streamed=asked.streamed,
        outcome=_outcome(served),
    )


def _attempt_row(
    asked: Asked,
    served: Served,
    pricer: Pricer,
    attempt: Attempt,
    number: int,
    usage: Usage | None,
) -> LedgerRow:
    """The row of an attempt that made the answer, or a part of it."""
    if not _is_success(attempt):
        return _failed_row(asked, served, pricer, attempt, number)
    return _row(
        asked,
        _row_id(asked, number),
        attempt=number,
        provider=attempt.provider,
        model=attempt.model,
        usage=usage or _NO_USAGE,
        cost=pricer.cost(
            asked.resolved,
            attempt.provider,
            attempt.model,
            usage,
            at=asked.at,
            service_tier=served.service_tier,
            quantities=served.quantities if number == 1 or usage is served.usage else _ONE_REQUEST,
        ),
        status=attempt.status,
        error_code=attempt.error_code,
        latency_seconds=attempt.duration_seconds,
        time_to_first_token_seconds=(
            served.time_to_first_token_seconds or attempt.time_to_first_byte_seconds
        ),
        streamed=asked.streamed,
        outcome=_outcome(served),
    )


def _may_be_heard(attempt: Attempt) -> bool:
    """Whether a provider may have read, and charged, the input of an attempt without an answer."""
    if attempt.error_code is None:
        return attempt.status is None  # given up while it was waited for
    return attempt.error_code in _MAYBE_HEARD


def _failed_row(
    asked: Asked, served: Served, pricer: Pricer, attempt: Attempt, number: int
) -> LedgerRow:
    """The row of an attempt that came to nothing."""
    usage, cost = _NO_USAGE, FREE
    if _may_be_heard(attempt):
        usage = Usage(input_uncached=asked.input_tokens, estimated=True)
        cost = pricer.cost(asked.resolved, attempt.provider, attempt.model, usage, at=asked.at)
    outcome: RowOutcome = "failed"
    if attempt.status is None and attempt.error_code is None:
        outcome = _outcome(served)
    elif attempt.status is not None and 400 <= attempt.status < 500:
        outcome = "refused"
    return _row(
        asked,
        _row_id(asked, number),
        attempt=number,
        provider=attempt.provider,
        model=attempt.model,
        usage=usage,
        cost=cost,
        status=attempt.status,
        error_code=attempt.error_code,
        latency_seconds=attempt.duration_seconds,
        time_to_first_token_seconds=attempt.time_to_first_byte_seconds,
        streamed=asked.streamed,
        outcome=outcome,
    )


def _cached_row(asked: Asked, served: Served, pricer: Pricer, cached: CacheReport) -> LedgerRow:
    saved = pricer.cost(
        asked.resolved, cached.provider, cached.model, cached.usage, at=asked.at
    ).amount_usd
    left = served.outcome is Outcome.DISCONNECTED
    return _row(
        asked,
        asked.id,
        attempt=0,
        provider=cached.provider,
        model=cached.model,
        usage=_NO_USAGE,
        cost=FREE,
        saved_usd=saved,
        cached=True,
        cache_type=cached.type,
        status=served.status,
        latency_seconds=served.latency_seconds,
        time_to_first_token_seconds=served.time_to_first_token_seconds,
        streamed=asked.streamed,
        outcome="client_disconnect" if left else "cache_hit",
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


def _row(
    asked: Asked, id: str, *, provider: str | None, model: str | None, **fields: Any
) -> LedgerRow:
    principal = asked.principal
    return LedgerRow(
        id=id,
        request_id=asked.request_id,
        at=asked.at,
        operation=asked.operation,
        key_id=principal.key_id,
        user_id=principal.user_id,
        team_id=principal.team_id,
        organization_id=principal.organization_id,
        tags=asked.tags,
        requested_model=asked.model,
        model=model,
        provider=provider,
        deployment=f"{provider}/{model}" if provider is not None else None,
        **fields,
    )


def sum_costs(rows: list[LedgerRow]) -> Cost:
    """What all attempts of a request cost together; not known where one of them is not."""
    if len(rows) == 1:
        return rows[0].cost
    parts: dict[str, Decimal] = {}
    amount = ZERO
    unknown = None
    for row in rows:
        cost = row.cost
        unknown = unknown or cost.unknown
        amount = EXACT.add(amount, cost.amount_usd or ZERO)
        for name, part in cost.parts.items():
            parts[name] = EXACT.add(parts.get(name, ZERO), part)
    last = rows[-1].cost if rows else FREE
    return Cost(
        amount_usd=None if unknown is not None else amount,
        parts=parts,
        source=last.source,
        service_tier=last.service_tier,
        estimated=any(row.cost.estimated for row in rows),
        unknown=unknown,
    )

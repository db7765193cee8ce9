"""What a client is told of its limits: headers on every answer, and the one that refuses."""

from __future__ import annotations

import functools
from math import ceil, inf
from typing import Final

from asgi_llm.errors import RateLimitError, RawHeaders
from asgi_llm.middleware._limit_plan import Plan
from asgi_llm.middleware._limit_rules import amount_words, scope_words
from asgi_llm.stores.base import Decision, Demand, LimitStatus
from asgi_llm.types import LimitReport

__all__ = ["LIMIT_HEADERS", "admission", "denial", "limit_headers", "refusal"]

_REQUESTS: Final = (
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
)
_TOKENS: Final = (
    b"x-ratelimit-limit-tokens",
    b"x-ratelimit-remaining-tokens",
    b"x-ratelimit-reset-tokens",
)
LIMIT_HEADERS: Final = frozenset((*_REQUESTS, *_TOKENS))

_SLOT_SECONDS: Final = 1.0
"""When to ask again for a slot, which comes back when a request ends: nobody knows when."""


def admission(plan: Plan, decision: Decision) -> tuple[LimitReport, RawHeaders]:
    """What the state and the client are told of a request that is let through."""
    statuses = decision.statuses
    at = _tightest(statuses, plan.every)
    status = statuses[at]
    report = LimitReport("admitted", plan.demands[at].limit, status.remaining, status.reset_seconds)
    if plan.only_requests:
        limit, remaining, reset = _REQUESTS
        return report, [
            (limit, plan.limits_told[at]),
            (remaining, b"%d" % status.remaining),
            (reset, _duration(ceil(status.reset_seconds))),
        ]
    return report, limit_headers(plan, decision)


def limit_headers(plan: Plan, decision: Decision) -> RawHeaders:
    """The headers of the tightest limit of each kind, the one with the least left."""
    headers: RawHeaders = []
    statuses = decision.statuses
    if plan.requests:
        _tell(headers, _REQUESTS, plan, _tightest(statuses, plan.requests), statuses)
    if plan.tokens:
        _tell(headers, _TOKENS, plan, _tightest(statuses, plan.tokens), statuses)
    return headers


def _tell(
    headers: RawHeaders,
    names: tuple[bytes, bytes, bytes],
    plan: Plan,
    at: int,
    statuses: tuple[LimitStatus, ...],
) -> None:
    status = statuses[at]
    limit, remaining, reset = names
    headers += (
        (limit, plan.limits_told[at]),
        (remaining, b"%d" % status.remaining),
        (reset, _duration(ceil(status.reset_seconds))),
    )


def _tightest(statuses: tuple[LimitStatus, ...], places: tuple[int, ...]) -> int:
    """The place with the least left; of several, the one that is whole again last."""
    tightest = places[0]
    if len(places) > 1:
        status = statuses[tightest]
        least, reset = status.remaining, status.reset_seconds
        for at in places:
            status = statuses[at]
            remaining = status.remaining
            if remaining < least or (remaining == least and status.reset_seconds > reset):
                tightest, least, reset = at, remaining, status.reset_seconds
    return tightest


@functools.lru_cache(4096)
def _duration(seconds: int) -> bytes:
    """Seconds as OpenAI writes them: ``12s``, ``6m0s``, ``1h0m0s``."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, seconds)
    return b"%dm%ds" % (minutes, seconds) if minutes else b"%ds" % seconds


def denial(plan: Plan, decision: Decision, *, enforce: bool) -> LimitReport:
    """What the state is told of a request that is over a limit."""
    statuses = decision.statuses
    at = _refusing(statuses)
    status = statuses[at]
    return LimitReport(
        "refused" if enforce else "would_refuse",
        plan.demands[at].limit,
        status.remaining,
        status.reset_seconds,
        status.retry_after_seconds,
    )


def _refusing(statuses: tuple[LimitStatus, ...]) -> int:
    """The place of the limit that keeps the request waiting longest."""
    waits = [status.retry_after_seconds for status in statuses]
    return waits.index(max(waits))


def refusal(plan: Plan, demands: tuple[Demand, ...], decision: Decision) -> RateLimitError:
    """The error for a request that a limit does not let through."""
    at = _refusing(decision.statuses)
    demand = demands[at]
    limit = demand.limit
    # Never an id: a limit may be shared with somebody else.
    whose = f"{amount_words(limit)} for {scope_words(limit)}"
    if plan.is_of_model(at):
        whose += " on this model"
    headers = limit_headers(plan, decision)
    wait = decision.statuses[at].retry_after_seconds
    if wait == inf:
        if limit.amount == 0:
            text = f"Nothing is let through: the limit is {whose}."
        else:
            text = (
                f"This request may use {demand.cost} tokens, and no request of that size is ever "
                f"let through: the limit is {whose}. Send less, or ask for fewer output tokens."
            )
        # The SDKs of OpenAI ask again after a 429, unless they are told not to.
        return RateLimitError(text, headers=[*headers, (b"x-should-retry", b"false")])
    if limit.unit == "concurrent_requests":
        # Not the end of somebody's lease, which is for workers that die.
        wait = (
            max(
                (
                    s.retry_after_seconds
                    for s, d in zip(decision.statuses, demands, strict=True)
                    if d.limit.unit != "concurrent_requests"
                ),
                default=0.0,
            )
            or _SLOT_SECONDS
        )
        text = f"Too many requests at the same time: the limit is {whose}."
    else:
        text = f"Rate limit reached: the limit is {whose}."
        if limit.unit != "requests":
            text += f" This request may use {demand.cost} tokens."
    milliseconds = ceil(round(wait * 1e6) / 1000)
    seconds = max(1, ceil(wait))
    text += f" Try again in {seconds} second{'s' if seconds > 1 else ''}."
    headers.append((b"retry-after-ms", b"%d" % milliseconds))
    return RateLimitError(text, retry_after_seconds=seconds, headers=headers)

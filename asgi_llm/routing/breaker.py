"""Between a call and the breaker of its target: may it be made, and what its outcome tells."""

from __future__ import annotations

from asgi_llm.routing.retries import Failure
from asgi_llm.stores.breakers import BreakerStore

__all__ = ["admit", "settle"]


async def admit(breakers: BreakerStore, target: str) -> str | None:
    """Whether the target of that id may be called: its lease ("" where it is closed), else None.

    Each lease is ended by one ``settle``, or by ``breakers.released`` where the call has no
    outcome. A target that is closed costs one look-up.
    """
    standing = breakers.standing(target)
    if standing is None:
        return ""
    if standing.retry_after_seconds > 0:
        return None
    return await breakers.claim(target)


def settle(breakers: BreakerStore, target: str, lease: str, failure: Failure | None) -> None:
    """Tell the breaker what came of a call: an answer (None), or a failure.

    A client's own mistake shows that the target answers; a call that was never made, or that its
    client gave up, shows nothing.
    """
    if failure is None:
        breakers.succeeded(target, lease)
    elif failure.counts_against_breaker or failure.cools_down:
        breakers.failed(
            target,
            lease,
            counts=failure.counts_against_breaker,
            cool_down_seconds=failure.retry_after_seconds if failure.cools_down else None,
        )
    elif failure.concerns_target:
        breakers.succeeded(target, lease)
    elif lease:
        breakers.released(target, lease)

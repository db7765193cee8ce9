"""What a call's outcome tells the breaker of its target."""

from __future__ import annotations

import pytest

from asgi_llm.routing.breaker import admit, settle
from asgi_llm.routing.retries import FailureKind, classify
from asgi_llm.stores.breakers import BreakerPolicy, Standing
from asgi_llm.stores.breakers_memory import MemoryBreakers
from asgi_llm.testing import ManualClock

POLICY = BreakerPolicy(failures=3, minimum_calls=3, cool_down_seconds=4.0, jitter=0.0)


def opened(clock: ManualClock) -> MemoryBreakers:
    """Breakers of which that of ``a/m`` is half-open."""
    breakers = MemoryBreakers(policy=POLICY, clock=clock)
    for _ in range(3):
        settle(breakers, "a/m", "", classify(None, status=500))
    clock.advance(4.0)
    return breakers


async def test_failures_of_a_target_open_its_breaker_and_no_others() -> None:
    """Three of them; then no call is admitted, and one after the cool-down."""
    clock = ManualClock(900.0)
    breakers = MemoryBreakers(policy=POLICY, clock=clock)
    for _ in range(3):
        assert "" == await admit(breakers, "a/m")
        settle(breakers, "a/m", "", classify(None, status=500))
    assert None is await admit(breakers, "a/m")
    assert "" == await admit(breakers, "b/m")
    clock.advance(4.0)
    assert await admit(breakers, "a/m")
    assert None is await admit(breakers, "a/m")


async def test_a_thousand_bad_requests_open_nothing() -> None:
    """One caller's mistakes are nobody else's trouble."""
    breakers = MemoryBreakers(policy=POLICY, clock=ManualClock(900.0))
    for status in (400, 404, 413, 422) * 250:
        settle(breakers, "a/m", "", classify(None, status=status))
    assert "" == await admit(breakers, "a/m")


@pytest.mark.parametrize("status", [401, 403, 402])
async def test_a_bad_credential_of_ours_opens_its_deployment(status: int) -> None:
    """The provider's 401 is the gateway's fault, and no caller's."""
    breakers = MemoryBreakers(policy=POLICY, clock=ManualClock(900.0))
    for _ in range(3):
        settle(breakers, "a/m", "", classify(None, status=status))
    assert None is await admit(breakers, "a/m")


async def test_a_rate_limit_leaves_a_target_alone_for_so_long() -> None:
    """As the provider asked for, up to the policy's cap."""
    breakers = MemoryBreakers(policy=POLICY, clock=ManualClock(900.0))
    settle(breakers, "a/m", "", classify(None, status=429, retry_after_seconds=7.0))
    assert Standing("open", 7.0) == breakers.standing("a/m")
    settle(breakers, "b/m", "", classify(None, status=429, retry_after_seconds=1e9))
    assert Standing("open", 300.0) == breakers.standing("b/m")


async def test_a_trial_that_is_answered_closes_the_breaker() -> None:
    """Also with a 400: the target is there."""
    for status in (None, 400):
        clock = ManualClock(900.0)
        breakers = opened(clock)
        lease = await admit(breakers, "a/m")
        assert lease
        settle(breakers, "a/m", lease, classify(None, status=status))
        assert None is breakers.standing("a/m")


async def test_a_trial_that_fails_opens_the_breaker() -> None:
    """For longer than before."""
    breakers = opened(ManualClock(900.0))
    lease = await admit(breakers, "a/m")
    assert lease
    settle(breakers, "a/m", lease, classify(TimeoutError()))
    assert Standing("open", 8.0) == breakers.standing("a/m")


@pytest.mark.parametrize(
    ("error", "kind"), [(OSError(), "client_left"), (ValueError("ours"), "internal")]
)
async def test_a_trial_that_says_nothing_of_the_target_leaves_room_for_another(
    error: Exception, kind: FailureKind
) -> None:
    """The breaker is half-open still; for a closed one nothing changes."""
    breakers = opened(ManualClock(900.0))
    lease = await admit(breakers, "a/m")
    assert lease
    failure = classify(error)
    assert failure is not None
    assert kind == failure.kind
    settle(breakers, "a/m", lease, failure)
    assert Standing("half_open", 0.0) == breakers.standing("a/m")
    settle(breakers, "b/m", "", failure)
    assert None is breakers.standing("b/m")

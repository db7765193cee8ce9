"""What every breaker store does: one suite over all of them."""

from __future__ import annotations

import asyncio

import pytest

from asgi_llm.stores.breakers import BreakerPolicy, Standing
from tests.stores.breakers.conftest import Factory

DEADLINE_SECONDS = 30

THREE = BreakerPolicy(
    failures=3,
    minimum_calls=3,
    failure_rate=0.5,
    window_seconds=10.0,
    cool_down_seconds=4.0,
    max_cool_down_seconds=30.0,
    jitter=0.0,
    max_retry_after_seconds=60.0,
    trial_seconds=7.0,
)


async def test_a_target_that_nobody_called_is_closed(timed: Factory) -> None:
    """It has no standing, and a claim of it is free."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        assert None is breakers.store.standing("a/m")
        assert "" == await breakers.store.claim("a/m")


async def test_it_opens_with_the_failure_that_reaches_the_threshold(timed: Factory) -> None:
    """Two of three failures leave it closed, the third opens it for the cool-down."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        await breakers.fails(2)
        assert None is await breakers.standing()
        await breakers.fails(1)
        assert Standing("open", 4.0) == await breakers.standing()
        assert None is await breakers.store.claim("a/m")
        assert None is breakers.store.standing("b/m")


async def test_too_few_calls_open_nothing(timed: Factory) -> None:
    """With a minimum of 10 calls, 9 failures are too few to judge by."""
    policy = BreakerPolicy(failures=3, minimum_calls=10)
    async with asyncio.timeout(DEADLINE_SECONDS), timed(policy) as breakers:
        await breakers.fails(9)
        assert None is await breakers.standing()
        await breakers.fails(1)
        assert None is not await breakers.standing()


async def test_few_failures_among_many_answers_open_nothing(timed: Factory) -> None:
    """6 answers and 5 failures are below one half; one failure more is not."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        for _ in range(6):
            breakers.store.succeeded("a/m")
        await breakers.fails(5)
        assert None is await breakers.standing()
        await breakers.fails(1)
        assert None is not await breakers.standing()


async def test_failures_that_do_not_count_open_nothing(timed: Factory) -> None:
    """Such as those with neither the target's fault nor a time to wait."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        for _ in range(20):
            breakers.store.failed("a/m", counts=False)
        assert None is await breakers.standing()


async def test_failures_leave_the_window(timed: Factory) -> None:
    """Two failures, then a window without any, then two more: never three in one window."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        await breakers.fails(2)
        breakers.advance(10.0)
        await breakers.fails(2)
        assert None is await breakers.standing()
        breakers.advance(8.9)
        await breakers.fails(1)
        assert None is not await breakers.standing()


async def test_answers_leave_the_window(timed: Factory) -> None:
    """3 failures of 9 calls open nothing; where the oldest 3 are gone they are half of them."""
    for wait, is_closed in ((6.0, True), (7.0, False)):
        async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
            for seconds in (3.0, wait):
                for _ in range(3):
                    breakers.store.succeeded("a/m")
                waiting = breakers.store.refresh()
                if waiting is not None:
                    await waiting
                breakers.advance(seconds)
            await breakers.fails(3)
            assert is_closed == (await breakers.standing() is None)


async def test_a_trial_that_is_none_is_no_trial(timed: Factory) -> None:
    """The outcome of a lease that was never given changes nothing of what is closed."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        breakers.store.released("a/m", "made up")
        breakers.store.succeeded("a/m", "made up")
        breakers.store.failed("a/m", "made up")
        assert None is await breakers.standing()


async def test_half_open_lets_exactly_one_through(timed: Factory) -> None:
    """After the cool-down one of 50 claims at once has a lease; the others are refused."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        await breakers.fails(3)
        breakers.advance(3.999)
        assert None is await breakers.store.claim("a/m")
        breakers.advance(0.001)
        assert Standing("half_open", 0.0) == breakers.store.standing("a/m")
        leases = await asyncio.gather(*(breakers.store.claim("a/m") for _ in range(50)))
        assert 1 == sum(lease is not None for lease in leases)
        assert Standing("half_open", 7.0) == breakers.store.standing("a/m")


async def test_a_trial_that_goes_well_closes_it(timed: Factory) -> None:
    """And its old failures are forgotten."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        await breakers.fails(3)
        breakers.advance(4.0)
        lease = await breakers.store.claim("a/m")
        assert lease
        breakers.store.succeeded("a/m", lease)
        assert None is await breakers.standing()
        await breakers.fails(2)
        assert None is await breakers.standing()


async def test_each_trial_that_fails_doubles_the_cool_down_up_to_its_cap(timed: Factory) -> None:
    """4, 8, 16, then 30 seconds for good."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        await breakers.fails(3)
        for seconds, following in ((4.0, 8.0), (8.0, 16.0), (16.0, 30.0), (30.0, 30.0)):
            assert Standing("open", seconds) == await breakers.standing()
            breakers.advance(seconds)
            lease = await breakers.store.claim("a/m")
            assert lease
            breakers.store.failed("a/m", lease)
            assert Standing("open", following) == await breakers.standing()


async def test_what_opens_again_soon_is_open_for_longer(timed: Factory) -> None:
    """Closed for less than the longest cool-down it goes on growing; after that it begins anew."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        for closed_for, seconds in ((0.0, 4.0), (29.0, 8.0), (30.0, 4.0)):
            breakers.advance(closed_for)
            await breakers.fails(3)
            assert Standing("open", seconds) == await breakers.standing()
            breakers.advance(seconds)
            lease = await breakers.store.claim("a/m")
            assert lease
            breakers.store.succeeded("a/m", lease)
            assert None is await breakers.standing()


async def test_jitter_makes_a_cool_down_shorter(timed: Factory) -> None:
    """With a jitter of a half, and 0.5 drawn, 4 seconds are 3."""
    policy = BreakerPolicy(failures=1, minimum_calls=1, cool_down_seconds=4.0, jitter=0.5)
    async with asyncio.timeout(DEADLINE_SECONDS), timed(policy, lambda: 0.5) as breakers:
        await breakers.fails(1)
        assert Standing("open", 3.0) == await breakers.standing()


async def test_a_trial_lapses(timed: Factory) -> None:
    """After its time another one is let through, and the first one's outcome counts no more."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        await breakers.fails(3)
        breakers.advance(4.0)
        lost = await breakers.store.claim("a/m")
        assert lost
        breakers.advance(6.999)
        assert None is await breakers.store.claim("a/m")
        breakers.advance(0.001)
        second = await breakers.store.claim("a/m")
        assert second
        breakers.store.succeeded("a/m", lost)
        breakers.store.failed("a/m", lost)
        breakers.store.released("a/m", lost)
        assert Standing("half_open", 7.0) == await breakers.standing()
        breakers.store.succeeded("a/m", second)
        assert None is await breakers.standing()


async def test_a_trial_without_an_outcome_leaves_room_for_another(timed: Factory) -> None:
    """As when its client left."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        await breakers.fails(3)
        breakers.advance(4.0)
        lease = await breakers.store.claim("a/m")
        assert lease
        breakers.store.released("a/m", lease)
        assert Standing("half_open", 0.0) == await breakers.standing()
        assert await breakers.store.claim("a/m")


async def test_calls_from_before_it_opened_change_nothing(timed: Factory) -> None:
    """Late failures do not lengthen the cool-down, late answers do not end it."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        await breakers.fails(3)
        breakers.advance(1.0)
        await breakers.fails(20)
        breakers.store.succeeded("a/m")
        assert Standing("open", 3.0) == await breakers.standing()


async def test_what_a_provider_asks_for_opens_it_at_once(timed: Factory) -> None:
    """For so long, after a single failure, whether it counts or not."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        breakers.store.failed("a/m", counts=False, cool_down_seconds=2.5)
        assert Standing("open", 2.5) == await breakers.standing()
        breakers.store.failed("a/m", cool_down_seconds=9.0)
        assert Standing("open", 9.0) == await breakers.standing()
        breakers.store.failed("a/m", cool_down_seconds=1.0)
        assert Standing("open", 9.0) == await breakers.standing()


@pytest.mark.parametrize(
    ("asked", "seconds"), [(60.0, 60.0), (1e9, 60.0), (float("inf"), 60.0), (59.5, 59.5)]
)
async def test_what_a_provider_asks_for_is_capped(
    timed: Factory, asked: float, seconds: float
) -> None:
    """At the policy's longest time."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        breakers.store.failed("a/m", counts=False, cool_down_seconds=asked)
        assert Standing("open", seconds) == await breakers.standing()


@pytest.mark.parametrize("asked", [0.0, -1.0, float("-inf"), float("nan")])
async def test_a_time_that_is_none_opens_nothing(timed: Factory, asked: float) -> None:
    """Zero, below, and what is no number."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        breakers.store.failed("a/m", counts=False, cool_down_seconds=asked)
        assert None is await breakers.standing()


async def test_a_trial_that_is_told_to_wait_does_not_grow_the_cool_down(timed: Factory) -> None:
    """A rate limit is no failure: the next real one is the second, of 8 seconds."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        await breakers.fails(3)
        breakers.advance(4.0)
        lease = await breakers.store.claim("a/m")
        assert lease
        breakers.store.failed("a/m", lease, counts=False, cool_down_seconds=2.0)
        assert Standing("open", 2.0) == await breakers.standing()
        breakers.advance(2.0)
        lease = await breakers.store.claim("a/m")
        assert lease
        breakers.store.failed("a/m", lease)
        assert Standing("open", 8.0) == await breakers.standing()


async def test_what_nobody_tries_for_an_hour_is_forgotten(timed: Factory) -> None:
    """It is closed again, without a trial."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        await breakers.fails(3)
        breakers.advance(4.0 + 3600.0)
        assert "" == await breakers.store.claim("a/m")
        assert None is breakers.store.standing("a/m")


async def test_any_text_is_an_id(timed: Factory) -> None:
    """Also an empty one, one in another script, and one with what keys are made of."""
    async with asyncio.timeout(DEADLINE_SECONDS), timed(THREE) as breakers:
        ids = ["", "a/modèle/中文", "a/{x}:*\n", "a/" + "m" * 500]
        for target in ids:
            await breakers.fails(3, target)
        for target in ids:
            assert Standing("open", 4.0) == await breakers.standing(target)
        assert set(ids) == set(breakers.store.health()["not_closed"])

"""Trials whose end Redis does not hear of: nobody waits until their leases lapse."""

from __future__ import annotations

import asyncio

import pytest

from asgi_llm.stores.breakers import Standing
from asgi_llm.stores.breakers_redis import RedisBreakers
from asgi_llm.testing import ManualClock
from tests.services.redis_server import RedisServer
from tests.stores.breakers.test_redis_breakers import (
    DEADLINE_SECONDS,
    PATIENT_SECONDS,
    SHORT,
    refreshed,
    told,
    worker,
)


async def leased(store: RedisBreakers, target: str = "a/m") -> str:
    """The lease of a trial, as soon as the cool-down is over."""
    lease = None
    while not lease:
        lease = await store.claim(target)
    return lease


async def recovered(store: RedisBreakers, clock: ManualClock, server: RedisServer) -> None:
    """Let a probe find that Redis answers again."""
    await clock.until_sleeping()
    clock.advance(1.0)
    while store.health()["store"]["state"] == "open":
        await asyncio.to_thread(server.command, "PING")
    await told(store)


async def test_a_claim_that_is_given_too_late_holds_no_trial(redis_server: RedisServer) -> None:
    """It is released when Redis answers again, and not when it lapses."""
    clock = ManualClock(900.0)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        worker(redis_server, clock, SHORT, timeout_seconds=0.3) as store,
        worker(redis_server, clock, SHORT) as other,
    ):
        other.failed("a/m")
        await told(other)
        other.released("a/m", await leased(other))
        await told(store)
        redis_server.freeze()
        try:
            assert None is await store.claim("a/m")
        finally:
            redis_server.thaw()
        # It has read whatever was sent before.
        redis_server.command("PING")
        assert None is await other.claim("a/m")
        await refreshed(store)
        await told(store)
        assert await other.claim("a/m")


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "released"])
async def test_the_end_of_a_trial_that_is_lost_on_its_way_is_told_again(
    redis_server: RedisServer, outcome: str
) -> None:
    """Redis itself is well: one connection broke off. The others do not wait for the lease."""
    clock = ManualClock(900.0)
    with redis_server.proxy() as proxy:
        async with (
            asyncio.timeout(DEADLINE_SECONDS),
            worker(redis_server, clock, SHORT) as other,
        ):
            store = RedisBreakers(
                proxy.url, policy=SHORT, clock=clock, timeout_seconds=PATIENT_SECONDS
            )
            store.failed("a/m")
            await told(store)
            lease = await leased(store)
            proxy.refuse()
            getattr(store, outcome)("a/m", lease)
            assert None is await store.claim("nobody/nothing")
            proxy.accept()
            assert None is await other.claim("a/m")
            await refreshed(store)
            await told(store)
            if outcome == "succeeded":
                assert "" == await other.claim("a/m")
            else:
                assert await other.claim("a/m")
            await store.aclose()


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "released"])
async def test_the_end_of_a_trial_during_an_outage_is_told_when_redis_answers(
    redis_server: RedisServer, outcome: str
) -> None:
    """Redis, which was out of reach, still holds the lease that it gave."""
    clock = ManualClock(900.0)
    with redis_server.proxy() as proxy:
        async with (
            asyncio.timeout(DEADLINE_SECONDS),
            worker(redis_server, clock, SHORT) as other,
        ):
            store = RedisBreakers(
                proxy.url,
                policy=SHORT,
                clock=clock,
                sleep=clock.sleep,
                timeout_seconds=PATIENT_SECONDS,
            )
            store.failed("a/m")
            await told(store)
            lease = await leased(store)
            proxy.refuse()
            for _ in range(3):
                assert None is await store.claim("nobody/nothing")
            assert "open" == store.health()["store"]["state"]
            getattr(store, outcome)("a/m", lease)
            proxy.accept()
            await recovered(store, clock, redis_server)
            assert (outcome != "succeeded") == bool(await other.claim("a/m"))
            assert {} == store._untold
            await store.aclose()


async def test_an_outage_makes_no_cool_down_of_anothers_trial(redis_server: RedisServer) -> None:
    """How it ends would not be known: a process that is alone may make one of its own."""
    clock = ManualClock(900.0)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        worker(redis_server, clock, SHORT) as store,
        worker(redis_server, clock, SHORT) as other,
    ):
        other.failed("a/m")
        await told(other)
        await leased(other)
        await refreshed(store)
        standing = store.standing("a/m")
        assert standing is not None
        assert standing.retry_after_seconds > 50
        redis_server.stop()
        for _ in range(3):
            assert None is await store.claim("nobody/nothing")
        assert Standing("half_open", 0.0) == store.standing("a/m")
        assert await store.claim("a/m")


async def test_a_trial_without_redis_is_no_cool_down_for_all(redis_server: RedisServer) -> None:
    """It is under way when Redis answers again, and how it ends is this process' own affair."""
    clock = ManualClock(900.0)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        worker(redis_server, clock, SHORT) as store,
        worker(redis_server, clock, SHORT) as other,
    ):
        redis_server.stop()
        for _ in range(3):
            assert None is await store.claim("nobody/nothing")
        store.failed("a/m")
        clock.advance(0.5)
        lease = await store.claim("a/m")
        assert lease
        redis_server.start()
        await recovered(store, clock, redis_server)
        store.succeeded("a/m", lease)
        await told(store)
        await refreshed(other)
        assert (None, None) == (store.standing("a/m"), other.standing("a/m"))
        assert "" == await other.claim("a/m")


async def test_trials_of_any_number_take_bounded_room(redis_server: RedisServer) -> None:
    """The ends of more than that are not told again; those of its own trials need not be."""
    clock = ManualClock(900.0)
    async with asyncio.timeout(DEADLINE_SECONDS), worker(redis_server, clock) as store:
        redis_server.stop()
        for _ in range(3):
            assert None is await store.claim("nobody/nothing")
        for number in range(1_100):
            store.released("a/m", f"{number}")
        assert 3 == len(store._untold)
        for number in range(1_100):
            store.released("a/m", f"{number:016x}")
        assert 1_000 == len(store._untold)
        redis_server.start()
        await recovered(store, clock, redis_server)
        while store._untold:
            clock.advance(1.0)
            await refreshed(store)
            await told(store)

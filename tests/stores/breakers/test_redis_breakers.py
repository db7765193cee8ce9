"""What is Redis' own: several processes share a view, and go on without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.breakers import BreakerPolicy, Standing
from asgi_llm.stores.breakers_redis import RedisBreakers
from asgi_llm.testing import ManualClock
from tests.services.redis_server import RedisServer

DEADLINE_SECONDS = 30
PATIENT_SECONDS = 10.0
POLICY = BreakerPolicy(
    failures=3, minimum_calls=3, cool_down_seconds=100.0, max_cool_down_seconds=100.0, jitter=0.0
)
SHORT = BreakerPolicy(failures=1, minimum_calls=1, cool_down_seconds=0.001, jitter=0.0)


@asynccontextmanager
async def worker(
    server: RedisServer, clock: ManualClock, policy: BreakerPolicy = POLICY, **options: Any
) -> AsyncIterator[RedisBreakers]:
    """A process' store; ``clock`` is the process' own, Redis goes by its real one."""
    given = {"timeout_seconds": PATIENT_SECONDS, "sleep": clock.sleep, **options}
    store = RedisBreakers(server.url, policy=policy, clock=clock, **given)
    try:
        yield store
    finally:
        await store.aclose()


async def told(store: RedisBreakers) -> None:
    """Wait until all that was told so far is known."""
    assert await store.claim("nobody/nothing") == ""


async def refreshed(store: RedisBreakers) -> None:
    waiting = store.refresh()
    assert waiting is not None
    await waiting


def evaluations(server: RedisServer) -> int:
    """How many scripts the server has run."""
    found = server.command("INFO", "commandstats")
    return sum(found.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


async def test_requests_to_what_is_closed_ask_redis_twice_a_second_at_most(
    redis_server: RedisServer,
) -> None:
    """1000 of them within a second of the clock: two calls after the first."""
    clock = ManualClock(900.0)
    async with asyncio.timeout(DEADLINE_SECONDS), worker(redis_server, clock) as store:
        await refreshed(store)
        before = evaluations(redis_server)
        for _ in range(1000):
            clock.advance(1 / 1024)
            assert None is store.refresh()
            assert None is store.standing("a/m")
            store.succeeded("a/m")
            await asyncio.sleep(0)
        await told(store)
        assert 1 <= evaluations(redis_server) - before - 1 <= 2


async def test_what_one_opens_all_see_within_a_second(redis_server: RedisServer) -> None:
    """A busy one asks after half a second, in passing; an idle one before its next request."""
    mine, theirs, idle = ManualClock(900.0), ManualClock(5.0), ManualClock(7e6)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        worker(redis_server, mine) as first,
        worker(redis_server, theirs) as busy,
        worker(redis_server, idle) as late,
    ):
        await refreshed(busy)
        await refreshed(late)
        for _ in range(3):
            first.failed("a/m")
        await told(first)
        assert None is not first.standing("a/m")

        theirs.advance(0.499)
        assert None is busy.refresh()
        await told(busy)
        assert None is busy.standing("a/m")
        theirs.advance(0.001)
        assert None is busy.refresh()
        await told(busy)
        assert None is not busy.standing("a/m")

        idle.advance(60.0)
        await refreshed(late)
        standing = late.standing("a/m")
        assert standing is not None
        assert "open" == standing.state
        assert 50.0 < standing.retry_after_seconds <= 100.0


async def test_failures_of_all_count_together(redis_server: RedisServer) -> None:
    """One each of three processes open it, and none of the three alone would have."""
    clock = ManualClock(900.0)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        worker(redis_server, clock) as first,
        worker(redis_server, clock) as second,
        worker(redis_server, clock) as third,
    ):
        for store in (first, second):
            store.failed("a/m")
            await told(store)
            assert None is store.standing("a/m")
        third.failed("a/m")
        await told(third)
        assert None is not third.standing("a/m")


async def test_answers_of_all_count_together(redis_server: RedisServer) -> None:
    """One sees failures alone; the answers of another keep it closed, once they are told."""
    clock = ManualClock(900.0)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        worker(redis_server, clock) as fortunate,
        worker(redis_server, clock) as unlucky,
    ):
        for _ in range(100):
            fortunate.succeeded("a/m")
        await refreshed(fortunate)
        for _ in range(99):
            unlucky.failed("a/m")
        await told(unlucky)
        assert None is unlucky.standing("a/m")
        unlucky.failed("a/m")
        await told(unlucky)
        assert None is not unlucky.standing("a/m")


async def test_old_answers_are_no_news(redis_server: RedisServer) -> None:
    """Those from before a silence of more than a window are not told."""
    clock = ManualClock(900.0)
    async with asyncio.timeout(DEADLINE_SECONDS), worker(redis_server, clock) as store:
        await refreshed(store)
        for _ in range(100):
            store.succeeded("a/m")
        clock.advance(30.001)
        await refreshed(store)
        for _ in range(3):
            store.failed("a/m")
        await told(store)
        assert None is not store.standing("a/m")


async def test_a_trial_that_another_won_leaves_it_closed_for_all(redis_server: RedisServer) -> None:
    """Whoever still holds it for open is let through without a lease."""
    clock = ManualClock(900.0)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        worker(redis_server, clock, SHORT) as first,
        worker(redis_server, clock, SHORT) as second,
    ):
        first.failed("a/m")
        await told(first)
        await refreshed(second)
        assert None is not second.standing("a/m")
        lease = None
        while not lease:
            lease = await first.claim("a/m")
        assert None is await second.claim("a/m")
        first.succeeded("a/m", lease)
        await told(first)
        assert None is first.standing("a/m")
        assert "" == await second.claim("a/m")
        assert None is second.standing("a/m")


async def test_a_claim_that_is_cancelled_holds_no_trial(redis_server: RedisServer) -> None:
    """Another is let through at once, and not when the lease lapses."""
    clock = ManualClock(900.0)
    async with asyncio.timeout(DEADLINE_SECONDS), worker(redis_server, clock, SHORT) as store:
        store.failed("a/m")
        await told(store)
        lease = None
        while not lease:
            lease = await store.claim("a/m")
        store.released("a/m", lease)
        claiming = asyncio.create_task(store.claim("a/m"))
        await asyncio.sleep(0)
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming
        assert await store.claim("a/m")


async def test_without_redis_a_process_goes_by_what_it_sees(redis_server: RedisServer) -> None:
    """Nothing raises; failures open it here; what was known to be open stays so."""
    clock = ManualClock(900.0)
    async with asyncio.timeout(DEADLINE_SECONDS), worker(redis_server, clock) as store:
        for _ in range(3):
            store.failed("known/m")
        await told(store)
        redis_server.stop()
        for _ in range(3):
            assert None is await store.claim("known/m")
        assert "open" == store.health()["store"]["state"]
        known = store.standing("known/m")
        assert known is not None
        assert "open" == known.state
        assert known.retry_after_seconds > 90
        for _ in range(3):
            assert None is store.standing("new/m")
            store.failed("new/m")
        assert Standing("open", 100.0) == store.standing("new/m")
        assert {"known/m", "new/m"} == set(store.health()["not_closed"])
        clock.advance(100.0)
        lease = await store.claim("new/m")
        assert lease
        assert None is await store.claim("new/m")
        store.released("new/m", lease)
        lease = await store.claim("new/m")
        assert lease
        store.succeeded("new/m", lease)
        assert None is store.standing("new/m")


async def test_failures_that_could_not_be_told_count_here(redis_server: RedisServer) -> None:
    """Those whose loss made it known that Redis is away are among them."""
    clock = ManualClock(900.0)
    async with asyncio.timeout(DEADLINE_SECONDS), worker(redis_server, clock) as store:
        await told(store)
        redis_server.stop()
        store.succeeded("b/m", "a trial")
        for _ in range(3):
            store.failed("a/m")
        assert None is await store.claim("last/m")
        assert Standing("open", 100.0) == store.standing("a/m")


async def test_what_was_opened_without_redis_is_told_when_it_answers(
    redis_server: RedisServer,
) -> None:
    """Recovery is by a probe, without a request; then all others see it."""
    clock, theirs = ManualClock(900.0), ManualClock(900.0)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        worker(redis_server, clock) as store,
        worker(redis_server, theirs) as other,
    ):
        redis_server.stop()
        for _ in range(3):
            assert None is await store.claim("b/m")
        for _ in range(3):
            store.failed("tried/m")
        await clock.until_sleeping()
        clock.advance(100.0)
        assert Standing("half_open", 0.0) == store.standing("tried/m")
        await clock.until_sleeping()
        for _ in range(3):
            store.failed("a/m")
        assert Standing("open", 100.0) == store.standing("a/m")
        redis_server.start()
        await clock.until_sleeping()
        clock.advance(1.0)
        while store.health()["store"]["state"] == "open":
            await asyncio.to_thread(redis_server.command, "PING")
        await told(store)
        standing = store.standing("a/m")
        assert standing is not None
        assert 90 < standing.retry_after_seconds <= 99.0
        await refreshed(other)
        assert {"a/m"} == set(other.health()["not_closed"])


async def test_a_frozen_redis_costs_no_more_than_the_deadline(redis_server: RedisServer) -> None:
    """What waits ends with it, the third time nobody waits any more."""
    clock = ManualClock(900.0)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        worker(redis_server, clock, timeout_seconds=0.05) as store,
    ):
        await refreshed(store)
        redis_server.freeze()
        try:
            for _ in range(3):
                clock.advance(5.0)
                await refreshed(store)
            clock.advance(5.0)
            assert None is store.refresh()
            assert None is store.standing("a/m")
            assert 3 == store.health()["store"]["failures"]
        finally:
            redis_server.thaw()


async def test_the_view_is_asked_for_once_at_a_time(redis_server: RedisServer) -> None:
    """Requests that come while it is under way wait for the same answer."""
    clock = ManualClock(900.0)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        worker(redis_server, clock, timeout_seconds=0.05) as store,
    ):
        redis_server.freeze()
        try:
            first = store.refresh()
            clock.advance(5.0)
            second = store.refresh()
            assert first is not None
            assert second is not None
            await asyncio.gather(first, second)
            assert 1 == store.health()["store"]["failures"]
        finally:
            redis_server.thaw()


def test_answers_of_any_number_of_names_take_bounded_room() -> None:
    """Those of more targets than that are not counted."""
    store = RedisBreakers("redis://127.0.0.1:1/0")
    for number in range(10_100):
        store.succeeded(f"a/{number}")
    assert 10_000 == len(store._answers)


async def test_a_flush_closes_all(redis_server: RedisServer) -> None:
    """The script is loaded again by itself."""
    clock = ManualClock(900.0)
    async with asyncio.timeout(DEADLINE_SECONDS), worker(redis_server, clock) as store:
        for _ in range(3):
            store.failed("a/m")
        await told(store)
        redis_server.flush()
        clock.advance(1.0)
        await refreshed(store)
        assert None is store.standing("a/m")


async def test_redis_is_left_empty_by_and_by(redis_server: RedisServer) -> None:
    """Every key has an end."""
    clock = ManualClock(900.0)
    async with asyncio.timeout(DEADLINE_SECONDS), worker(redis_server, clock) as store:
        for _ in range(3):
            store.failed("a/m")
        store.failed("b/m")
        await told(store)
        keys = redis_server.keys()
        assert 2 == len(keys)
        assert all(0 < redis_server.command("PTTL", key) <= 3_700_000 for key in keys)


async def test_on_a_cluster_all_keys_lie_on_one_node() -> None:
    """A cluster refuses a script whose keys do not share a slot."""
    with RedisServer("--cluster-enabled", "yes") as node:
        node.command("CLUSTER", "ADDSLOTS", *range(16384))
        store = RedisBreakers(
            f"redis+cluster://127.0.0.1:{node.port}", policy=POLICY, timeout_seconds=PATIENT_SECONDS
        )
        async with asyncio.timeout(DEADLINE_SECONDS):
            while "cluster_state:ok" not in str(node.command("CLUSTER", "INFO")):
                await asyncio.to_thread(node.command, "PING")
            await refreshed(store)
            for target in ("a/m", "b/m"):
                for _ in range(3):
                    store.failed(target)
            await told(store)
            assert {"a/m", "b/m"} == set(store.health()["not_closed"])
            await store.aclose()


def test_a_store_outlives_its_event_loop(redis_server: RedisServer) -> None:
    """On the next one it connects anew, also where it was being asked when the last one ended."""
    clock = ManualClock(900.0)
    store = RedisBreakers(
        redis_server.url, policy=POLICY, clock=clock, timeout_seconds=PATIENT_SECONDS
    )

    async def ask_and_leave() -> None:
        waiting: Any = store.refresh()
        waiting.close()

    async def ask() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            clock.advance(1.0)
            await refreshed(store)
            for _ in range(3):
                store.failed("a/m")
            await told(store)
            assert None is not store.standing("a/m")
            await store.aclose()

    asyncio.run(ask_and_leave())
    asyncio.run(ask())


@pytest.mark.parametrize("name", ["timeout_seconds", "refresh_seconds"])
@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan")])
def test_times_are_above_0(name: str, value: float) -> None:
    """Else the option is named."""
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError) as caught:
        RedisBreakers("redis://127.0.0.1:1/0", **options)
    assert name == caught.value.param

"""Limits in a real Redis: round trips, failures of the server, and what is left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import redis.asyncio

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.base import Decision, Demand
from asgi_llm.stores.limits_redis import RedisLimits
from asgi_llm.types import Limit
from tests.services.redis_server import RedisServer
from tests.stores.limits.conftest import redis_with_clock

REQUESTS = Limit(unit="requests", amount=1000, window_seconds=3600)
TOKENS = Limit(unit="tokens", amount=1000, window_seconds=3600)
SLOTS = Limit(unit="concurrent_requests", amount=2)
BACK_SECONDS = 5.0
"""Full service within this of the server's return."""


@asynccontextmanager
async def limits(url: str, *, timeout_seconds: float = 5.0) -> AsyncIterator[RedisLimits]:
    store = RedisLimits(url, timeout_seconds=timeout_seconds)
    try:
        yield store
    finally:
        await store.aclose()


def ask(store: RedisLimits, key: str = "a", lease: str = "x") -> Awaitable[Decision]:
    return store.take([Demand(key, REQUESTS, 1, False)], lease=lease, lease_seconds=30.0)


async def answers_again(call: Callable[[], Awaitable[Decision]]) -> Decision:
    """The first answer, asked for again and again until there is one."""
    async with asyncio.timeout(BACK_SECONDS):
        while True:
            try:
                return await call()
            except StoreError:
                await asyncio.sleep(0.01)


def script_calls(server: RedisServer) -> int:
    statistics = server.command("INFO", "commandstats")
    return sum(
        statistics.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval")
    )


async def test_one_round_trip_for_all_of_a_turn(redis_server: RedisServer) -> None:
    """100 decisions of three limits that are made in one turn of the loop are one command."""
    demands = [Demand(key, REQUESTS, 1, False) for key in ("key", "team", "everyone")]
    async with asyncio.timeout(20), limits(redis_server.url) as store:
        await store.take(demands, lease="warm", lease_seconds=1.0)
        before = script_calls(redis_server)
        decisions = await asyncio.gather(
            *(store.take(demands, lease=f"{n}", lease_seconds=1.0) for n in range(100))
        )
        assert 1 == script_calls(redis_server) - before
    assert [998 - n for n in range(100)] == [one.statuses[2].remaining for one in decisions]


async def test_order_is_kept(redis_server: RedisServer) -> None:
    """What is asked for in one turn is done in that order: taken, renewed, settled."""
    demand = [Demand("s", SLOTS, 1, True)]
    async with asyncio.timeout(20), limits(redis_server.url) as store:
        for number in range(20):
            lease = f"{number}"
            taken, _, _ = await asyncio.gather(
                store.take(demand, lease=lease, lease_seconds=60.0),
                store.renew(demand, lease=lease, lease_seconds=60.0),
                store.settle(demand, lease=lease, costs=[0]),
            )
            assert taken.admitted
    assert [] == redis_server.keys()


async def test_keys_expire_by_themselves(redis_server: RedisServer) -> None:
    """Every key has an end, no earlier than its window's and its lease's."""
    demands = [
        Demand("r", Limit(unit="requests", amount=5, window_seconds=60), 1, False),
        Demand("t", Limit(unit="tokens", amount=5, window_seconds=10), 1, True),
        Demand("b", Limit(unit="requests", amount=6, window_seconds=60, burst=3), 1, False),
        Demand("s", SLOTS, 1, True),
    ]
    async with asyncio.timeout(20), limits(redis_server.url) as store:
        await store.take(demands, lease="a", lease_seconds=30.0)
        await store.renew(demands, lease="a", lease_seconds=40.0)
    ends = {
        key.decode().rpartition("}:")[2]: redis_server.command("PTTL", key) / 1000
        for key in redis_server.keys()  # noqa: SIM118  it is no mapping
    }
    assert ["b", "r", "s", "t", "t:leases"] == sorted(ends)
    # A key of a window lives up to an eighth longer, so that it is not prolonged at every take.
    for key, (least, most) in {
        "b": (59, 71),
        "r": (59, 71),
        "s": (39, 43),
        "t": (39, 45),
        "t:leases": (39, 45),
    }.items():
        assert least < ends[key] < most, key


async def test_all_keys_of_a_request_share_a_hash_tag(redis_server: RedisServer) -> None:
    """One tag for all by default; another by option, or by what it is computed from."""
    server, client = redis_server, redis.asyncio.Redis.from_url(redis_server.url)
    plain = RedisLimits(client, timeout_seconds=5.0)
    named = RedisLimits(client, timeout_seconds=5.0, prefix="p", tag="mine")
    computed = RedisLimits(client, timeout_seconds=5.0, tag=lambda demand: demand.key[:3])
    async with asyncio.timeout(20):
        for store in (plain, named, computed):
            await ask(store, "one-key")
            await store.aclose()
        await client.aclose()
    assert [
        b"asgi-llm:limit:{asgi-llm}:one-key",
        b"asgi-llm:limit:{one}:one-key",
        b"p:{mine}:one-key",
    ] == server.keys()


async def test_b27_a_stopped_server_is_an_error_at_once_and_no_longer_than_it_is_away(
    redis_server: RedisServer,
) -> None:
    """Refused connections are a StoreError; the same store goes on after the restart."""
    async with limits(redis_server.url) as store:
        assert (await ask(store)).admitted
        redis_server.stop()
        for _ in range(3):
            with pytest.raises(StoreError):
                await ask(store)
        redis_server.start()
        assert 999 == (await answers_again(lambda: ask(store))).statuses[0].remaining


async def test_b27_a_restart_between_two_calls_goes_unnoticed(redis_server: RedisServer) -> None:
    """A connection that the server has closed is replaced before it is used."""
    async with asyncio.timeout(20), limits(redis_server.url) as store:
        await ask(store)
        redis_server.restart()
        assert 999 == (await ask(store)).statuses[0].remaining


async def test_b27_a_frozen_server_is_given_up_at_the_deadline(redis_server: RedisServer) -> None:
    """Every call ends, also those that came while others waited; then service is back."""
    async with limits(redis_server.url, timeout_seconds=0.05) as store:
        await answers_again(lambda: ask(store))
        redis_server.freeze()
        began = time.monotonic()
        for _ in range(3):
            results = await asyncio.gather(
                *(ask(store, f"{n}") for n in range(50)), return_exceptions=True
            )
            assert {StoreError} == {type(result) for result in results}
        assert time.monotonic() - began < 3.0
        redis_server.thaw()
        assert (await answers_again(lambda: ask(store))).admitted


async def test_a_loop_that_stood_still_is_no_late_server(redis_server: RedisServer) -> None:
    """A reply that came in time, and lies unread when the deadline has passed, is an answer."""
    async with limits(redis_server.url, timeout_seconds=0.05) as store:
        await answers_again(lambda: ask(store))
        asking = asyncio.ensure_future(ask(store))
        for _ in range(10):
            # Turns of the loop in which the call leaves.
            await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251  the loop itself is to stand still
        assert (await asking).admitted


async def test_b27_a_slow_server_is_given_up_and_recovers(redis_server: RedisServer) -> None:
    """Answers that come 500 ms late are errors; once they come in time they count again."""
    with redis_server.proxy() as proxy:
        async with limits(proxy.url, timeout_seconds=0.1) as store:
            await answers_again(lambda: ask(store))
            proxy.delay_seconds = 0.5
            for _ in range(3):
                with pytest.raises(StoreError, match=r"0\.1 seconds"):
                    await ask(store)
            proxy.delay_seconds = 0.0
            assert (await answers_again(lambda: ask(store))).admitted


async def test_a_connection_that_breaks_fails_its_calls_only(redis_server: RedisServer) -> None:
    """What was under way on a cut connection is a StoreError; the next call has another one."""
    with redis_server.proxy() as proxy:
        async with asyncio.timeout(20), limits(proxy.url) as store:
            await ask(store)
            proxy.delay_seconds = 2.0
            calls = [asyncio.ensure_future(ask(store, f"{n}")) for n in range(5)]
            await asyncio.sleep(0)
            await asyncio.sleep(0.05)  # the commands are on their way
            proxy.cut()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {StoreError} == {type(result) for result in results}
            proxy.delay_seconds = 0.0
            assert (await ask(store)).admitted


async def test_b27_a_flush_is_harmless(redis_server: RedisServer) -> None:
    """Keys and script gone: the next decision begins fresh, without an error; leases are gone."""
    demands = [Demand("r", REQUESTS, 1, False), Demand("t", TOKENS, 600, True)]
    async with asyncio.timeout(20), limits(redis_server.url) as store:
        await store.take(demands, lease="a", lease_seconds=30.0)
        redis_server.flush()
        await store.renew(demands, lease="a", lease_seconds=30.0)
        decision = await store.take(demands, lease="b", lease_seconds=30.0)
        assert [999, 400] == [status.remaining for status in decision.statuses]
        await store.settle(demands, lease="a", costs=[1, 100])
        await store.settle(demands, lease="b", costs=[1, 100])
        decision = await store.take([demands[1]], lease="c", lease_seconds=30.0)
        assert 200 == decision.statuses[0].remaining


@pytest.mark.parametrize(
    ("trouble", "cure"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("SET", "asgi-llm:limit:{asgi-llm}:a", "not ours"), ("FLUSHALL",)),
    ],
    ids=["READONLY", "OOM", "WRONGTYPE"],
)
async def test_b27_what_the_server_refuses_is_a_store_error(
    redis_server: RedisServer, trouble: tuple[str, ...], cure: tuple[str, ...]
) -> None:
    """Replica, full memory, foreign key: an error while it lasts, and none afterwards."""
    async with asyncio.timeout(20), limits(redis_server.url) as store:
        await ask(store, "b")
        redis_server.command(*trouble)
        for _ in range(2):
            with pytest.raises(StoreError):
                await ask(store)
        redis_server.command(*cure)
        assert (await answers_again(lambda: ask(store))).admitted


async def test_a_cancelled_caller_takes_nobody_along_and_holds_nothing(
    redis_server: RedisServer,
) -> None:
    """Cancelled before or after the command has left: others get theirs, its slot is free."""
    demand = [Demand("s", SLOTS, 1, True)]

    async def seen(store: RedisLimits) -> int:
        look = await store.take([Demand("s", SLOTS, 0, True)], lease="look", lease_seconds=1.0)
        return look.statuses[0].remaining

    with redis_server.proxy() as proxy:
        async with asyncio.timeout(20), limits(proxy.url) as store:
            assert 2 == await seen(store)
            for under_way in (False, True):
                proxy.delay_seconds = 0.2 if under_way else 0.0
                gone = asyncio.ensure_future(store.take(demand, lease="a", lease_seconds=60.0))
                other = asyncio.ensure_future(ask(store))
                await asyncio.sleep(0.05 if under_way else 0)
                assert under_way == (redis_server.command("EXISTS", KEY_OF_SLOTS) == 1)
                gone.cancel()
                assert (await other).admitted
                with pytest.raises(asyncio.CancelledError):
                    await gone
                assert 2 == await seen(store)


KEY_OF_SLOTS = "asgi-llm:limit:{asgi-llm}:s"


async def test_closing_fails_what_is_under_way(redis_server: RedisServer) -> None:
    """Nobody waits for a store that was closed."""
    async with asyncio.timeout(20):
        store = RedisLimits(redis_server.url, timeout_seconds=5.0)
        await ask(store)
        redis_server.freeze()
        calls = [asyncio.ensure_future(ask(store)) for _ in range(3)]
        await asyncio.sleep(0.02)
        await store.aclose()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {StoreError} == {type(result) for result in results}
        redis_server.thaw()


def test_a_store_follows_to_another_loop(redis_server: RedisServer) -> None:
    """A second event loop gets a connection of its own."""
    client = redis.asyncio.Redis.from_url(redis_server.url)
    store = RedisLimits(client, timeout_seconds=5.0)

    async def use() -> int:
        remaining = (await ask(store)).statuses[0].remaining
        await store.aclose()
        await client.aclose()
        return remaining

    assert [999, 998] == [asyncio.run(use()), asyncio.run(use())]


async def test_b16_a_clock_that_is_set_back_locks_nobody_out(shared_redis: RedisServer) -> None:
    """After a step back of an hour all that was taken counts as taken now: gone a window later."""
    limit = Limit(unit="requests", amount=10, window_seconds=60)
    demand = Demand("a", limit, 1, False)
    async with asyncio.timeout(20), redis_with_clock(shared_redis) as timed:
        for _ in range(4):
            await timed.store.take([demand], lease="a", lease_seconds=1.0)
            timed.advance(1_000_000)
        timed.advance(-3_600_000_000)
        decision = await timed.store.take([demand], lease="a", lease_seconds=1.0)
        assert 5 == decision.statuses[0].remaining
        timed.advance(60_000_000)
        decision = await timed.store.take([demand], lease="a", lease_seconds=1.0)
        assert 9 == decision.statuses[0].remaining


@pytest.mark.parametrize("timeout_seconds", [0, -1, float("inf"), float("nan")])
def test_the_deadline_is_checked(timeout_seconds: float) -> None:
    """A deadline that never comes, or has been, is refused by name."""
    with pytest.raises(ConfigurationError, match="timeout_seconds"):
        RedisLimits("redis://127.0.0.1:1", timeout_seconds=timeout_seconds)


async def test_a_limit_without_a_window_is_refused(redis_server: RedisServer) -> None:
    """It would let everything pass."""
    wrong = Demand("a", Limit(unit="requests", amount=1), 1, False)
    async with asyncio.timeout(20), limits(redis_server.url) as store:
        with pytest.raises(ConfigurationError, match="window"):
            await store.take([wrong], lease="a", lease_seconds=1.0)

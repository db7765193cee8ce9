"""Redis stopped, frozen, slowed, flushed and restarted under load, with each policy.

Three gateways of two workers each count in one Redis: one lets everything pass while it is away
(``allow``), one nothing (``deny``), and one each worker's share of the limit (``share``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from typing import NamedTuple

import pytest

from tests.e2e.faults.fleet import Fleet, poll
from tests.e2e.faults.load import Load, under_load
from tests.e2e.faults.wire import Connection
from tests.services.redis_server import RedisServer
from tests.services.tcp_proxy import TcpProxy

Told = tuple[int, str | None]

POLICIES = ("allow", "deny", "share")
WORKERS = 2
SCARCE = 10
PLENTY = 100_000
FAULTS = ("stopped", "frozen", "slowed", "flushed", "restarted")

STORE_SECONDS = 0.05
"""Deadline of one call of the store; a request makes two: it takes, and it settles."""
MARGIN_SECONDS = 0.1
"""For the rest of a request, beyond what a request that asks nobody anything takes at most."""
SLOW_SECONDS = 0.5
OUTAGE_SECONDS = 2.5
BACK_SECONDS = 5.0


def key_of(name: str) -> str:
    return f"sk-test-{name}-7f3b9c2e8a1d4560"


BUSY = key_of("busy")


def configuration(policy: str, url: str) -> dict[str, object]:
    rows = {"busy": ["1000000 requests/hour", "1000000000 tokens/hour", "1000 concurrent requests"]}
    rows[f"{policy}-before"] = [f"{PLENTY} requests/hour"]
    for fault in FAULTS:
        rows[f"{policy}-during-{fault}"] = [f"{SCARCE} requests/hour"]
        rows[f"{policy}-after-{fault}"] = [f"{PLENTY} requests/hour"]
    keys = [{"name": name, "key": key_of(name), "limits": texts} for name, texts in rows.items()]
    return {
        "providers": {"e": {"type": "echo"}},
        "storage": {"redis": url},
        "stack": [
            "access_log",
            {"auth": {"keys": keys, "database": False}},
            {"rate_limit": {"on_store_error": policy}},
        ],
    }


class World(NamedTuple):
    """One Redis, the way to it, and the gateways by their policy."""

    redis: RedisServer
    proxy: TcpProxy
    fleets: dict[str, Fleet]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All of them, running."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        proxy = stack.enter_context(redis.proxy())
        fleets = {
            policy: stack.enter_context(
                Fleet(
                    tmp_path_factory.mktemp(policy),
                    configuration(policy, proxy.url),
                    workers=WORKERS,
                )
            )
            for policy in POLICIES
        }
        yield World(redis, proxy, fleets)


def break_it(world: World, fault: str) -> None:
    """Take Redis away."""
    match fault:
        case "stopped":
            world.proxy.refuse()
            world.redis.stop()
        case "frozen":
            world.redis.freeze()
        case "slowed":
            world.proxy.delay_seconds = SLOW_SECONDS


def mend(world: World, fault: str) -> None:
    """Give it back."""
    match fault:
        case "stopped":
            world.redis.start()
            world.proxy.accept()
        case "frozen":
            world.redis.thaw()
        case "slowed":
            world.proxy.delay_seconds = 0.0


async def ready(connection: Connection) -> tuple[int, str]:
    """What a worker says of its readiness."""
    answer = await connection.ask("/health/ready")
    return answer.status, answer.json["status"]


async def all_say(connections: list[Connection], expected: tuple[int, str]) -> bool:
    return all([expected == await ready(connection) for connection in connections])


AWAY = {"allow": (200, "degraded"), "deny": (503, "not_ready"), "share": (200, "degraded")}
SERVED: Told = (200, None)
DENIED: Told = (503, "store_unavailable")
REFUSED: Told = (429, "rate_limit_exceeded")
SHARE = SCARCE // WORKERS
HELD = {
    "allow": [SERVED] * 2 * SCARCE,
    "deny": [DENIED] * 2 * SCARCE,
    "share": [SERVED] * SHARE + [REFUSED] * (2 * SCARCE - SHARE),
}
"""What each worker answers to twice the limit of a key, one after the other."""


class Scene(NamedTuple):
    """The gateways under load: a connection to each worker, and what the load has got."""

    connections: dict[str, list[Connection]]
    loads: dict[str, Load]


@asynccontextmanager
async def scene(world: World) -> AsyncIterator[Scene]:
    """All gateways under load, with every worker well; afterwards nobody has waited."""
    connections: dict[str, list[Connection]] = {}
    loads: dict[str, Load] = {}
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        for policy, fleet in world.fleets.items():
            kept = await stack.enter_async_context(fleet.connections(WORKERS))
            connections[policy] = [one for mine in kept.values() for one in mine]
            loads[policy] = await stack.enter_async_context(under_load(fleet, [BUSY]))
        found = Scene(connections, loads)
        await full_service(found, "before")
        yield found
    for policy, load in loads.items():
        assert {200} == {live.status for live in load.lives}
        served = world.fleets[policy].served()
        decided = [served[answer.headers["x-request-id"]] for answer in load.chats]
        taken = max(one.ended - one.began for one in decided)
        assert taken < 2 * STORE_SECONDS + MARGIN_SECONDS + load.stall_seconds()


async def left(connections: list[Connection], key: str) -> list[int]:
    """What each of some requests, two to each worker, was told to be left of its limit."""
    answers = [await connection.chat(key) for connection in connections * 2]
    return [answer.remaining if answer.status == 200 else -1 for answer in answers]


async def full_service(scene: Scene, key: str) -> None:
    """Within 5 seconds all workers are ready, count together, and serve the load.

    Counting together is to find what those before have left, on whichever worker. A machine that
    stalls for longer than the store may take costs another look, in the same 5 seconds.
    """
    began = time.monotonic()

    async def counts_together(mine: list[Connection], key: str) -> bool:
        found = await left(mine, key)
        return found == list(range(found[0], found[0] - len(found), -1))

    async def is_back(policy: str) -> None:
        mine = scene.connections[policy]
        end = began + BACK_SECONDS
        for what, is_so in (
            ("ready", partial(all_say, mine, (200, "ready"))),
            ("counting together", partial(counts_together, mine, key_of(f"{policy}-{key}"))),
        ):
            await poll(f"{policy}: {what}", is_so, seconds=end - time.monotonic())
        await scene.loads[policy].goes_on(began, seconds=end - time.monotonic())

    async with asyncio.TaskGroup() as tasks:
        for policy in POLICIES:
            tasks.create_task(is_back(policy))


@pytest.mark.parametrize("fault", ["stopped", "frozen", "slowed"])
async def test_b27_a_redis_that_is_away_is_done_without(world: World, fault: str) -> None:
    """The policy holds on every worker, nobody waits, and all is counted again within 5 seconds."""

    async def go_through(policy: str, connections: list[Connection]) -> None:
        """One gateway's outage, from when Redis is away."""
        noticed = partial(all_say, connections, AWAY[policy])
        await poll(f"{policy}: noticed by every worker", noticed, seconds=BACK_SECONDS)
        key = key_of(f"{policy}-during-{fault}")
        for connection in connections:
            answers = [await connection.chat(key) for _ in range(2 * SCARCE)]
            assert HELD[policy] == [answer.told for answer in answers]

    async with scene(world) as found:
        await asyncio.to_thread(break_it, world, fault)
        try:
            async with asyncio.TaskGroup() as tasks:
                # Real time is the subject: long enough for probes that fail.
                tasks.create_task(asyncio.sleep(OUTAGE_SECONDS))
                for policy, mine in found.connections.items():
                    tasks.create_task(go_through(policy, mine))
        finally:
            await asyncio.to_thread(mend, world, fault)
        await full_service(found, f"after-{fault}")
    for policy, load in found.loads.items():
        assert {HELD[policy][0], SERVED} == {answer.told for answer in load.chats}


async def test_b27_a_flushed_redis_counts_anew(world: World) -> None:
    """Though the scripts are gone too, no request fails, and every limit is whole again."""

    async def whole_again(policy: str, mine: list[Connection], key: str) -> None:
        """What is left is short of the limit by no more than was asked for since."""
        sent = 0

        async def is_whole() -> bool:
            nonlocal sent
            sent += 2 * len(mine)
            return min(await left(mine, key)) >= PLENTY - sent

        await poll(f"{policy}: the limit is whole", is_whole, seconds=BACK_SECONDS)

    async with scene(world) as found:
        keys = {policy: key_of(f"{policy}-after-flushed") for policy in POLICIES}
        for policy, mine in found.connections.items():
            for _ in range(50):
                await left(mine, keys[policy])
        await asyncio.to_thread(world.redis.flush)
        async with asyncio.TaskGroup() as tasks:
            for policy, mine in found.connections.items():
                tasks.create_task(whole_again(policy, mine, keys[policy]))
        await full_service(found, "after-flushed")
    for policy in ("allow", "share"):
        assert {200} == {answer.status for answer in found.loads[policy].chats}


async def test_b27_a_restarted_redis_is_used_again(world: World) -> None:
    """Only who denies refuses anything meanwhile."""
    async with scene(world) as found:
        await asyncio.to_thread(world.redis.restart)
        await full_service(found, "after-restarted")
    for policy, load in found.loads.items():
        assert {answer.told for answer in load.chats} <= {HELD[policy][0], SERVED}

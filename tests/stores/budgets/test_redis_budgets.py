"""Budgets in a real Redis: the same answers as in memory, and what a full server still does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from asgi_llm.errors import StoreError
from asgi_llm.stores.budgets import PICO, BudgetDemand, BudgetStore
from tests.services.redis_server import RedisServer
from tests.stores.budgets.conftest import START, demand, in_memory, in_redis

RULES: tuple[dict[str, Any], ...] = (
    {"period": "day"},
    {"period": "day", "time_zone": "Asia/Tokyo"},
    {"period": "week"},
    {"period": "month"},
    {"period": "total"},
    {"period": "rolling", "days": 1},
    {"period": "rolling", "days": 3},
    {"period": "day", "hard": False, "owner": "soft"},
)
STEPS = (0.0, 1.0, 5.0, 30.0, 59.5, 60.0, 61.0, 130.0, 3600.0, 30_000.0, 86_400.0, 200_000.0)
AMOUNTS = (0, PICO, 2 * PICO, 3 * PICO, 4 * PICO + 1, 7 * PICO, 1_500_000 * PICO)
ACTUAL = (0, PICO, PICO + 7, 2 * PICO, 9 * PICO, 1_200_000 * PICO)
SECONDS = (10.0, 60.0, 300.0)

Call = Callable[[BudgetStore], Awaitable[Any]]


def any_demands(rng: random.Random) -> list[BudgetDemand]:
    rules = rng.sample(RULES, rng.randint(1, 3))
    return [demand(rng.choice((5, 10, 10, 2_000_000)), **rule) for rule in rules]


def any_call(rng: random.Random, number: int, held: dict[str, list[BudgetDemand]]) -> Call:
    """What both stores are asked next; ``held`` are the leases that nobody has settled."""
    kind = rng.random()
    if kind < 0.5 or not held:
        demands, lease = any_demands(rng), f"lease {number}"
        amount, seconds, enforce = rng.choice(AMOUNTS), rng.choice(SECONDS), rng.random() < 0.85
        held[lease] = demands
        return lambda store: store.reserve(
            demands, amount, lease=lease, lease_seconds=seconds, enforce=enforce
        )
    lease = rng.choice(list(held))
    if kind < 0.7:
        demands, actual = held.pop(lease), rng.choice(ACTUAL)
        return lambda store: store.settle(demands, lease=lease, actual=actual)
    if kind < 0.85:
        demands, seconds = held[lease], rng.choice(SECONDS)
        return lambda store: store.renew(demands, lease=lease, lease_seconds=seconds)
    demands = [demand(10, **rule) for rule in RULES]
    return lambda store: store.spent(demands)


@pytest.mark.parametrize("seed", range(16))
async def test_every_answer_is_that_of_memory(shared_redis: RedisServer, seed: int) -> None:
    """Refusals, lapses, periods that end and calls that are settled late, in any order."""
    rng = random.Random(seed)
    held: dict[str, list[BudgetDemand]] = {}
    now = START
    async with asyncio.timeout(30), AsyncExitStack() as stack:
        worlds = [await stack.enter_async_context(in_memory())]
        worlds.append(await stack.enter_async_context(in_redis(shared_redis)))
        for number in range(60):
            if rng.random() < 0.25:
                now = round(now + rng.choice(STEPS), 3)
                for world in worlds:
                    world.set_time(now)
                continue
            call = any_call(rng, number, held)
            expected, actual = [await call(world.store) for world in worlds]
            assert expected == actual


async def test_a_full_server_still_refuses_and_tells(redis_server: RedisServer) -> None:
    """Neither writes anything where nothing has changed; what is to be held is an error."""
    one = demand(10)
    async with asyncio.timeout(20), in_redis(redis_server) as world:
        await world.store.settle([one], lease="a", actual=5 * PICO)
        redis_server.command("CONFIG", "SET", "maxmemory", "1")
        refused = await world.store.reserve([one], 6 * PICO, lease="b", lease_seconds=60.0)
        assert not refused.admitted
        (status,) = await world.store.spent([one])
        assert (5 * PICO, 0) == (status.spent, status.reserved)
        with pytest.raises(StoreError):
            await world.store.reserve([one], PICO, lease="c", lease_seconds=60.0)

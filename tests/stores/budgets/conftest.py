"""Budget stores of every kind, on real servers, with a clock that a test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from asgi_llm.stores._redis_pipeline import ScriptPipeline
from asgi_llm.stores.budgets import BudgetDemand, BudgetRule, BudgetStore, demand_of
from asgi_llm.stores.budgets_memory import MemoryBudgets
from asgi_llm.stores.budgets_redis import SCRIPT, RedisBudgets
from asgi_llm.stores.sql.budgets import SQLBudgets
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.migrations import create_schema
from tests.services.postgres_server import PostgresServer, postgres_server, postgres_url
from tests.services.redis_server import RedisServer, redis_server

__all__ = ["PostgresServer", "postgres_server", "postgres_url", "redis_server"]

PATIENT_SECONDS = 20.0
NOW_KEY = "test:now"
SET_TIME = f"""
local now = tonumber(redis.call("GET", "{NOW_KEY}"))
local time = {{math.floor(now / 1000000), now % 1000000}}
"""
START = 1_795_250_000.0
"""2026-11-21, 08:33:20 UTC."""


class TimedBudgets:
    """A store, and the clock by which it goes."""

    def __init__(self, store: BudgetStore, set_time: Callable[[float], None]) -> None:
        self.store = store
        self.set_time = set_time
        """To a Unix time, also back."""


Factory = Callable[[], AbstractAsyncContextManager[TimedBudgets]]


class SetClock:
    """Unix time that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def set(self, now: float) -> None:
        self.now = now


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    """A server for the tests of a module that only flush it."""
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def in_memory() -> AsyncIterator[TimedBudgets]:
    clock = SetClock()
    yield TimedBudgets(MemoryBudgets(clock=clock), clock.set)


@asynccontextmanager
async def in_redis(server: RedisServer) -> AsyncIterator[TimedBudgets]:
    """The real script in a real server; only its source of time is another."""
    server.flush()
    clock = SetClock()
    with redis.Redis(port=server.port or 0) as control:

        def set_time(now: float) -> None:
            clock.set(now)
            control.set(NOW_KEY, round(now * 1e6))

        set_time(START)
        client = redis.asyncio.Redis.from_url(server.url)
        store = RedisBudgets(client, timeout_seconds=PATIENT_SECONDS, clock=clock)
        text = SCRIPT.read_text(encoding="utf-8")
        script = text.replace('local time = redis.call("TIME")\n', SET_TIME)
        assert SET_TIME in script
        store._pipeline = ScriptPipeline(client, script, timeout_seconds=PATIENT_SECONDS)
        try:
            yield TimedBudgets(store, set_time)
        finally:
            await store.aclose()
            await client.aclose()


@asynccontextmanager
async def in_sql(url: str) -> AsyncIterator[TimedBudgets]:
    clock = SetClock()
    engine = open_engine(url)
    await create_schema(engine)
    store = SQLBudgets(engine, timeout_seconds=PATIENT_SECONDS, clock=clock)
    try:
        yield TimedBudgets(store, clock.set)
    finally:
        await store.aclose()
        await engine.dispose()


@pytest.fixture(params=["memory", "redis", "sqlite", "postgres"])
def timed(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    """Makes a store of each kind whose time the test sets."""
    if request.param == "memory":
        return in_memory
    if request.param == "redis":
        return partial(in_redis, request.getfixturevalue("shared_redis"))
    if request.param == "sqlite":
        return partial(in_sql, f"sqlite:///{tmp_path}/budgets.db")
    return partial(in_sql, request.getfixturevalue("postgres_url"))


def demand(amount: Any = 1, owner: str = "k1", **rule: Any) -> BudgetDemand:
    """A budget of a key, by the month unless it says otherwise."""
    given: dict[str, Any] = {"scope": "key", "amount_usd": Decimal(str(amount)), **rule}
    return demand_of(BudgetRule(**given), owner)


__all__ += ["Factory", "TimedBudgets", "demand"]

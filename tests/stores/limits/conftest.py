"""Limit stores of every kind, and a Redis whose time a test sets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

import asgi_llm.stores.limits_redis
from asgi_llm.stores._redis_pipeline import ScriptPipeline
from asgi_llm.stores.base import LimitStore
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.stores.limits_package import PackageLimits
from asgi_llm.stores.limits_redis import RedisLimits
from asgi_llm.testing import ManualClock
from tests.services.redis_server import RedisServer, redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

PATIENT_SECONDS = 10.0
"""The deadline of stores in tests that are not about deadlines."""
NOW_KEY = "test:now"
SCRIPT = Path(asgi_llm.stores.limits_redis.__file__).with_name("limits.lua").read_text()
SET_TIME = f"""
local now = tonumber(redis.call("GET", "{NOW_KEY}"))
local time = {{math.floor(now / 1000000), now % 1000000}}
"""


class TimedStore:
    """A store and its clock, which stands still until it is advanced."""

    def __init__(self, store: LimitStore, advance: Callable[[int], None]) -> None:
        self.store = store
        self.advance = advance
        """By so many microseconds; back, for Redis, where they are negative."""


StoreFactory = Callable[[], AbstractAsyncContextManager[TimedStore]]


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    """A server for the tests of a module that only flush it."""
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def memory_with_clock() -> AsyncIterator[TimedStore]:
    clock = ManualClock(1_000.0)
    yield TimedStore(MemoryLimits(clock=clock), lambda step: clock.advance(step / 1e6))


@asynccontextmanager
async def redis_with_clock(server: RedisServer) -> AsyncIterator[TimedStore]:
    """The real script in a real server; only its source of time is another."""
    server.flush()
    # Ahead of the server's own clock, by which keys expire: however long a test takes, none does.
    now = int((time.time() + 3600) * 1e6)
    with redis.Redis(port=server.port or 0) as control:
        control.set(NOW_KEY, now)
        client = redis.asyncio.Redis.from_url(server.url)
        store = RedisLimits(client, timeout_seconds=PATIENT_SECONDS)
        script = SCRIPT.replace('local time = redis.call("TIME")\n', SET_TIME)
        assert SET_TIME in script
        store._pipeline = ScriptPipeline(client, script, timeout_seconds=PATIENT_SECONDS)
        try:
            yield TimedStore(store, lambda step: control.incrby(NOW_KEY, step))
        finally:
            await store.aclose()
            await client.aclose()


@pytest.fixture(params=["memory", "redis"])
def timed_store(request: pytest.FixtureRequest) -> StoreFactory:
    """Makes a store with our own algorithm whose time the test sets."""
    if request.param == "memory":
        return memory_with_clock
    server = request.getfixturevalue("shared_redis")
    return lambda: redis_with_clock(server)


@asynccontextmanager
async def opened(kind: str, server: Callable[[], RedisServer]) -> AsyncIterator[LimitStore]:
    store: LimitStore
    if kind == "memory":
        store = MemoryLimits()
    elif kind == "redis":
        store = RedisLimits(server().url, timeout_seconds=PATIENT_SECONDS)
    else:
        _, storage, strategy = kind.split(" ")
        uri = "memory://" if storage == "memory" else server().url
        store = PackageLimits(uri, strategy=strategy, leases=MemoryLimits())  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.aclose()


STRATEGIES = ("fixed-window", "moving-window", "sliding-window-counter")
OURS = ("memory", "redis")
PACKAGE = tuple(
    f"package {storage} {strategy}" for storage in ("memory", "redis") for strategy in STRATEGIES
)


@pytest.fixture(params=[*OURS, *PACKAGE])
async def any_store(request: pytest.FixtureRequest) -> AsyncIterator[LimitStore]:
    """Every store, empty."""

    def server() -> RedisServer:
        found: RedisServer = request.getfixturevalue("shared_redis")
        found.flush()
        return found

    kind: Any = request.param
    async with opened(kind, server) as store:
        yield store

"""Breaker stores of every kind, on a real server, with a clock that a test sets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest
import redis
import redis.asyncio

from asgi_llm.stores._redis_pipeline import ScriptPipeline
from asgi_llm.stores.breakers import BreakerPolicy, BreakerStore, Standing
from asgi_llm.stores.breakers_memory import MemoryBreakers
from asgi_llm.stores.breakers_redis import SCRIPT, RedisBreakers
from asgi_llm.testing import ManualClock
from tests.services.redis_server import RedisServer, redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

PATIENT_SECONDS = 10.0
"""The deadline of stores in tests that are not about deadlines."""
START = 900.0
"""A whole number of every window's parts."""
NOW_KEY = "test:now"
SET_TIME = f"""
local now = tonumber(redis.call("GET", "{NOW_KEY}"))
local time = {{math.floor(now / 1000000), now % 1000000}}
"""


class TimedBreakers:
    """A store, its clock, and the random numbers that it draws."""

    def __init__(self, store: BreakerStore, advance: Callable[[float], None]) -> None:
        self.store = store
        self.advance = advance
        """By so many seconds."""

    async def fails(
        self, times: int, target: str = "a/m", *, cool_down: float | None = None
    ) -> None:
        """So many failures, one after the other."""
        for _ in range(times):
            self.store.failed(target, cool_down_seconds=cool_down)
        await self.is_told()

    async def is_told(self) -> None:
        """Wait until everything that was told so far is known."""
        assert await self.store.claim("nobody/nothing") == ""

    async def standing(self, target: str = "a/m") -> Standing | None:
        await self.is_told()
        return self.store.standing(target)


Factory = Callable[..., AbstractAsyncContextManager[TimedBreakers]]


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    """A server for the tests of a module that only flush it."""
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def in_memory(
    policy: BreakerPolicy | None = None, random: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[TimedBreakers]:
    clock = ManualClock(START)
    yield TimedBreakers(MemoryBreakers(policy=policy, clock=clock, random=random), clock.advance)


@asynccontextmanager
async def in_redis(
    server: RedisServer,
    policy: BreakerPolicy | None = None,
    random: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[TimedBreakers]:
    """The real script in a real server; only its source of time is another."""
    server.flush()
    clock = ManualClock(START)
    with redis.Redis(port=server.port or 0) as control:
        # Ahead of the server's own clock, by which keys expire: however long a test takes, none
        # does. The parts of a window begin as they do in memory.
        control.set(NOW_KEY, int((time.time() // START + 5) * START) * 1_000_000)

        def advance(seconds: float) -> None:
            clock.advance(seconds)
            control.incrby(NOW_KEY, round(seconds * 1e6))

        client = redis.asyncio.Redis.from_url(server.url)
        store = RedisBreakers(
            client, policy=policy, timeout_seconds=PATIENT_SECONDS, clock=clock, random=random
        )
        text = SCRIPT.read_text(encoding="utf-8")
        script = text.replace('local time = redis.call("TIME")\n', SET_TIME)
        assert SET_TIME in script
        store._pipeline = ScriptPipeline(client, script, timeout_seconds=PATIENT_SECONDS)
        try:
            yield TimedBreakers(store, advance)
        finally:
            await store.aclose()
            await client.aclose()


@pytest.fixture(params=["memory", "redis"])
def timed(request: pytest.FixtureRequest) -> Factory:
    """Makes a store of each kind whose time the test sets."""
    if request.param == "memory":
        return in_memory
    return partial(in_redis, request.getfixturevalue("shared_redis"))


__all__ += ["Factory", "TimedBreakers", "in_memory", "in_redis"]

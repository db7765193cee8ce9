"""The script of Redis and the rules in Python are the same: they agree after every step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from asgi_llm.stores.breakers import BreakerPolicy
from tests.services.redis_server import RedisServer
from tests.stores.breakers.conftest import TimedBreakers, in_memory, in_redis

DEADLINE_SECONDS = 60

# All times are sums of powers of two, so that no clock rounds.
TARGETS = st.sampled_from(["a/m", "b/m"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fail"), TARGETS, st.integers(1, 4)),
        st.tuples(st.just("late"), TARGETS, st.sampled_from([0.5, 3.0, 100.0])),
        st.tuples(st.just("answer"), TARGETS, st.integers(1, 3)),
        st.tuples(st.just("wait"), TARGETS, st.sampled_from([0.125, 1.0, 2.75, 5.0, 21.0])),
        st.tuples(st.just("claim"), TARGETS, st.none()),
        st.tuples(st.just("well"), TARGETS, st.none()),
        st.tuples(st.just("badly"), TARGETS, st.none()),
        st.tuples(st.just("gone"), TARGETS, st.none()),
    ),
    min_size=5,
    max_size=25,
)
POLICIES = st.builds(
    BreakerPolicy,
    failures=st.integers(1, 4),
    failure_rate=st.sampled_from([0.1, 0.5, 1.0]),
    minimum_calls=st.integers(1, 6),
    window_seconds=st.sampled_from([1.0, 7.5, 10.0]),
    cool_down_seconds=st.sampled_from([0.75, 3.0]),
    max_cool_down_seconds=st.sampled_from([3.0, 20.0]),
    jitter=st.sampled_from([0.0, 0.25]),
    max_retry_after_seconds=st.sampled_from([0.0, 5.0]),
    trial_seconds=st.sampled_from([1.0, 4.0]),
)


class Side:
    """One of the two stores, and the trials that it has given."""

    def __init__(self, breakers: TimedBreakers) -> None:
        self.breakers = breakers
        self.leases: dict[str, str] = {}

    async def step(self, name: str, target: str, amount: float | None) -> object:
        """Do it; what is seen afterwards."""
        breakers, store = self.breakers, self.breakers.store
        lease = self.leases.get(target, "")
        seen: object = None
        if name == "fail":
            await breakers.fails(int(amount or 0), target)
        elif name == "late":
            store.failed(target, counts=False, cool_down_seconds=amount)
        elif name == "answer":
            for _ in range(int(amount or 0)):
                store.succeeded(target)
        elif name == "wait":
            breakers.advance(amount or 0.0)
        elif name == "claim":
            given = await store.claim(target)
            seen = given and "a lease"
            if given:
                self.leases[target] = given
        elif lease and name == "well":
            store.succeeded(target, lease)
        elif lease and name == "badly":
            store.failed(target, lease)
        elif lease:
            store.released(target, lease)
        # Answers are told with the view, which is due whenever there is time to pass.
        waiting = store.refresh()
        if waiting is not None:
            await waiting
        return seen, await breakers.standing("a/m"), await breakers.standing("b/m")


@pytest.fixture(scope="module")
def model_redis() -> Iterator[RedisServer]:
    """A server for all examples."""
    with RedisServer() as server:
        yield server


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(policy=POLICIES, steps=STEPS)
def test_redis_and_memory_agree(
    model_redis: RedisServer, policy: BreakerPolicy, steps: list[tuple[str, str, float | None]]
) -> None:
    """Any steps, by any policy: the same standings, the same leases."""

    async def compare() -> None:
        drawn = iter(range(10_000))
        again = iter(range(10_000))
        async with (
            asyncio.timeout(DEADLINE_SECONDS),
            in_memory(policy, lambda: next(drawn) % 2 / 2) as memory,
            in_redis(model_redis, policy, lambda: next(again) % 2 / 2) as redis,
        ):
            ours, theirs = Side(memory), Side(redis)
            for step in steps:
                assert await ours.step(*step) == await theirs.step(*step)

    asyncio.run(compare())

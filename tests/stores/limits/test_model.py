"""Our algorithm in memory and in Redis against a slow model of it."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, example, given, settings

from asgi_llm.stores.base import Demand
from asgi_llm.types import Limit
from tests.stores.limits.conftest import StoreFactory
from tests.stores.limits.model import Model

STEP = 100_000  # microseconds: more than the 512th of every window here
LIMITS = {
    "requests": Limit(unit="requests", amount=5, window_seconds=8),
    "tokens": Limit(unit="tokens", amount=100, window_seconds=8),
    "smooth": Limit(unit="input_tokens", amount=60, window_seconds=7, burst=20),
    "bursty": Limit(unit="output_tokens", amount=20, window_seconds=10, burst=50),
    "even": Limit(unit="requests", amount=4, window_seconds=3, burst=4),
    "slots": Limit(unit="concurrent_requests", amount=2),
    "nothing": Limit(unit="requests", amount=0, window_seconds=5, burst=3),
}
HELD = ("tokens", "smooth", "bursty", "slots")

COSTS = {"tokens": 30, "smooth": 7, "bursty": 17}


def demand(key: str, times: int) -> Demand:
    return Demand(key, LIMITS[key], times * COSTS.get(key, 1), key in HELD)


def demands(keys: list[str]) -> st.SearchStrategy[tuple[Demand, ...]]:
    """A demand on some of the limits, of costs at which a few of them fill it."""
    return st.tuples(*(st.builds(demand, st.just(key), st.integers(0, 3)) for key in keys))


def scripts(keys: list[str]) -> st.SearchStrategy[list[Any]]:
    take = st.tuples(
        st.just("take"),
        demands(keys),
        st.sampled_from([1.0, 3.0, 20.0]),
        st.sampled_from([True, True, True, False]),
    )
    return st.lists(
        st.one_of(
            take,
            take,
            st.tuples(st.just("advance"), st.sampled_from([1, 3, 10, 31, 80, 200])),
            st.tuples(st.just("settle"), st.integers(0, 3), st.sampled_from([0, 1, 10, 55, 150])),
            st.tuples(st.just("renew"), st.integers(0, 3), st.sampled_from([1.0, 5.0])),
        ),
        min_size=8,
        max_size=60,
    )


operations = st.lists(st.sampled_from(sorted(LIMITS)), min_size=1, max_size=3, unique=True).flatmap(
    scripts
)
hypothesis_settings = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@given(script=operations)
@hypothesis_settings
def test_every_decision_is_the_models(timed_store: StoreFactory, script: list[Any]) -> None:
    """Takes, settlements, renewals and lapses: each status is exactly what the model says."""

    async def run() -> None:
        model = Model(0)
        taken: list[tuple[str, tuple[Demand, ...]]] = []
        async with asyncio.timeout(60), timed_store() as timed:
            for number, (name, *arguments) in enumerate(script):
                if name == "advance":
                    timed.advance(arguments[0] * STEP)
                    model.now += arguments[0] * STEP
                elif name == "take":
                    asked, seconds, enforce = arguments
                    lease = f"lease {number}"
                    decision = await timed.store.take(
                        asked, lease=lease, lease_seconds=seconds, enforce=bool(enforce)
                    )
                    assert (
                        model.take(asked, lease=lease, lease_seconds=seconds, enforce=bool(enforce))
                        == decision
                    )
                    taken.append((lease, asked))
                elif taken:
                    lease, asked = taken[-1 - arguments[0] % len(taken)]
                    if name == "settle":
                        costs = [arguments[1]] * len(asked)
                        await timed.store.settle(asked, lease=lease, costs=costs)
                        model.settle(asked, lease=lease, costs=costs)
                    else:
                        seconds = arguments[1]
                        await timed.store.renew(asked, lease=lease, lease_seconds=seconds)
                        model.renew(asked, lease=lease, lease_seconds=seconds)

    asyncio.run(run())


@given(
    limit=st.builds(
        Limit,
        unit=st.just("requests"),
        amount=st.integers(1, 30),
        window_seconds=st.sampled_from([1, 7, 60, 86400]),
        burst=st.one_of(st.none(), st.integers(1, 60)),
    ),
    gaps=st.lists(st.integers(0, 3_000_000), max_size=25),
    cost=st.integers(1, 9),
)
@hypothesis_settings
def test_the_announced_wait_is_exact(
    timed_store: StoreFactory, limit: Limit, gaps: list[int], cost: int
) -> None:
    """After the wait a refused demand is admitted; a millisecond earlier it is not."""

    async def run() -> None:
        demand = Demand("key", limit, cost, False)
        look = Demand("key", limit, cost, False)
        async with asyncio.timeout(60), timed_store() as timed:
            for gap in gaps:
                timed.advance(gap)
                decision = await timed.store.take([demand], lease="a", lease_seconds=1.0)
                wait = decision.statuses[0].retry_after_seconds
                assert decision.admitted == (wait == 0)
                if wait == inf:
                    assert cost > (limit.amount if limit.burst is None else limit.burst)
                elif wait:
                    early = round(wait * 1e6) - 1_000
                    if early > 0:
                        timed.advance(early)
                        again = await timed.store.take([look], lease="a", lease_seconds=1.0)
                        assert not again.admitted
                        timed.advance(1_000)
                    else:
                        timed.advance(early + 1_000)
                    assert (await timed.store.take([demand], lease="a", lease_seconds=1.0)).admitted

    asyncio.run(run())


@given(
    gaps=st.lists(
        st.tuples(st.integers(0, 60_000), st.integers(1, 12), st.integers(0, 3)), max_size=300
    ),
    burst=st.sampled_from([None, 5, 20, 45]),
)
@settings(parent=hypothesis_settings, max_examples=60)
def test_b14_no_window_sees_more_than_the_amount(
    timed_store: StoreFactory, gaps: list[tuple[int, int, int]], burst: int | None
) -> None:
    """Whatever the times: in every window at most the amount; with a greater burst, both together.

    And what is refused would not have fitted into a window that is longer by its 512th.
    """
    amount, window = 20, 1_000_000

    async def run() -> None:
        limit = Limit(unit="requests", amount=amount, window_seconds=1, burst=burst)
        now, admitted = 0, []
        async with asyncio.timeout(60), timed_store() as timed:
            for gap, cost, pause in gaps:
                step = gap * (1 if pause else 20)
                timed.advance(step)
                now += step
                demand = Demand("key", limit, cost, False)
                decision = await timed.store.take([demand], lease="a", lease_seconds=1.0)
                if decision.admitted:
                    admitted.append((now, cost))
                    seen = sum(cost for at, cost in admitted if at > now - window)
                    assert seen <= (amount if burst is None or burst <= amount else burst + amount)
                elif burst is None:
                    longer = now - window * 513 // 512 - 1
                    assert sum(cost for at, cost in admitted if at > longer) + cost > amount

    asyncio.run(run())


async def test_b14_of_many_reservations_rather_less_comes_back(timed_store: StoreFactory) -> None:
    """More of them than are told apart: never more than was taken, and all comes back in time."""
    limit = Limit(unit="tokens", amount=60, window_seconds=60, burst=2000)
    demand = Demand("key", limit, 10, True)
    look = Demand("key", limit, 0, True)
    now, taken = 0, list[tuple[int, int]]()
    async with asyncio.timeout(60), timed_store() as timed:
        for number in range(200):
            timed.advance(1_000_000)
            now += 1_000_000
            lease = f"lease {number}"
            assert (await timed.store.take([demand], lease=lease, lease_seconds=9e3)).admitted
            taken.append((now, 10))
        for number in [*range(0, 200, 2), *range(1, 200, 2)]:
            taken[number] = taken[number][0], 0
            await timed.store.settle([demand], lease=f"lease {number}", costs=[0])
            seen = await timed.store.take([look], lease="look", lease_seconds=1.0)
            assert 0 <= remaining(limit, taken, now) - seen.statuses[0].remaining <= 30
        timed.advance(100_000_000)
        seen = await timed.store.take([look], lease="look", lease_seconds=1.0)
        assert (2000, 0.0) == (seen.statuses[0].remaining, seen.statuses[0].reset_seconds)


def remaining(limit: Limit, taken: list[tuple[int, int]], now: int) -> int:
    """What a bucket has left from which at those times so much was taken, and nothing came back."""
    window = limit.window_seconds * 1_000_000
    debt, last = 0, 0
    for at, cost in [*taken, (now, 0)]:
        debt = max(0, debt - (at - last) * limit.amount) + cost * window
        last = at
    return ((limit.burst or limit.amount) * window - debt) // window


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 6_000_000),
            st.booleans(),
            st.integers(1, 50),
            st.integers(0, 5),
            st.sampled_from([0.0, 0.0, 0.1, 0.6, 1.0]),
        ),
        max_size=40,
    )
)
@example(steps=[(0, True, 10, 0, 0.0), (3_000_000, True, 10, 0, 0.0), (0, False, 1, 0, 0.0)])
@hypothesis_settings
def test_b14_a_settled_reservation_is_as_if_only_its_cost_had_been_taken(
    timed_store: StoreFactory, steps: list[tuple[int, bool, int, int, float]]
) -> None:
    """Whatever time had given back by then, and whoever settles first: neither more nor less.

    So no more is admitted than if all costs had been known at the start, which the bucket's own
    promise holds for.
    """
    limit = LIMITS["bursty"]

    async def run() -> None:
        now, taken, open_leases = 0, list[tuple[int, int]](), list[int]()
        async with asyncio.timeout(60), timed_store() as timed:
            store = timed.store
            for step, takes, cost, place, share in steps:
                timed.advance(step)
                now += step
                if takes:
                    demand = Demand("key", limit, cost, True)
                    lease = f"lease {len(taken)}"
                    decision = await store.take([demand], lease=lease, lease_seconds=600.0)
                    assert decision.admitted == (cost <= remaining(limit, taken, now))
                    if decision.admitted:
                        open_leases.append(len(taken))
                        taken.append((now, cost))
                elif open_leases:
                    number = open_leases.pop(place % len(open_leases))
                    at, reserved = taken[number]
                    taken[number] = at, int(reserved * share)
                    demand = Demand("key", limit, reserved, True)
                    await store.settle([demand], lease=f"lease {number}", costs=[taken[number][1]])
                look = Demand("key", limit, 0, True)
                seen = await store.take([look], lease="look", lease_seconds=1.0)
                assert remaining(limit, taken, now) == seen.statuses[0].remaining

    asyncio.run(run())

"""What is special about limits in memory: bounds, shares, options."""

from __future__ import annotations

import gc
import sys

import pytest

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.base import Demand
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.testing import ManualClock
from asgi_llm.types import Limit

MINUTE = Limit(unit="requests", amount=2, window_seconds=60)
SLOTS = Limit(unit="concurrent_requests", amount=1)


def one(key: str, limit: Limit = MINUTE) -> list[Demand]:
    return [Demand(key, limit, 1, limit.unit != "requests")]


async def test_limits_that_are_whole_make_room() -> None:
    """At the bound only limits that are as good as new are forgotten, and those always."""
    clock = ManualClock()
    store = MemoryLimits(clock=clock, max_entries=10)
    for number in range(10):
        await store.take(one(f"{number}"), lease="a", lease_seconds=1.0)
        clock.advance(1.0)
    clock.advance(50.0)  # at 60 the first is whole, the second will be in a second
    await store.take(one("new"), lease="a", lease_seconds=1.0)
    assert 10 == len(store)
    with pytest.raises(StoreError, match="10 limits"):
        await store.take(one("newer"), lease="a", lease_seconds=1.0)
    assert 0 == (await store.take(one("1"), lease="a", lease_seconds=1.0)).statuses[0].remaining
    clock.advance(2.0)  # the second was used again, the third is whole
    assert (await store.take(one("newer"), lease="a", lease_seconds=1.0)).admitted
    assert 0 == (await store.take(one("1"), lease="a", lease_seconds=1.0)).statuses[0].remaining


async def test_a_limit_whose_lease_lives_is_not_forgotten() -> None:
    """Neither a slot in use nor a reservation makes room before its lease has run out."""
    clock = ManualClock()
    store = MemoryLimits(clock=clock, max_entries=2)
    tokens = Limit(unit="tokens", amount=5, window_seconds=1)
    held = [*one("slot", SLOTS), *one("tokens", tokens)]
    await store.take(held, lease="a", lease_seconds=30.0)
    clock.advance(29.0)
    with pytest.raises(StoreError):
        await store.take(one("new"), lease="b", lease_seconds=1.0)
    clock.advance(1.0)
    assert (await store.take(one("new"), lease="b", lease_seconds=1.0)).admitted


async def test_a_refusal_for_want_of_room_takes_nothing() -> None:
    """A request that needs one limit more than there is room for leaves the others as they were."""
    clock = ManualClock()
    store = MemoryLimits(clock=clock, max_entries=2)
    await store.take(one("a"), lease="a", lease_seconds=1.0)
    with pytest.raises(StoreError):
        await store.take([*one("a"), *one("b"), *one("c")], lease="b", lease_seconds=1.0)
    assert 0 == (await store.take(one("a"), lease="c", lease_seconds=1.0)).statuses[0].remaining


async def test_memory_stays_bounded_under_ever_new_callers() -> None:
    """20,000 takes by callers that never come again leave a few entries behind."""
    clock = ManualClock()
    store = MemoryLimits(clock=clock, max_entries=1_000)
    for number in range(20_000):
        await store.take(one(f"{number}"), lease="a", lease_seconds=1.0)
        clock.advance(0.1)
    assert len(store) <= 601


async def test_a_busy_limit_keeps_a_bounded_log() -> None:
    """However many takes a window sees, they share at most 514 entries."""
    clock = ManualClock()
    store = MemoryLimits(clock=clock)
    busy = [Demand("a", Limit(unit="requests", amount=10**9, window_seconds=60), 1, False)]
    for _ in range(20_000):
        await store.take(busy, lease="a", lease_seconds=1.0)
        clock.advance(0.01)
    assert len(store._buckets["a"].entries) <= 514  # type: ignore[union-attr]


async def test_renewals_leave_no_rows_behind() -> None:
    """The heap of deadlines stays in proportion to the live leases."""
    clock = ManualClock()
    store = MemoryLimits(clock=clock)
    await store.take(one("s", SLOTS), lease="a", lease_seconds=60.0)
    for _ in range(10_000):
        await store.renew(one("s", SLOTS), lease="a", lease_seconds=60.0)
    assert len(store._buckets["s"].leases.ends) <= 66  # type: ignore[union-attr]


async def test_a_share_is_a_part_of_each_amount() -> None:
    """A quarter of 10 is 2, of 2 still 1, of 0 nothing; of a burst likewise."""
    store = MemoryLimits(share=0.25)
    for amount, burst, passing in ((10, None, 2), (2, None, 1), (0, None, 0), (100, 12, 3)):
        limit = Limit(unit="requests", amount=amount, window_seconds=3600, burst=burst)
        admitted = [
            (await store.take(one(f"{limit}", limit), lease="a", lease_seconds=1.0)).admitted
            for _ in range(5)
        ]
        assert passing == sum(admitted)


async def test_a_key_may_change_its_kind() -> None:
    """A limit of a window that becomes one of slots begins afresh."""
    store = MemoryLimits()
    await store.take(one("a"), lease="a", lease_seconds=1.0)
    assert (await store.take(one("a", SLOTS), lease="b", lease_seconds=1.0)).admitted
    assert not (await store.take(one("a", SLOTS), lease="c", lease_seconds=1.0)).admitted


async def test_takes_make_no_garbage() -> None:
    """A decision leaves nothing to the collector of cycles."""
    store = MemoryLimits()
    demands = [*one("a", Limit(unit="requests", amount=10**6, window_seconds=60)), *one("b", SLOTS)]
    await store.take(demands, lease="a", lease_seconds=1.0)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects()) if sys.implementation.name == "cpython" else 0
        for _ in range(200):
            await store.take(demands, lease="b", lease_seconds=1.0)
        assert len(gc.get_objects()) - before < 20
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_entries": 0}, "max_entries"),
        ({"share": 0.0}, "share"),
        ({"share": 1.5}, "share"),
        ({"share": float("nan")}, "share"),
    ],
)
def test_wrong_options_are_named(options: dict[str, float], named: str) -> None:
    """Each bad value is a ConfigurationError that names its option."""
    with pytest.raises(ConfigurationError) as caught:
        MemoryLimits(**options)  # type: ignore[arg-type]
    assert named == caught.value.param


async def test_a_limit_without_a_window_is_refused() -> None:
    """It would let everything pass."""
    with pytest.raises(ConfigurationError, match="window"):
        await MemoryLimits().take(
            one("a", Limit(unit="requests", amount=1)), lease="a", lease_seconds=1.0
        )

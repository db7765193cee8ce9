"""The manual clock."""

from __future__ import annotations

import asyncio

import pytest

from asgi_llm.testing import ManualClock


def test_time_stands_until_it_is_advanced() -> None:
    """The clock returns seconds, moved only by hand and never backwards."""
    clock = ManualClock(100.0)
    assert 100.0 == clock()
    clock.advance(2.5)
    clock.advance(0)
    assert 102.5 == clock()
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="cannot advance"):
            clock.advance(seconds)
    assert 102.5 == clock()


async def test_sleepers_wake_in_the_order_of_their_time() -> None:
    """A task sleeps until its seconds are advanced, and not a moment less."""
    clock = ManualClock()
    woken: list[str] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for name, seconds in (("late", 3.0), ("early", 1.0), ("later", 3.5)):
            group.create_task(sleep(name, seconds))
        await clock.until_sleeping(3)
        assert 3 == clock.sleeping
        clock.advance(0.999)
        await asyncio.sleep(0)
        assert [] == woken
        clock.advance(2.001)
        await asyncio.sleep(0)
        assert ["early", "late"] == woken
        assert 1 == clock.sleeping
        clock.advance(0.5)
    assert ["early", "late", "later"] == woken


async def test_no_time_is_no_sleep() -> None:
    """Zero and less return without an advance."""
    clock = ManualClock()
    async with asyncio.timeout(5):
        await clock.sleep(0)
        await clock.sleep(-1)
    assert 0 == clock.sleeping


async def test_a_cancelled_sleeper_is_not_counted() -> None:
    """A task that gave up does not hold the clock's count, and an advance passes over it."""
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.until_sleeping()
    task.cancel()
    await asyncio.wait([task])
    assert 0 == clock.sleeping
    clock.advance(2)


async def test_waiting_for_sleepers_has_a_deadline() -> None:
    """When nobody sleeps the test is told."""
    with pytest.raises(TimeoutError):
        await ManualClock().until_sleeping(timeout_seconds=0.01)

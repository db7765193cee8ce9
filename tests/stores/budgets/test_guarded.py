"""Budgets whose store is away: nobody waits for it twice, and it comes back by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal

import pytest

from asgi_llm.errors import StoreError
from asgi_llm.stores.budgets import BudgetDemand, BudgetStatus, demand_of
from asgi_llm.stores.budgets_guarded import GuardedBudgets
from asgi_llm.stores.budgets_memory import MemoryBudgets
from asgi_llm.types import BudgetRule

USD = 10**12
RULE = BudgetRule(scope="everyone", amount_usd=Decimal(3), period="total")
DEMANDS = (demand_of(RULE, "all"),)


class Away(MemoryBudgets):
    """A store that fails while it is told to.

    Attributes:
        is_away: Whether it fails.
        calls: How often it was asked.
        closed: Whether it was closed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.calls = 0
        self.closed = False

    async def spent(self, demands: Sequence[BudgetDemand]) -> tuple[BudgetStatus, ...]:
        self.calls += 1
        if self.is_away:
            raise StoreError("away")
        return await super().spent(demands)

    async def aclose(self) -> None:
        self.closed = True


class Turns:
    """Sleeps until it is told that the time is over."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        await self.over.wait()
        self.over.clear()


async def test_a_store_that_is_well_decides_by_itself() -> None:
    """Every call reaches it, and comes back as it is."""
    store = GuardedBudgets(MemoryBudgets(), timeout_seconds=1)
    decision = await store.reserve(DEMANDS, 2 * USD, lease="a", lease_seconds=60)
    assert decision.admitted
    refused = await store.reserve(DEMANDS, 2 * USD, lease="b", lease_seconds=60)
    assert 0 == refused.refused_by
    await store.renew(DEMANDS, lease="a", lease_seconds=60)
    (use,) = await store.settle(DEMANDS, lease="a", actual=USD)
    assert (0, USD) == (use.before, use.after)
    (status,) = await store.spent(DEMANDS)
    assert (USD, 0) == (status.spent, status.reserved)
    assert "closed" == store.health()["state"]
    await store.aclose()


async def test_b27_a_store_that_is_away_is_not_asked_by_anybody_and_found_again() -> None:
    """After three failures only the probe asks; when it has an answer everybody does again."""
    away, turns = Away(), Turns()
    store = GuardedBudgets(away, timeout_seconds=1, sleep=turns)
    away.is_away = True
    for _ in range(5):
        with pytest.raises(StoreError):
            await store.spent(DEMANDS)
    assert (3, "open") == (away.calls, store.health()["state"])
    away.is_away = False
    turns.over.set()
    async with asyncio.timeout(5):
        while store.health()["state"] == "open":  # noqa: ASYNC110  a state is all there is
            await asyncio.sleep(0)
    assert 4 == away.calls
    await store.spent(DEMANDS)
    await store.aclose()
    assert away.closed


async def test_a_store_is_prepared_before_it_is_asked() -> None:
    """While that fails it is not asked."""
    away = Away()
    ready = False

    async def prepare() -> None:
        if not ready:
            raise StoreError("no tables")

    store = GuardedBudgets(away, timeout_seconds=1, prepare=prepare)
    with pytest.raises(StoreError, match="no tables"):
        await store.spent(DEMANDS)
    assert 0 == away.calls
    ready = True
    await store.spent(DEMANDS)
    assert 1 == away.calls
    await store.aclose()


async def test_a_preparation_that_hangs_is_given_up_after_the_deadline() -> None:
    """As any call of the store is."""

    async def prepare() -> None:
        await asyncio.Event().wait()

    store = GuardedBudgets(MemoryBudgets(), timeout_seconds=0.01, prepare=prepare)
    async with asyncio.timeout(5):
        with pytest.raises(StoreError, match="in time"):
            await store.spent(DEMANDS)
    await store.aclose()

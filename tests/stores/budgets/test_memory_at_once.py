"""Budgets in memory, asked without a coroutine: the same answers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from asgi_llm.errors import StoreError
from asgi_llm.stores.budgets import BudgetDemand, BudgetRule, BudgetUse, demand_of
from asgi_llm.stores.budgets_memory import MemoryBudgets


async def test_all_are_held_or_none() -> None:
    """A refusal holds nothing where there is room; ``reserve`` then says where there is none."""
    wide = demand_of(BudgetRule(scope="everyone", amount_usd=Decimal(100)), "")
    tight = demand_of(BudgetRule(scope="user", amount_usd=Decimal(1)), "ada")
    store = MemoryBudgets(clock=lambda: 1_795_250_000.0)
    cent = 10**10
    assert store.hold_at_once([wide, tight], 60 * cent, "a", 60.0)
    assert not store.hold_at_once([wide, tight], 60 * cent, "b", 60.0)
    assert [60 * cent] * 2 == [one.reserved for one in await store.spent([wide, tight])]
    decision = await store.reserve([wide, tight], 60 * cent, lease="b", lease_seconds=60.0)
    assert (False, 1) == (decision.admitted, decision.refused_by)
    assert store.hold_at_once([wide, tight], 0, "free", 60.0)
    assert (BudgetUse(0, 5 * cent),) * 2 == store.settle_at_once([wide, tight], "a", 5 * cent)
    assert [(5 * cent, 0)] * 2 == [
        (one.spent, one.reserved) for one in await store.spent([wide, tight])
    ]


async def test_a_soft_budget_has_room_for_all() -> None:
    """It only tells."""
    soft = demand_of(BudgetRule(scope="everyone", amount_usd=Decimal(1), hard=False), "")
    store = MemoryBudgets(clock=lambda: 1_795_250_000.0)
    assert store.hold_at_once([soft], 10**15, "a", 60.0)
    assert [10**15] == [one.reserved for one in await store.spent([soft])]


async def test_what_is_held_lapses() -> None:
    """After its lease, unless that never ends."""
    now = 1_795_250_000.0
    budget = demand_of(BudgetRule(scope="everyone", amount_usd=Decimal(1)), "")
    store = MemoryBudgets(clock=lambda: now)
    assert store.hold_at_once([budget], 10**12, "a", 60.0)
    now += 61
    assert store.hold_at_once([budget], 10**12, "b", float("inf"))
    now += 3600
    assert not store.hold_at_once([budget], 1, "c", 60.0)


async def test_a_store_that_is_full_holds_nothing() -> None:
    """What was held of the budgets before the one that finds no room is taken back."""
    budget = demand_of(BudgetRule(scope="everyone", amount_usd=Decimal(1)), "")
    another = demand_of(BudgetRule(scope="user", amount_usd=Decimal(1)), "ada")
    store = MemoryBudgets(clock=lambda: 1_795_250_000.0, max_entries=1)
    assert store.hold_at_once([budget], 1, "a", 60.0)
    with pytest.raises(StoreError):
        store.hold_at_once([budget, another], 5, "b", 60.0)
    assert [1] == [one.reserved for one in await store.spent([budget])]


@pytest.mark.parametrize("tells", [True, False])
async def test_a_settlement_that_finds_no_room_settles_nothing(tells: bool) -> None:
    """However often it is tried again; once there is room, it is spent once."""
    now = 1_795_250_000.0
    budget = demand_of(BudgetRule(scope="everyone", amount_usd=Decimal(1), period="total"), "")
    ada, bob = (
        demand_of(BudgetRule(scope="user", amount_usd=Decimal(1), period="day"), user)
        for user in ("ada", "bob")
    )
    store = MemoryBudgets(clock=lambda: now, max_entries=2)
    store.settle_at_once([budget, ada], "a", 1)
    for _ in range(3):
        with pytest.raises(StoreError):
            store.settle_at_once([budget, bob], "b", 5, tells=tells)
    assert [1] == [one.spent for one in await store.spent([budget])]
    now += 86400
    store.settle_at_once([budget, bob], "b", 5, tells=tells)
    assert [6, 5] == [one.spent for one in await store.spent([budget, bob])]


async def test_uses_that_nobody_wants_are_not_told() -> None:
    """What is spent is the same."""
    budget = demand_of(BudgetRule(scope="everyone", amount_usd=Decimal(1)), "")
    store = MemoryBudgets(clock=lambda: 1_795_250_000.0)
    assert store.hold_at_once([budget], 9, "a")
    assert () == store.settle_at_once([budget], "a", 7, tells=False)
    assert [(7, 0)] == [(one.spent, one.reserved) for one in await store.spent([budget])]


def rolling(owner: str, usd: int = 1) -> BudgetDemand:
    rule = BudgetRule(scope="user", amount_usd=Decimal(usd), period="rolling", days=1)
    return demand_of(rule, owner)


async def test_a_rolling_budget_makes_room_once_nothing_of_it_counts() -> None:
    """Neither spent in its period nor held, and not a moment before."""
    now = 1_795_250_000.0
    store = MemoryBudgets(clock=lambda: now, max_entries=2)
    ada, bob, eve = rolling("ada"), rolling("bob"), rolling("eve")
    for one in (ada, bob):
        store.settle_at_once([one], "a", 5)
    now += 86400 - 1
    with pytest.raises(StoreError):
        store.hold_at_once([eve], 5, "b")
    now += 1 + 2 * 120
    assert store.hold_at_once([eve], 5, "b")
    assert [0, 0] == [one.spent for one in await store.spent([ada, bob])]
    # What is held stays; and what was looked at only does not.
    assert store.hold_at_once([ada], 5, "c")
    now += 10 * 86400
    with pytest.raises(StoreError):
        store.hold_at_once([bob], 5, "d")
    store.settle_at_once([ada], "c", 0)
    assert store.hold_at_once([bob], 5, "d")
    assert [5, 0, 5] == [one.reserved for one in await store.spent([eve, ada, bob])]


async def test_a_budget_makes_no_room_for_another_of_the_same_request() -> None:
    """All that a request asks of is there until its step is done."""
    now = 1_795_250_000.0
    store = MemoryBudgets(clock=lambda: now, max_entries=2)
    ada, bob, eve = rolling("ada"), rolling("bob"), rolling("eve")
    for lease, demands in (("a", [ada, bob]), ("b", [ada, eve])):
        decision = await store.reserve(demands, 5, lease=lease, lease_seconds=60.0)
        assert decision.admitted
        assert [5, 5] == [one.reserved for one in await store.spent(demands)]
        now += 86400
    store.settle_at_once([ada, bob], "c", 7)
    assert [7, 7] == [one.spent for one in await store.spent([ada, bob])]
    with pytest.raises(StoreError):
        await store.reserve([eve, ada, bob], 5, lease="d", lease_seconds=60.0)


async def test_what_lapsed_keeps_no_budget() -> None:
    """Also where nobody has looked at it since."""
    now = 1_795_250_000.0
    store = MemoryBudgets(clock=lambda: now, max_entries=1)
    assert store.hold_at_once([rolling("ada")], 5, "a", 60.0)
    with pytest.raises(StoreError):
        store.hold_at_once([rolling("bob")], 5, "b", 60.0)
    now += 60
    assert store.hold_at_once([rolling("bob")], 5, "b", 60.0)

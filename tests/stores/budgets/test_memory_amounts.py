"""Amounts of any size in memory: what is counted in numbers of C, and what is not, add up."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.stores.budgets import BudgetPeriod, BudgetRule, BudgetUse, demand_of
from asgi_llm.stores.budgets_memory import MemoryBudgets

AMOUNTS = st.one_of(
    st.integers(0, 10**9),
    st.sampled_from([2**60 - 1, 2**60, 2**60 + 1, 2**61, 2**62, 2**63 - 1, 2**63, 2**64, 10**25]),
    st.integers(0, 2**66),
)
STEPS = st.lists(st.tuples(st.integers(0, 4), AMOUNTS, st.booleans()), max_size=30)
LIMITS = st.sampled_from(
    [Decimal(0), Decimal("0.000000000005"), Decimal(10) ** 6, Decimal(2) ** 21, Decimal(10) ** 12]
)


@pytest.mark.parametrize("days", [None, 30])
@given(limit=LIMITS, hard=st.booleans(), steps=STEPS)
async def test_every_sum_is_exact(
    days: int | None, limit: Decimal, hard: bool, steps: list[tuple[int, int, bool]]
) -> None:
    """A hard budget refuses what passes it and nothing else, whatever came before."""
    period: BudgetPeriod = "total" if days is None else "rolling"
    rule = BudgetRule(scope="everyone", amount_usd=limit, hard=hard, period=period, days=days)
    store = MemoryBudgets(clock=lambda: 1_795_250_000.0)
    spent, held = 0, dict[str, int]()
    for number, amount, settles in steps:
        # As plans of several callers have it: another demand on the same budget each time.
        demand, lease = demand_of(rule, ""), f"lease {number}"
        if settles or lease in held:
            (use,) = store.settle_at_once((demand,), lease, amount)
            assert BudgetUse(spent, spent + amount) == use
            spent += amount
            held.pop(lease, None)
        else:
            fits = not hard or not amount or spent + sum(held.values()) + amount <= demand.limit
            assert fits == store.hold_at_once((demand,), amount, lease)
            if fits:
                held[lease] = amount
        (status,) = await store.spent((demand,))
        assert (spent, sum(held.values())) == (status.spent, status.reserved)


async def test_another_amount_of_the_same_budget_counts_at_once() -> None:
    """A caller whose budget was raised, or made to warn only, is not refused by what was."""
    store = MemoryBudgets(clock=lambda: 1_795_250_000.0)

    def hold(lease: str, usd: int, *, hard: bool = True) -> bool:
        rule = BudgetRule(scope="user", amount_usd=Decimal(usd), hard=hard)
        return bool(store.hold_at_once((demand_of(rule, "ada"),), 10**12, lease))

    assert [True, False, True, False, True] == [
        hold("a", 1),
        hold("b", 1),
        hold("c", 2),
        hold("d", 1),
        hold("e", 1, hard=False),
    ]


async def test_a_new_period_begins_with_nothing() -> None:
    """Of either kind of amounts; what was reserved before is not paid for by it."""
    now = 1_795_250_000.0
    rule = BudgetRule(scope="everyone", amount_usd=Decimal(10) ** 12, period="day")
    demand = demand_of(rule, "")
    store = MemoryBudgets(clock=lambda: now)
    for lease, amount in (("small", 7), ("large", 2**70)):
        assert store.hold_at_once((demand,), amount, lease)
        store.settle_at_once((demand,), "unknown", amount, tells=False)
    now += 86400
    assert () == store.settle_at_once((demand,), "small", 5, tells=False)
    store.settle_at_once((demand,), "large", 5)
    (status,) = await store.spent((demand,))
    assert (0, 0) == (status.spent, status.reserved)

"""What every budget store does."""

from __future__ import annotations

import asyncio
import datetime
import random
import zoneinfo
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from asgi_llm.stores._budget_periods import period_at
from asgi_llm.stores.budgets import (
    PICO,
    BudgetDecision,
    BudgetDemand,
    BudgetStore,
    BudgetUse,
    from_pico,
    to_pico,
)
from tests.stores.budgets.conftest import START, Factory, demand

CENT = PICO // 100


async def take(
    store: BudgetStore, demands: Sequence[BudgetDemand], amount: int, lease: str, **options: Any
) -> BudgetDecision:
    return await store.reserve(demands, amount, lease=lease, **{"lease_seconds": 60.0, **options})


async def spend(
    store: BudgetStore, demands: Sequence[BudgetDemand], amount: int, lease: str
) -> bool:
    """Reserve and settle the same; whether there was room."""
    if not (await take(store, demands, amount, lease)).admitted:
        return False
    await store.settle(demands, lease=lease, actual=amount)
    return True


async def spent(store: BudgetStore, one: BudgetDemand) -> tuple[int, int]:
    """Spent and reserved."""
    (status,) = await store.spent([one])
    return status.spent, status.reserved


async def test_what_is_reserved_counts_as_if_it_were_spent(timed: Factory) -> None:
    """To the last pico-USD: what fits exactly has room, one more has not."""
    one = demand("0.000000000010")
    async with timed() as world, asyncio.timeout(20):
        store = world.store
        first = await take(store, [one], 4, "a")
        assert (True, None) == (first.admitted, first.refused_by)
        assert not (await take(store, [one], 7, "b")).admitted
        assert (await take(store, [one], 6, "c")).admitted
        assert (0, 10) == await spent(store, one)
        assert (BudgetUse(0, 3),) == await store.settle([one], lease="a", actual=3)
        assert (BudgetUse(3, 4),) == await store.settle([one], lease="c", actual=1)
        assert (4, 0) == await spent(store, one)
        assert not (await take(store, [one], 7, "d")).admitted
        assert (await take(store, [one], 6, "e")).admitted


async def test_amounts_are_exact_far_beyond_what_a_double_holds(timed: Factory) -> None:
    """A billion USD less a pico-USD leaves a pico-USD."""
    one = demand(10**9)
    most = 10**9 * PICO
    async with timed() as world, asyncio.timeout(20):
        assert await spend(world.store, [one], most - 1, "a")
        assert not (await take(world.store, [one], 2, "b")).admitted
        assert await spend(world.store, [one], 1, "c")
        assert (most, 0) == await spent(world.store, one)
        assert not (await take(world.store, [one], 1, "d")).admitted


async def test_all_are_reserved_or_none(timed: Factory) -> None:
    """A request that one budget refuses holds nothing on the others, whatever their order."""
    wide, full = demand(100, "wide"), demand("0.01", "full")
    async with timed() as world, asyncio.timeout(20):
        store = world.store
        for order, place in (([wide, full], 1), ([full, wide], 0)):
            refused = await take(store, order, 2 * CENT, "x")
            assert (False, place) == (refused.admitted, refused.refused_by)
            assert [(0, 0), (0, 0)] == [await spent(store, one) for one in order]


async def test_a_soft_budget_counts_and_never_refuses(timed: Factory) -> None:
    """It can be passed, and says by how much."""
    soft = demand("0.01", hard=False)
    async with timed() as world, asyncio.timeout(20):
        assert await spend(world.store, [soft], 5 * CENT, "a")
        assert await spend(world.store, [soft], 5 * CENT, "b")
        assert (10 * CENT, 0) == await spent(world.store, soft)


async def test_nothing_is_enforced_where_it_should_not_be(timed: Factory) -> None:
    """``enforce=False`` says that there was no room, and reserves all the same."""
    one = demand("0.01")
    async with timed() as world, asyncio.timeout(20):
        decision = await take(world.store, [one], 3 * CENT, "a", enforce=False)
        assert (False, 0) == (decision.admitted, decision.refused_by)
        assert (0, 3 * CENT) == await spent(world.store, one)


async def test_what_costs_nothing_always_has_room(timed: Factory) -> None:
    """A budget that is used up does not stop what is free."""
    nothing = demand(0)
    async with timed() as world, asyncio.timeout(20):
        assert await spend(world.store, [nothing], 0, "a")
        assert not (await take(world.store, [nothing], 1, "b")).admitted


async def test_a_call_that_cost_more_than_was_reserved_is_spent_in_full(timed: Factory) -> None:
    """The budget is passed then, and the next one is refused."""
    one = demand("0.10")
    async with timed() as world, asyncio.timeout(20):
        await take(world.store, [one], CENT, "a")
        await world.store.settle([one], lease="a", actual=30 * CENT)
        assert (30 * CENT, 0) == await spent(world.store, one)
        assert not (await take(world.store, [one], 1, "b")).admitted


async def test_owners_and_periods_do_not_touch_each_other(timed: Factory) -> None:
    """Each has an account of its own."""
    budgets = [
        demand(1, "a"),
        demand(1, "b"),
        demand(1, "a", period="day"),
        demand(1, "a", period="total"),
        demand(1, "a", period="rolling", days=7),
        demand(1, "a", time_zone="Asia/Tokyo"),
    ]
    async with timed() as world, asyncio.timeout(20):
        await spend(world.store, budgets[:1], CENT, "x")
        assert [CENT, 0, 0, 0, 0, 0] == [
            status.spent for status in await world.store.spent(budgets)
        ]


async def test_what_was_spent_stays_when_the_amount_changes(timed: Factory) -> None:
    """A budget that is raised has the difference more, and no more."""
    async with timed() as world, asyncio.timeout(20):
        assert await spend(world.store, [demand("0.05")], 5 * CENT, "a")
        assert not await spend(world.store, [demand("0.05")], CENT, "b")
        assert await spend(world.store, [demand("0.06")], CENT, "c")
        assert not await spend(world.store, [demand("0.06")], CENT, "d")


async def test_b15_200_at_once_with_room_for_100_admit_100(timed: Factory) -> None:
    """Never overspent, and nobody is refused while there is room."""
    one = demand(1)
    async with timed() as world, asyncio.timeout(60):
        store = world.store

        async def request(number: int) -> bool:
            return await spend(store, [one, demand(50, "other")], CENT, f"lease{number}")

        admitted = await asyncio.gather(*(request(number) for number in range(200)))
        assert 100 == sum(admitted)
        assert (PICO, 0) == await spent(store, one)


async def test_b15_a_reservation_lapses_by_itself(timed: Factory) -> None:
    """What a dead worker held is free after its lease, and not before."""
    one = demand("0.05")
    async with timed() as world, asyncio.timeout(20):
        await take(world.store, [one], 5 * CENT, "dead", lease_seconds=60.0)
        world.set_time(START + 59.9)
        assert not (await take(world.store, [one], CENT, "a")).admitted
        world.set_time(START + 60.1)
        assert (await take(world.store, [one], 5 * CENT, "b")).admitted
        assert (0, 5 * CENT) == await spent(world.store, one)


@pytest.mark.parametrize(
    ("rule", "settles", "later"),
    [({}, False, 61.0), ({"period": "rolling", "days": 1}, True, 2 * 86400.0)],
    ids=["lapsed", "rolled"],
)
async def test_a_refusal_keeps_no_money_that_has_come_back(
    timed: Factory, rule: dict[str, Any], settles: bool, later: float
) -> None:
    """What has lapsed, or is older than the period, is free also where a refusal found it so."""
    one = demand(10, **rule)
    async with timed() as world, asyncio.timeout(20):
        store = world.store
        await take(store, [one], 5 * PICO, "a")
        if settles:
            await store.settle([one], lease="a", actual=5 * PICO)
        world.set_time(START + later)
        assert not (await take(store, [one], 11 * PICO, "too large")).admitted
        assert (0, 0) == await spent(store, one)
        assert (await take(store, [one], 10 * PICO, "b")).admitted


async def test_a_renewed_reservation_stays(timed: Factory) -> None:
    """As long as it is renewed in time; one that has lapsed does not come back."""
    one = demand("0.05")
    async with timed() as world, asyncio.timeout(20):
        store = world.store
        await take(store, [one], 5 * CENT, "a")
        for step in range(1, 5):
            world.set_time(START + 40 * step)
            await store.renew([one], lease="a", lease_seconds=60.0)
            assert (0, 5 * CENT) == await spent(store, one)
        world.set_time(START + 1000)
        await store.renew([one], lease="a", lease_seconds=60.0)
        assert (0, 0) == await spent(store, one)


async def test_a_reservation_renewed_for_less_ends_earlier(timed: Factory) -> None:
    """What is left is what the last renewal says."""
    one = demand("0.05")
    async with timed() as world, asyncio.timeout(20):
        await take(world.store, [one], 5 * CENT, "a", lease_seconds=3600.0)
        await world.store.renew([one], lease="a", lease_seconds=60.0)
        world.set_time(START + 59)
        assert not (await take(world.store, [one], CENT, "b")).admitted
        world.set_time(START + 61)
        assert (await take(world.store, [one], 5 * CENT, "c")).admitted


async def test_b15_a_late_settlement_still_counts(timed: Factory) -> None:
    """A worker that was only slow pays though its lease has run out."""
    one = demand(1)
    async with timed() as world, asyncio.timeout(20):
        await take(world.store, [one], 5 * CENT, "a")
        world.set_time(START + 1000)
        await world.store.settle([one], lease="a", actual=4 * CENT)
        assert (4 * CENT, 0) == await spent(world.store, one)


async def test_a_settlement_without_a_reservation_counts(timed: Factory) -> None:
    """What was let through while the store was away is paid for when it is back."""
    one = demand(1)
    async with timed() as world, asyncio.timeout(20):
        await world.store.settle([one], lease="a", actual=4 * CENT)
        assert (4 * CENT, 0) == await spent(world.store, one)


async def test_b15_a_repeated_settlement_costs_nothing_more(timed: Factory) -> None:
    """Who got no answer may ask again within a minute, whether it reserved before or not."""
    one = demand(1)
    async with timed() as world, asyncio.timeout(20):
        store = world.store
        if type(store).__name__ == "MemoryBudgets":
            # Its answer is always there: nobody has to ask twice.
            assert (BudgetUse(0, CENT),) == await store.settle([one], lease="a", actual=CENT)
            return
        await take(store, [one], 5 * CENT, "a")
        for lease in ("a", "never reserved"):
            await store.settle([one], lease=lease, actual=4 * CENT)
            world.set_time(START + 30)
            (use,) = await store.settle([one], lease=lease, actual=4 * CENT)
            assert use.before == use.after
        assert (8 * CENT, 0) == await spent(store, one)
        # And it is forgotten by and by.
        world.set_time(START + 1000)
        assert await spend(store, [one], CENT, "b")
        assert (9 * CENT, 0) == await spent(store, one)


PERIODS: list[tuple[dict[str, Any], str, str, str]] = [
    # rule, a moment of a period, its last second, the first moment of the next
    (
        {"period": "day"},
        "2026-11-21T08:00+00:00",
        "2026-11-21T23:59:59+00:00",
        "2026-11-22T00:00+00:00",
    ),
    (
        {"period": "week"},
        "2026-11-16T00:00+00:00",
        "2026-11-22T23:59:59+00:00",
        "2026-11-23T00:00+00:00",
    ),
    (
        {"period": "month"},
        "2028-02-10T00:00+00:00",
        "2028-02-29T23:59:59+00:00",
        "2028-03-01T00:00+00:00",
    ),
    (
        {"period": "month"},
        "2026-12-31T23:00+00:00",
        "2026-12-31T23:59:59+00:00",
        "2027-01-01T00:00+00:00",
    ),
    # 23 hours: the clocks go forward.
    (
        {"period": "day", "time_zone": "Europe/Berlin"},
        "2026-03-29T00:00+01:00",
        "2026-03-29T23:59:59+02:00",
        "2026-03-30T00:00+02:00",
    ),
    # 25 hours: the clocks go back.
    (
        {"period": "day", "time_zone": "Europe/Berlin"},
        "2026-10-25T00:00+02:00",
        "2026-10-25T23:59:59+01:00",
        "2026-10-26T00:00+01:00",
    ),
    # There is no midnight on this day: it begins at one.
    (
        {"period": "day", "time_zone": "Africa/Cairo"},
        "2026-04-23T12:00+02:00",
        "2026-04-23T23:59:59+02:00",
        "2026-04-24T01:00+03:00",
    ),
    # And on this one there are two: the day before has 25 hours.
    (
        {"period": "day", "time_zone": "Africa/Cairo"},
        "2026-10-29T00:00+03:00",
        "2026-10-29T23:59:59+02:00",
        "2026-10-30T00:00+02:00",
    ),
    (
        {"period": "month", "time_zone": "Pacific/Auckland"},
        "2026-09-30T11:00+13:00",
        "2026-09-30T23:59:59+13:00",
        "2026-10-01T00:00+13:00",
    ),
    (
        {"period": "week", "time_zone": "America/New_York"},
        "2026-10-26T00:00-04:00",
        "2026-11-01T23:59:59-05:00",
        "2026-11-02T00:00-05:00",
    ),
]


def unix(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment).timestamp()


@pytest.mark.parametrize("case", PERIODS, ids=lambda case: f"{case[0]} {case[3]}")
async def test_b15_b16_a_period_ends_when_the_calendar_says_so(
    timed: Factory, case: tuple[dict[str, Any], str, str, str]
) -> None:
    """Spent up to its last second, whole again with the first moment of the next one."""
    rule, inside, last, fresh = case
    one = demand("0.05", **rule)
    async with timed() as world, asyncio.timeout(20):
        store = world.store
        world.set_time(unix(inside))
        assert await spend(store, [one], 5 * CENT, "a")
        world.set_time(unix(last))
        refused = await take(store, [one], CENT, "b")
        assert (False, unix(fresh)) == (refused.admitted, refused.statuses[0].resets_at)
        world.set_time(unix(fresh))
        assert (0, 0) == await spent(store, one)
        assert await spend(store, [one], 5 * CENT, "c")


async def test_b15_b16_a_call_is_paid_for_by_the_period_in_which_it_began(timed: Factory) -> None:
    """Midnight passes in its midst: the new day has all of its money."""
    one = demand("0.05", period="day")
    midnight = unix("2026-11-22T00:00+00:00")
    async with timed() as world, asyncio.timeout(20):
        store = world.store
        world.set_time(midnight - 10)
        await take(store, [one], 5 * CENT, "a")
        world.set_time(midnight + 10)
        assert (await take(store, [one], 5 * CENT, "b")).admitted
        assert (BudgetUse(0, 0),) == await store.settle([one], lease="a", actual=5 * CENT)
        assert (0, 5 * CENT) == await spent(store, one)
        await store.settle([one], lease="b", actual=5 * CENT)
        assert (5 * CENT, 0) == await spent(store, one)


async def test_b16_a_clock_that_goes_back_brings_no_old_period_back(timed: Factory) -> None:
    """NTP steps over midnight and back: nobody gets a fresh budget for it."""
    one = demand("0.05", period="day")
    midnight = unix("2026-11-22T00:00+00:00")
    async with timed() as world, asyncio.timeout(20):
        store = world.store
        world.set_time(midnight + 1)
        assert await spend(store, [one], 5 * CENT, "a")
        world.set_time(midnight - 1)
        assert not (await take(store, [one], CENT, "b")).admitted
        world.set_time(midnight + 2)
        assert (5 * CENT, 0) == await spent(store, one)


async def test_a_rolling_period_lets_go_of_what_is_older(timed: Factory) -> None:
    """Never early, and late by no more than two of its 720 parts."""
    one = demand("0.10", period="rolling", days=30)
    day, hour = 86400.0, 3600.0
    async with timed() as world, asyncio.timeout(20):
        store = world.store
        assert await spend(store, [one], 6 * CENT, "a")
        world.set_time(START + 10 * day)
        assert await spend(store, [one], 4 * CENT, "b")
        for now, had in (
            (30 * day - 1, 10 * CENT),
            (30 * day + 2 * hour, 4 * CENT),
            (40 * day - 1, 4 * CENT),
            (40 * day + 2 * hour, 0),
            (400 * day, 0),
        ):
            world.set_time(START + now)
            assert (had, 0) == await spent(store, one)
        assert await spend(store, [one], 10 * CENT, "c")
        assert not (await take(store, [one], 1, "d")).admitted


async def test_many_rolling_budgets_are_reserved_at_once(timed: Factory) -> None:
    """More than a thousand in one step, of two lengths, and what is older is let go of."""
    old = [demand(2, f"{place}", period="rolling", days=1 + place % 2) for place in range(4)]
    async with timed() as world, asyncio.timeout(60):
        store = world.store
        assert await spend(store, old, CENT, "old")
        world.set_time(START + 3 * 86400)

        async def request(number: int) -> bool:
            demands = [
                demand(1, f"{number} {place}", period="rolling", days=1 + place % 2)
                for place in range(8)
            ]
            return (await take(store, [*old, *demands], CENT, f"lease {number}")).admitted

        assert all(await asyncio.gather(*(request(number) for number in range(150))))
        assert [(0, 150 * CENT)] * 4 == [await spent(store, one) for one in old]


async def test_a_total_never_begins_anew(timed: Factory) -> None:
    """Spent once is spent for good."""
    one = demand("0.05", period="total")
    async with timed() as world, asyncio.timeout(20):
        assert await spend(world.store, [one], 5 * CENT, "a")
        world.set_time(START + 20 * 365 * 86400)
        refused = await take(world.store, [one], 1, "b")
        assert (False, None) == (refused.admitted, refused.statuses[0].resets_at)


class Model:
    """A rolling budget as simply as it can be said."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self.spendings: list[tuple[float, int]] = []

    def spent(self, now: float, slack: float) -> int:
        return sum(amount for at, amount in self.spendings if at > now - self.seconds - slack)


@pytest.mark.parametrize("seed", range(3))
async def test_a_rolling_budget_is_that_of_a_simple_model(timed: Factory, seed: int) -> None:
    """At random times, what is spent lies between the exact sum and that of two parts more."""
    rng = random.Random(seed)
    one = demand(10**6, period="rolling", days=1)
    model = Model(10**6 * PICO, 86400.0)
    now = START
    async with timed() as world, asyncio.timeout(60):
        for number in range(60):
            now += rng.choice([1.0, 50.0, 119.0, 121.0, 3600.0, 40_000.0])
            world.set_time(now)
            amount = rng.randrange(1, 10**13)
            assert await spend(world.store, [one], amount, f"{number}")
            model.spendings.append((now, amount))
            had, _ = await spent(world.store, one)
            assert model.spent(now, 0.0) <= had <= model.spent(now, 240.0)


def test_amounts_become_pico_usd_and_back() -> None:
    """Exactly, and what is less than a pico-USD counts as one."""
    assert 29_000_000 == to_pico(Decimal("0.000029"))
    assert 1 == to_pico(Decimal("1e-24"))
    assert 0 == to_pico(Decimal(0))
    assert Decimal("0.000029") == from_pico(29_000_000)
    amount = Decimal("123456789012.123456789012")
    assert amount == from_pico(to_pico(amount))


def test_b16_periods_follow_each_other_without_a_gap_in_every_zone() -> None:
    """For some hundred zones and four hundred days each period begins where the last one ended."""
    names = sorted(zoneinfo.available_timezones())[::6]
    assert len(names) > 50
    for name in names:
        rule = demand(1, period="day", time_zone=name).rule
        here = period_at(rule, 1_767_225_600_000_000)
        for _ in range(400):
            following = period_at(rule, here.end)
            assert here.start < here.end == following.start
            here = following

"""What every limit store does, ours and those of the package limits."""

from __future__ import annotations

import asyncio
from math import inf

import pytest

from asgi_llm.stores.base import Demand, LimitStore
from asgi_llm.types import Limit
from tests.stores.limits.conftest import StoreFactory

HOUR = 3600
REQUESTS = Limit(unit="requests", amount=3, window_seconds=HOUR)
WIDE = Limit(unit="requests", amount=100, window_seconds=HOUR)
TOKENS = Limit(unit="tokens", amount=1000, window_seconds=HOUR)
SLOTS = Limit(unit="concurrent_requests", amount=2)


def asked(key: str, limit: Limit, cost: int = 1) -> Demand:
    return Demand(key, limit, cost, limit.unit != "requests")


async def test_the_amount_passes_and_no_more(any_store: LimitStore) -> None:
    """Of 3 allowed, the fourth is refused, with what remains and a wait within the window."""
    async with asyncio.timeout(20):
        for left in (2, 1, 0):
            decision = await any_store.take(
                [asked("a", REQUESTS)], lease=f"{left}", lease_seconds=9.0
            )
            assert decision.admitted
            assert left == decision.statuses[0].remaining
        refused = await any_store.take([asked("a", REQUESTS)], lease="no", lease_seconds=9.0)
        assert not refused.admitted
        assert 0 == refused.statuses[0].remaining
        assert 0 < refused.statuses[0].retry_after_seconds <= HOUR
        other = await any_store.take([asked("b", REQUESTS)], lease="other", lease_seconds=9.0)
        assert other.admitted


async def test_b14_200_at_once_at_a_limit_of_100_admit_100(any_store: LimitStore) -> None:
    """Nobody slips in between a check and a take."""
    async with asyncio.timeout(30):
        decisions = await asyncio.gather(
            *(
                any_store.take([asked("a", WIDE)], lease=f"{number}", lease_seconds=9.0)
                for number in range(200)
            )
        )
    assert 100 == sum(decision.admitted for decision in decisions)


async def test_all_are_taken_or_none(any_store: LimitStore) -> None:
    """A request that one limit refuses takes nothing of the others, held ones included."""
    full = Limit(unit="requests", amount=1, window_seconds=HOUR)
    asks = [asked("full", full), asked("slots", SLOTS), asked("tokens", TOKENS, 600)]
    async with asyncio.timeout(20):
        await any_store.take([asked("full", full)], lease="first", lease_seconds=9.0)
        for order in (asks, asks[::-1]):
            refused = await any_store.take(order, lease="second", lease_seconds=9.0)
            assert not refused.admitted
            by_key = dict(zip([one.key for one in order], refused.statuses, strict=True))
            assert by_key["full"].retry_after_seconds > 0
        looked = await any_store.take(
            [asked("slots", SLOTS, 0), asked("tokens", TOKENS, 0)], lease="look", lease_seconds=9.0
        )
        assert [2, 1000] == [status.remaining for status in looked.statuses]


async def test_what_can_never_be_met_says_so(any_store: LimitStore) -> None:
    """A cost above the amount, or an amount of 0: the wait has no end."""
    nothing = Limit(unit="requests", amount=0, window_seconds=HOUR)
    async with asyncio.timeout(20):
        for demand in (
            asked("a", REQUESTS, 4),
            asked("b", nothing),
            asked("c", Limit(unit="concurrent_requests", amount=0)),
            asked("d", TOKENS, 1001),
        ):
            decision = await any_store.take([demand], lease="x", lease_seconds=9.0)
            assert not decision.admitted
            assert inf == decision.statuses[0].retry_after_seconds


async def test_slots_are_given_back(any_store: LimitStore) -> None:
    """Two at a time: a third waits until one of them is settled."""
    async with asyncio.timeout(20):
        for lease, admitted in (("a", True), ("b", True), ("c", False)):
            decision = await any_store.take([asked("s", SLOTS)], lease=lease, lease_seconds=9.0)
            assert admitted == decision.admitted
        assert 0 < decision.statuses[0].retry_after_seconds <= 9
        await any_store.settle([asked("s", SLOTS)], lease="a", costs=[0])
        again = await any_store.take([asked("s", SLOTS)], lease="c", lease_seconds=9.0)
        assert again.admitted


async def test_a_reservation_is_settled_with_what_was_used(any_store: LimitStore) -> None:
    """Less comes back, more is taken, even past the limit; a second settlement takes all of it."""
    ask = [asked("t", TOKENS, 600)]
    look = [asked("t", TOKENS, 0)]
    async with asyncio.timeout(20):
        await any_store.take(ask, lease="a", lease_seconds=9.0)
        for cost, left in ((100, 900), (50, 850)):
            await any_store.settle(ask, lease="a", costs=[cost])
            seen = await any_store.take(look, lease="look", lease_seconds=9.0)
            assert left == seen.statuses[0].remaining
        await any_store.take(ask, lease="b", lease_seconds=9.0)
        await any_store.settle(ask, lease="b", costs=[2000])
        seen = await any_store.take(look, lease="look", lease_seconds=9.0)
        assert 0 == seen.statuses[0].remaining


async def test_nothing_is_enforced_where_it_should_not_be(any_store: LimitStore) -> None:
    """``enforce=False`` says that a limit was passed, and takes the rest all the same."""
    ask = [asked("a", REQUESTS), asked("t", TOKENS, 600)]
    async with asyncio.timeout(20):
        for number in range(4):
            decision = await any_store.take(
                ask, lease=f"{number}", lease_seconds=9.0, enforce=False
            )
        assert not decision.admitted
        assert all(status.retry_after_seconds > 0 for status in decision.statuses)
        for number in range(4):
            await any_store.settle(ask, lease=f"{number}", costs=[1, 200])
        seen = await any_store.take([asked("t", TOKENS, 0)], lease="look", lease_seconds=9.0)
        assert 200 == seen.statuses[0].remaining


async def test_b14_a_lease_runs_out_by_itself(timed_store: StoreFactory) -> None:
    """Slots and reservations come back at their lease's end; a renewal puts it off."""
    ask = [asked("t", TOKENS, 400), asked("s", SLOTS)]
    look = [asked("t", TOKENS, 0), asked("s", SLOTS, 0)]
    async with asyncio.timeout(20), timed_store() as timed:
        await timed.store.take(ask, lease="a", lease_seconds=10.0)
        await timed.store.take(ask, lease="b", lease_seconds=20.0)
        seen = []
        for step in (9_999_999, 1, 9_999_999, 1):
            timed.advance(step)
            decision = await timed.store.take(look, lease="look", lease_seconds=1.0)
            seen.append([status.remaining for status in decision.statuses])
        assert [[200, 0], [600, 1], [600, 1], [1000, 2]] == seen
        await timed.store.take(ask, lease="c", lease_seconds=10.0)
        timed.advance(9_000_000)
        await timed.store.renew(ask, lease="c", lease_seconds=10.0)
        timed.advance(9_000_000)
        decision = await timed.store.take(look, lease="look", lease_seconds=1.0)
        assert [600, 1] == [status.remaining for status in decision.statuses]


async def test_a_lease_that_ran_out_stays_out(timed_store: StoreFactory) -> None:
    """A late renewal revives nothing; a late settlement takes the cost alone."""
    ask = [asked("t", TOKENS, 400), asked("s", SLOTS)]
    look = [asked("t", TOKENS, 0), asked("s", SLOTS, 0)]
    async with asyncio.timeout(20), timed_store() as timed:
        await timed.store.take(ask, lease="a", lease_seconds=10.0)
        timed.advance(10_000_000)
        await timed.store.renew(ask, lease="a", lease_seconds=10.0)
        decision = await timed.store.take(look, lease="look", lease_seconds=1.0)
        assert [1000, 2] == [status.remaining for status in decision.statuses]
        await timed.store.settle(ask, lease="a", costs=[30, 0])
        decision = await timed.store.take(look, lease="look", lease_seconds=1.0)
        assert [970, 2] == [status.remaining for status in decision.statuses]


async def test_a_reservation_counts_from_when_it_was_made(timed_store: StoreFactory) -> None:
    """A long answer's tokens come back a window after its start; only what is beyond is late."""
    minute = Limit(unit="tokens", amount=1000, window_seconds=60)
    ask, look = [asked("t", minute, 400)], [asked("t", minute, 0)]
    async with asyncio.timeout(20), timed_store() as timed:
        await timed.store.take(ask, lease="a", lease_seconds=600.0)
        timed.advance(60_000_000)
        await timed.store.settle(ask, lease="a", costs=[450])
        decision = await timed.store.take(look, lease="look", lease_seconds=1.0)
        assert 950 == decision.statuses[0].remaining


@pytest.mark.parametrize("settled", ["settled", "lapsed"])
async def test_what_came_back_is_not_given_back_again(
    timed_store: StoreFactory, settled: str
) -> None:
    """A long answer that cost nothing takes nothing off those that came a window after it."""
    minute = Limit(unit="tokens", amount=1000, window_seconds=60)
    first, second, look = (asked("t", minute, cost) for cost in (400, 300, 0))
    async with asyncio.timeout(20), timed_store() as timed:
        await timed.store.take([first], lease="a", lease_seconds=80.0)
        timed.advance(60_000_000)
        await timed.store.take([second], lease="b", lease_seconds=80.0)
        if settled == "settled":
            await timed.store.settle([first], lease="a", costs=[0])
        else:
            timed.advance(20_000_000)
        decision = await timed.store.take([look], lease="look", lease_seconds=1.0)
        assert 700 == decision.statuses[0].remaining


async def test_a_long_answer_holds_up_no_other(timed_store: StoreFactory) -> None:
    """While its lease lives on, what others took comes back a window after they took it."""
    minute = Limit(unit="tokens", amount=1000, window_seconds=60)
    first, second, look = (asked("t", minute, cost) for cost in (400, 300, 0))
    async with asyncio.timeout(20), timed_store() as timed:
        await timed.store.take([first], lease="a", lease_seconds=600.0)
        timed.advance(60_000_000)
        await timed.store.take([second], lease="b", lease_seconds=600.0)
        timed.advance(60_000_000)
        decision = await timed.store.take([look], lease="look", lease_seconds=1.0)
        assert 1000 == decision.statuses[0].remaining


async def test_a_limit_may_change_under_way(timed_store: StoreFactory) -> None:
    """What was taken counts against the new amount and window."""
    narrow = Limit(unit="requests", amount=2, window_seconds=60)
    wide = Limit(unit="requests", amount=5, window_seconds=120)
    async with asyncio.timeout(20), timed_store() as timed:
        for limit, left in ((narrow, 1), (narrow, 0), (wide, 2)):
            decision = await timed.store.take([asked("a", limit)], lease="a", lease_seconds=1.0)
            assert left == decision.statuses[0].remaining
        timed.advance(60_000_000)
        decision = await timed.store.take([asked("a", wide)], lease="a", lease_seconds=1.0)
        assert 1 == decision.statuses[0].remaining
        decision = await timed.store.take([asked("a", narrow)], lease="a", lease_seconds=1.0)
        assert decision.admitted
        assert 0 == decision.statuses[0].remaining


async def test_steady_load_gets_the_whole_limit(timed_store: StoreFactory) -> None:
    """Offered three times the limit for three windows: exactly three times the amount passes."""
    limit = Limit(unit="tokens", amount=2000, window_seconds=2)
    admitted: list[int] = []
    async with asyncio.timeout(60), timed_store() as timed:
        for now in range(0, 6_000_000, 10_000):
            demand = Demand("t", limit, 30, False)
            if (await timed.store.take([demand], lease="a", lease_seconds=1.0)).admitted:
                admitted.append(now)
            timed.advance(10_000)
    assert 0.99 * 6000 <= 30 * len(admitted) <= 6000
    for end in range(0, 6_000_000, 10_000):
        assert 30 * sum(end - 2_000_000 < at <= end for at in admitted) <= 2000

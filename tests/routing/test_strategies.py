"""Every strategy gives all targets, in the order that it promises."""

from __future__ import annotations

import math
import random
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from asgi_llm.errors import ConfigurationError
from asgi_llm.routing.strategies import (
    STRATEGIES,
    Cheapest,
    LeastBusy,
    Load,
    LowestLatency,
    RoundRobin,
    Weighted,
)
from asgi_llm.routing.targets import Target
from asgi_llm.testing import ManualClock
from tests.routing.conftest import target

NAMES = "abcdefgh"


def seeded(seed: int) -> random.Random:
    return random.Random(seed)


def firsts(strategy: Weighted, targets: list[Target], draws: int, seed: int) -> Counter[str]:
    draw = seeded(seed).random
    load = Load(clock=ManualClock())
    return Counter(strategy.order(targets, load, draw)[0].id for _ in range(draws))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.0]), max_size=6),
    busy=st.lists(st.integers(0, 5), max_size=10),
    seed=st.integers(0, 2**32),
)
def test_every_order_has_all_targets_once(
    name: str, weights: list[float], busy: list[int], seed: int
) -> None:
    """Of any number of targets, none too, with any weights, loads and random numbers."""
    targets = [target(one, weight=weight) for one, weight in zip(NAMES, weights, strict=False)]
    strategy, draw, load = STRATEGIES[name](), seeded(seed).random, Load(clock=ManualClock())
    for place in busy:
        if place < len(targets):
            load.started(targets[place].id)
            load.observed(targets[place].id, draw())
    for _ in range(3):
        order = strategy.order(targets, load, draw)
        assert sorted(one.id for one in targets) == sorted(one.id for one in order)


def test_ordered_keeps_the_order_of_the_route() -> None:
    """Whatever the weights say."""
    targets = [target("b", weight=0.0), target("a", weight=9.0)]
    load = Load(clock=ManualClock())
    assert targets == STRATEGIES["ordered"]().order(targets, load, random.random)


@settings(max_examples=30, deadline=None)
@given(weights=st.lists(st.floats(0.05, 100.0), min_size=2, max_size=5), seed=st.integers(0, 2**32))
def test_weighted_gives_true_shares(weights: list[float], seed: int) -> None:
    """Over 4000 requests each target is first by its share, within five standard deviations."""
    draws = 4000
    targets = [target(one, weight=weight) for one, weight in zip(NAMES, weights, strict=False)]
    counts = firsts(Weighted(), targets, draws, seed)
    for one in targets:
        share = one.weight / sum(weights)
        deviation = math.sqrt(draws * share * (1 - share))
        assert abs(counts[one.id] - draws * share) <= 5 * deviation + 1


def test_weighted_gives_those_left_true_shares_too() -> None:
    """Where the first one failed, 3 to 1 is 3 to 1 among the two others."""
    targets = [target("a", weight=96.0), target("b", weight=3.0), target("c", weight=1.0)]
    draw, load = seeded(1).random, Load(clock=ManualClock())
    orders = [Weighted().order(targets, load, draw) for _ in range(8000)]
    seconds = Counter(order[1].id for order in orders if order[0].id == "a/m")
    assert 0.73 <= seconds["b/m"] / seconds.total() <= 0.77


def test_weighted_calls_what_has_no_weight_last() -> None:
    """And never first, unless none has any."""
    targets = [target("a", weight=0.0), target("b", weight=1e-9)]
    load = Load(clock=ManualClock())
    for _ in range(100):
        order = Weighted().order(targets, load, random.random)
        assert ["b/m", "a/m"] == [one.id for one in order]
    assert 1 == len(Weighted().order(targets[:1], load, random.random))


@given(number=st.integers(1, 8), rounds=st.integers(1, 10))
def test_round_robin_gives_each_the_same(number: int, rounds: int) -> None:
    """After any number of whole rounds each was first so often; within one never twice."""
    targets = [target(one) for one in NAMES[:number]]
    strategy, load = RoundRobin(), Load(clock=ManualClock())
    found = [strategy.order(targets, load, random.random)[0].id for _ in range(number * rounds)]
    assert dict.fromkeys(found, rounds) == Counter(found)
    for begin in range(len(found) - number):
        assert number == len(set(found[begin : begin + number]))


@given(missing=st.lists(st.sets(st.integers(0, 3), max_size=3), min_size=1, max_size=60))
def test_round_robin_is_fair_while_targets_come_and_go(missing: list[set[int]]) -> None:
    """The first one is always among those whose turn is longest past."""
    targets = [target(one) for one in NAMES[:4]]
    strategy, load = RoundRobin(), Load(clock=ManualClock())
    last = {one.id: -1 for one in targets}
    for turn, out in enumerate(missing):
        there = [one for place, one in enumerate(targets) if place not in out]
        first = strategy.order(there, load, random.random)[0].id
        assert min(last[one.id] for one in there) == last[first]
        last[first] = turn


def test_round_robin_leaves_what_has_no_weight_for_the_end() -> None:
    """It has no turn of its own."""
    targets = [target("a", weight=0.0), target("b"), target("c")]
    strategy, load = RoundRobin(), Load(clock=ManualClock())
    orders = [strategy.order(targets, load, random.random) for _ in range(4)]
    assert ["b/m", "c/m", "b/m", "c/m"] == [order[0].id for order in orders]
    assert {"a/m"} == {order[-1].id for order in orders}


def test_least_busy_is_the_one_with_the_fewest_calls_under_way() -> None:
    """And with twice the weight, twice as many count alike."""
    targets = [target("a"), target("b"), target("c", weight=2.0)]
    load = Load(clock=ManualClock())
    for name, calls in (("a/m", 2), ("b/m", 1), ("c/m", 2)):
        for _ in range(calls):
            load.started(name)
    order = LeastBusy().order(targets, load, random.random)
    assert ["c/m", "b/m", "a/m"] == [one.id for one in order]
    load.ended("a/m")
    load.ended("a/m")
    assert "a/m" == LeastBusy().order(targets, load, random.random)[0].id


def test_least_busy_spreads_what_comes_at_once() -> None:
    """Of 300 calls that do not end, each of three targets has 100."""
    targets = [target(one) for one in "abc"]
    load, draw = Load(clock=ManualClock()), seeded(2).random
    for _ in range(300):
        load.started(LeastBusy().order(targets, load, draw)[0].id)
    assert [100, 100, 100] == [load.in_flight(one.id) for one in targets]


def test_least_busy_draws_among_those_alike() -> None:
    """Where nobody is busy, each is first about as often: no herd on the first of the list."""
    targets = [target(one) for one in "ab"]
    load, draw = Load(clock=ManualClock()), seeded(3).random
    counts = Counter(LeastBusy().order(targets, load, draw)[0].id for _ in range(1000))
    assert 400 <= counts["a/m"] <= 600


def test_the_lowest_latency_is_first() -> None:
    """Once something is known of all of them."""
    targets = [target(one) for one in "abc"]
    load = Load(clock=ManualClock())
    for name, seconds in (("a/m", 0.3), ("b/m", 0.1), ("c/m", 0.2)):
        load.observed(name, seconds)
    order = LowestLatency(exploration=0.0).order(targets, load, random.random)
    assert ["b/m", "c/m", "a/m"] == [one.id for one in order]


def test_what_nothing_is_known_of_is_tried_by_one_at_a_time() -> None:
    """It is first until one call to it is under way, and then last until that has told."""
    targets = [target("a"), target("b")]
    load, strategy = Load(clock=ManualClock()), LowestLatency(exploration=0.0)
    load.observed("a/m", 0.1)
    assert "b/m" == strategy.order(targets, load, random.random)[0].id
    load.started("b/m")
    assert "a/m" == strategy.order(targets, load, random.random)[0].id


def test_a_slow_target_is_tried_again_after_a_while() -> None:
    """What is ten times as slow is first again after four half-lives without news of it."""
    clock = ManualClock()
    targets = [target("a"), target("b")]
    load, strategy = Load(clock=clock, half_life_seconds=30.0), LowestLatency(exploration=0.0)
    load.observed("b/m", 1.0)
    load.observed("a/m", 0.1)
    found = []
    for _ in range(6):
        found.append(strategy.order(targets, load, random.random)[0].id)
        clock.advance(30.0)
        load.observed("a/m", 0.1)
    assert ["a/m", "a/m", "a/m", "a/m", "b/m", "b/m"] == found


def test_a_share_of_requests_explores() -> None:
    """With 0.2, and two targets, one in ten goes to the slower one; none to one without weight."""
    targets = [target("a"), target("b"), target("c", weight=0.0)]
    load, draw = Load(clock=ManualClock()), seeded(4).random
    load.observed("a/m", 0.1)
    load.observed("b/m", 9.0)
    strategy = LowestLatency(exploration=0.2)
    counts = Counter(strategy.order(targets, load, draw)[0].id for _ in range(4000))
    assert 320 <= counts["b/m"] <= 480
    assert 0 == counts["c/m"]
    idle = [target("d", weight=0.0), target("e", weight=0.0)]
    assert 2 == len(LowestLatency(exploration=1.0).order(idle, load, draw))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_exploration_is_a_share(share: float) -> None:
    """Else the option is named."""
    with pytest.raises(ConfigurationError) as caught:
        LowestLatency(exploration=share)
    assert "exploration" == caught.value.param


def test_the_cheapest_is_first_and_an_unknown_price_last() -> None:
    """An unknown price is not zero; of equal ones the less busy target is first."""
    targets = [target("a"), target("b", price=2.0), target("c", price=0.0), target("d", price=0.0)]
    load = Load(clock=ManualClock())
    order = Cheapest().order(targets, load, random.random)
    assert ["c/m", "d/m", "b/m", "a/m"] == [one.id for one in order]
    load.started("c/m")
    assert "d/m" == Cheapest().order(targets, load, random.random)[0].id


# Load


def test_calls_under_way_are_counted_down_to_none() -> None:
    """An end without a beginning counts for nothing."""
    load = Load(clock=ManualClock())
    load.ended("a/m")
    load.started("a/m")
    load.started("a/m")
    assert 2 == load.in_flight("a/m")
    for _ in range(3):
        load.ended("a/m")
    assert 0 == load.in_flight("a/m")


def test_recent_times_count_more() -> None:
    """After a half-life an old time has half of the say, and within a moment nine tenths."""
    clock = ManualClock()
    load = Load(clock=clock, half_life_seconds=10.0)
    assert None is load.latency_seconds("a/m")
    load.observed("a/m", 1.0)
    assert 1.0 == load.latency_seconds("a/m")
    clock.advance(10.0)
    load.observed("a/m", 2.0)
    assert 1.5 == load.latency_seconds("a/m")
    load.observed("a/m", 2.5)
    assert pytest.approx(1.6) == load.latency_seconds("a/m")


def test_load_is_bounded() -> None:
    """The oldest idle target makes room; one that is busy is not forgotten."""
    load = Load(clock=ManualClock(), max_targets=3)
    load.started("busy/m")
    for number in range(100):
        load.observed(f"a/{number}", 1.0)
        assert len(load) <= 3
    assert 1 == load.in_flight("busy/m")
    assert None is load.latency_seconds("a/0")
    assert 1.0 == load.latency_seconds("a/99")


def test_load_forgets_nobody_who_is_busy() -> None:
    """More than the bound are remembered only while each of them has a call under way."""
    load = Load(clock=ManualClock(), max_targets=2)
    for number in range(4):
        load.started(f"a/{number}")
    assert [1, 1, 1, 1] == [load.in_flight(f"a/{number}") for number in range(4)]
    for number in range(4):
        load.ended(f"a/{number}")
    load.started("b/m")
    load.started("c/m")
    assert 2 >= len(load)


@pytest.mark.parametrize(
    ("name", "value"),
    [("half_life_seconds", 0.0), ("half_life_seconds", float("inf")), ("max_targets", 0)],
)
def test_the_options_of_load_are_checked(name: str, value: float) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        Load(**{name: value})  # type: ignore[arg-type]
    assert name == caught.value.param

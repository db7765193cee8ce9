"""The bets that tell whether an error rate is under its bound."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.middleware._semantic_audit import Audit


def proof_of(audit: Audit, *, rate: float, count: int, seed: int) -> int | None:
    """After how many observations at a rate it is proven to be below; None: never in ``count``."""
    chance = random.Random(seed)
    for at in range(count):
        audit.note(chance.random() < rate)
        if audit.proven:
            return at + 1
    return None


@given(
    bound=st.floats(0.001, 0.49),
    worse=st.floats(0, 1),
    history=st.lists(st.booleans(), max_size=40),
)
def test_no_bet_gains_while_it_is_wrong(bound: float, worse: float, history: list[bool]) -> None:
    """Whatever came before, what is expected next is at most what there is (a supermartingale)."""
    for below, rate in ((True, bound + worse * (1 - bound)), (False, bound * (1 - worse))):
        wealth: list[float] = []
        for wrong in (True, False):
            audit = Audit(bound, 0.05)
            bet = audit._below if below else audit._above
            for one in history:
                bet.note(one)
            before = math.exp(bet.wealth)
            wealth.append(math.exp(bet.note(wrong)))
        assert rate * wealth[0] + (1 - rate) * wealth[1] <= before * (1 + 1e-9)


@pytest.mark.parametrize("doubt", [0.05, 0.2])
@pytest.mark.parametrize("rate", [0.02, 0.03, 0.2])
def test_a_rate_that_is_too_high_is_hardly_ever_proven(rate: float, doubt: float) -> None:
    """Of 300 samples of 3000, looked at all the time, no larger a share than is stated."""
    found = [
        proof_of(Audit(0.02, doubt), rate=rate, count=3000, seed=seed) is not None
        for seed in range(300)
    ]
    assert sum(found) / len(found) <= doubt


def test_a_low_rate_is_proven_soon() -> None:
    """Without errors a proof takes hardly more than the fewest that can be; with some, longer."""
    fewest = math.log(0.05) / math.log(1 - 0.02)
    perfect = proof_of(Audit(0.02, 0.05), rate=0.0, count=1000, seed=1)
    assert perfect is not None
    assert fewest <= perfect <= 2 * fewest
    for seed in range(20):
        assert proof_of(Audit(0.02, 0.05), rate=0.004, count=4000, seed=seed) is not None


def test_a_proof_is_taken_back() -> None:
    """When the rate rises to five times the bound it is noticed; when it stays low, it is not."""
    for seed in range(20):
        audit, chance = Audit(0.02, 0.05), random.Random(seed)
        for _ in range(300):
            audit.note(False)
        assert audit.proven
        for _ in range(5000):
            audit.note(chance.random() < 0.002)
        assert audit.proven
        held = 0
        for _ in range(300):
            audit.note(chance.random() < 0.1)
            held += audit.proven
        assert held < 300


def test_old_errors_do_not_bar_a_proof_for_ever() -> None:
    """Once all is well a proof is found, however much went wrong before."""
    audit = Audit(0.02, 0.05)
    for _ in range(1000):
        audit.note(True)
    for _ in range(1500):
        audit.note(False)
    assert (True, 2500, 1000) == (audit.proven, audit.observations, audit.errors)

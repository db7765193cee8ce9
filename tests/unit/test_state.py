"""What layers tell each other: values, and those that are made only for who reads them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asgi_llm._ids import draw_ids
from asgi_llm.state import State, StateKey

NUMBER: StateKey[int] = StateKey("number")
OTHER: StateKey[str] = StateKey("other")


class Maker:
    """Gives a number, and counts how often it was asked."""

    def __init__(self, number: int) -> None:
        self.calls = 0
        self._number = number

    def __call__(self) -> int:
        self.calls += 1
        return self._number


def test_what_is_deferred_is_made_once_and_for_who_asks() -> None:
    """Whoever reads something else, set or not, does not make it."""
    state, make = State(), Maker(7)
    state.set(OTHER, "here")
    state.defer(NUMBER, make)
    assert ("here", None) == (state.get(OTHER), state.get(StateKey[int]("neither")))
    assert 0 == make.calls
    assert (7, 7) == (state.get(NUMBER), state.get(NUMBER))
    assert {OTHER: "here", NUMBER: 7} == dict(state.values)
    assert 1 == make.calls


@pytest.mark.parametrize(
    "read",
    [
        lambda state: state.values[NUMBER],
        lambda state: state.fork().get(NUMBER),
        lambda state: state.branch().get(NUMBER),
    ],
    ids=["values", "fork", "branch"],
)
def test_what_is_deferred_is_seen_by_every_reader(read: Callable[[State], int | None]) -> None:
    """Among all values, and in a state that is made of this one."""
    state = State()
    state.defer(NUMBER, Maker(7))
    assert 7 == read(state)


def test_a_branch_that_is_adopted_brings_what_it_has_deferred() -> None:
    """And what was deferred before is no more than what was set before."""
    state = State()
    state.defer(OTHER, lambda: "gone")
    branched = State().branch()
    branched.defer(NUMBER, Maker(7))
    state.adopt(branched)
    assert (7, None) == (state.get(NUMBER), state.get(OTHER))


def test_the_last_word_counts() -> None:
    """Whether it was set or deferred, and what is taken back is gone."""
    state, late = State(), Maker(2)
    state.set(NUMBER, 1)
    state.defer(NUMBER, late)
    assert 2 == state.get(NUMBER)
    state.defer(NUMBER, Maker(3))
    state.set(NUMBER, 4)
    assert (4, 4) == (state.get(NUMBER), state.values[NUMBER])
    state.defer(NUMBER, Maker(5))
    state.discard(NUMBER)
    assert state.get(NUMBER) is None


def test_ids_are_alike_in_form_and_no_two_are_the_same() -> None:
    """A prefix and 32 hex digits."""
    ids = draw_ids("row_", 300) + draw_ids("row_", 1)
    assert 301 == len(set(ids))
    assert all(id.startswith("row_") and len(id) == 36 and int(id[4:], 16) >= 0 for id in ids)

"""Which texts share a digest of their wording."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.middleware._agreement import read
from asgi_llm.middleware._semantic_wording import wording_of


def wording(*turns: str) -> bytes:
    """The digest of a text, or of several turns."""
    return wording_of([read(turn) for turn in turns])


@pytest.mark.parametrize("before", ["", "Hi, ", "Hello! ", "Quick question: "])
@pytest.mark.parametrize("behind", ["", " Thanks!", " Please."])
def test_dress_makes_no_difference(before: str, behind: str) -> None:
    """Greetings and thanks are no wording."""
    text = "How do I reset the password of my router?"
    assert wording(text) == wording(f"{before}{text}{behind}")


def test_what_is_said_makes_a_difference() -> None:
    """Numbers, units, names, dates, quotes, code, negations, aims and order are wording."""
    texts = (
        *("Convert 15 miles", "Convert 16 miles", "Convert 15 km", "Convert 15 square miles"),
        *("Flights from Rome to Oslo", "Flights from Oslo to Rome", "Flights from Rome via Oslo"),
        *("What is due in May?", "What is due in June?", "What is not due in May?"),
        *("Why does it fail?", "When does it fail?", "Why did it fail?", "Who fails?"),
        *('Say "yes"', 'Say "no"', "Run ./a.sh", "Run ./b.sh", "a - b", "a + b"),
        *("Who has not paid and is new?", "Who has paid and is not new?"),
        *("From Monday to Friday?", "From Friday to Monday?", "Meet her boss", "Meet his boss"),
        *("Is -5 even?", "Is 5 even?", "When can I pay?", "When must I pay?"),
        *("Is it rude? \U0001f602", "Is it rude? \U0001f643"),
        *("What is it?", "What is she?", "What are they?"),
    )
    for one, other in itertools.combinations(texts, 2):
        assert wording(one) != wording(other), (one, other)


def test_turns_are_told_apart() -> None:
    """The order of turns matters, and where one ends."""
    assert wording("Reset it", "Why?") != wording("Why?", "Reset it")
    assert wording("Reset it", "Stop it") != wording("Reset it. Stop it")


@given(st.text(max_size=200))
def test_any_text_has_a_wording(text: str) -> None:
    """Eight bytes, and the same ones each time."""
    assert (8, wording(text)) == (len(wording(text)), wording(text))

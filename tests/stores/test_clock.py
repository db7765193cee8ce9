"""Clocks that are read without a call."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from asgi_llm.stores._clock import read_clock


@pytest.mark.parametrize("clock", [time.time, time.monotonic, time.perf_counter])
def test_it_is_the_same_clock(clock: Callable[[], float]) -> None:
    """Between what it says before and what it says after."""
    before = clock()
    read = read_clock(clock)
    assert before <= read <= clock()


def test_any_other_is_asked() -> None:
    """A clock is whatever can be called."""
    assert 12.5 == read_clock(lambda: 12.5)


def test_its_error_is_told() -> None:
    """And is not taken for a time."""

    def broken() -> float:
        raise OSError

    with pytest.raises(OSError):
        read_clock(broken)

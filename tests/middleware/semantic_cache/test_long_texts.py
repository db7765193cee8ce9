"""However long a text is and whatever is in it, it is taken apart in one go."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from asgi_llm.middleware._agreement import read

LENGTH = 100_000
MOST_SECONDS = 60.0
"""Some fifty times what it takes; the square of the length would take four times as much."""


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Interrupt what takes more than so many seconds of CPU, in the midst of a search too."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s of CPU")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("part", ["-1", "1-", "a-", "1--", "x/", "a_b", "A1", "+", "1", "“a"])
def test_the_time_is_linear(part: str) -> None:
    """Signs, dashes, paths, names and quotation marks that go on and on."""
    with bounded(MOST_SECONDS):
        assert read(part * (LENGTH // len(part))) is not None

"""Unix time that does not run backwards."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SteadyTime"]


class SteadyTime:
    """The wall clock, but never less than what the monotonic clock says has passed.

    What has expired stays expired when somebody turns the clock back. When the clock was ahead for
    a while, what ended in that time has ended until the process starts anew.

    Args:
        wall: Unix time in seconds.
        monotonic: Seconds that only grow.
    """

    __slots__ = ("_anchor", "_monotonic", "_wall")

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._anchor = wall() - monotonic()

    def __call__(self) -> float:
        steady = self._anchor + self._monotonic()
        wall = self._wall()
        if not wall > steady:
            return steady
        self._anchor += wall - steady
        return wall

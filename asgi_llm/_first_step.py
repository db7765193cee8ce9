"""The first step of something awaited, which as a rule is its last one."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any

__all__ = ["Begun", "first_step"]

_NOTHING = object()


class Begun:
    """What has been stepped once, and waits.

    Attributes:
        coroutine: Goes on with its second step, and comes to what it was to give.
        waits_for: What the first step gave.
    """

    __slots__ = ("coroutine", "waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self.coroutine = coroutine
        self.waits_for = waits_for


class _Step:
    """Keeps what an awaitable came to."""

    __slots__ = ("came_to",)

    came_to: Any

    async def take(self, awaitable: Awaitable[Any]) -> Any:
        # What a coroutine gives back comes out of a single step in an exception, at several times
        # the cost.
        self.came_to = await awaitable
        return self.came_to


def first_step(awaitable: Awaitable[Any]) -> Any:
    """What ``awaitable`` comes to without any waiting; a ``Begun`` where it has to wait.

    Whatever it raises comes out.
    """
    step = _Step()
    coroutine = step.take(awaitable)
    waits_for = next(coroutine.__await__(), _NOTHING)
    return step.came_to if waits_for is _NOTHING else Begun(coroutine, waits_for)

"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math

__all__ = ["ManualClock"]


class ManualClock:
    """Seconds that pass only by ``advance``. Call it for the time; await ``sleep`` on it.

    Args:
        start_seconds: The time at first.
    """

    def __init__(self, start_seconds: float = 0.0) -> None:
        self._now = start_seconds
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._watchers: list[tuple[int, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self._now

    @property
    def sleeping(self) -> int:
        """How many tasks sleep on this clock."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` (0 or more) pass. Those whose time has come wake in its order.

        Raises:
            ValueError: Time would run backwards.
        """
        if not (0 <= seconds < math.inf):
            raise ValueError(f"a clock cannot advance by {seconds!r} seconds")
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Return once ``seconds`` have been advanced; at once for 0 or less."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), sleeper))
        for wanted, watcher in self._watchers:
            if self.sleeping >= wanted and not watcher.done():
                watcher.set_result(None)
        await sleeper

    async def until_sleeping(self, tasks: int = 1, *, timeout_seconds: float = 5.0) -> None:
        """Wait, in real time, until so many ``tasks`` sleep: then an advance cannot come too early.

        Raises:
            TimeoutError: They did not.
        """
        if self.sleeping >= tasks:
            return
        watcher = asyncio.get_running_loop().create_future()
        entry = (tasks, watcher)
        self._watchers.append(entry)
        try:
            async with asyncio.timeout(timeout_seconds):
                await watcher
        finally:
            self._watchers.remove(entry)

"""Stops asking what does not answer, and finds out by itself when it answers again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from asgi_llm._tasks import end
from asgi_llm.errors import ConfigurationError, StoreError

__all__ = ["Breaker"]

logger = logging.getLogger(__name__)


class Breaker:
    """Open after so many failures in a row; closed again by a probe that succeeds.

    While it is open nobody asks the store but one probe at a time, which a task of the breaker's
    own makes: an instance that gets no requests recovers too.

    Args:
        name: What the log calls the store.
        probe: Asks the store for something that needs all of it to work; raises StoreError.
        failure_threshold: Failures in a row that open the breaker, at least 1.
        probe_seconds: Between the end of a probe and the next, above 0 and below 5.
        clock: Seconds that never go back.
        sleep: Waits between probes.
    """

    def __init__(
        self,
        name: str,
        probe: Callable[[], Awaitable[None]],
        *,
        failure_threshold: int = 3,
        probe_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if failure_threshold < 1:
            raise ConfigurationError(
                "failure_threshold must be at least 1", param="failure_threshold"
            )
        if not 0 < probe_seconds < 5:
            raise ConfigurationError(
                "probe_seconds must be above 0 and below 5", param="probe_seconds"
            )
        self._name = name
        self._probe = probe
        self._threshold = failure_threshold
        self._probe_seconds = probe_seconds
        self._clock = clock
        self._sleep = sleep
        self._since = clock()
        self._in_a_row = 0
        self._failures = 0
        self._last_failure: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.is_open = False

    def succeeded(self) -> None:
        """The store answered. One that was asked before the breaker opened does not close it."""
        if not self.is_open:
            self._in_a_row = 0

    def failed(self, error: BaseException) -> None:
        """The store failed, for whatever cause."""
        self._failures += 1
        self._in_a_row += 1
        self._last_failure = str(error) or type(error).__name__
        if not self.is_open and self._in_a_row >= self._threshold:
            self.is_open = True
            self._since = self._clock()
            logger.warning("%s is not asked any more: %s", self._name, self._last_failure)
        self.watch()

    def watch(self) -> None:
        """See to it that an open breaker is probed, on the loop that runs now."""
        if not self.is_open or self._closed:
            return
        loop = asyncio.get_running_loop()
        task = self._task
        if task is None or task.done() or task.get_loop() is not loop:
            self._task = loop.create_task(self._recover())

    async def _recover(self) -> None:
        while True:
            await self._sleep(self._probe_seconds)
            try:
                await self._probe()
            except StoreError as error:
                self._failures += 1
                self._last_failure = str(error)
            else:
                break
        self.is_open = False
        self._in_a_row = 0
        logger.warning("%s answers again after %.1f s", self._name, self._clock() - self._since)
        self._since = self._clock()

    def health(self) -> dict[str, Any]:
        """The ``state``: ``closed`` (in use) or ``open``; for how long; all ``failures``."""
        return {
            "state": "open" if self.is_open else "closed",
            "since_seconds": self._clock() - self._since,
            "failures": self._failures,
            "last_failure": self._last_failure,
        }

    async def aclose(self) -> None:
        """Stop probing for good."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            await end(task)

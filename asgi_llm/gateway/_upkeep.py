"""Deletes what the ledger need not keep any longer, now and then."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from asgi_llm._tasks import end
from asgi_llm.errors import StoreError
from asgi_llm.gateway._cost_definitions import LedgerDefinition

__all__ = ["Retaining", "Upkeep", "make_upkeep"]

logger = logging.getLogger(__name__)


class Retaining(Protocol):
    """A ledger that can be shortened."""

    async def retain(self, before: datetime, *, sums: bool = False) -> int:
        """Delete rows, and sums too if asked for, that are older; how many rows there were."""
        ...


class Upkeep:
    """One task that keeps a ledger to its age.

    Any number of processes may do it for one database: each deletes a little at a time, and rows
    that another one has deleted are none to this one. They begin at times drawn at random.

    Args:
        ledger: What is shortened.
        retention_days: Age of rows, from 1; None: they stay.
        sums_retention_days: Age of sums, and at most of rows; None: they stay.
        every_seconds: Between two looks, above 0.
        clock: The time, aware.
        sleep: Waits.
        draw: A number from 0 to 1.
    """

    def __init__(
        self,
        ledger: Retaining,
        *,
        retention_days: int | None,
        sums_retention_days: int | None,
        every_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._retention_days = retention_days
        self._sums_retention_days = sums_retention_days
        self._every_seconds = every_seconds
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin on the running loop; nothing if it has begun there."""
        loop = asyncio.get_running_loop()
        task = self._task
        if task is None or task.done() or task.get_loop() is not loop:
            self._task = loop.create_task(self._run(), name="ledger-upkeep")

    async def turn(self) -> int:
        """Delete what is too old now; how many rows that were.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        now = self._clock()
        deleted = 0
        if self._sums_retention_days is not None:
            today = now.replace(hour=0, minute=0, second=0, microsecond=0)
            oldest = today - timedelta(days=self._sums_retention_days)
            deleted += await self._ledger.retain(oldest, sums=True)
        if self._retention_days is not None:
            deleted += await self._ledger.retain(now - timedelta(days=self._retention_days))
        return deleted

    async def _run(self) -> None:
        wait = self._every_seconds * self._draw()
        while True:
            await self._sleep(wait)
            try:
                deleted = await self.turn()
            except StoreError as error:
                logger.warning("the ledger was not shortened: %s", error.message)
            else:
                if deleted:
                    logger.info("%d rows of the ledger were past their time", deleted)
            wait = self._every_seconds * (0.75 + self._draw() / 2)

    async def aclose(self) -> None:
        """Stop; what is half done is done at the next look."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            await end(task)


def make_upkeep(definition: LedgerDefinition, ledger: Retaining) -> Upkeep | None:
    """Keeps a ledger to the age that its definition says; None: it is kept for good."""
    if definition.retention_days is None and definition.sums_retention_days is None:
        return None
    return Upkeep(
        ledger,
        retention_days=definition.retention_days,
        sums_retention_days=definition.sums_retention_days,
        every_seconds=definition.upkeep_seconds,
    )

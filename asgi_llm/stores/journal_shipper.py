"""From the journal to the ledger: in batches, again until they are there, and once each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from asgi_llm._tasks import end
from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._journal_abandoned import AbandonedLane
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.ledger import Ledger, LedgerRow

__all__ = ["JournalShipper"]

logger = logging.getLogger(__name__)


class JournalShipper:
    """Records what a journal holds, and what the lanes of dead workers hold.

    One task does it. It starts by itself with the first outcome that is settled while a loop runs,
    or by ``start``, and again on another loop where the first one is closed. A batch that fails is
    given again, until it is recorded or the shipper is closed: the journal is the truth, and the
    position in it moves only behind rows that the ledger has.

    Memory: one batch of rows, and one window of a segment.

    Args:
        journal: Of this process; closed by ``aclose``.
        ledger: Where the rows go.
        max_batch_rows: How many rows are recorded at once, from 1 to 10,000.
        interval_seconds: How long the first row of a batch waits for others, from 0.
        takeover_seconds: How often lanes of dead workers are looked for, after the start, above 0.
        min_retry_seconds: The longest wait after a first failure, above 0.
        max_retry_seconds: The longest wait after any. Waits double, and are drawn at random
            between half of that and all of it.
        sleep: Waits for seconds.

    Raises:
        ConfigurationError: An option is out of range.
    """

    def __init__(
        self,
        journal: FileJournal,
        ledger: Ledger,
        *,
        max_batch_rows: int = 500,
        interval_seconds: float = 0.2,
        takeover_seconds: float = 60.0,
        min_retry_seconds: float = 0.1,
        max_retry_seconds: float = 30.0,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        if not (1 <= max_batch_rows <= 10_000):
            raise ConfigurationError(
                "max_batch_rows must be from 1 to 10000", param="max_batch_rows"
            )
        if not (0 <= interval_seconds <= 60):
            raise ConfigurationError(
                "interval_seconds must be from 0 to 60", param="interval_seconds"
            )
        if not (0 < takeover_seconds <= 86400):
            raise ConfigurationError(
                "takeover_seconds must be above 0 and at most 86400", param="takeover_seconds"
            )
        if not (0 < min_retry_seconds <= max_retry_seconds <= 3600):
            raise ConfigurationError(
                "min_retry_seconds must be above 0 and at most max_retry_seconds (3600 at most)",
                param="min_retry_seconds",
            )
        self._journal = journal
        self._ledger = ledger
        self._max_batch_rows = max_batch_rows
        self._interval_seconds = interval_seconds
        self._takeover_seconds = takeover_seconds
        self._min_retry_seconds = min_retry_seconds
        self._max_retry_seconds = max_retry_seconds
        self._sleep = sleep
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._starting = threading.Lock()
        # The loop whose task knows of rows, and has not looked for them since.
        self._noticed: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._look_at = 0.0
        self._closing = False
        self._lane: AbandonedLane | None = None
        self._attempt = 0
        self.failures = 0
        """Batches that the ledger did not take."""
        self.recorded_rows = 0
        """Rows that it took, those among them that it had already."""
        self.taken_over_lanes = 0
        """Lanes of dead workers that were recorded and removed."""
        journal.listen(self._notice)

    @property
    def pending_rows(self) -> int:
        """Rows that the ledger does not have: this worker's, and those of a lane in its hands."""
        lane = self._lane
        return self._journal.pending_rows + (lane.pending_rows if lane is not None else 0)

    @property
    def oldest_age_seconds(self) -> float:
        """How long the oldest of the worker's own pending rows has waited; 0: none waits."""
        return self._journal.oldest_age_seconds

    def start(self) -> None:
        """Begin on the running loop, with the lanes of dead workers; nothing if it has begun."""
        self._closing = False
        self._notice()

    def _notice(self) -> None:
        """There are rows, says whoever settled; in any thread."""
        noticed, known = self._noticed, self._task
        if noticed is not None and known is not None and not (known.done() or noticed.is_closed()):
            # As a rule: one look is for all rows that are there by then.
            return
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        with self._starting:
            task, loop = self._task, self._loop
            if task is None or task.done() or loop is None or loop.is_closed():
                if running is not None and not self._closing:
                    self._begin(running)
            else:
                self._noticed = loop
                if running is loop:
                    self._wake.set()
                else:
                    loop.call_soon_threadsafe(self._wake.set)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        self._loop = loop
        self._noticed = None
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._look_at = loop.time()
        self._task = loop.create_task(self._run(loop), name="journal-shipper")
        return self._task

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            self._noticed = None
            self._wake.clear()
            await self._drain()
            if self._closing:
                return
            if loop.time() >= self._look_at:
                await self._drain_lanes()
                self._look_at = loop.time() + self._takeover_seconds
            await self._pause(self._look_at - loop.time())

    async def _pause(self, longest_seconds: float) -> None:
        """Wait for rows, and a little for more of them; or until lanes are to be looked for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_seconds):
                await self._wake.wait()
            if self._journal.pending_rows < self._max_batch_rows:
                async with asyncio.timeout(self._interval_seconds):
                    await self._stop.wait()

    async def _drain(self) -> None:
        """Record the rows of this worker, all that there are."""
        while True:
            try:
                batch = await asyncio.to_thread(self._journal.read, self._max_batch_rows)
            except StoreError as error:
                await self._failed(error.message)
                continue
            if batch is None:
                return
            await self._record(batch.rows)
            self._journal.acknowledge(batch)

    async def _drain_lanes(self) -> None:
        """Record what dead workers left, and the worker's own rows in between."""
        lanes = self._journal.take_over()
        while not self._closing:
            try:
                lane = await asyncio.to_thread(next, lanes, None)
            except StoreError as error:
                logger.error("the lanes of other workers cannot be read: %s", error.message)
                return
            if lane is None:
                return
            self._lane = lane
            try:
                await self._drain_lane(lane)
            except OSError as error:
                # It is taken over again, the next time that lanes are looked for.
                logger.error("a lane of the journal cannot be read: %s", error.strerror)
            finally:
                lane.close()
                self._lane = None

    async def _drain_lane(self, lane: AbandonedLane) -> None:
        found = 0
        while True:
            batch = await asyncio.to_thread(lane.read, self._max_batch_rows)
            if batch is None:
                await asyncio.to_thread(lane.remove)
                self.taken_over_lanes += 1
                if found:
                    logger.info("recorded %d rows of a worker that is gone", found)
                return
            if self._closing:
                # Now that there is more in it: one that is done with is removed all the same.
                return
            found += len(batch.rows)
            await self._record(batch.rows)
            lane.acknowledge(batch)
            await self._drain()

    async def _record(self, rows: Sequence[LedgerRow]) -> None:
        while rows:
            try:
                await self._ledger.record(rows)
            except StoreError as error:
                await self._failed(error.message)
            except Exception as error:
                logger.exception("the ledger failed in a way of its own")
                await self._failed(type(error).__name__)
            else:
                self.recorded_rows += len(rows)
                self._succeeded()
                return

    def _succeeded(self) -> None:
        if self._attempt:
            logger.warning("rows are recorded again; %d are pending", self.pending_rows)
        self._attempt = 0

    async def _failed(self, cause: str) -> None:
        self.failures += 1
        if self._attempt == 0:
            logger.warning("rows cannot be recorded, and stay in the journal: %s", cause)
        longest = min(self._min_retry_seconds * 2**self._attempt, self._max_retry_seconds)
        self._attempt = min(self._attempt + 1, 32)
        # Workers that failed together do not come back together.
        wait = longest * random.uniform(0.5, 1.0)  # noqa: S311
        if self._closing:
            await self._sleep(min(wait, self._min_retry_seconds))
            return
        ways = {asyncio.ensure_future(self._sleep(wait)), asyncio.ensure_future(self._stop.wait())}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()

    async def aclose(self, *, timeout_seconds: float = 5.0) -> None:
        """Record what is pending, as far as that goes in time, and close the journal.

        What is not recorded then stays on disk, for the next worker.
        """
        self._closing = True
        running = asyncio.get_running_loop()
        task, loop = self._task, self._loop
        if task is not None and not task.done() and loop is not running:
            # Another loop's: whether that one still runs, nobody can say.
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
            task = None
        if task is None or task.done():
            task = self._begin(running)
        self._wake.set()
        self._stop.set()
        await asyncio.wait((task,), timeout=timeout_seconds)
        if not task.done():
            await end(task)
            logger.warning("%d rows stay in the journal", self._journal.pending_rows)
        self._task = None
        await asyncio.to_thread(self._journal.close)

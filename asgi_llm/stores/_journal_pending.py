"""What a process has written, or could not write, and the ledger does not have."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from asgi_llm.errors import StoreError
from asgi_llm.stores._clock import read_clock
from asgi_llm.stores._journal_batch import JournalBatch
from asgi_llm.stores._journal_format import OUTCOME, encode_rows
from asgi_llm.stores._journal_lane import START, Position, read_batch
from asgi_llm.stores._journal_options import LaneOptions
from asgi_llm.stores._journal_sync import GroupSync
from asgi_llm.stores._journal_waiting import WaitingOutcome, WaitingOutcomes
from asgi_llm.stores._journal_writer import LaneWriter
from asgi_llm.stores._thread_lock import ThreadLock

__all__ = ["PendingRows"]

# The journal's: who listens for it need not know where this stands.
logger: Final = logging.getLogger("asgi_llm.stores.journal")


class PendingRows:
    """The lane of a process and what waits for it; both are read, and acknowledged, here.

    Args:
        lanes: How lanes are written. Checked.
        max_unwritten_rows: Rows that may wait in memory.
        clock: Unix time in seconds.
    """

    def __init__(
        self, lanes: LaneOptions, max_unwritten_rows: int, clock: Callable[[], float]
    ) -> None:
        self._lanes = lanes
        self._max_unwritten_rows = max_unwritten_rows
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._lock = ThreadLock()
        self._writer: LaneWriter | None = None
        self._group: GroupSync | None = None
        self._written_rows = 0
        self._oldest: float | None = None
        self._waiting = WaitingOutcomes(self._max_unwritten_rows)
        self._failing = False

    @property
    def lost_rows(self) -> int:
        """Rows that neither the disk nor the memory had room for."""
        return self._waiting.lost_rows

    @property
    def pending_rows(self) -> int:
        """Rows of this process that the ledger has not acknowledged."""
        return self._written_rows + self._waiting.rows

    @property
    def unwritten_rows(self) -> int:
        """Those of them that are in memory only, because the disk refused them."""
        return self._waiting.rows

    @property
    def is_failing(self) -> bool:
        """Whether the disk refused what was written last."""
        return self._failing

    @property
    def open_intents(self) -> int:
        """Calls that are being made."""
        return self._writer.open_intents if self._writer is not None else 0

    @property
    def oldest_age_seconds(self) -> float:
        """How long the oldest of the pending rows has waited, or a little more; 0: none waits."""
        oldest = self._oldest
        if oldest is None or self.pending_rows == 0:
            return 0.0
        return max(0.0, read_clock(self._clock) - oldest)

    @property
    def sync_failures(self) -> int:
        """How often the disk refused to sync what was written."""
        return self._group.failures if self._group is not None else 0

    def read(self, max_rows: int) -> JournalBatch | None:
        """The next rows that are to be recorded, about ``max_rows`` of them; None: there are none.

        A batch may be without rows and is then to be acknowledged as well. Until one is
        acknowledged the same rows are read again. May run in another thread than the writes, but
        in one at a time.

        Raises:
            StoreError: The disk cannot be read.
        """
        with self._lock:
            writer = self._writer
            if self._waiting.count:
                self._write_waiting()
            waiting = self._waiting.first(max_rows)
            if waiting:
                return JournalBatch([row for one in waiting for row in one.rows], waiting=waiting)
            if writer is None or writer.acknowledged >= writer.end:
                return None
            position, end = writer.acknowledged, writer.end
        try:
            batch = read_batch(writer.path, position, end, max_rows)
        except OSError as error:
            raise StoreError("The journal cannot be read.") from error
        if batch.rows:
            self._oldest = batch.written
        return JournalBatch(batch.rows, writer=writer, end=batch.end, damaged=batch.damaged)

    def acknowledge(self, batch: JournalBatch) -> None:
        """The ledger has the rows of ``batch``; segments that are done with are deleted."""
        with self._lock:
            if batch._waiting:
                self._waiting.acknowledge(batch._waiting, self._writer)
                self._prune(self._writer, START)
                # Where the intent is on disk, it is still to be closed there.
                self._waiting.drop_told(self._writer)
            if batch._writer is not None and batch._writer is self._writer and batch._end:
                self._written_rows -= len(batch.rows)
                batch._writer.note_damaged(batch._damaged)
                self._prune(batch._writer, batch._end)
                if batch._end >= batch._writer.end:
                    # Also where some could not be read again.
                    self._written_rows = 0
            if self.pending_rows == 0:
                self._oldest = None

    def _prune(self, writer: LaneWriter | None, end: Position) -> None:
        if writer is None:
            return
        try:
            writer.acknowledge(end)
        except OSError as error:
            # Rows may be sent again then, and stay one row each.
            self._refused(error)

    def _lane(self) -> LaneWriter:
        if self._writer is None:
            self._writer, self._group = self._lanes.begin()
        return self._writer

    def _refused(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            logger.error("the journal cannot be written: %s", error.strerror)

    def _write_waiting(self) -> None:
        """Bring what waits in memory onto the disk, as far as that takes it."""
        try:
            self._waiting.write(self._write)
        except OSError as error:
            self._refused(error)

    def _write(self, outcome: WaitingOutcome) -> None:
        rows = outcome.rows
        self._lane().append(OUTCOME, outcome.intent, len(rows), encode_rows(rows), outcome.written)
        self._written_rows += len(rows)

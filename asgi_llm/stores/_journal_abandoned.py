"""Lanes whose worker died: another one takes them over."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import msgspec

from asgi_llm.errors import StoreError
from asgi_llm.stores._journal_format import INTENT, OUTCOME, Damage, Record, decode_rows
from asgi_llm.stores._journal_lane import (
    Batch,
    Position,
    keep_damaged,
    lanes_of,
    load_position,
    lock_lane,
    read_batch,
    read_segment,
    remove_lane,
    save_position,
    segments_of,
)
from asgi_llm.stores.ledger import LedgerRow

__all__ = ["AbandonedLane", "take_over", "unknown_row"]

logger = logging.getLogger(__name__)


def unknown_row(row: LedgerRow) -> LedgerRow:
    """The row of an intent whose worker died before it could say what came of the call."""
    return msgspec.structs.replace(
        row,
        outcome="unknown_after_crash",
        usage=msgspec.structs.replace(row.usage, estimated=True),
        cost=msgspec.structs.replace(row.cost, estimated=True),
    )


def take_over(folder: Path) -> Iterator[AbandonedLane]:
    """The lanes of dead workers, one by one, locked; each is to be read, removed and closed.

    One that cannot be read is logged, and left for another time.

    Raises:
        StoreError: The folder cannot be read.
    """
    try:
        lanes = lanes_of(folder)
    except OSError as error:
        raise StoreError("The journal cannot be read.") from error
    for path in lanes:
        try:
            lock = lock_lane(path)
            if lock is None:
                continue
            try:
                lane = AbandonedLane(path, lock)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            logger.error("a lane of the journal cannot be read: %s", error.strerror)
            continue
        yield lane


_taken: weakref.WeakSet[AbandonedLane] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a child of who took lanes over: it would hold them when that one is done with them."""
    for lane in list(_taken):
        lane.leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)


class AbandonedLane:
    """A dead worker's lane, taken over: its lock is ours.

    Its rows are the outcomes behind the acknowledged position, and then a row for each intent that
    has no outcome.

    Args:
        path: The lane.
        lock: The descriptor that holds its lock; closed with the lane.

    Raises:
        OSError: It cannot be read.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        _taken.add(self)
        self._closing = threading.Lock()
        self._position = load_position(path)
        self._open: dict[str, tuple[int, int]] = {}
        self._damaged: set[int] = set()
        self._outcomes_done = False
        self._sent: list[str] = []
        self.pending_rows = 0
        """Rows that are not acknowledged."""
        self.oldest_written: float | None = None
        """Unix time at which the first of them was written."""
        self._survey()

    def _survey(self) -> None:
        """Find the intents without outcome, and count what is not acknowledged."""
        for number in segments_of(self.path):
            for found in read_segment(self.path, number, 0, None):
                if isinstance(found, Damage):
                    if found.inside:
                        self._damaged.add(number)
                elif found.kind == INTENT:
                    self._open[found.intent] = (number, found.start)
                elif found.kind == OUTCOME:
                    self._open.pop(found.intent, None)
                    if Position(number, found.start) >= self._position and found.rows:
                        self.pending_rows += found.rows
                        if self.oldest_written is None:
                            self.oldest_written = found.written
                        self._check(number, found)
        self.pending_rows += len(self._open)

    def _check(self, number: int, record: Record) -> None:
        """Note a segment that holds a record which this version cannot read."""
        try:
            decode_rows(record.data)
        except msgspec.DecodeError:
            self._damaged.add(number)
            self.pending_rows -= record.rows

    def read(self, max_rows: int) -> Batch | None:
        """The rows behind those acknowledged, or None: there are no more, ``remove`` the lane."""
        if not self._outcomes_done:
            batch = read_batch(self.path, self._position, None, max_rows)
            if batch.rows:
                return batch
            self._outcomes_done = True
        if not self._open:
            return None
        # A worker dies with as many as it had in flight.
        self._sent = list(self._open)[:max_rows]
        return Batch(self._unknown(self._sent), self._position, 0.0)

    def _unknown(self, intents: list[str]) -> list[LedgerRow]:
        rows: list[LedgerRow] = []
        for intent in intents:
            number, start = self._open[intent]
            record = next(read_segment(self.path, number, start, None), None)
            try:
                if isinstance(record, Record):
                    rows += map(unknown_row, decode_rows(record.data))
            except msgspec.DecodeError:
                self._damaged.add(number)
        return rows

    def rows(self) -> Iterator[LedgerRow]:
        """All rows that are not acknowledged; they stay so."""
        position = self._position
        while (batch := read_batch(self.path, position, None, 1000)).rows:
            yield from batch.rows
            position = batch.end
        yield from self._unknown(list(self._open))

    def acknowledge(self, batch: Batch) -> None:
        """The ledger has the rows of ``batch``, the last that was read."""
        if self._outcomes_done:
            self.pending_rows -= len(self._sent)
            for intent in self._sent:
                del self._open[intent]
            self._sent = []
            return
        self.pending_rows -= len(batch.rows)
        self._position = batch.end
        with contextlib.suppress(OSError):
            # Without the note the rows are given again, and stay one row each.
            save_position(self.path, batch.end)

    def remove(self) -> None:
        """Delete the lane, whose rows are all acknowledged, but for damaged segments."""
        for number in sorted(self._damaged):
            keep_damaged(self.path, number)
        remove_lane(self.path)
        self.close()

    def close(self) -> None:
        """Give the lock back. What is not acknowledged stays for the next to take over."""
        with self._closing:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def leave_to_parent(self) -> None:
        """After a fork: the lock is the parent's. Who held ``_closing`` there is not here."""
        self._closing = threading.Lock()
        self.close()

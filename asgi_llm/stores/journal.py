"""The journal on disk: what a worker is about to do and what came of it, before anyone is told.

A worker writes a lane of its own (see ``_journal_lane``). What it wrote is read back, given to the
ledger and acknowledged, by ``JournalShipper``; a lane whose worker died is taken over by another.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._clock import read_clock
from asgi_llm.stores._journal_abandoned import AbandonedLane, take_over
from asgi_llm.stores._journal_batch import JournalBatch
from asgi_llm.stores._journal_format import (
    INTENT,
    MAX_RECORD_BYTES,
    MAX_SHARED_BYTES,
    OUTCOME,
    decode_rows,
    encode_rows,
    short_rows,
)
from asgi_llm.stores._journal_options import LaneOptions
from asgi_llm.stores._journal_pending import PendingRows
from asgi_llm.stores._journal_short import ShortCall
from asgi_llm.stores._journal_waiting import WaitingOutcome
from asgi_llm.stores._journal_writer import Sync
from asgi_llm.stores._ledger_values import clean_row, fit_row_id
from asgi_llm.stores.ledger import LedgerRow

__all__ = ["FileJournal", "JournalBatch"]

logger = logging.getLogger(__name__)

_MOST_BYTES: Final = MAX_RECORD_BYTES - 1024

# How often this process has come out of a fork: to ask for its id would be a call into the kernel.
_forks = 0
_journals: weakref.WeakSet[FileJournal] = weakref.WeakSet()


def _note_fork() -> None:
    global _forks
    _forks += 1
    # At once: a child that never writes would hold the lane of a parent that is dead.
    for journal in list(_journals):
        journal._leave_to_parent()


os.register_at_fork(after_in_child=_note_fork)


class FileJournal(PendingRows):
    """Append-only segments of one worker process; ``intend`` and ``settle`` write at once.

    What each ``fsync`` survives: ``never`` and ``group`` the death of the process at any moment
    (the kernel has the bytes when a call returns), and ``group`` also the death of the machine but
    for the last ``fsync_interval_seconds``; ``always`` also that, at the price of one wait for the
    disk a call, during which the event loop stands still. The folder must be on a disk that
    outlives the process, local as a rule: locks are those of ``flock``.

    Nothing is opened before the first write. May be used from several threads; after a fork the
    child begins a lane of its own. POSIX only.

    Args:
        folder: Shared by all workers of the machine; made when it is missing (mode 0700).
        worker: How the lanes of this worker are named: 1 to 64 letters, digits, ``_`` and ``-``.
        max_segment_bytes: From 4096. The space of a whole segment is taken when it begins, so that
            the outcome of a call that was let through finds room when the disk is full.
        fsync: ``always``, ``group`` or ``never``, see above.
        fsync_interval_seconds: How long ``group`` gathers writes, above 0.
        on_full: What ``intend`` does when it cannot write: ``deny`` raises StoreError, ``allow``
            lets the call be made, of which nothing is known if the worker dies before its end.
        map_segments: Whether segments are written through memory, which takes no call into the
            kernel. False for a folder where the space of a file that was taken in advance can still
            be missing when it is written, which would end the process: a network or copy-on-write
            file system (NFS, ZFS, btrfs with compression). Where a file system refuses one of both
            they are written by ``pwrite`` in any case.
        max_unwritten_rows: Rows of outcomes that could not be written and wait in memory, from 1.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is out of range.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        worker: str = "worker",
        max_segment_bytes: int = 8 * 1024 * 1024,
        fsync: Sync = "group",
        fsync_interval_seconds: float = 0.05,
        on_full: Literal["deny", "allow"] = "deny",
        map_segments: bool = True,
        max_unwritten_rows: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        lanes = LaneOptions(
            folder=Path(folder),
            worker=worker,
            max_segment_bytes=max_segment_bytes,
            fsync=fsync,
            fsync_interval_seconds=fsync_interval_seconds,
            map_segments=map_segments,
        )
        lanes.check()
        if on_full not in ("deny", "allow"):
            raise ConfigurationError("on_full must be deny or allow", param="on_full")
        if max_unwritten_rows < 1:
            raise ConfigurationError(
                "max_unwritten_rows must be at least 1", param="max_unwritten_rows"
            )
        self.folder = lanes.folder
        self.on_full: Literal["deny", "allow"] = on_full
        """As given; may be changed."""
        self._listener: Callable[[], None] | None = None
        super().__init__(lanes, max_unwritten_rows, clock)
        _journals.add(self)

    def _begin(self) -> None:
        super()._begin()
        self._fork = _forks
        # Closed while calls are being made: the lane is given up with the last outcome.
        self._is_ending = False
        self.unwritten_intents = 0
        """Calls that were let through without an intent on disk."""

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Call ``listener`` after every ``settle``, in the caller's thread."""
        self._listener = listener

    def intend(self, row: LedgerRow) -> None:
        """Write the row of a call that is about to be made, with its estimate.

        Raises:
            StoreError: It cannot be written, and ``on_full`` is ``deny``.
        """
        self.intend_packed(fit_row_id(row.id), _packed([row]))

    def intend_packed(self, intent: str, row: bytes) -> None:
        """``intend`` for a row that is bytes already, of ``_journal_rows.join_rows``.

        Args:
            intent: The row's id, at most 64 characters.
            row: The row.

        Raises:
            StoreError: It cannot be written, and ``on_full`` is ``deny``.
            ValueError: It is too large.
        """
        if self._fork != _forks:
            self._leave_to_parent()
        with self._lock:
            self._is_ending = False
            try:
                writer = self._lane() if self._writer is None else self._writer
                writer.append(INTENT, intent, 0, row, read_clock(self._clock))
            except OSError as error:
                self._not_intended(error)
            else:
                self._failing = False

    def intend_short(self, call: ShortCall, head: bytes, ending: bytes) -> None:
        """``intend`` for a row of which little is its own.

        Args:
            call: That.
            head: What stands before it in the row, as ``join_rows`` has it.
            ending: What stands behind it.

        Raises:
            StoreError: It cannot be written, and ``on_full`` is ``deny``.
            ValueError: It is too large, or an id is no text.
            OverflowError: A number is too large.
        """
        if self.write_intent(call, head, ending):
            return
        if self._fork != _forks:
            self._leave_to_parent()
        if len(head) <= MAX_SHARED_BYTES and len(ending) <= MAX_SHARED_BYTES:
            with self._lock:
                self._is_ending = False
                try:
                    writer = self._lane() if self._writer is None else self._writer
                    writer.share(head, ending, True)
                    if writer.append_intent(call, head, ending):
                        self._failing = False
                        return
                except OSError as error:
                    self._not_intended(error)
                    return
        self.intend_packed(call.id, short_rows(call, head, ending))

    def write_intent(self, call: ShortCall, head: bytes, ending: bytes) -> bool:
        """``intend_short`` as it goes as a rule, where nothing has to be made first.

        Returns:
            False where nothing was done, and ``intend_short`` is to be called.
        """
        is_written = False
        self._lock.acquire()
        try:
            writer = self._writer
            if writer is not None and self._fork == _forks and not self._is_ending:
                is_written = writer.append_intent(call, head, ending)
                if is_written:
                    self._failing = False
        finally:
            self._lock.release()
        return is_written

    def _not_intended(self, error: OSError) -> None:
        self._refused(error)
        if self.on_full == "deny":
            raise StoreError("The journal cannot be written.") from error
        self.unwritten_intents += 1

    def settle(self, rows: Sequence[LedgerRow], *, intent: str) -> None:
        """Write what the call of that intent came to; no rows where it never reached a provider.

        Where the disk refuses, the rows wait in memory for the ledger or for the disk.

        Raises:
            StoreError: There are too many of those already; the rows are lost, and counted.
        """
        self.settle_packed(_packed(rows), len(rows), intent=fit_row_id(intent))

    def settle_packed(self, rows: bytes, count: int, *, intent: str) -> None:
        """``settle`` for rows that are bytes already, of ``_journal_rows.join_rows``.

        Args:
            rows: The rows.
            count: How many they are.
            intent: The intent's id, at most 64 characters.

        Raises:
            StoreError: As for ``settle``.
            ValueError: They are too large.
        """
        if self._fork != _forks:
            self._leave_to_parent()
        now = read_clock(self._clock)
        with self._lock:
            if self._waiting.count:
                self._write_waiting()
            try:
                writer = self._lane() if self._writer is None else self._writer
                writer.append(OUTCOME, intent, count, rows, now)
            except OSError as error:
                self._refused(error)
                self._waiting.add(WaitingOutcome(intent, decode_rows(rows), now), self._writer)
            else:
                self._failing = False
                self._written_rows += count
            if self._oldest is None and count:
                self._oldest = now
            if self._is_ending and self.open_intents == 0:
                self._give_up()
        if self._listener is not None:
            self._listener()

    def settle_short(self, call: ShortCall, head: bytes, ending: bytes) -> None:
        """``settle`` for one row of which little is its own.

        Args:
            call: As for ``intend_short``.
            head: As for ``intend_short``.
            ending: As for ``intend_short``.

        Raises:
            StoreError: As for ``settle``.
            ValueError: It is too large, or an id is no text.
            OverflowError: A number is too large.
        """
        if self.write_outcome(call, head, ending):
            return
        if self._fork != _forks:
            self._leave_to_parent()
        if len(head) <= MAX_SHARED_BYTES and len(ending) <= MAX_SHARED_BYTES:
            with self._lock, contextlib.suppress(OSError):
                # The disk that refuses is asked again by who can do without it.
                writer = self._lane() if self._writer is None else self._writer
                if not self._waiting.count:
                    writer.share(head, ending, False)
        if not self.write_outcome(call, head, ending):
            self.settle_packed(short_rows(call, head, ending), 1, intent=call.id)

    def write_outcome(self, call: ShortCall, head: bytes, ending: bytes) -> bool:
        """``settle_short`` as it goes as a rule, where nothing has to be made first.

        Returns:
            False where nothing was done, and ``settle_short`` is to be called.
        """
        is_written = False
        now = read_clock(self._clock)
        self._lock.acquire()
        try:
            writer = self._writer
            if (
                writer is not None
                and self._fork == _forks
                and not self._waiting.count
                and not self._is_ending
            ):
                is_written = writer.append_outcome(call, head, ending, now)
                if is_written:
                    self._failing = False
                    self._written_rows += 1
                    if self._oldest is None:
                        self._oldest = now
        finally:
            self._lock.release()
        if is_written and self._listener is not None:
            self._listener()
        return is_written

    def _leave_to_parent(self) -> None:
        """This is a child of the process that wrote: what that one wrote stays its own."""
        if self._writer is not None:
            self._writer.forget()
        self._begin()

    def take_over(self) -> Iterator[AbandonedLane]:
        """The lanes of dead workers, one by one, locked; each is to be read, removed and closed.

        One that cannot be read is logged, and left for another time.

        Raises:
            StoreError: The folder cannot be read.
        """
        return take_over(self.folder)

    def replay(self) -> Iterator[LedgerRow]:
        """The rows that dead workers left: settled ones, and intents as ``unknown_after_crash``.

        Nothing is acknowledged or deleted by it.

        Raises:
            StoreError: The disk cannot be read.
        """
        for lane in self.take_over():
            with contextlib.closing(lane):
                yield from lane.rows()

    def close(self) -> None:
        """Sync, and give the lane up; what is pending stays on disk for the next worker.

        While calls are being made the lane stays locked, and is given up with the last outcome: who
        took it over before would tell of them as unknown, and the ledger keeps what it is told
        first. A later call goes on in it; else it begins a new one.
        """
        with self._lock:
            if self._waiting.count:
                self._write_waiting()
            if self._writer is not None and self._writer.open_intents:
                self._is_ending = True
                try:
                    self._writer.sync()
                except OSError as error:
                    self._refused(error)
            else:
                self._give_up()
            if self._waiting.rows:
                logger.error("%d rows are in memory only", self._waiting.rows)

    def _give_up(self) -> None:
        writer, self._writer, self._group = self._writer, None, None
        self._written_rows = 0
        self._is_ending = False
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                self._refused(error)


def _packed(rows: Sequence[LedgerRow]) -> bytes:
    """The rows as bytes, in a form that fits a record."""
    try:
        packed = encode_rows(rows)
    except (ValueError, OverflowError):
        packed = b""
    if packed and len(packed) <= _MOST_BYTES:
        return packed
    return encode_rows([clean_row(row) for row in rows])

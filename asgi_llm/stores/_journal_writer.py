"""The writing end of a lane: segments of a fixed size."""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
from pathlib import Path
from typing import Final, Literal
from zlib import crc32

from asgi_llm.stores._journal_format import (
    END_RECORD,
    INTENT,
    MAGIC,
    MARKER,
    SHARED,
    SHORT_INTENT_BYTES,
    SHORT_OUTCOME_BYTES,
    SPAN_BYTES,
    Record,
    pack,
    pack_begin,
    pack_short_intent,
    pack_short_outcome,
    write_short_intent,
    write_short_outcome,
)
from asgi_llm.stores._journal_lane import (
    START,
    Position,
    create_lane,
    read_segment,
    remove_lane,
    save_position,
    segment_path,
)
from asgi_llm.stores._journal_sync import GroupSync

__all__ = ["LaneWriter", "Sync"]

logger = logging.getLogger(__name__)

Sync = Literal["always", "group", "never"]

# What a record of the long form has beside what stands before and behind what is its own.
_LONG_BYTES: Final = 192
_NO_PREALLOCATION: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class LaneWriter:
    """Appends records to a new lane, which it holds until it is closed.

    A segment that could not be written whole is cut to its last whole record and not used again.

    Args:
        folder: Where the lanes are.
        worker: How the lane's name begins.
        max_segment_bytes: The size of a segment; its space is taken when it begins.
        maps: Whether segments whose space was taken are written through a mapping of them; where
            each record is synced, that call into the kernel is the smaller one.
        sync: When records are brought onto the disk.
        group: The thread that does so for ``group``.

    Raises:
        OSError: The lane cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        worker: str,
        *,
        max_segment_bytes: int,
        maps: bool,
        sync: Sync,
        group: GroupSync | None,
    ) -> None:
        self._max_segment_bytes = max_segment_bytes
        self._half_segment = max_segment_bytes // 2
        self._maps = maps
        self._always = sync == "always"
        self._group = group
        self._file = -1
        self._map: mmap.mmap | None = None
        self._capacity = -1
        self.acknowledged = START
        """Up to where the ledger has the rows."""
        self._number, self._offset = START
        self._first = 1
        self._reserved = 0
        # What rows share, by where it stands in this segment; for records that begin before the
        # end of the span.
        self._shared: dict[bytes, int] = {}
        self._span_end = 0
        # By intent: its segment, offset, and the room that is kept for its outcome.
        self._open: dict[str, tuple[int, int, int]] = {}
        # Intents whose outcome the ledger has, though the disk did not take it: their segments.
        self._told: dict[str, int] = {}
        self._sync = sync
        self.path, self._lock = create_lane(folder, worker)
        if sync != "never":
            _sync_folder(folder)

    @property
    def end(self) -> Position:
        """Behind the last whole record."""
        return Position(self._number, self._offset)

    @property
    def open_intents(self) -> int:
        """Intents without an outcome."""
        return len(self._open)

    def is_open(self, intent: str) -> bool:
        """Whether the intent is on disk, and has no outcome there."""
        return intent in self._open or intent in self._told

    def note_told(self, intent: str) -> None:
        """The ledger has the outcome of an intent: it need not be carried on."""
        if (found := self._open.pop(intent, None)) is not None:
            self._reserved -= found[2]
            self._told[intent] = found[0]

    def append(self, kind: int, intent: str, count: int, rows: bytes, written: float) -> None:
        """Write an intent, and keep room for its outcome, or what came of one.

        Args:
            kind: ``INTENT`` or ``OUTCOME``.
            intent: The intent's id.
            count: How many rows an outcome has.
            rows: The rows.
            written: Unix time in seconds.

        Raises:
            OSError: It is not written.
            ValueError: It is too large.
        """
        record = pack(kind, intent, count, rows, written)
        length = len(record)
        if kind != INTENT:
            self._append(record, 0)
            self._close(intent)
            return
        room = 2 * length + 512
        self._append(record, self._keep(room))
        self._reserved += room
        self._open[intent] = (self._number, self._offset - length, room)

    def append_intent(
        self,
        intent: str,
        ids: bytes,
        at: int,
        streamed: bool,
        tokens_in: int,
        head: bytes,
        ending: bytes,
    ) -> None:
        """``append`` for an intent as all have it, of which only what is its own is written.

        Args:
            intent: Its id.
            ids: The same and that of the request, of ``pack_ids``.
            at: When it began, in microseconds of Unix time.
            streamed: As in ``LedgerRow``.
            tokens_in: As counted.
            head: What stands before what is the row's own; at most ``MAX_SHARED_BYTES``.
            ending: What stands behind it; the same.

        Raises:
            OSError: It is not written.
            struct.error: A number is too large.
        """
        room = 2 * (len(head) + len(ending) + _LONG_BYTES) + 512
        keep = self._keep(room)
        shared = self._shared
        to_head, to_ending = shared.get(head), shared.get(ending)
        offset = self._offset
        end = offset + SHORT_INTENT_BYTES
        if (
            to_head is None
            or to_ending is None
            or offset >= self._span_end
            or end + keep > self._capacity
        ):
            self._share(head, ending, SHORT_INTENT_BYTES + keep)
            to_head, to_ending = shared[head], shared[ending]
            offset = self._offset
            end = offset + SHORT_INTENT_BYTES
        record = pack_short_intent(
            offset - to_head, offset - to_ending, at, streamed, tokens_in, ids
        )
        if self._map is not None:
            # The kernel has the bytes as soon as they are copied, without being called.
            write_short_intent(self._map, offset, MARKER, crc32(record), record)
        else:
            self._write(pack_begin(MARKER, crc32(record)) + record)
        self._offset = end
        self._reserved += room
        self._open[intent] = (self._number, offset, room)
        if self._group is not None and self._group.is_due:
            self._note_written(self._group)

    def append_outcome(
        self,
        intent: str,
        ids: bytes,
        at: int,
        streamed: bool,
        tokens_in: int,
        tokens_out: int,
        latency_seconds: float,
        first_seconds: float | None,
        written: float,
        head: bytes,
        ending: bytes,
    ) -> None:
        """``append`` for an outcome of one row, of which only what is its own is written.

        Args:
            intent: The intent's id.
            ids: As for ``append_intent``.
            at: As for ``append_intent``.
            streamed: As for ``append_intent``.
            tokens_in: Tokens of text that went in.
            tokens_out: Tokens of text that came out.
            latency_seconds: As in ``LedgerRow``.
            first_seconds: Until the first token.
            written: Unix time in seconds.
            head: As for ``append_intent``.
            ending: As for ``append_intent``.

        Raises:
            OSError: It is not written.
            struct.error: A number is too large, or none.
        """
        shared = self._shared
        to_head, to_ending = shared.get(head), shared.get(ending)
        offset = self._offset
        end = offset + SHORT_OUTCOME_BYTES
        if to_head is None or to_ending is None or offset >= self._span_end or end > self._capacity:
            self._share(head, ending, SHORT_OUTCOME_BYTES)
            to_head, to_ending = shared[head], shared[ending]
            offset = self._offset
            end = offset + SHORT_OUTCOME_BYTES
        record = pack_short_outcome(
            offset - to_head,
            offset - to_ending,
            at,
            streamed,
            tokens_in,
            tokens_out,
            latency_seconds,
            first_seconds,
            written,
            ids,
        )
        if self._map is not None:
            write_short_outcome(self._map, offset, MARKER, crc32(record), record)
        else:
            self._write(pack_begin(MARKER, crc32(record)) + record)
        self._offset = end
        self._close(intent)
        if self._group is not None and self._group.is_due:
            self._note_written(self._group)

    def _keep(self, room: int) -> int:
        """How much is to stay free, with ``room`` for one more outcome."""
        keep = self._reserved + room
        # Beyond that nothing more is kept: then every intent would begin a new segment.
        return keep if keep < self._half_segment else self._half_segment

    def _close(self, intent: str) -> None:
        """The outcome of an intent is written."""
        if self._told:
            self._told.pop(intent, None)
        found = self._open.pop(intent, None)
        if found is not None:
            self._reserved -= found[2]

    def _share(self, head: bytes, ending: bytes, needed: int) -> None:
        """Find a place for ``needed`` bytes, behind records of what is shared in them.

        These are no news to the group: the record that names them is.
        """
        if self._offset >= self._span_end:
            self._begin_span()
        records = [
            (text, pack(SHARED, "", 0, text, 0.0))
            for text in {head: None, ending: None}
            if text not in self._shared
        ]
        if self._offset + sum([len(record) for _, record in records]) + needed > self._capacity:
            records = [(text, pack(SHARED, "", 0, text, 0.0)) for text in (head, ending)]
            self._begin_segment(sum([len(record) for _, record in records]) + needed)
        for text, record in records:
            start = self._offset
            self._put(record)
            self._shared[text] = start

    def _begin_span(self) -> None:
        """What was shared up to here is written anew where it is wanted."""
        self._shared.clear()
        self._span_end = self._offset + SPAN_BYTES

    def _append(self, record: bytes, keep: int) -> None:
        if self._offset + len(record) + keep > self._capacity:
            self._begin_segment(len(record) + keep)
        self._put(record)
        if self._group is not None and self._group.is_due:
            self._note_written(self._group)

    def _put(self, record: bytes) -> None:
        """Write a record for which there is room."""
        end = self._offset + len(record)
        if self._map is not None:
            self._map[self._offset : end] = record
        else:
            self._write(record)
        self._offset = end

    def _note_written(self, group: GroupSync) -> None:
        if not group.wrote():
            self._leave_segment(whole=False)

    def _write(self, record: bytes) -> None:
        try:
            _write(self._file, record, self._offset)
            if self._always:
                os.fdatasync(self._file)
        except OSError:
            self._leave_segment(whole=False)
            raise

    def _begin_segment(self, needed: int) -> None:
        """Go on in a new segment. The old one stays in use if there can be none."""
        number = self._number + 1
        if not self._open and self.acknowledged >= self.end and self._file >= 0:
            # Nothing in the old one is wanted: its space may be all that there is.
            old = segment_path(self.path, self._number)
            self._leave_segment(whole=True)
            # At once, also where the syncing thread still has it open.
            os.truncate(old, 0)
            old.unlink()
            self._first = number
            self._told.clear()
        path = segment_path(self.path, number)
        size = max(self._max_segment_bytes, len(MAGIC) + needed + len(END_RECORD))
        file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        mapped = None
        try:
            is_taken = True
            try:
                os.posix_fallocate(file, 0, size)
            except OSError as error:
                if error.errno not in _NO_PREALLOCATION:
                    raise
                is_taken = False
            _write(file, MAGIC, 0)
            if self._maps and is_taken and not self._always:
                mapped = _mapped(file, size)
            if self._always:
                os.fsync(file)
                _sync_folder(self.path)
        except OSError:
            if mapped is not None:
                mapped.close()
            os.close(file)
            path.unlink()
            raise
        self._leave_segment(whole=True)
        self._file, self._map = file, mapped
        self._capacity = size - len(END_RECORD)
        self._number, self._offset = number, len(MAGIC)
        self._begin_span()
        if self._group is not None:
            self._group.adopt(file, self.path)

    def _leave_segment(self, *, whole: bool) -> None:
        """Cut the segment to its last whole record, and close it."""
        file, self._file = self._file, -1
        if file < 0:
            return
        # Nothing fits any more.
        self._capacity = -1
        self._shared.clear()
        if self._map is not None:
            # Before the file is cut: to touch what is behind its end would be the process' end.
            self._map.close()
            self._map = None
        offset = self._offset
        with contextlib.suppress(OSError):
            # What stays behind the last whole record is no record, and is read as none.
            if whole:
                _write(file, END_RECORD, offset)
                offset += len(END_RECORD)
            os.ftruncate(file, offset)
        if self._group is not None:
            self._group.retire()
        else:
            os.close(file)

    def acknowledge(self, position: Position) -> None:
        """The ledger has all rows before ``position``; segments that are done with are deleted.

        Raises:
            OSError: The disk refused; no row is lost by it.
        """
        if position > self.acknowledged:
            self.acknowledged = position
            with contextlib.suppress(OSError):
                # Without the note rows are given again after a death, and stay one row each.
                save_position(self.path, position)
        while self._first < self.acknowledged.segment:
            self._carry(self._first)
            with contextlib.suppress(FileNotFoundError):
                segment_path(self.path, self._first).unlink()
            gone = [intent for intent, number in self._told.items() if number <= self._first]
            for intent in gone:
                del self._told[intent]
            self._first += 1

    def _carry(self, number: int) -> None:
        """Write the open intents of a segment once more, so that it can be deleted.

        Else a single call that takes hours would keep all segments behind its intent.
        """
        mine = [(intent, at) for intent, at in self._open.items() if at[0] == number]
        if not mine:
            return
        for intent, (_, offset, room) in mine:
            found = next(read_segment(self.path, number, offset, None), None)
            if not isinstance(found, Record) or found.start != offset:
                logger.error("the intent of a call that is being made cannot be read again")
                continue
            record = pack(INTENT, intent, 0, found.data, found.written)
            self._append(record, 0)
            self._open[intent] = (self._number, self._offset - len(record), room)
        if self._sync == "group" and self._file >= 0:
            # Before the only copy that is known to be on the disk is deleted.
            os.fdatasync(self._file)

    def close(self) -> None:
        """Give the lane up. It is deleted if nothing in it is left to be told."""
        self._leave_segment(whole=True)
        if self._group is not None:
            self._group.close()
        try:
            if not self._open and not self._told and self.acknowledged >= self.end:
                remove_lane(self.path)
        finally:
            os.close(self._lock)

    def forget(self) -> None:
        """After a fork: close what the parent goes on to use, and leave its lane alone."""
        if self._map is not None:
            self._map.close()
        for file in (self._file, self._lock):
            if file >= 0:
                os.close(file)


def _mapped(file: int, size: int) -> mmap.mmap | None:
    """The file in memory; None where its file system has no such thing."""
    try:
        return mmap.mmap(file, size)
    except (OSError, ValueError):
        return None


def _write(file: int, data: bytes, offset: int) -> None:
    written = os.pwrite(file, data, offset)
    while written < len(data):
        written += os.pwrite(file, data[written:], offset + written)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)

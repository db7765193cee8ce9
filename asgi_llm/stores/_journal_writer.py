"""The writing end of a lane: segments of a fixed size, one after the other."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from asgi_llm.stores._journal_format import END_RECORD, INTENT, MAGIC, Record, pack
from asgi_llm.stores._journal_lane import (
    START,
    Position,
    create_lane,
    keep_damaged,
    read_segment,
    remove_lane,
    save_position,
    segment_path,
)
from asgi_llm.stores._journal_segment import Segment, sync_folder
from asgi_llm.stores._journal_short import (
    SHORT_INTENT_BYTES,
    SHORT_OUTCOME_BYTES,
    ShortCall,
    new_call,
)
from asgi_llm.stores._journal_sync import GroupSync

__all__ = ["LaneWriter", "Sync"]

logger = logging.getLogger(__name__)

Sync = Literal["always", "group", "never"]

# What a record of the long form has beside what stands before and behind what is its own, and what
# its outcome may have beside twice as much as an intent.
_long_bytes = 192
_more_bytes = 512


class LaneWriter:
    """Appends records to a new lane, which it holds until it is closed.

    A segment that could not be written whole is cut to its last whole record and not used again.

    Args:
        folder: Where the lanes are.
        worker: How the lane's name begins.
        max_segment_bytes: The size of a segment; its space is taken when it begins.
        maps: Whether segments whose space was taken are written through a mapping of them.
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
        self._group = group
        self._segment: Segment | None = None
        self.acknowledged = START
        """Up to where the ledger has the rows."""
        self._first = 1
        self._reserved = 0
        self._open: dict[str, ShortCall] = {}
        # Intents whose outcome the ledger has, though the disk did not take it: their segments.
        self._told: dict[str, int] = {}
        self._damaged: set[int] = set()
        self._sync = sync
        self.path, self._lock = create_lane(folder, worker)
        try:
            if sync != "never":
                sync_folder(folder)
        except OSError:
            # It is empty, and nobody could take it over.
            try:
                remove_lane(self.path)
            finally:
                os.close(self._lock)
            raise

    @property
    def end(self) -> Position:
        """Behind the last whole record."""
        segment = self._segment
        return START if segment is None else Position(segment.number, segment.offset)

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
            self._reserved -= found.room
            self._told[intent] = found.segment

    def note_damaged(self, numbers: Iterable[int]) -> None:
        """Keep these segments for people, when they are done with."""
        self._damaged.update(numbers)

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
        if kind != INTENT:
            self._append(record, 0)
            self._close(intent)
            return
        call = new_call(intent, "", 0, False, 0)
        call.room = 2 * len(record) + _more_bytes
        self._append(record, self._keep(call.room))
        self._reserved += call.room
        self._open[intent] = call
        self._note_place(call, len(record))

    def append_intent(self, call: ShortCall, head: bytes, ending: bytes) -> bool:
        """``append`` for an intent as all have it, of which only what is its own is written.

        Args:
            call: That.
            head: What stands before it in its row.
            ending: What stands behind it.

        Returns:
            False where nothing was written: no short record holds it, ``share`` has not made a
            place for it, or the disk refused, which it will tell ``share`` as well.
        """
        segment = self._segment
        if segment is None:
            return False
        room = 2 * (len(head) + len(ending) + _long_bytes) + _more_bytes
        call.offset = segment.offset
        if not segment.put_intent(call, head, ending, self._keep(room)):
            return False
        call.segment = segment.number
        call.room = room
        self._reserved += room
        self._open[call.id] = call
        if self._group is not None and self._group.is_due:
            self._note_written(segment, self._group)
        return True

    def append_outcome(self, call: ShortCall, head: bytes, ending: bytes, written: float) -> bool:
        """``append`` for an outcome of one row, of which only what is its own is written.

        Args:
            call: As for ``append_intent``.
            head: As for ``append_intent``.
            ending: As for ``append_intent``.
            written: Unix time in seconds.

        Returns:
            As for ``append_intent``.
        """
        segment = self._segment
        if segment is None or not segment.put_outcome(call, head, ending, written):
            return False
        self._close(call.id)
        if self._group is not None and self._group.is_due:
            self._note_written(segment, self._group)
        return True

    def share(self, head: bytes, ending: bytes, is_intent: bool) -> None:
        """Make a place for a short record, behind what it shares with others.

        Args:
            head: As for ``append_intent``; at most ``MAX_SHARED_BYTES``.
            ending: The same.
            is_intent: Whether it is an intent, or else an outcome.

        Raises:
            OSError: There is none.
        """
        needed = SHORT_OUTCOME_BYTES
        if is_intent:
            long = 2 * (len(head) + len(ending) + _long_bytes) + _more_bytes
            needed = SHORT_INTENT_BYTES + self._keep(long)
        segment = self._segment
        if segment is None or not segment.share(head, ending, needed):
            both = sum([len(pack(INTENT, "", 0, text, 0.0)) for text in (head, ending)])
            self._begin_segment(both + needed).share(head, ending, needed)

    def _keep(self, room: int) -> int:
        """How much is to stay free, with ``room`` for one more outcome."""
        keep = self._reserved + room
        # Beyond that nothing more is kept: then every intent would begin a new segment.
        return keep if keep < self._half_segment else self._half_segment

    def _close(self, intent: str) -> None:
        """The outcome of an intent is written."""
        if self._told:
            self._told.pop(intent, None)
        call = self._open.pop(intent, None)
        if call is not None:
            self._reserved -= call.room

    def _append(self, record: bytes, keep: int) -> None:
        segment = self._segment
        if segment is None or not segment.has_room(len(record) + keep):
            segment = self._begin_segment(len(record) + keep)
        segment.put(record)
        if self._group is not None and self._group.is_due:
            self._note_written(segment, self._group)

    def _note_place(self, call: ShortCall, length: int) -> None:
        """The record of an intent is the last that was written."""
        if self._segment is not None:
            call.segment = self._segment.number
            call.offset = self._segment.offset - length

    def _note_written(self, segment: Segment, group: GroupSync) -> None:
        if not group.wrote():
            segment.leave(whole=False)

    def _begin_segment(self, needed: int) -> Segment:
        """Go on in a new segment. The old one stays in use if there can be none."""
        old = self._segment
        number = old.number + 1 if old is not None else 1
        if (
            old is not None
            and old.is_used
            and not self._open
            and self.acknowledged >= self.end
            and old.number not in self._damaged
        ):
            # Nothing in the old one is wanted: its space may be all that there is.
            path = segment_path(self.path, old.number)
            old.leave(whole=True)
            # At once, also where the syncing thread still has it open.
            os.truncate(path, 0)
            path.unlink()
            self._first = number
            self._told.clear()
        size = max(self._max_segment_bytes, len(MAGIC) + needed + len(END_RECORD))
        new = Segment(
            self.path,
            number,
            size,
            maps=self._maps,
            always=self._sync == "always",
            group=self._group,
        )
        if old is not None:
            old.leave(whole=True)
        self._segment = new
        new.begin(self.path)
        return new

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
            if self._first in self._damaged:
                keep_damaged(self.path, self._first)
                self._damaged.discard(self._first)
            else:
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
        mine = [(intent, call) for intent, call in self._open.items() if call.segment == number]
        if not mine:
            return
        places = [(call, call.offset) for _, call in mine]
        for intent, call in mine:
            found = next(read_segment(self.path, number, call.offset, None), None)
            if not isinstance(found, Record) or found.start != call.offset:
                logger.error("the intent of a call that is being made cannot be read again")
                continue
            record = pack(INTENT, intent, 0, found.data, found.written)
            self._append(record, 0)
            self._note_place(call, len(record))
        try:
            # Before the only copy that is known to be on the disk is deleted.
            self.sync()
        except OSError:
            # To sync again would prove nothing: they are carried once more, into another segment.
            for call, offset in places:
                call.segment, call.offset = number, offset
            if self._segment is not None:
                self._segment.leave(whole=False)
            raise

    def sync(self) -> None:
        """Bring onto the disk at once what the group would bring there in a moment.

        Raises:
            OSError: The disk refuses.
        """
        if self._sync == "group" and self._segment is not None:
            self._segment.sync()

    def close(self) -> None:
        """Give the lane up. It is deleted if nothing in it is left to be told."""
        if self._segment is not None:
            self._segment.leave(whole=True)
        if self._group is not None:
            self._group.close()
        try:
            if not self._open and not self._told and self.acknowledged >= self.end:
                for number in sorted(self._damaged):
                    keep_damaged(self.path, number)
                remove_lane(self.path)
        finally:
            os.close(self._lock)

    def forget(self) -> None:
        """After a fork: close what the parent goes on to use, and leave its lane alone."""
        if self._segment is not None:
            self._segment.forget()
        os.close(self._lock)

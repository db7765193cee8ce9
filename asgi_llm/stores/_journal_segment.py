"""A segment of a lane as it is written: one file, whose space is taken when it begins."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from pathlib import Path
from typing import Final

from asgi_llm.stores._journal_format import END_RECORD, MAGIC, SHARED, SPAN_BYTES, pack
from asgi_llm.stores._journal_lane import segment_path
from asgi_llm.stores._journal_short import (
    SHORT_INTENT_BYTES,
    SHORT_OUTCOME_BYTES,
    RecordBuffer,
    ShortCall,
)
from asgi_llm.stores._journal_sync import GroupSync

__all__ = ["Segment", "sync_folder"]

# Known to C as they are.
_intent_bytes = SHORT_INTENT_BYTES
_outcome_bytes = SHORT_OUTCOME_BYTES
_NO_PREALLOCATION: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Segment:
    """Takes records until it is full, or until one could not be written whole.

    Then it is cut to its last whole record and takes no more.

    Args:
        lane: Its folder.
        number: Its own in it.
        size: In bytes.
        maps: Whether it is written through a mapping of it, if its space was taken.
        always: Whether each record is brought onto the disk before anything else.
        group: Who else does that; may be None.

    Attributes:
        number: As given.
        offset: Behind the last whole record.

    Raises:
        OSError: It cannot be made.
    """

    __slots__ = (
        "_always",
        "_bytes",
        "_capacity",
        "_file",
        "_group",
        "_map",
        "_record",
        "_shared",
        "_span_end",
        "number",
        "offset",
    )

    def __init__(
        self,
        lane: Path,
        number: int,
        size: int,
        *,
        maps: bool,
        always: bool,
        group: GroupSync | None,
    ) -> None:
        self.number = number
        self._always = always
        self._group = group
        self._map: mmap.mmap | None = None
        path = segment_path(lane, number)
        self._file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        try:
            is_taken = True
            try:
                os.posix_fallocate(self._file, 0, size)
            except OSError as error:
                if error.errno not in _NO_PREALLOCATION:
                    raise
                is_taken = False
            _write(self._file, MAGIC, 0)
            if always:
                os.fsync(self._file)
                sync_folder(lane)
            elif maps and is_taken:
                # Where each record is synced, to call the kernel for it as well is the least of it.
                self._map = _mapped(self._file, size)
        except OSError:
            os.close(self._file)
            path.unlink()
            raise
        # Where nothing is mapped, a short record is made here and written from here.
        self._record = bytearray(0 if self._map is not None else SHORT_OUTCOME_BYTES)
        self._bytes = RecordBuffer(self._record if self._map is None else self._map)
        self._capacity = size - len(END_RECORD)
        self.offset = len(MAGIC)
        # What rows share, by where it stands; for records that begin before the end of the span.
        self._shared: dict[bytes, int] = {}
        self._span_end = self.offset + SPAN_BYTES

    def begin(self, lane: Path) -> None:
        """Have the group sync it from now on; the one before it was left."""
        if self._group is not None:
            self._group.adopt(self._file, lane)

    @property
    def is_used(self) -> bool:
        """Whether it has not been left."""
        return self._file >= 0

    def has_room(self, needed: int) -> bool:
        """Whether so many bytes still fit."""
        return self.offset + needed <= self._capacity

    def put(self, record: bytes) -> None:
        """Write a record for which there is room.

        Raises:
            OSError: It is not written.
        """
        end = self.offset + len(record)
        if self._map is not None:
            # The kernel has the bytes as soon as they are copied, without being called.
            self._map[self.offset : end] = record
        else:
            self._write(record)
        self.offset = end

    def put_intent(self, call: ShortCall, head: bytes, ending: bytes, keep: int) -> bool:
        """Write the short intent of a call.

        Args:
            call: What it has for its own.
            head: What stands before that in its row.
            ending: What stands behind it.
            keep: How many bytes are to stay free.

        Returns:
            False where nothing was written: no short record holds it, ``share`` has not made a
            place for it, or the disk refused; then the segment was left.
        """
        to_head, to_ending = self._shared.get(head), self._shared.get(ending)
        offset = self.offset
        end = offset + _intent_bytes
        if to_head is None or to_ending is None:
            return False
        if offset >= self._span_end or end + keep > self._capacity:
            return False
        head_at, ending_at = to_head, to_ending
        place = offset if self._map is not None else 0
        if not self._bytes.put_intent(place, offset - head_at, offset - ending_at, call):
            return False
        if self._map is None and not self._write_made(_intent_bytes):
            return False
        self.offset = end
        return True

    def put_outcome(self, call: ShortCall, head: bytes, ending: bytes, written: float) -> bool:
        """Write a short record of what came of a call.

        Args:
            call: As for ``put_intent``.
            head: As for ``put_intent``.
            ending: As for ``put_intent``.
            written: Unix time in seconds.

        Returns:
            As for ``put_intent``.
        """
        to_head, to_ending = self._shared.get(head), self._shared.get(ending)
        offset = self.offset
        end = offset + _outcome_bytes
        if to_head is None or to_ending is None:
            return False
        if offset >= self._span_end or end > self._capacity:
            return False
        head_at, ending_at = to_head, to_ending
        place = offset if self._map is not None else 0
        if not self._bytes.put_outcome(place, offset - head_at, offset - ending_at, call, written):
            return False
        if self._map is None and not self._write_made(_outcome_bytes):
            return False
        self.offset = end
        return True

    def share(self, head: bytes, ending: bytes, needed: int) -> bool:
        """See to it that rows can name what they share, and that there is room behind it.

        It is no news to the group: the record that names it is.

        Args:
            head: What stands before what is a row's own.
            ending: What stands behind it.
            needed: For the record, and what is to stay free.

        Returns:
            False where there is no room; nothing was written then.

        Raises:
            OSError: It is not written.
        """
        shared = self._shared
        records = [
            (text, pack(SHARED, "", 0, text, 0.0))
            for text in {head: None, ending: None}
            if text not in shared
        ]
        total = sum([len(record) for _, record in records])
        if self.offset + total >= self._span_end:
            # What was shared up to here is written anew where it is wanted.
            shared.clear()
            self._span_end = self.offset + SPAN_BYTES
            records = [
                (text, pack(SHARED, "", 0, text, 0.0)) for text in {head: None, ending: None}
            ]
            total = sum([len(record) for _, record in records])
        if not self.has_room(total + needed):
            return False
        for text, record in records:
            start = self.offset
            self.put(record)
            shared[text] = start
        return True

    def _write_made(self, length: int) -> bool:
        """Write the short record that was made where nothing is mapped."""
        try:
            self._write(bytes(self._record[:length]))
        except OSError:
            return False
        return True

    def _write(self, record: bytes) -> None:
        try:
            _write(self._file, record, self.offset)
            if self._always:
                os.fdatasync(self._file)
        except OSError:
            self.leave(whole=False)
            raise

    def sync(self) -> None:
        """Bring onto the disk what was written.

        Raises:
            OSError: The disk refuses.
        """
        if self._file >= 0:
            os.fdatasync(self._file)

    def leave(self, *, whole: bool) -> None:
        """Cut it to its last whole record, and close it; nothing fits any more.

        Args:
            whole: Whether to say that it ends here, as one that was written well does.
        """
        file, self._file = self._file, -1
        if file < 0:
            return
        self._capacity = -1
        self._shared.clear()
        self._unmap()
        offset = self.offset
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

    def _unmap(self) -> None:
        """Before the file is cut: to touch what is behind its end would be the process' end."""
        self._bytes.release()
        if self._map is not None:
            self._map.close()
            self._map = None

    def forget(self) -> None:
        """After a fork: close what the parent goes on to use."""
        self._unmap()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


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


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder onto the disk.

    Raises:
        OSError: The disk refuses.
    """
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)

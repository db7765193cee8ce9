"""A lane: the folder of one worker's segments, and how it is read, acknowledged and removed.

::

    folder/
      web.1234.9f86d081/           one run of one worker
        lock                       held by flock as long as that worker lives
        position                   up to where the ledger has acknowledged
        00000001.journal           segments
      damaged/                     segments with bytes that are no record, kept for people
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from asgi_llm.stores._journal_format import (
    OUTCOME,
    Damage,
    Record,
    decode_rows,
    scan,
)
from asgi_llm.stores.ledger import LedgerRow

__all__ = [
    "START",
    "Batch",
    "Position",
    "create_lane",
    "keep_damaged",
    "lanes_of",
    "load_position",
    "lock_lane",
    "read_batch",
    "read_segment",
    "remove_lane",
    "save_position",
    "segment_path",
    "segments_of",
]

logger = logging.getLogger(__name__)

SUFFIX: Final = ".journal"
LOCK: Final = "lock"
POSITION: Final = "position"
DAMAGED: Final = "damaged"
_NEW: Final = ".new-"
_DONE: Final = ".done-"
_MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
_SAVED: Final = struct.Struct("<QQI")


class Position(NamedTuple):
    """A place in a lane: all records before it are done with."""

    segment: int
    offset: int


START: Final = Position(0, 0)


class Batch(NamedTuple):
    """Rows of a lane, in the order in which they were written, up to a position."""

    rows: list[LedgerRow]
    end: Position
    written: float
    """Unix time at which the first of the rows was written."""
    damaged: frozenset[int] = frozenset()
    """Segments with bytes that are no record, or with a record that cannot be decoded."""


def segment_path(lane: Path, number: int) -> Path:
    """The file of a segment, which need not exist."""
    return lane / f"{number:08d}{SUFFIX}"


def segments_of(lane: Path) -> list[int]:
    """The numbers of the segments that exist, in order."""
    return sorted(
        int(path.name.removesuffix(SUFFIX))
        for path in lane.iterdir()
        if path.name.endswith(SUFFIX) and path.name.removesuffix(SUFFIX).isdigit()
    )


def create_lane(folder: Path, worker: str) -> tuple[Path, int]:
    """A new lane and the descriptor that holds its lock.

    It gets its name when it is locked, so that nobody takes it for an abandoned one before.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{worker}.{os.getpid()}.{secrets.token_hex(8)}"
    hidden = folder / f"{_NEW}{name}"
    hidden.mkdir(mode=0o700)
    lock = -1
    try:
        lock = os.open(hidden / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Written over later, which takes no space of a disk that is full by then.
        save_position(hidden, START)
        hidden.rename(folder / name)
    except OSError:
        if lock >= 0:
            os.close(lock)
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return folder / name, lock


def lock_lane(lane: Path) -> int | None:
    """The descriptor of its lock, if nobody holds it and it still is there."""
    try:
        lock = os.open(lane / LOCK, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_nlink > 0:
            return lock
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(lock)
            raise
    os.close(lock)
    return None


def lanes_of(folder: Path) -> list[Path]:
    """Every lane of the folder, live or not: a lock tells which is which.

    What a worker left that died while it removed a lane is removed.
    """
    if not folder.is_dir():
        return []
    entries = sorted(folder.iterdir())
    for path in entries:
        if path.name.startswith(_DONE):
            shutil.rmtree(path, ignore_errors=True)
    return [
        path
        for path in entries
        if path.name != DAMAGED and not path.name.startswith(".") and (path / LOCK).exists()
    ]


def remove_lane(lane: Path) -> None:
    """Delete a lane whose lock is ours. For all others it is gone at once, and whole."""
    done = lane.with_name(f"{_DONE}{lane.name}")
    lane.rename(done)
    # What stays is removed by ``lanes_of``.
    shutil.rmtree(done, ignore_errors=True)


def keep_damaged(lane: Path, number: int) -> None:
    """Put a segment aside for people, where it outlives its lane.

    Raises:
        OSError: The disk refuses.
    """
    kept = lane.parent / DAMAGED
    kept.mkdir(mode=0o700, exist_ok=True)
    segment = segment_path(lane, number)
    name = f"{lane.name}.{segment.name}"
    with contextlib.suppress(FileNotFoundError):
        segment.rename(kept / name)
    logger.error("a segment of the journal is damaged or unreadable; kept as %s", name)


def save_position(lane: Path, position: Position) -> None:
    """Note how far the lane is acknowledged. A torn note reads as none: rows are sent again."""
    packed = struct.pack("<QQ", *position)
    file = os.open(lane / POSITION, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.pwrite(file, packed + struct.pack("<I", zlib.crc32(packed)), 0)
    finally:
        os.close(file)


def load_position(lane: Path) -> Position:
    """What ``save_position`` noted, or the start."""
    try:
        noted = (lane / POSITION).read_bytes()
        segment, offset, check = _SAVED.unpack(noted[: _SAVED.size])
    except (FileNotFoundError, struct.error):
        return START
    return Position(segment, offset) if zlib.crc32(noted[:16]) == check else START


def read_segment(lane: Path, number: int, start: int, end: int | None) -> Iterator[Record | Damage]:
    """What a segment holds from ``start`` to ``end``, or to the end of the file."""
    file = os.open(segment_path(lane, number), os.O_RDONLY)
    try:
        size = os.fstat(file).st_size
        yield from scan(file, start, size if end is None else min(end, size))
    finally:
        os.close(file)


def read_batch(lane: Path, position: Position, end: Position | None, max_rows: int) -> Batch:
    """The outcomes behind ``position`` and before ``end``: about ``max_rows``, or 4 MiB of them.

    The batch may be empty and yet end behind ``position``. What cannot be read is passed over, and
    its segment is named.
    """
    rows: list[LedgerRow] = []
    damaged: set[int] = set()
    written = 0.0
    read_bytes = 0
    for number in segments_of(lane):
        if number < position.segment or (end is not None and number > end.segment):
            continue
        last = end.offset if end is not None and number == end.segment else None
        start = position.offset if number == position.segment else 0
        for record in read_segment(lane, number, start, last):
            if isinstance(record, Damage):
                if record.inside or end is not None:
                    damaged.add(number)
                continue
            if record.kind == OUTCOME and record.rows:
                if rows and len(rows) + record.rows > max_rows:
                    return Batch(rows, position, written, frozenset(damaged))
                try:
                    rows += decode_rows(record.data)
                    written = written or record.written
                except msgspec.DecodeError:
                    damaged.add(number)
            position = Position(number, record.end)
            read_bytes += len(record.data)
            if read_bytes > _MAX_BATCH_BYTES and rows:
                return Batch(rows, position, written, frozenset(damaged))
    return Batch(rows, end if end is not None else position, written, frozenset(damaged))

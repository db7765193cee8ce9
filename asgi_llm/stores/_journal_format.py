"""The bytes of a journal: records that stand for themselves, and how whole ones are found.

A segment is the magic and then records::

    marker 4 | CRC-32 4 | kind 1 | 0 | intent id length 2 | rows 4 | length 4 | written 8 | data

The data are the intent's id in UTF-8 and the rows (see ``_journal_rows``). The CRC covers all that
follows it. The marker has bytes that UTF-8 never has: no text of a client can pretend to be
a record. Little endian throughout. A segment may end in zeros: its space is taken in advance.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from asgi_llm.stores._journal_rows import decode_rows, encode_rows

__all__ = [
    "END",
    "END_RECORD",
    "INTENT",
    "MAGIC",
    "MARKER",
    "MAX_RECORD_BYTES",
    "OUTCOME",
    "Damage",
    "Record",
    "decode_rows",
    "encode_rows",
    "pack",
    "pack_begin",
    "pack_head",
    "scan",
]

MAGIC: Final = b"asgi-llm journal 2\n"
MARKER: Final = b"\xff\xfeLR"
INTENT: Final = 1
OUTCOME: Final = 2
END: Final = 3
"""Closes a segment, so that what is damaged before it is seen to be damaged, and not torn."""

MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
_WINDOW_BYTES: Final = 256 * 1024
_HEAD: Final = struct.Struct("<BxHIId")
_BEGIN: Final = struct.Struct("<4sI")
_CHECKED: Final = _BEGIN.size
_DATA: Final = _CHECKED + _HEAD.size
pack_head = _HEAD.pack
pack_begin = _BEGIN.pack
_crc32 = zlib.crc32


class Record(NamedTuple):
    """One whole record, with the place in the segment where it begins and ends."""

    kind: int
    intent: str
    rows: int
    written: float
    data: bytes
    start: int
    end: int


class Damage(NamedTuple):
    """Bytes that are no record, before one that is (``inside``) or at the segment's end."""

    start: int
    end: int
    inside: bool


def pack(kind: int, intent: str, rows: int, data: bytes, written: float) -> bytes:
    """One record.

    Raises:
        ValueError: It is larger than ``MAX_RECORD_BYTES``.
    """
    name = intent.encode()
    size = len(name)
    length = size + len(data)
    if length > MAX_RECORD_BYTES or size > 0xFFFF:
        raise ValueError("the record is too large")
    checked = pack_head(kind, size, rows, length, written) + name + data
    return pack_begin(MARKER, _crc32(checked)) + checked


END_RECORD: Final = pack(END, "", 0, b"", 0.0)


def _parse(window: bytes, index: int, base: int) -> Record | int | None:
    """The record at ``index``; how many bytes it needs, where there are fewer; or None: none."""
    if window[index : index + 4] != MARKER[: len(window) - index]:
        return None
    if len(window) - index < _DATA:
        return _DATA
    kind, name_length, rows, length, written = _HEAD.unpack_from(window, index + _CHECKED)
    if not (INTENT <= kind <= END) or not (name_length <= length <= MAX_RECORD_BYTES):
        return None
    end = index + _DATA + length
    if end > len(window):
        return _DATA + int(length)
    _, check = _BEGIN.unpack_from(window, index)
    if _crc32(window[index + _CHECKED : end]) != check:
        return None
    data = window[index + _DATA : end]
    try:
        intent = data[:name_length].decode()
    except UnicodeDecodeError:
        return None
    return Record(kind, intent, rows, written, data[name_length:], base + index, base + end)


def scan(file: int, start: int, end: int) -> Iterator[Record | Damage]:
    """The whole records from ``start`` to ``end`` of an open file, and what lies between them.

    At most a window of 256 KiB, or one record, is in memory. Zeros at the end are not reported.
    """
    if start < len(MAGIC):
        start = len(MAGIC)
        if os.pread(file, len(MAGIC), 0) != MAGIC:
            # Torn before its first record, or not ours.
            start = 0
    bad: int | None = None
    wanted = _WINDOW_BYTES
    base = start
    while base < end:
        asked = min(wanted, end - base)
        window = os.pread(file, asked, base)
        if not window:
            break
        wanted = _WINDOW_BYTES
        at_end = base + len(window) >= end or len(window) < asked
        index = 0
        while index < len(window):
            found = _parse(window, index, base)
            if isinstance(found, Record):
                if bad is not None:
                    yield Damage(bad, found.start, True)
                    bad = None
                yield found
                index = found.end - base
                continue
            if isinstance(found, int) and not at_end:
                if index == 0:
                    wanted = max(wanted, found)
                break
            if bad is None:
                bad = base + index
            index = window.find(MARKER[:1], index + 1)
            if index < 0:
                index = len(window)
        base += index
    if bad is not None and not _only_zeros(file, bad, end):
        yield Damage(bad, end, False)


def _only_zeros(file: int, start: int, end: int) -> bool:
    while start < end:
        window = os.pread(file, min(_WINDOW_BYTES, end - start), start)
        if not window:
            return True
        if window.count(0) != len(window):
            return False
        start += len(window)
    return True

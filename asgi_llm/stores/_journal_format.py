"""The bytes of a journal: records that stand for themselves, and how whole ones are found.

A segment is the magic and then records. Each begins with a marker and the CRC-32 of all of it that
follows; then comes its kind, which says the rest. Any call can be written as::

    marker 4 | CRC 4 | kind 1 | 0 | intent id length 2 | rows 4 | length 4 | written 8 | data

The data are the intent's id in UTF-8 and the rows (see ``_journal_rows``). A usual call of ours
takes a third of that: what its row has in common with others stands in records of the first form
of the kind ``SHARED``, without rows, before it in the segment, and it names how far back (see
``_journal_short``). A shared record serves those that begin in the next 256 KiB, so that damage to
it costs no more than them.

The marker has bytes that UTF-8 never has: no text of a client can pretend to be a record. Little
endian throughout. A segment may end in zeros: its space is taken in advance. Version 2 had the
first form alone, and is read as well.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from asgi_llm.stores._journal_rows import decode_rows, encode_own, encode_rows
from asgi_llm.stores._journal_short import (
    HAS_FIRST,
    MARKER,
    SHORT_INTENT,
    SHORT_INTENT_BYTES,
    SHORT_OUTCOME,
    SHORT_OUTCOME_BYTES,
    STREAMED,
    ShortCall,
)

__all__ = [
    "END",
    "END_RECORD",
    "INTENT",
    "MAGIC",
    "MAX_RECORD_BYTES",
    "MAX_SHARED_BYTES",
    "OUTCOME",
    "SHARED",
    "SPAN_BYTES",
    "Damage",
    "Record",
    "decode_rows",
    "encode_rows",
    "pack",
    "scan",
    "short_rows",
]

MAGIC: Final = b"asgi-llm journal 3\n"
_MAGICS: Final = (MAGIC, b"asgi-llm journal 2\n")
INTENT: Final = 1
OUTCOME: Final = 2
END: Final = 3
"""Closes a segment, so that what is damaged before it is seen to be damaged, and not torn."""
SHARED: Final = 4
"""What rows of later records begin or end with."""

MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
SPAN_BYTES: Final = 256 * 1024
"""How far behind a shared record those may begin that name it."""
_WINDOW_BYTES: Final = 256 * 1024
MAX_SHARED_BYTES: Final = 16 * 1024
"""The longest that is shared; what is longer is written with each row."""
_MOST_CACHED_BYTES: Final = 1024 * 1024
_HEAD: Final = struct.Struct("<BxHIId")
_BEGIN: Final = struct.Struct("<4sI")
_CHECKED: Final = _BEGIN.size
_DATA: Final = _CHECKED + _HEAD.size
_crc32 = zlib.crc32
_INTENT: Final = struct.Struct("<BBxxIIqI36s36s")
_OUTCOME: Final = struct.Struct("<BBxxIIqIIddd36s36s")


class Record(NamedTuple):
    """One whole record, with the place in the segment where it begins and ends."""

    kind: int
    intent: str
    rows: int
    written: float
    data: bytes
    """Its rows in full; empty where what they share with others is lost."""
    start: int
    end: int


class Damage(NamedTuple):
    """Bytes that are no record, before one that is (``inside``) or at the segment's end."""

    start: int
    end: int
    inside: bool


def pack(kind: int, intent: str, rows: int, data: bytes, written: float) -> bytes:
    """One record of the first form.

    Raises:
        ValueError: It is larger than ``MAX_RECORD_BYTES``.
    """
    name = intent.encode()
    size = len(name)
    length = size + len(data)
    if length > MAX_RECORD_BYTES or size > 0xFFFF:
        raise ValueError("the record is too large")
    checked = _HEAD.pack(kind, size, rows, length, written) + name + data
    return _BEGIN.pack(MARKER, _crc32(checked)) + checked


END_RECORD: Final = pack(END, "", 0, b"", 0.0)


def short_rows(call: ShortCall, head: bytes, ending: bytes) -> bytes:
    """The row of a short record in full, as ``decode_rows`` reads it.

    Raises:
        ValueError: An id is no text.
        OverflowError: A number is too large.
    """
    names = call.id, call.request_id
    numbers = call.at, call.streamed, call.tokens_in, call.tokens_out
    return head + encode_own((*names, *numbers, call.latency_seconds, call.first_seconds)) + ending


class _Parser:
    """Finds records in what was read of a segment, and what they share in what was not.

    Args:
        file: The segment.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        # By place; bounded, for it is only a cache of the file.
        self._shared: dict[int, bytes] = {}
        self._shared_bytes = 0

    def parse(self, window: bytes, index: int, base: int) -> Record | int | None:
        """The record at ``index``; how many bytes it needs, where there are fewer; None: none."""
        if window[index : index + 4] != MARKER[: len(window) - index]:
            return None
        if len(window) - index <= _CHECKED:
            return _DATA
        kind = window[index + _CHECKED]
        if kind == SHORT_INTENT:
            end = index + SHORT_INTENT_BYTES
        elif kind == SHORT_OUTCOME:
            end = index + SHORT_OUTCOME_BYTES
        else:
            if len(window) - index < _DATA:
                return _DATA
            _, name_length, _, length, _ = _HEAD.unpack_from(window, index + _CHECKED)
            if not (INTENT <= kind <= SHARED) or not (name_length <= length <= MAX_RECORD_BYTES):
                return None
            end = index + _DATA + length
        if end > len(window):
            return end - index
        _, check = _BEGIN.unpack_from(window, index)
        checked = window[index + _CHECKED : end]
        if _crc32(checked) != check:
            return None
        if kind in (SHORT_INTENT, SHORT_OUTCOME):
            return self._short(kind, checked, base + index, base + end)
        _, name_length, rows, length, written = _HEAD.unpack_from(checked)
        data = checked[_HEAD.size :]
        try:
            intent = data[:name_length].decode()
        except UnicodeDecodeError:
            return None
        data = data[name_length:]
        if kind == SHARED:
            self._note(base + index, data)
        return Record(kind, intent, rows, written, data, base + index, base + end)

    def _short(self, kind: int, checked: bytes, start: int, end: int) -> Record:
        if kind == SHORT_INTENT:
            _, flags, to_head, to_ending, at, tokens_in, row, request = _INTENT.unpack(checked)
            kind, rows, written = INTENT, 0, at / 1_000_000
        else:
            values = _OUTCOME.unpack(checked)
            _, flags, to_head, to_ending, at, tokens_in, tokens_out, latency, first = values[:9]
            kind, rows, (written, row, request) = OUTCOME, 1, values[9:]
        names = row.decode("ascii", "replace"), request.decode("ascii", "replace")
        call = ShortCall(*names, at, bool(flags & STREAMED), tokens_in)
        if kind == OUTCOME:
            call.tokens_out = tokens_out
            call.latency_seconds = latency
            call.first_seconds = first if flags & HAS_FIRST else None
        head, ending = self._find(start - to_head), self._find(start - to_ending)
        data = short_rows(call, head, ending) if head and ending else b""
        return Record(kind, call.id, rows, written, data, start, end)

    def _find(self, place: int) -> bytes:
        """What the shared record there holds; empty: there is none."""
        found = self._shared.get(place)
        if found is None:
            found = b""
            if place >= 0:
                begun = os.pread(self._file, _DATA, place)
                if len(begun) == _DATA and begun[_CHECKED] == SHARED:
                    length = _HEAD.unpack_from(begun, _CHECKED)[3]
                    whole = os.pread(self._file, _DATA + min(length, MAX_RECORD_BYTES), place)
                    record = self.parse(whole, 0, place)
                    found = record.data if isinstance(record, Record) else b""
            self._note(place, found)
        return found

    def _note(self, place: int, data: bytes) -> None:
        self._shared_bytes += len(data) + 100
        if self._shared_bytes > _MOST_CACHED_BYTES:
            self._shared.clear()
            self._shared_bytes = len(data) + 100
        self._shared[place] = data


def scan(file: int, start: int, end: int) -> Iterator[Record | Damage]:
    """The whole records from ``start`` to ``end`` of an open file, and what lies between them.

    At most a window of 256 KiB, or one record, and what the records of a window share is in memory.
    Shared records and zeros at the end are not reported.
    """
    if start < len(MAGIC):
        start = len(MAGIC)
        if os.pread(file, len(MAGIC), 0) not in _MAGICS:
            # Torn before its first record, or not ours.
            start = 0
    parser = _Parser(file)
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
            found = parser.parse(window, index, base)
            if isinstance(found, Record):
                if bad is not None:
                    yield Damage(bad, found.start, True)
                    bad = None
                if found.kind != SHARED:
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

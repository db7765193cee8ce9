"""The bytes of a journal: records that stand for themselves, and how whole ones are found.

A segment is the magic and then records. Each begins with a marker and the CRC-32 of all of it that
follows; then comes its kind, which says the rest. Any call can be written as::

    marker 4 | CRC 4 | kind 1 | 0 | intent id length 2 | rows 4 | length 4 | written 8 | data

The data are the intent's id in UTF-8 and the rows (see ``_journal_rows``). A usual call of ours
takes a third of that: what its row has in common with others stands in records of the first form
of the kind ``SHARED``, without rows, before it in the segment, and it names how far back::

    marker 4 | CRC 4 | kind 1 | flags 1 | 0 2 | back to head 4 | to ending 4 | at 8 | tokens in 4
        for an intent:  ids 72
        for an outcome: tokens out 4 | latency 8 | first token 8 | written 8 | ids 72

The ids are those of the row and of the request, 36 characters each, as ours have. A shared record
serves those that begin in the next 256 KiB, so that damage to it costs no more than them.

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

__all__ = [
    "END",
    "END_RECORD",
    "INTENT",
    "MAGIC",
    "MARKER",
    "MAX_RECORD_BYTES",
    "MAX_SHARED_BYTES",
    "OUTCOME",
    "SHARED",
    "SHORT_INTENT_BYTES",
    "SHORT_OUTCOME_BYTES",
    "SPAN_BYTES",
    "Damage",
    "Record",
    "decode_rows",
    "encode_rows",
    "pack",
    "pack_begin",
    "pack_head",
    "pack_ids",
    "pack_short_intent",
    "pack_short_outcome",
    "scan",
    "short_rows",
    "write_short_intent",
    "write_short_outcome",
]

MAGIC: Final = b"asgi-llm journal 3\n"
_MAGICS: Final = (MAGIC, b"asgi-llm journal 2\n")
MARKER: Final = b"\xff\xfeLR"
INTENT: Final = 1
OUTCOME: Final = 2
END: Final = 3
"""Closes a segment, so that what is damaged before it is seen to be damaged, and not torn."""
SHARED: Final = 4
"""What rows of later records begin or end with."""
_SHORT_INTENT: Final = 5
_SHORT_OUTCOME: Final = 6

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
pack_head: Final = _HEAD.pack
pack_begin: Final = _BEGIN.pack
_crc32 = zlib.crc32

_INTENT: Final = struct.Struct("<BBxxIIqI72s")
_OUTCOME: Final = struct.Struct("<BBxxIIqIIddd72s")
_WHOLE_INTENT: Final = struct.Struct(f"<4sI{_INTENT.size}s")
_WHOLE_OUTCOME: Final = struct.Struct(f"<4sI{_OUTCOME.size}s")
SHORT_INTENT_BYTES: Final = _WHOLE_INTENT.size
SHORT_OUTCOME_BYTES: Final = _WHOLE_OUTCOME.size
_pack_intent: Final = _INTENT.pack
_pack_outcome: Final = _OUTCOME.pack
write_short_intent: Final = _WHOLE_INTENT.pack_into
"""Writes a short intent, of its marker, its CRC and the rest, into a buffer at a place."""
write_short_outcome: Final = _WHOLE_OUTCOME.pack_into
_STREAMED: Final = 1
_HAS_FIRST: Final = 2
_ID_LENGTH: Final = 36


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
    checked = pack_head(kind, size, rows, length, written) + name + data
    return pack_begin(MARKER, _crc32(checked)) + checked


END_RECORD: Final = pack(END, "", 0, b"", 0.0)


def pack_ids(row: str, request: str) -> bytes:
    """The ids of a row and of its request, for a short record; empty where they are not like ours.

    Raises:
        ValueError: They are no text.
    """
    if len(row) != _ID_LENGTH or len(request) != _ID_LENGTH:
        return b""
    ids = (row + request).encode()
    return ids if len(ids) == 2 * _ID_LENGTH else b""


def pack_short_intent(
    back_to_head: int, back_to_ending: int, at: int, streamed: bool, tokens_in: int, ids: bytes
) -> bytes:
    """A short intent, but for its marker and CRC.

    Raises:
        struct.error: A number is too large, or none.
    """
    flags = _STREAMED if streamed else 0
    return _pack_intent(_SHORT_INTENT, flags, back_to_head, back_to_ending, at, tokens_in, ids)


def pack_short_outcome(
    back_to_head: int,
    back_to_ending: int,
    at: int,
    streamed: bool,
    tokens_in: int,
    tokens_out: int,
    latency_seconds: float,
    first_seconds: float | None,
    written: float,
    ids: bytes,
) -> bytes:
    """A short outcome, but for its marker and CRC.

    Raises:
        struct.error: A number is too large, or none.
    """
    flags = _STREAMED if streamed else 0
    if first_seconds is None:
        first_seconds = 0.0
    else:
        flags += _HAS_FIRST
    return _pack_outcome(
        _SHORT_OUTCOME,
        flags,
        back_to_head,
        back_to_ending,
        at,
        tokens_in,
        tokens_out,
        latency_seconds,
        first_seconds,
        written,
        ids,
    )


def short_rows(
    head: bytes,
    ending: bytes,
    ids: bytes,
    at: int,
    streamed: bool,
    tokens_in: int,
    tokens_out: int = 0,
    latency_seconds: float | None = None,
    first_seconds: float | None = None,
) -> bytes:
    """The row of a short record in full, as ``decode_rows`` reads it."""
    names = ids[:_ID_LENGTH].decode(), ids[_ID_LENGTH:].decode()
    numbers = at, streamed, tokens_in, tokens_out, latency_seconds, first_seconds
    return head + encode_own((*names, *numbers)) + ending


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
        if kind == _SHORT_INTENT:
            end = index + SHORT_INTENT_BYTES
        elif kind == _SHORT_OUTCOME:
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
        if kind in (_SHORT_INTENT, _SHORT_OUTCOME):
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
        if kind == _SHORT_INTENT:
            _, flags, to_head, to_ending, at, tokens_in, ids = _INTENT.unpack(checked)
            kind, written, rows = INTENT, at / 1_000_000, 0
            numbers: tuple[int, int, float | None, float | None] = (tokens_in, 0, None, None)
        else:
            values = _OUTCOME.unpack(checked)
            _, flags, to_head, to_ending, at, tokens_in, tokens_out, latency, first = values[:9]
            written, ids = values[9:]
            kind, rows = OUTCOME, 1
            told = first if flags & _HAS_FIRST else None
            numbers = (tokens_in, tokens_out, latency, told)
        head, ending = self._find(start - to_head), self._find(start - to_ending)
        data = b""
        if head and ending:
            data = short_rows(head, ending, ids, at, bool(flags & _STREAMED), *numbers)
        return Record(kind, ids[:_ID_LENGTH].decode(), rows, written, data, start, end)

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

"""Short records of the journal: what each call has for its own, and how that is written.

::

    marker 4 | CRC 4 | kind 1 | flags 1 | 0 2 | back to head 4 | to ending 4 | at 8 | tokens in 4
        for an intent:  ids 72
        for an outcome: tokens out 4 | latency 8 | first token 8 | written 8 | ids 72

See ``_journal_format`` for the rest. The ids are those of the row and of the request, 36 characters
each, as ours have. The ``.pyx`` file beside this does the same in C.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final
from zlib import crc32

__all__ = [
    "HAS_FIRST",
    "ID_LENGTH",
    "MARKER",
    "SHORT_INTENT",
    "SHORT_INTENT_BYTES",
    "SHORT_OUTCOME",
    "SHORT_OUTCOME_BYTES",
    "STREAMED",
    "RecordBuffer",
    "ShortCall",
    "new_call",
]

MARKER: Final = b"\xff\xfeLR"
SHORT_INTENT: Final = 5
SHORT_OUTCOME: Final = 6
STREAMED: Final = 1
HAS_FIRST: Final = 2
ID_LENGTH: Final = 36
SHORT_INTENT_BYTES: Final = 104
SHORT_OUTCOME_BYTES: Final = 132

_pack_intent: Final = struct.Struct("<BBxxIIqI36s36s").pack
_pack_outcome: Final = struct.Struct("<BBxxIIqIIddd36s36s").pack
_write_intent: Final = struct.Struct("<4sI96s").pack_into
_write_outcome: Final = struct.Struct("<4sI124s").pack_into


class ShortCall:
    """What the two records of a call have for their own.

    Args:
        id: Of the intent and of the row.
        request_id: Of the request.
        at: When it began, in microseconds of Unix time.
        streamed: As in ``LedgerRow``.
        tokens_in: Tokens of text that went in: as counted before the call, later as used.

    Attributes:
        tokens_out: Tokens of text that came out.
        latency_seconds: As in ``LedgerRow``.
        first_seconds: ``time_to_first_token_seconds`` there.
        segment: Number of the segment that has the intent.
        offset: Where that is in it.
        room: What is kept free for the outcome, in bytes.
    """

    __slots__ = (
        "at",
        "first_seconds",
        "id",
        "latency_seconds",
        "offset",
        "request_id",
        "room",
        "segment",
        "streamed",
        "tokens_in",
        "tokens_out",
    )

    def __init__(self, id: str, request_id: str, at: int, streamed: bool, tokens_in: int) -> None:
        self.id = id
        self.request_id = request_id
        self.at = at
        self.streamed = streamed
        self.tokens_in = tokens_in
        self.tokens_out = 0
        self.latency_seconds: float | None = None
        self.first_seconds: float | None = None
        self.segment = self.offset = self.room = 0


# To make one by its class takes C the way through its arguments as Python has them.
new_call = ShortCall


class RecordBuffer:
    """Bytes into which short records are written.

    Args:
        target: These bytes. A mapping cannot be closed before ``release``.
    """

    __slots__ = ("_target",)

    def __init__(self, target: mmap.mmap | bytearray) -> None:
        self._target: mmap.mmap | bytearray = target

    def put_intent(
        self, place: int, back_to_head: int, back_to_ending: int, call: ShortCall
    ) -> bool:
        """Write the intent of a call.

        Args:
            place: Where it begins.
            back_to_head: How far before it that stands what comes before what is the row's own.
            back_to_ending: The same for what comes behind that.
            call: What is its own.

        Returns:
            False where no short record holds it; nothing was written then.
        """
        row, request = call.id, call.request_id
        if not (len(row) == len(request) == ID_LENGTH and row.isascii() and request.isascii()):
            return False
        flags = STREAMED if call.streamed else 0
        names = row.encode(), request.encode()
        backs = back_to_head, back_to_ending
        try:
            record = _pack_intent(SHORT_INTENT, flags, *backs, call.at, call.tokens_in, *names)
        except struct.error:
            return False
        _write_intent(self._target, place, MARKER, crc32(record), record)
        return True

    def put_outcome(
        self, place: int, back_to_head: int, back_to_ending: int, call: ShortCall, written: float
    ) -> bool:
        """Write what came of a call.

        Args:
            place: As for ``put_intent``.
            back_to_head: As for ``put_intent``.
            back_to_ending: As for ``put_intent``.
            call: As for ``put_intent``.
            written: Unix time in seconds.

        Returns:
            As for ``put_intent``.
        """
        row, request = call.id, call.request_id
        if not (len(row) == len(request) == ID_LENGTH and row.isascii() and request.isascii()):
            return False
        flags = STREAMED if call.streamed else 0
        first = call.first_seconds
        if first is None:
            first = 0.0
        else:
            flags += HAS_FIRST
        try:
            record = _pack_outcome(
                SHORT_OUTCOME,
                flags,
                back_to_head,
                back_to_ending,
                call.at,
                call.tokens_in,
                call.tokens_out,
                call.latency_seconds,
                first,
                written,
                row.encode(),
                request.encode(),
            )
        except struct.error:
            return False
        _write_outcome(self._target, place, MARKER, crc32(record), record)
        return True

    def release(self) -> None:
        """Let the bytes go; nothing is written into them any more."""
        self._target = bytearray()

"""The framing of Bedrock's streams: binary messages, each with two checksums.

A message is a prelude (its length and that of its headers, four bytes each, and their checksum),
headers, a payload, and the checksum of all before it; numbers are big-endian.

Source: Amazon event stream encoding, in "Amazon Transcribe Developer Guide" and the Smithy
specification; November 2026.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from asgi_llm.providers._translated_stream import Frame, FrameError

__all__ = ["EXCEPTION", "MAX_MESSAGE_BYTES", "EventStreamFrames"]

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""One event may hold a picture; the encoding itself allows no more."""

EXCEPTION: Final = "exception "
"""What the kind of an error begins with; behind it stands the error's name."""

_MAX_HEADER_BYTES: Final = 128 * 1024
_PRELUDE: Final = struct.Struct(">III")
_CHECKSUM: Final = struct.Struct(">I")
_LEAST: Final = _PRELUDE.size + _CHECKSUM.size
_MAX_KINDS: Final = 32

# By the number of a header's type: how many bytes its value has.
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES: Final = 6
_STRING: Final = 7


class EventStreamFrames:
    """Takes the messages apart; the kind of an event is its ``:event-type``.

    Streaming: holds back an unfinished message, of at most 16 MiB.
    """

    __slots__ = ("_at", "_held", "_kinds")

    def __init__(self) -> None:
        self._held = bytearray()
        self._at = 0
        """Length of the message that has begun, once its prelude is there."""
        # The events of a stream have a handful of headers between them.
        self._kinds: dict[bytes, str] = {}

    def feed(self, chunk: bytes) -> Sequence[Frame]:
        """See ``Frames.feed``."""
        held = self._held
        held += chunk
        frames: list[Frame] = []
        start = 0
        while len(held) - start >= _PRELUDE.size:
            size = self._at or self._length(held, start)
            if len(held) - start < size:
                self._at = size
                break
            self._at = 0
            frames.append(self._read(bytes(held[start : start + size])))
            start += size
        if start:
            del held[:start]
        return frames

    def close(self) -> Sequence[Frame]:
        """See ``Frames.close``; a message that is cut is for the reader to notice."""
        return ()

    def _length(self, held: bytearray, start: int) -> int:
        """Length of the message that begins at ``start``, verified before it is waited for."""
        total, headers, checksum = _PRELUDE.unpack_from(held, start)
        if zlib.crc32(held[start : start + 8]) != checksum:
            raise FrameError("the checksum of a prelude is wrong")
        if total > MAX_MESSAGE_BYTES:
            raise FrameError(f"a message is larger than {MAX_MESSAGE_BYTES} bytes")
        if headers > _MAX_HEADER_BYTES or headers + _LEAST > total:
            raise FrameError("the lengths of a message contradict each other")
        return int(total)

    def _read(self, message: bytes) -> Frame:
        end = len(message) - _CHECKSUM.size
        (checksum,) = _CHECKSUM.unpack_from(message, end)
        if zlib.crc32(memoryview(message)[:end]) != checksum:
            raise FrameError("the checksum of a message is wrong")
        (size,) = struct.unpack_from(">I", message, 4)
        raw = message[_PRELUDE.size : _PRELUDE.size + size]
        payload = message[_PRELUDE.size + size : end]
        kind = self._kinds.get(raw)
        if kind is not None:
            return kind, payload
        headers = _headers(raw)
        what = headers.get(":message-type")
        if what == "event":
            kind = headers.get(":event-type", "")
            if len(self._kinds) < _MAX_KINDS:
                self._kinds[raw] = kind
            return kind, payload
        if what == "exception":
            return EXCEPTION + headers.get(":exception-type", ""), payload
        if what == "error":
            text = {"message": headers.get(":error-message", "")}
            return EXCEPTION + headers.get(":error-code", ""), msgspec.json.encode(text)
        raise FrameError("a message does not say what it is")


def _headers(raw: bytes) -> dict[str, str]:
    """Those headers that are texts.

    Raises:
        FrameError: They are malformed.
    """
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(raw):
            length = raw[at]
            name = raw[at + 1 : at + 1 + length]
            at += 1 + length
            kind = raw[at]
            at += 1
            if kind in (_BYTES, _STRING):
                (size,) = struct.unpack_from(">H", raw, at)
                at += 2
                if kind == _STRING:
                    found[name.decode()] = raw[at : at + size].decode()
            else:
                size = _SIZES[kind]
            at += size
    except (IndexError, KeyError, UnicodeDecodeError, struct.error) as error:
        raise FrameError("the headers of a message are malformed") from error
    if at != len(raw):
        raise FrameError("the headers of a message are malformed")
    return found

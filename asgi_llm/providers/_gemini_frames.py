"""The framings of Gemini's streams: server-sent events, or one JSON array whose values come late.

The array is what the API sends where ``alt=sse`` does not arrive, as behind some proxies. A single
object in its place is an error.

Source: Gemini API reference, "Method: models.streamGenerateContent"; November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from asgi_llm import _sse
from asgi_llm.providers._translated_stream import Frame, FrameError, Frames

__all__ = ["MAX_EVENT_BYTES", "EventFrames"]

MAX_EVENT_BYTES: Final = 32 * 1024 * 1024
"""One event may hold a picture of 4096 pixels a side in base64."""

_SPACES: Final = b" \t\r\n"
_OUTSIDE: Final = re.compile(rb'["\[\]{}]')
_INSIDE: Final = re.compile(rb'["\\]')


class EventFrames:
    """Takes apart either framing, whichever comes.

    Streaming: holds back an unfinished event or value, of at most 32 MiB.
    """

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        self._frames: Frames | None = None

    def feed(self, chunk: bytes) -> Sequence[Frame]:
        """See ``Frames.feed``."""
        if self._frames is None:
            chunk = chunk.lstrip(_SPACES)
            if not chunk:
                return ()
            self._frames = _Values() if chunk[:1] in (b"[", b"{") else _Events()
        return self._frames.feed(chunk)

    def close(self) -> Sequence[Frame]:
        """See ``Frames.close``."""
        return () if self._frames is None else self._frames.close()


class _Events:
    """Server-sent events, which may be larger here than elsewhere."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = _sse.Decoder(MAX_EVENT_BYTES)

    def feed(self, chunk: bytes) -> Sequence[Frame]:
        try:
            return [(event.type, event.data) for event in self._decoder.feed(chunk)]
        except _sse.SSEError as error:
            raise FrameError(str(error)) from error

    def close(self) -> Sequence[Frame]:
        return [(event.type, event.data) for event in self._decoder.close()]


class _Values:
    """The objects of one JSON array, or one object alone; what is in them is not looked at."""

    __slots__ = ("_at", "_base", "_depth", "_held", "_in_text", "_is_over", "_wants_comma")

    def __init__(self) -> None:
        self._held = bytearray()
        self._at = 0
        """How much of it has been looked at."""
        self._base: int | None = None
        """Depth outside of the values: 1 within an array, 0 where there is none."""
        self._depth = 0
        self._in_text = False
        self._is_over = False
        self._wants_comma = False

    def feed(self, chunk: bytes) -> Sequence[Frame]:
        self._held += chunk
        frames: list[Frame] = []
        try:
            self._take_apart(frames)
        except FrameError as error:
            error.frames = frames
            raise
        return frames

    def _take_apart(self, frames: list[Frame]) -> None:
        """Add the values that are whole."""
        while True:
            is_between = self._base is None or self._depth == self._base
            if is_between and not self._begin():
                break
            if not self._skip():
                break
            frames.append(("message", bytes(self._held[: self._at])))
            del self._held[: self._at]
            self._at = 0
            self._wants_comma = True
            self._is_over = self._base == 0
        if len(self._held) > MAX_EVENT_BYTES:
            raise FrameError(f"a value is larger than {MAX_EVENT_BYTES} bytes")

    def close(self) -> Sequence[Frame]:
        if not self._is_over:
            raise FrameError("the array does not end")
        return ()

    def _begin(self) -> bool:
        """Go on to where a value begins; whether one does."""
        held = self._held
        while True:
            while held[:1] and held[0] in _SPACES:
                del held[: len(held) - len(held.lstrip(_SPACES))]
            if not held:
                return False
            mark = held[:1]
            if self._is_over:
                raise FrameError("something follows the end")
            if self._base is None:
                self._base = self._depth = 1 if mark == b"[" else 0
                if mark == b"[":
                    del held[:1]
                    continue
            if mark == b"]" and self._base == 1:
                self._is_over = True
                del held[:1]
            elif mark == b"," and self._wants_comma:
                self._wants_comma = False
                del held[:1]
            elif mark == b"{" and not self._wants_comma:
                return True
            else:
                raise FrameError("the array holds something that is no object")

    def _skip(self) -> bool:
        """Go on to the end of the value; whether it is there."""
        held = self._held
        while True:
            found = (_INSIDE if self._in_text else _OUTSIDE).search(held, self._at)
            if found is None:
                self._at = len(held)
                return False
            mark = found[0]
            if mark == b"\\":
                if found.end() == len(held):
                    self._at = found.start()
                    return False
                self._at = found.end() + 1
                continue
            self._at = found.end()
            if mark == b'"':
                self._in_text = not self._in_text
            elif mark in (b"{", b"["):
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == self._base:
                    return True

"""What an answer says of its own usage, or how long it is, for apps that do not tell it otherwise.

The bytes are looked through for ``"usage"`` at the end; nothing is parsed unless that is there, or
a guess has to be made.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm import _sse
from asgi_llm.errors import RawHeaders
from asgi_llm.types import Usage
from asgi_llm.wire.estimate import estimate_usage
from asgi_llm.wire.usage import usage_from_openai

__all__ = ["AnswerReader"]

MAX_STREAM_BYTES: Final = 64 * 1024
"""How much of a stream is kept at most; what came before is told by what is kept."""
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""How much of a whole answer, or of one event, is kept at most."""

_TAIL_BYTES: Final = 4096
_USAGE: Final = b'"usage"'
_NO_USAGE: Final = (b'"usage":null', b'"usage": null')


class AnswerReader:
    """Keeps of one answer what its usage can be read from.

    Streaming: holds references to the last 64 KiB of a stream (8 MiB where that is one event), or
    to 8 MiB of a whole answer.

    Args:
        headers: Of the answer.
    """

    __slots__ = ("_dropped", "_held", "_json", "_max", "_opaque", "_parts", "_stream", "_usage")

    def __init__(self, headers: RawHeaders) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self._dropped = 0
        self._usage = b""
        self._stream = self._json = self._opaque = False
        for name, value in headers:
            name = name.lower()
            if name == b"content-type":
                media = value.lower()
                self._stream = media.startswith(b"text/event-stream")
                self._json = media.startswith(b"application/json")
            elif name == b"content-encoding" and value.lower() != b"identity":
                self._opaque = True
        self._max = MAX_STREAM_BYTES if self._stream else MAX_BODY_BYTES

    def feed(self, chunk: bytes) -> None:
        """A piece of the body passes."""
        self._parts.append(chunk)
        self._held += len(chunk)
        if self._held > self._max:
            self._drop()

    def _drop(self) -> None:
        data = b"".join(self._parts)
        if self._stream:
            end = _sse.last_border(data)
            if not end and self._max < MAX_BODY_BYTES:
                # One large event, such as an image.
                self._parts = [data]
                self._max *= 2
                return
            self._max = MAX_STREAM_BYTES
            self._note(data[:end])
            kept = data[end:] if end else b""
        else:
            kept = data[-_TAIL_BYTES:]
        self._parts = [kept]
        self._held = len(kept)
        self._dropped += len(data) - len(kept)

    def _note(self, data: bytes) -> None:
        if _told(data):
            self._usage = data

    def usage(self, input_tokens: int) -> Usage | None:
        """What the answer says it used, or an estimate for a request of ``input_tokens``.

        None: the answer is compressed, or too long to say anything of it.
        """
        if self._opaque:
            return None
        data = b"".join(self._parts)
        found = self._in_stream(data) if self._stream else self._in_body(data)
        if found is not None:
            return found
        if self._dropped and not self._stream:
            return None
        asked = Usage(input_uncached=input_tokens)
        return estimate_usage({}, self._characters(data), reported=asked)

    def _in_stream(self, data: bytes) -> Usage | None:
        self._note(data)
        decoder = _sse.Decoder()
        try:
            events = [*decoder.feed(self._usage), *decoder.close()]
        except _sse.SSEError:
            return None
        for event in reversed(events):
            if _told(event.data):
                found = _usage_of(event.data)
                if found is not None:
                    return found
        return None

    def _in_body(self, data: bytes) -> Usage | None:
        if not _told(data):
            return None
        return _usage_near_end(data) if self._dropped else _usage_of(data)

    def _characters(self, data: bytes) -> int:
        """Length of the text in the answer; of a part of it that is not kept, by what is."""
        if self._stream:
            size = len(data)
            decoder = _sse.Decoder()
            try:
                events = [*decoder.feed(data), *decoder.close()]
            except _sse.SSEError:
                return size + self._dropped
            characters = sum(_length(event.data) for event in events)
            if not self._dropped:
                return characters
            # A sample of a few bytes says nothing of the rest.
            share = characters / size if size > 1024 else 1.0
            return characters + int(self._dropped * share)
        return _length(data) if self._json else 0


def _told(data: bytes) -> bool:
    """Whether there may be a usage in ``data``, and not only the word that there is none."""
    said = data.count(_USAGE)
    return said > 0 and said > sum(map(data.count, _NO_USAGE))


class _Peek(msgspec.Struct, gc=False):
    """What is read of an answer; the rest, such as a long list of numbers, is skipped."""

    usage: Any = None
    x_groq: Any = None
    choices: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Peek).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _usage_of(data: bytes) -> Usage | None:
    try:
        peek = _decode(data)
    except _UNREADABLE:
        return None
    return usage_from_openai({"usage": peek.usage, "x_groq": peek.x_groq})


def _usage_near_end(data: bytes) -> Usage | None:
    """The usage of an answer of which only the end is there, as that of a long embedding is."""
    start = data.find(b"{", data.rfind(_USAGE))
    depth = 0
    for at in range(start, len(data)):
        depth += (data[at] == _OPEN) - (data[at] == _CLOSE)
        if depth == 0:
            return _usage_of(b'{"usage":%b}' % data[start : at + 1])
    return None


_OPEN: Final = ord("{")
_CLOSE: Final = ord("}")


def _length(data: bytes) -> int:
    """Characters that the choices of an answer, or of a chunk, hold."""
    try:
        choices = msgspec.json.decode(_decode(data).choices)
    except _UNREADABLE:
        return 0
    total = 0
    left = [
        choice.get(name)
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict)
        for name in ("message", "delta", "text")
    ]
    while left:
        one = left.pop()
        if isinstance(one, str):
            total += len(one)
        elif isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            left += [value for name, value in one.items() if name not in _NO_TEXT]
    return total


_NO_TEXT: Final = frozenset(("role", "id", "type", "index", "obfuscation"))

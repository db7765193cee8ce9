"""Server-sent events: an incremental decoder, an encoder, and decoding shared between layers.

No I/O. Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

__all__ = [
    "DONE",
    "Decoder",
    "Event",
    "EventLog",
    "EventReader",
    "SSEError",
    "encode",
    "has_border",
    "last_border",
    "split",
]

DONE = b"data: [DONE]\n\n"
"""The event that ends a stream of the OpenAI API."""

MAX_EVENT_BYTES = 4 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
# Atomic groups: without them CRLF could be taken apart into two line ends, a border that is none.
_BORDER = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_ENDS = b"\r\n"
# A border is four bytes at most, so three bytes of what went before decide it.
_OVERLAP = 3


class SSEError(ValueError):
    """The stream breaks the format or a cap: an event over the cap, or data that is not JSON."""


class Event:
    """One event with data.

    Attributes:
        type: The ``event:`` field; ``"message"`` where there is none.
        data: The ``data:`` lines, joined by LF, undecoded.
    """

    __slots__ = ("_json", "data", "type")

    def __init__(self, data: bytes, type: str = "message") -> None:
        self.data = data
        self.type = type
        self._json: Any = _UNPARSED

    def __repr__(self) -> str:
        return f"Event({self.data!r}, {self.type!r})"

    @property
    def text(self) -> str:
        """The data as text; malformed UTF-8 becomes U+FFFD, as the specification has it."""
        return self.data.decode("utf-8", "replace")

    @property
    def done(self) -> bool:
        """Whether this is OpenAI's end mark."""
        return self.data == b"[DONE]"

    def json(self) -> Any:
        """The data as JSON, parsed once however many readers ask. Read-only.

        Raises:
            SSEError: The data is not JSON.
        """
        if self._json is _UNPARSED:
            try:
                self._json = msgspec.json.decode(self.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise SSEError("the data of an event is not valid JSON") from error
        return self._json


_UNPARSED: Any = object()

# Bytes that do not end an event yet: a linked list of (what came before, chunk). Appending copies
# nothing, and since a link never changes, whoever keeps a reference has kept the place.
_Tail = tuple["_Tail | None", bytes]

# Where a decoder is: the unfinished event, its size, its last bytes, and whether data has begun.
# What `feed` returns is a function of the place and the chunk alone; EventReader builds on that.
_Place = tuple["_Tail | None", int, bytes, bool]
_START: _Place = (None, 0, b"", False)


class Decoder:
    """Bytes in, whole events out, at any split of the bytes.

    Takes LF, CRLF and CR line ends, data over several lines, comments, and a byte order mark.

    Args:
        max_event_bytes: Cap on one event, at least 1.

    Streaming: holds the bytes of one unfinished event, at most ``max_event_bytes``.
    """

    __slots__ = ("_max", "place")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self.place: _Place = _START

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that ``chunk`` completes.

        Raises:
            SSEError: An event is over the cap.
        """
        tail, _, last, started = self.place
        if tail is not None:
            if _BORDER.search(last + chunk) is None:
                self._hold(chunk)
                return []
            chunk = _joined(tail) + chunk
        self.place = (None, 0, b"", started)
        events: list[Event] = []
        start = 0
        for border in _BORDER.finditer(chunk):
            self._read(chunk[start : border.start()], events)
            start = border.end()
        if start < len(chunk):
            self._hold(chunk[start:])
        return events

    def close(self) -> list[Event]:
        """The last event, where the stream ends without its blank line."""
        tail, _, _, started = self.place
        self.place = (None, 0, b"", started)
        events: list[Event] = []
        if tail is not None:
            self._read(_joined(tail), events)
        return events

    def _hold(self, chunk: bytes) -> None:
        tail, size, last, started = self.place
        size += len(chunk)
        if size > self._max:
            raise SSEError(f"an event is larger than {self._max} bytes")
        self.place = ((tail, chunk), size, (last + chunk)[-_OVERLAP:], started)

    def _read(self, block: bytes, events: list[Event]) -> None:
        # A CR that ended the last chunk may have been the first half of a CRLF.
        block = block.lstrip(_LINE_ENDS)
        if not block:
            return
        if not self.place[3]:
            self.place = (*self.place[:3], True)
            block = block.removeprefix(_BOM)
        if len(block) > self._max:
            raise SSEError(f"an event is larger than {self._max} bytes")
        if block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block:
            events.append(Event(block[6:]))
            return
        data: list[bytes] = []
        type_ = "message"
        for line in block.splitlines():
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                type_ = value.decode("utf-8", "replace") or "message"
        if data:
            events.append(Event(b"\n".join(data), type_))


def _joined(tail: _Tail | None) -> bytes:
    parts = []
    while tail is not None:
        tail, chunk = tail
        parts.append(chunk)
    parts.reverse()
    return b"".join(parts)


def encode(data: bytes, event: str | None = None) -> bytes:
    """One event. ``data`` may hold line feeds, which become further ``data:`` lines."""
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    if event is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"


def has_border(data: bytes) -> bool:
    """Whether an event ends anywhere in ``data``."""
    return _BORDER.search(data) is not None


def split(
    data: bytes, max_event_bytes: int = MAX_EVENT_BYTES
) -> Iterator[tuple[bytes, Event | None]]:
    """Each event of ``data`` as its raw bytes and, unless it is but a comment, decoded.

    ``data`` holds whole events only, as ``last_border`` cuts them.

    Raises:
        SSEError: An event is over the cap.
    """
    decoder = Decoder(max_event_bytes)
    start = 0
    for border in _BORDER.finditer(data):
        raw = data[start : border.end()]
        events = decoder.feed(raw)
        yield raw, events[0] if events else None
        start = border.end()


def last_border(data: bytes) -> int:
    """Where the last whole event of ``data`` ends; 0 if it holds no border."""
    if data.endswith(b"\n\n"):
        return len(data)
    end = 0
    for border in _BORDER.finditer(data):
        end = border.end()
    return end


class EventLog:
    """The last step that any reader of a request made: its place, its chunk, what came of it."""

    __slots__ = ("after", "before", "chunk", "events")

    def __init__(self) -> None:
        self.before: _Place | None = None
        self.chunk: bytes | None = None
        self.events: Sequence[Event] = ()
        self.after: _Place = _START


class EventReader:
    """One layer's view of a stream's events, decoded once for all layers that see the same bytes.

    If the chunk is the very object that the layer further in has just read, from the same place,
    its events are taken over. A layer that rewrites hands on other objects, and a reader outside it
    decodes those for itself, from the place that it had reached.

    Args:
        log: The request's ``state.event_log``.
    """

    __slots__ = ("_decoder", "_log")

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._decoder = Decoder()

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """The events that ``chunk`` completes.

        Raises:
            SSEError: An event is over the cap.
        """
        log, decoder = self._log, self._decoder
        before = decoder.place
        if chunk is log.chunk and before == log.before:
            decoder.place = log.after
            return log.events
        events = decoder.feed(chunk)
        log.before, log.chunk, log.events, log.after = before, chunk, events, decoder.place
        return events

    def close(self) -> Sequence[Event]:
        """The last event, where the stream ends without its blank line."""
        return self._decoder.close()

"""What a scripted upstream answers: replies, their steps, and their builders."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

import msgspec

from asgi_llm import _sse
from asgi_llm.errors import ConfigurationError, RawHeaders

__all__ = [
    "Close",
    "Reply",
    "Reset",
    "Signal",
    "Split",
    "Step",
    "Wait",
    "json_reply",
    "raw_reply",
    "sse_reply",
]

HeaderItems = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""Header fields in their order, as text or bytes."""

Framing = Literal["chunked", "length", "close"]

Split = int | Literal["every"] | Sequence[int] | random.Random | None
"""Where a body is cut into writes: None is one write a step, an int is that many bytes a write,
``"every"`` is one byte, a sequence holds offsets into the body (after compression, before chunk
framing), and a ``random.Random`` draws pieces of 1 to 64 bytes."""

_RANDOM_MAX_BYTES = 64


@dataclass(frozen=True, slots=True)
class Wait:
    """Go on when ``event`` is set: a delay or a stall, without sleeping."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Signal:
    """Set ``event``: everything before it has been handed to the operating system."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection off with a TCP reset (RST)."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection here with a FIN.

    Args:
        notify: Over TLS, say ``close_notify`` first, as a well-behaved server does. Without it the
            stream is truncated in the sense of TLS.
    """

    notify: bool = True


Step = bytes | Wait | Signal | Reset | Close
"""One thing that a reply does. Bytes are one write, handed over before the next step."""


class Piece(NamedTuple):
    """One write, and the documents of which it sends the last byte."""

    data: bytes
    documents: tuple[Any, ...] = ()


class _Documented(bytes):
    """Bytes that know which document they encode, so that the ledger can say what was served."""

    document: Any


def _documented(data: bytes, document: Any) -> bytes:
    step = _Documented(data)
    step.document = document
    return step


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """One answer, step by step.

    Args:
        status: HTTP status.
        headers: Fields after the status line. The framing field is added unless it is among them,
            so that a ``content-length`` given here stands, true or not.
        body: The bytes, or steps. A sequence can be served any number of times; an iterator is
            taken as it is needed (so it may be endless, except with ``framing="length"``) and only
            once.
        framing: ``length`` counts all bytes of the body, also those after a ``Close`` or ``Reset``;
            ``close`` ends the body with the connection.
        split: Where the body is cut into writes.
        gzip: Compress, flushing after each step, and say so.
        keep_alive: False announces ``connection: close`` and closes.
        before: Steps before the status line; its bytes go out as they are.
        after: Steps after the end of the body, when the reply counts as complete.
        raw: The body is the whole response, status line and all, and nothing is added.
    """

    status: int = 200
    headers: HeaderItems = ()
    body: bytes | Iterable[Step] = b""
    framing: Framing = "length"
    split: Split = None
    gzip: bool = False
    keep_alive: bool = True
    before: Sequence[Step] = ()
    after: Sequence[Step] = ()
    raw: bool = False

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 999:
            raise ConfigurationError(
                "status must be 200 to 999; an interim response is bytes in before", param="status"
            )
        if self.framing not in ("chunked", "length", "close"):
            raise ConfigurationError("framing must be chunked, length or close", param="framing")
        if isinstance(self.split, int) and self.split < 1:
            raise ConfigurationError("split must be at least 1 byte", param="split")
        if self.raw and self.gzip:
            raise ConfigurationError("a raw reply is sent as it is, not compressed", param="gzip")


def head(reply: Reply, framing: Framing | None, *, length: int, keep_alive: bool) -> bytes:
    """Status line and headers; ``framing`` None is for a response that cannot have a body."""
    fields = header_pairs(reply.headers)
    names = {name.lower() for name, _ in fields}
    if reply.gzip and b"content-encoding" not in names:
        fields.append((b"content-encoding", b"gzip"))
    if framing == "length" and b"content-length" not in names:
        fields.append((b"content-length", b"%d" % length))
    if framing == "chunked" and b"transfer-encoding" not in names:
        fields.append((b"transfer-encoding", b"chunked"))
    if not keep_alive and b"connection" not in names:
        fields.append((b"connection", b"close"))
    try:
        reason = HTTPStatus(reply.status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [b"HTTP/1.1 %d %s" % (reply.status, reason.encode("ascii"))]
    lines += [name + b": " + value for name, value in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def header_pairs(headers: HeaderItems) -> RawHeaders:
    """``headers`` as the list of pairs of bytes that they are on the wire."""
    items = headers.items() if isinstance(headers, Mapping) else headers
    return [(_latin1(name), _latin1(value)) for name, value in items]


def _latin1(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


Control = Wait | Signal | Reset | Close


def writes(reply: Reply) -> Iterator[Piece | Control]:
    """The body as the writes that it is sent with, compressed and split as asked."""
    body: Iterable[Step] = [reply.body] if isinstance(reply.body, bytes) else reply.body
    steps: Iterator[Piece | Control] = (
        Piece(step, (step.document,) if isinstance(step, _Documented) else ())
        if isinstance(step, bytes)
        else step
        for step in body
    )
    if reply.gzip:
        steps = _compress(steps)
    if reply.split is not None:
        steps = _cut(steps, _sizes(reply.split))
    return steps


def _compress(steps: Iterator[Piece | Control]) -> Iterator[Piece | Control]:
    # 16 asks for a gzip header around the deflate window of 15 bits.
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    for step in steps:
        if isinstance(step, Piece):
            data = compressor.compress(step.data) + compressor.flush(zlib.Z_SYNC_FLUSH)
            yield Piece(data, step.documents)
        else:
            yield step
    yield Piece(compressor.flush())


def _sizes(split: int | Literal["every"] | Sequence[int] | random.Random) -> Iterator[int]:
    """The sizes of the pieces; when they run out, what remains is not cut."""
    if isinstance(split, random.Random):
        while True:
            yield split.randint(1, _RANDOM_MAX_BYTES)
    elif isinstance(split, int) or split == "every":
        while True:
            yield split if isinstance(split, int) else 1
    else:
        place = 0
        for offset in sorted(int(offset) for offset in split):
            if offset > place:
                yield offset - place
                place = offset


def _cut(steps: Iterator[Piece | Control], sizes: Iterator[int]) -> Iterator[Piece | Control]:
    data = bytearray()
    ends: list[tuple[int, tuple[Any, ...]]] = []
    size = next(sizes, None)

    def take(length: int) -> Piece:
        piece = bytes(data[:length])
        del data[:length]
        done = [document for end, docs in ends if end <= length for document in docs]
        ends[:] = [(end - length, docs) for end, docs in ends if end > length]
        return Piece(piece, tuple(done))

    for step in steps:
        if not isinstance(step, Piece):
            if data:
                # What the wait or the cut comes after has to be out, even if it is less than a
                # piece; the rest of the piece follows.
                if size is not None:
                    size -= len(data)
                yield take(len(data))
            yield step
            continue
        data += step.data
        if step.documents:
            ends.append((len(data), step.documents))
        while size is not None and len(data) >= size:
            yield take(size)
            size = next(sizes, None)
        if size is None and data:
            yield take(len(data))
    if data:
        yield take(len(data))


def json_reply(
    obj: Any,
    status: int = 200,
    headers: HeaderItems = (),
    *,
    framing: Framing = "length",
    split: Split = None,
    gzip: bool = False,
    keep_alive: bool = True,
    before: Sequence[Step] = (),
    after: Sequence[Step] = (),
) -> Reply:
    """``obj`` as a JSON document. Bytes are taken as already encoded, valid JSON or not.

    Args:
        obj: What msgspec can encode, or bytes.
        status: HTTP status.
        headers: Added after ``content-type: application/json``.
        framing: See ``Reply``, as are the rest.
        split: Where the body is cut into writes.
        gzip: Compress the body.
        keep_alive: False closes after it.
        before: Steps before the status line.
        after: Steps after the body.
    """
    body = obj if isinstance(obj, bytes) else _documented(msgspec.json.encode(obj), obj)
    return Reply(
        status=status,
        headers=_with_type(headers, b"application/json"),
        body=[body],
        framing=framing,
        split=split,
        gzip=gzip,
        keep_alive=keep_alive,
        before=before,
        after=after,
    )


def sse_reply(
    events: Iterable[Step | Mapping[str, Any]],
    *,
    done: bool = True,
    status: int = 200,
    headers: HeaderItems = (),
    framing: Framing = "chunked",
    split: Split = None,
    gzip: bool = False,
    keep_alive: bool = True,
    before: Sequence[Step] = (),
    after: Sequence[Step] = (),
) -> Reply:
    """A stream of server-sent events, one write an event.

    Args:
        events: A dict becomes ``data: <json>``; bytes go out as they are, with no blank line added;
            other steps are done where they stand. An iterator is taken as it is needed, and may be
            endless.
        done: End with ``data: [DONE]``.
        status: HTTP status.
        headers: Added after ``content-type: text/event-stream``.
        framing: See ``Reply``, as are the rest.
        split: Where the body is cut into writes.
        gzip: Compress the body.
        keep_alive: False closes after it.
        before: Steps before the status line.
        after: Steps after the body.
    """
    steps = _stream_steps(events, done=done)
    return Reply(
        status=status,
        headers=_with_type(headers, b"text/event-stream"),
        body=steps if isinstance(events, Iterator) else list(steps),
        framing=framing,
        split=split,
        gzip=gzip,
        keep_alive=keep_alive,
        before=before,
        after=after,
    )


def _stream_steps(events: Iterable[Step | Mapping[str, Any]], *, done: bool) -> Iterator[Step]:
    for event in events:
        if isinstance(event, Mapping):
            yield _documented(_sse.encode(msgspec.json.encode(event)), event)
        else:
            yield event
    if done:
        yield _sse.DONE


def raw_reply(
    response: bytes | Iterable[Step], close: bool = True, *, split: Split = None
) -> Reply:
    """A whole response as it goes over the wire, well-formed or not.

    Args:
        response: Status line, headers and body, in one piece or in steps.
        close: End the connection after it.
        split: Where the response is cut into writes, counted from its first byte.
    """
    return Reply(body=response, split=split, keep_alive=not close, raw=True)


def _with_type(headers: HeaderItems, content_type: bytes) -> RawHeaders:
    fields = header_pairs(headers)
    if not any(name.lower() == b"content-type" for name, _ in fields):
        fields.insert(0, (b"content-type", content_type))
    return fields

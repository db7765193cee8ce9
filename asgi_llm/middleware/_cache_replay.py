"""A stored answer on its way to a client: in the form asked for, with what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import msgspec
from starlette.types import Message, Send

from asgi_llm import _sse
from asgi_llm._asgi import RawHeaders
from asgi_llm._sending import send_both
from asgi_llm.middleware._cache_answer import CACHE_HEADERS, usage_of
from asgi_llm.middleware._cache_counts import CacheCounts
from asgi_llm.middleware._cache_fold import fold_stream, unfold_answer
from asgi_llm.middleware._cache_headers import client_id_of, decimal
from asgi_llm.middleware._cache_request import CacheRequest
from asgi_llm.state import CACHE_STATUS, State
from asgi_llm.stores._kept_answer import KeptAnswer
from asgi_llm.stores.cache import StoredAnswer
from asgi_llm.types import CacheReport, Usage
from asgi_llm.wire.usage import usage_to_openai

__all__ = [
    "LARGE_BYTES",
    "MISS",
    "MISS_HEADER",
    "CacheType",
    "ToldAnswer",
    "answer_body",
    "hit_report",
    "replay",
    "replay_kept",
    "start_message",
    "told_headers",
]

CacheType = Literal["exact", "semantic"]

LARGE_BYTES: Final = 256 * 1024
"""What is larger is read in a thread: it would keep other requests waiting for milliseconds."""

_JSON: Final = (b"content-type", b"application/json")
_STREAM: Final = (b"content-type", b"text/event-stream; charset=utf-8")
# The second one keeps nginx from collecting the stream.
_OF_STREAMS: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_HIT: Final = (b"x-cache-status", b"HIT")
_TYPES: Final = {
    "exact": (b"x-cache-type", b"EXACT"),
    "semantic": (b"x-cache-type", b"SEMANTIC"),
}
MISS: Final = CacheReport(status="miss")
MISS_HEADER: Final = (b"x-cache-status", b"MISS")
_STATUS: Final = {
    "miss": MISS_HEADER,
    "bypass": (b"x-cache-status", b"BYPASS"),
}

_encode = msgspec.json.Encoder().encode


def hit_report(answer: StoredAnswer, cache_type: CacheType) -> CacheReport:
    """What meters are to know of a hit: who made the answer, and what it took then."""
    return CacheReport(
        status="hit",
        type=cache_type,
        provider=answer.provider,
        model=answer.response_model,
        usage=usage_of(answer),
    )


async def answer_body(answer: StoredAnswer, request: CacheRequest) -> bytes | None:
    """The body of ``answer`` in the form that ``request`` wants; None: it cannot be had from it.

    In its own form these are the very bytes that were stored.
    """
    if answer.is_stream == request.streams and (
        not answer.is_stream or answer.tells_usage == request.tells_usage
    ):
        return answer.body
    if len(answer.body) > LARGE_BYTES:
        return await asyncio.to_thread(_converted, answer, request)
    return _converted(answer, request)


def _converted(answer: StoredAnswer, request: CacheRequest) -> bytes | None:
    if not answer.is_stream:
        return unfold_answer(
            request.operation, answer.body, usage=usage_of(answer), tells_usage=request.tells_usage
        )
    if request.streams:
        if not request.tells_usage:
            return _without_usage(answer.body)
        usage = usage_of(answer)
        return None if usage is None else _with_usage(answer.body, usage)
    document = fold_stream(request.operation, answer.body)
    if document is None:
        return None
    if "usage" not in document:
        if answer.usage is None:
            return None
        document["usage"] = usage_to_openai(answer.usage)
    return _encode(document)


class _Event(msgspec.Struct, gc=False):
    choices: Any = None


def _without_usage(body: bytes) -> bytes | None:
    """The stream without the event that is there for the usage alone."""
    out = []
    for raw, event in _sse.split(body):
        if event is not None and not event.done and b'"usage"' in event.data:
            try:
                is_usage = msgspec.json.decode(event.data, type=_Event).choices == []
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
            if is_usage:
                continue
        out.append(raw)
    return b"".join(out)


def _with_usage(body: bytes, usage: Usage) -> bytes | None:
    """The stream with one more event, before its end."""
    out: list[bytes] = []
    head: dict[str, Any] = {}
    for raw, event in _sse.split(body):
        if event is not None and event.done:
            told = {**head, "choices": [], "usage": usage_to_openai(usage)}
            out.append(_sse.encode(_encode(told)))
        elif event is not None and not head:
            try:
                chunk = event.json()
            except _sse.SSEError:
                return None
            if type(chunk) is dict:
                head = {name: chunk[name] for name in chunk if name not in ("choices", "usage")}
        out.append(raw)
    return b"".join(out)


def start_message(
    state: State,
    headers: tuple[tuple[bytes, bytes], ...],
    streams: bool,
    in_its_form: bool,
    cache_type: CacheType,
    age_seconds: float,
    length: int,
) -> Message:
    """The start of an answer out of a cache.

    Args:
        state: Of the request.
        headers: That were kept of the answer.
        streams: Whether a stream follows.
        in_its_form: Whether the answer was made in this form: it then keeps its content type.
        cache_type: Which cache had it.
        age_seconds: How old it is.
        length: Of the body; below 0: it is not known.
    """
    out: RawHeaders = list(headers)
    if not in_its_form:
        out = [pair for pair in out if pair[0] != b"content-type"]
        out.append(_STREAM if streams else _JSON)
    if streams:
        out += _OF_STREAMS
    elif length >= 0:
        out.append((b"content-length", decimal(length)))
    out.append((b"x-request-id", state.request_id.encode()))
    client_id = client_id_of(state)
    if client_id is not None:
        out.append((b"x-client-request-id", client_id.encode()))
    out.append(_HIT)
    out.append(_TYPES[cache_type])
    out.append((b"age", decimal(int(age_seconds))))
    return {"type": "http.response.start", "status": 200, "headers": out}


async def replay(
    send: Send,
    state: State,
    answer: StoredAnswer,
    body: bytes,
    *,
    report: CacheReport,
    streams: bool,
    age_seconds: float,
    event_seconds: float = 0.0,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Answer a request out of a cache, and say in the state that it was.

    Streaming: events leave all at once, or one every ``event_seconds``.

    Args:
        send: The client's.
        state: Of the request.
        answer: What the cache had.
        body: From ``answer_body``.
        report: From ``hit_report``.
        streams: Whether the client wants events.
        age_seconds: How old it is, at least 0.
        event_seconds: Between two events of a stream; 0 is none.
        sleep: Waits between them.
    """
    state.set(CACHE_STATUS, report)
    await send(
        start_message(
            state,
            answer.headers,
            streams,
            answer.is_stream == streams,
            report.type or "exact",
            age_seconds,
            -1 if streams else len(body),
        )
    )
    if streams and event_seconds > 0:
        last = b""
        for raw, _ in _sse.split(body):
            if last:
                await send({"type": "http.response.body", "body": last, "more_body": True})
                await sleep(event_seconds)
            last = raw
        body = last
    await send({"type": "http.response.body", "body": body})


def replay_kept(
    send: Send, state: State, kept: KeptAnswer, counts: CacheCounts, age_seconds: float
) -> Awaitable[None]:
    """Answer a request at once with what was kept, as it is, and count that.

    Args:
        send: The client's.
        state: Of the request.
        kept: What the cache had.
        counts: Of the layer.
        age_seconds: How old it is, at least 0.
    """
    report = kept.report
    if report is None:
        report = hit_report(kept.answer, "exact")
        kept.report = report
        kept.input_tokens = 0 if report.usage is None else report.usage.input_tokens
        kept.output_tokens = 0 if report.usage is None else report.usage.output_tokens
    counts.hits += 1
    counts.saved_input_tokens += kept.input_tokens
    counts.saved_output_tokens += kept.output_tokens
    state.set(CACHE_STATUS, report)
    body = kept.body
    streams = kept.is_stream
    length = -1 if streams else len(body)
    return send_both(
        send,
        start_message(state, kept.headers, streams, True, "exact", age_seconds, length),
        {"type": "http.response.body", "body": body},
    )


def told_headers(message: Message, state: State) -> RawHeaders:
    """The headers of an answer that this cache did not have, with what caches say of it.

    A cache further in may have had it: the state says so, and it has told the client itself.
    """
    headers: RawHeaders = list(message.get("headers", ()))
    report = state.values.get(CACHE_STATUS)
    if report is None or report.status == "hit":
        return headers
    for pair in headers:
        if pair[0] in CACHE_HEADERS or pair[0].lower() in CACHE_HEADERS:
            headers = [other for other in headers if other[0].lower() not in CACHE_HEADERS]
            break
    headers.append(_STATUS[report.status])
    return headers


class ToldAnswer:
    """The ``send`` of an app whose answer is told what the caches did; it passes as it comes."""

    __slots__ = ("_send", "_state")

    def __init__(self, send: Send, state: State) -> None:
        self._send = send
        self._state = state

    def __call__(self, message: Message) -> Awaitable[None]:
        # No coroutine of its own: a chunk costs one look at its type.
        if message["type"] == "http.response.start":
            message = {**message, "headers": told_headers(message, self._state)}
        return self._send(message)

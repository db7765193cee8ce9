"""The upstream of the echo provider: an OpenAI API in process, behind the Transport protocol."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Final

from asgi_llm import _json, _sse, errors
from asgi_llm.errors import InvalidRequestError, RawHeaders
from asgi_llm.providers import _echo_chat, _echo_media
from asgi_llm.transports.base import (
    ConnectionLostError,
    ResponseTooLargeError,
    Timeouts,
    TransportTimeoutError,
    UpstreamRequest,
    UpstreamResponse,
)
from asgi_llm.types import Document

__all__ = ["MODELS", "EchoTransport"]

MODELS: Final = (
    "echo",
    "error-400",
    "error-401",
    "error-429",
    "error-500",
    "error-503",
    "error-in-stream",
    "cut",
    "timeout",
)
"""What the echo provider lists. Any other name answers like ``echo``, and any status from 400 to
599 can be asked for."""

_ERROR_MODEL = re.compile(r"error-([45]\d\d)")
_CUT_AFTER: Final = 3
_LARGE_BYTES: Final = 64 * 1024
_MAX_UPLOAD_BYTES: Final = 25 * 1024 * 1024

_ERRORS: Final = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "model_overloaded"),
}


class EchoTransport:
    """Answers in process.

    Args:
        clock: Unix seconds, for ``created``.
        chunk_delay_seconds: Wait before each event of a stream, at least 0.
    """

    def __init__(self, clock: Callable[[], float], chunk_delay_seconds: float) -> None:
        self._clock = clock
        self._delay = chunk_delay_seconds

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamResponse:
        """Answer ``request``."""
        path = request.url.rpartition("/v1")[2]
        try:
            if path == "/models":
                return _json_response(_model_list())
            if path == "/audio/transcriptions":
                return await _transcribe(request)
            body = await _whole(request)
            document = _json.decode(body)
            if len(body) > _LARGE_BYTES:
                # Its words are counted; other requests need not wait for that.
                return await asyncio.to_thread(self._answer, path, document, timeouts)
            return self._answer(path, document, timeouts)
        except errors.RequestError as error:
            return _json_response(errors.error_document(error), error.status)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _answer(self, path: str, document: Document, timeouts: Timeouts) -> _EchoResponse:
        model = str(document["model"])
        if found := _ERROR_MODEL.fullmatch(model):
            return _error_response(int(found[1]))
        if model == "timeout":
            raise TransportTimeoutError("first_byte", timeouts.first_byte_seconds or 0.0)
        created = int(self._clock())
        if path in ("/chat/completions", "/completions"):
            whole, stream = _TEXT[path]
            if document.get("stream"):
                return self._stream(stream(document, created), model)
            if model == "error-in-stream":
                return _json_response(_stream_error())
            if model == "cut":
                return _EchoResponse(
                    200, _JSON, [_json.encode(whole(document, created))[:-9]], cut=True
                )
            return _json_response(whole(document, created))
        if path == "/embeddings":
            return _json_response(_echo_media.embeddings(document))
        if path == "/moderations":
            return _json_response(_echo_media.moderations(document))
        if path == "/images/generations":
            return _json_response(_echo_media.images(document, created))
        content_type, sound = _echo_media.speech(document)
        return _EchoResponse(200, _headers(content_type), [sound])

    def _stream(self, events: Iterator[bytes], model: str) -> _EchoResponse:
        # The first event is made here, so that an error is still a status.
        first = next(events)
        if model == "error-in-stream":
            tail = [_sse.encode(_json.encode(_stream_error()))]
            return _EchoResponse(200, _SSE, _some(first, events, tail), delay=self._delay)
        cut = model == "cut"
        body = _some(first, events, []) if cut else _all(first, events)
        return _EchoResponse(200, _SSE, body, delay=self._delay, cut=cut)


_Whole = Callable[[Document, int], Document]
_Streamed = Callable[[Document, int], Iterator[bytes]]

_TEXT: Final[dict[str, tuple[_Whole, _Streamed]]] = {
    "/chat/completions": (_echo_chat.chat, _echo_chat.chat_stream),
    "/completions": (_echo_chat.completion, _echo_chat.completion_stream),
}


class _EchoResponse:
    """One answer; ``cut`` ends it as a connection that was lost."""

    def __init__(
        self,
        status: int,
        headers: RawHeaders,
        body: Iterable[bytes],
        *,
        delay: float = 0.0,
        cut: bool = False,
    ) -> None:
        self.status = status
        self.headers = headers
        self.framed = True
        self._body = body
        self._delay = delay
        self._cut = cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._body:
            # Even without a delay other requests get their turn between two events.
            await asyncio.sleep(self._delay)
            yield chunk
        if self._cut:
            raise ConnectionLostError("the connection was cut, as the model's name asks for")

    async def read(self, max_bytes: int) -> bytes:
        """The whole body."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self:
            size += len(chunk)
            if size > max_bytes:
                raise ResponseTooLargeError(f"the body is larger than {max_bytes} bytes")
            parts.append(chunk)
        return b"".join(parts)

    async def aclose(self) -> None:
        """Nothing is open."""


def _headers(content_type: bytes) -> RawHeaders:
    return [(b"content-type", content_type)]


_JSON: Final = _headers(b"application/json")
_SSE: Final = _headers(b"text/event-stream; charset=utf-8")


def _json_response(document: Any, status: int = 200) -> _EchoResponse:
    return _EchoResponse(status, list(_JSON), [_json.encode(document)])


def _error_response(status: int) -> _EchoResponse:
    kind, code = _ERRORS.get(
        status, ("server_error", None) if status >= 500 else ("invalid_request_error", None)
    )
    body = {
        "error": {
            "message": f"The model's name asks for status {status}.",
            "type": kind,
            "param": None,
            "code": code,
        }
    }
    response = _json_response(body, status)
    if status in (429, 503):
        response.headers.append((b"retry-after", b"1"))
    return response


def _stream_error() -> Document:
    return {
        "error": {
            "message": "The model's name asks for an error.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }


def _all(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _some(first: bytes, rest: Iterator[bytes], tail: list[bytes]) -> Iterator[bytes]:
    """The first events but never one that finishes, then ``tail``."""
    yield first
    for _, event in zip(range(_CUT_AFTER - 1), rest, strict=False):
        if b'"finish_reason":null' not in event:
            break
        yield event
    yield from tail


def _model_list() -> Document:
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "asgi-llm"} for name in MODELS
    ]
    return {"object": "list", "data": data}


async def _whole(request: UpstreamRequest) -> bytes:
    if isinstance(request.body, bytes):
        return request.body
    parts: list[bytes] = []
    size = 0
    async for part in request.body:
        size += len(part)
        if size > _MAX_UPLOAD_BYTES:
            raise errors.RequestTooLargeError(f"The file is over {_MAX_UPLOAD_BYTES} bytes.")
        parts.append(part)
    return b"".join(parts)


async def _transcribe(request: UpstreamRequest) -> _EchoResponse:
    content_type = dict(request.headers).get(b"content-type", b"")
    form = _echo_media.parse_form(content_type, await _whole(request))
    if form is None:
        raise InvalidRequestError("The body is no multipart form.")
    if found := _ERROR_MODEL.fullmatch(form.fields.get("model", "")):
        return _error_response(int(found[1]))
    kind, answer = _echo_media.transcription(form)
    body = answer.encode() if isinstance(answer, str) else _json.encode(answer)
    return _EchoResponse(200, _headers(kind), [body])

"""A transport over an httpx2 or httpx client: for proxies, HTTP/2, mocks. Slower, and compatible.

The client comes from outside, so that neither package is imported here.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable
from types import ModuleType
from typing import Any, TypeVar

from asgi_llm.errors import ConfigurationError, RawHeaders
from asgi_llm.transports._target import HeadEncoder, parse_target
from asgi_llm.transports.base import (
    ConnectError,
    ConnectionLostError,
    Phase,
    ResponseTooLargeError,
    Timeouts,
    TransportError,
    TransportTimeoutError,
    UpstreamProtocolError,
    UpstreamRequest,
)

__all__ = ["HttpxTransport"]

T = TypeVar("T")

_PACKAGES = ("httpx2", "httpx")
_LOST = ("disconnected", "closed connection", "ConnectionTerminated")


class HttpxTransport:
    """Makes calls through ``client``. See ``Transport``.

    The client's own headers, authentication and proxies apply; its timeouts, redirects and cookies
    do not. Whether a broken answer is seen as lost or as malformed is up to the client's parser.

    Args:
        client: An ``httpx2.AsyncClient`` or ``httpx.AsyncClient``, or of a class derived from one.
        close_client: Close it in ``aclose``. By default whoever made it does.

    Raises:
        ConfigurationError: ``client`` is neither.
    """

    def __init__(self, client: Any, *, close_client: bool = False) -> None:
        self._client = client
        self._close_client = close_client
        self._errors = _Errors(_package_of(client))
        self._heads = HeadEncoder()

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> _HttpxResponse:
        """See ``Transport.send``.

        Raises:
            TransportError: As drawn in ``base``.
            ValueError: The method, the URL or a header cannot be sent as it is, or an iterable
                body is not as long as its ``content_length``.
        """
        _, prefix = parse_target(request.method, request.url)
        # Checks them; the client writes its own.
        self._heads.encode(prefix, request.headers, b"")
        started = asyncio.get_running_loop().time()
        total = _Deadline("total", timeouts.total_seconds, started)
        response = await self._errors.within(
            self._client.send(self._build(request, timeouts), stream=True, follow_redirects=False),
            "first_byte",
            timeouts,
            _first_deadline(request, timeouts, started),
            total,
        )
        try:
            return _HttpxResponse(response, self._errors, timeouts, total)
        except TransportError:
            await response.aclose()
            raise

    async def aclose(self) -> None:
        """Close the client, where that was asked for."""
        if self._close_client:
            await self._client.aclose()

    def _build(self, request: UpstreamRequest, timeouts: Timeouts) -> Any:
        headers: RawHeaders = list(request.headers)
        names = {name for name, _ in headers}
        if b"accept-encoding" not in names:
            # Or the client would ask for what it can decode.
            headers.append((b"accept-encoding", b"identity"))
        content: bytes | AsyncIterable[bytes] | None = request.body
        if not isinstance(content, bytes) and content is not None:
            if request.content_length is not None:
                headers.append((b"content-length", b"%d" % request.content_length))
            content = _counted(content, request.content_length)
        built = self._client.build_request(
            request.method,
            request.url,
            headers=headers,
            content=content or None,
            timeout=self._errors.package.Timeout(
                connect=timeouts.connect_seconds,
                pool=timeouts.connect_seconds,
                read=timeouts.first_byte_seconds,
                write=timeouts.first_byte_seconds,
            ),
        )
        if b"cookie" not in names:
            # What an answer set for one caller is not sent for the next.
            built.headers.pop("cookie", None)
        return built


class _HttpxResponse:
    """See ``UpstreamResponse``."""

    def __init__(
        self, response: Any, errors: _Errors, timeouts: Timeouts, total: _Deadline
    ) -> None:
        self.status: int = response.status_code
        self.headers: RawHeaders = [
            (name.lower(), value.strip()) for name, value in response.headers.raw
        ]
        if self.status == 101:
            raise UpstreamProtocolError("the upstream wants to speak another protocol")
        fields = dict(self.headers)
        counted, coded = b"content-length" in fields, b"transfer-encoding" in fields
        if counted and coded:
            raise UpstreamProtocolError("the response has a content-length and a transfer-encoding")
        without_body = response.request.method == "HEAD" or self.status in (204, 304)
        self._length = int(fields[b"content-length"]) if counted and not without_body else 0
        self.framed = counted or coded or without_body or response.http_version == "HTTP/2"
        self._response = response
        self._errors = errors
        self._timeouts = timeouts
        self._total = total
        # The client's reads use the deadline that they find here when they begin.
        response.request.extensions.get("timeout", {})["read"] = timeouts.idle_seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        response = self._response
        # A mocked answer has been read before it was sent; its bytes are still in the stream.
        chunks = aiter(response.stream) if response.is_stream_consumed else response.aiter_raw()
        while True:
            idle = _Deadline("idle", self._timeouts.idle_seconds, loop.time())
            try:
                chunk: bytes | None = await self._errors.within(
                    anext(chunks, None), "idle", self._timeouts, idle, self._total
                )
            except TransportError:
                await self.aclose()
                raise
            if chunk is None:
                return
            if chunk:
                yield chunk

    async def read(self, max_bytes: int) -> bytes:
        chunks: list[bytes] = []
        size = self._length
        if size <= max_bytes:
            size = 0
            async for chunk in self:
                size += len(chunk)
                if size > max_bytes:
                    break
                chunks.append(chunk)
        await self.aclose()
        if size > max_bytes:
            raise ResponseTooLargeError(f"the response is larger than {max_bytes} bytes")
        return b"".join(chunks)

    async def aclose(self) -> None:
        await self._response.aclose()


class _Deadline:
    """When a phase has to be over, and what to say when it is not."""

    __slots__ = ("at", "phase", "seconds")

    def __init__(self, phase: Phase, seconds: float | None, since: float) -> None:
        self.phase = phase
        self.seconds = seconds or 0
        self.at = math.inf if seconds is None else since + seconds


def _first_deadline(request: UpstreamRequest, timeouts: Timeouts, started: float) -> _Deadline:
    """A bound for transports that keep no time: connecting and waiting cannot be told apart here.

    None for a body that comes piece by piece, since that takes as long as its source does.
    """
    parts = (timeouts.connect_seconds, timeouts.first_byte_seconds)
    if parts[0] is None or parts[1] is None or not isinstance(request.body, bytes):
        return _Deadline("first_byte", None, started)
    deadline = _Deadline("first_byte", parts[1], started)
    deadline.at += parts[0]
    return deadline


class _Errors:
    """The exceptions of one package, and what they are here."""

    def __init__(self, package: ModuleType) -> None:
        self.package: Any = package

    async def within(
        self, step: Awaitable[T], phase: Phase, timeouts: Timeouts, *deadlines: _Deadline
    ) -> T:
        """Await ``step``; ``phase`` is what it means when the client itself finds a read too slow.

        Raises:
            TransportError: As drawn in ``base``.
        """
        first = min(deadlines, key=lambda deadline: deadline.at)
        timeout = asyncio.timeout_at(None if first.at == math.inf else first.at)
        try:
            async with timeout:
                return await step
        except self.package.TransportError as error:
            raise self._mapped(error, phase, timeouts) from error
        except OSError as error:
            if timeout.expired():
                raise TransportTimeoutError(first.phase, first.seconds) from error
            raise ConnectionLostError("the connection to the upstream was lost") from error

    def _mapped(self, error: Exception, phase: Phase, timeouts: Timeouts) -> TransportError:
        package = self.package
        if isinstance(error, (package.ConnectTimeout, package.PoolTimeout)):
            return TransportTimeoutError("connect", timeouts.connect_seconds or 0)
        if isinstance(error, package.TimeoutException):
            seconds = timeouts.idle_seconds if phase == "idle" else timeouts.first_byte_seconds
            return TransportTimeoutError(phase, seconds or 0)
        if isinstance(error, (package.ConnectError, package.ProxyError)):
            return ConnectError(f"cannot connect: {error}")
        lost = isinstance(error, package.NetworkError) or (
            # The clients use one class for a malformed answer and for none, and only its text tells
            # them apart. The text is not passed on: it may quote the answer.
            isinstance(error, package.RemoteProtocolError)
            and any(words in str(error) for words in _LOST)
        )
        if lost:
            return ConnectionLostError("the upstream closed the connection too early")
        return UpstreamProtocolError(f"the exchange failed: {type(error).__name__}")


def _package_of(client: object) -> ModuleType:
    for kind in type(client).__mro__:
        root = kind.__module__.partition(".")[0]
        if kind.__name__ == "AsyncClient" and root in _PACKAGES:
            return sys.modules[root]
    raise ConfigurationError("client must be an AsyncClient of httpx2 or httpx", param="client")


async def _counted(body: AsyncIterable[bytes], length: int | None) -> AsyncGenerator[bytes, None]:
    """``body``, which has to be ``length`` bytes long where that is given."""
    sent = 0
    async for piece in body:
        sent += len(piece)
        if length is not None and sent > length:
            raise ValueError("the body is longer than its content_length")
        yield piece
    if length is not None and sent < length:
        raise ValueError("the body is shorter than its content_length")

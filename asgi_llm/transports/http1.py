"""The HTTP/1.1 transport that the hot path uses, on asyncio and httptools."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from asgi_llm.errors import ConfigurationError
from asgi_llm.transports._dial import Resolve
from asgi_llm.transports._pool import Keeper, Pool, PoolOptions
from asgi_llm.transports._response import Http1Response
from asgi_llm.transports._target import HeadEncoder, parse_target
from asgi_llm.transports._tls import context_of
from asgi_llm.transports._upload import upload
from asgi_llm.transports.base import ConnectError, Timeouts, UpstreamRequest

__all__ = ["Http1Transport"]

_MAX_TARGETS = 1024
_NO_BODY = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))


class Http1Transport:
    """Makes HTTP/1.1 calls over its own connections. See ``Transport``.

    A connection that died while it was idle, or on which something unasked has come, is never
    written to: the next one, or a new one, is taken. Once bytes were handed to a socket nothing is
    tried again, since the upstream may have acted on them.

    An instance belongs to the event loop that it is used on. Used on another, it drops its
    connections and starts afresh there; close it before its loop ends, or the interpreter closes
    the sockets and warns.

    Args:
        ssl_context: For https, as it is. By default certificates and names are verified against
            the system's authorities, and HTTP/1.1 is asked for by ALPN.
        ca_file: A PEM file of authorities to trust in place of the system's. Not with
            ``ssl_context``.
        max_connections_per_origin: At least 1. A request that finds all of them busy waits its
            turn, which counts towards ``connect_seconds``.
        max_idle_per_origin: Idle connections to keep, at least 0.
        idle_expiry_seconds: How long to keep them, above 0.
        max_header_bytes: Cap on a response's status line, headers and trailers, at least 1024.
        high_water_bytes: What of a response may lie unread before the socket is read no further,
            at least 1. One read of the loop (up to 256 KiB) may come on top.
        clock: Seconds, for the age of idle connections only.
        resolver: Gives host and port their addresses, each with its family, or raises OSError.
            A connection goes to one of them; certificates are still checked for the host's name.
            None asks the system.

    Raises:
        ConfigurationError: An option is out of its range, or the file cannot be read.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        ca_file: str | Path | None = None,
        max_connections_per_origin: int = 1000,
        max_idle_per_origin: int = 200,
        idle_expiry_seconds: float = 30.0,
        max_header_bytes: int = 64 * 1024,
        high_water_bytes: int = 64 * 1024,
        clock: Callable[[], float] = time.monotonic,
        resolver: Resolve | None = None,
    ) -> None:
        _at_least("max_connections_per_origin", max_connections_per_origin, 1)
        _at_least("max_idle_per_origin", max_idle_per_origin, 0)
        _at_least("max_header_bytes", max_header_bytes, 1024)
        _at_least("high_water_bytes", high_water_bytes, 1)
        if not 0 < idle_expiry_seconds < math.inf:
            raise ConfigurationError(
                "idle_expiry_seconds must be above 0", param="idle_expiry_seconds"
            )
        if ca_file is not None:
            if ssl_context is not None:
                raise ConfigurationError("give ssl_context or ca_file, not both", param="ca_file")
            ssl_context = context_of(ca_file)
        self._context = ssl_context
        self._options = PoolOptions(
            max_connections_per_origin=max_connections_per_origin,
            max_idle_per_origin=max_idle_per_origin,
            idle_expiry_seconds=idle_expiry_seconds,
            max_header_bytes=max_header_bytes,
            high_water_bytes=high_water_bytes,
            clock=clock,
            resolver=resolver,
        )
        self._heads = HeadEncoder()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper: Keeper | None = None
        self._closed = False
        # Method and URL to what is the same for every request with them.
        self._targets: dict[tuple[str, str], tuple[Pool, bytes]] = {}

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> Http1Response:
        """See ``Transport.send``.

        An iterable body is not sent to its end if the upstream answers before; the connection is
        closed after that answer.

        Raises:
            TransportError: As drawn in ``base``.
            ValueError: The method, the URL or a header cannot be sent as it is, or an iterable
                body is not as long as its ``content_length``.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._bind(loop)
        method, url, body = request.method, request.url, request.body
        target = self._targets.get((method, url))
        pool, prefix = self._locate(method, url) if target is None else target
        started = loop.time()
        total = timeouts.total_seconds
        total_at = math.inf if total is None else started + total

        if isinstance(body, bytes):
            framing = (
                b"" if not body and method in _NO_BODY else b"content-length: %d\r\n" % len(body)
            )
        elif (length := request.content_length) is None:
            framing = b"transfer-encoding: chunked\r\n"
        elif length >= 0:
            framing = b"content-length: %d\r\n" % length
        else:
            raise ValueError("content_length must be at least 0")
        head = self._heads.encode(prefix, request.headers, framing)

        connection = pool.take()
        if connection is None:
            limit = timeouts.connect_seconds
            connect_at = math.inf if limit is None else started + limit
            connection = await pool.open(timeouts, connect_at, total_at)
        if isinstance(body, bytes):
            response = connection.begin(method == "HEAD", timeouts, total_at, uploaded=True)
            connection.write(head, body)
            if (waiter := response.waiter) is not None:
                try:
                    await waiter
                except BaseException:
                    response.close()
                    raise
            if not response.status:
                raise response.take_error()
        else:
            response = connection.begin(method == "HEAD", timeouts, total_at, uploaded=False)
            connection.write(head)
            await upload(connection, response, body, request.content_length)
        return response

    async def aclose(self) -> None:
        """Close all connections, those in use too, and wait until their sockets are gone."""
        self._closed = True
        self._targets.clear()
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if keeper.loop is asyncio.get_running_loop():
            await keeper.aclose()
        else:
            _drop(keeper)

    def _locate(self, method: str, url: str) -> tuple[Pool, bytes]:
        keeper = self._keeper
        if keeper is None:
            raise ConnectError("the transport is closed")
        origin, prefix = parse_target(method, url)
        if origin.scheme == "https" and self._context is None:
            self._context = context_of(None)
        if len(self._targets) >= _MAX_TARGETS:
            self._targets.clear()
            keeper.prune()
        pool = keeper.pool(origin, self._context if origin.scheme == "https" else None)
        self._targets[method, url] = pool, prefix
        return pool, prefix

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._closed:
            raise ConnectError("the transport is closed")
        old = self._keeper
        self._targets.clear()
        self._loop, self._keeper = loop, Keeper(loop, self._options)
        if old is not None:
            _drop(old)


def _drop(keeper: Keeper) -> None:
    """Close what another loop holds, from outside that loop."""
    if keeper.loop.is_closed():
        # Nothing can run there any more. The peers are told; the sockets go with the garbage.
        for connection in keeper.open:
            connection.shut_socket()
    else:
        keeper.loop.call_soon_threadsafe(keeper.close)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigurationError(f"{name} must be at least {least}", param=name)

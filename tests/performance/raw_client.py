"""The floor: what a pass-through costs in CPython when nothing is made safe.

No TLS, no timeout, no cap, no retry, no back-pressure, no cancellation. It exists to be measured
against and must never be used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import httptools


class Exchange(asyncio.Protocol):
    """One connection and the answer that it is reading."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.transport: asyncio.Transport | None = None

    def begin(self, request: bytes) -> asyncio.Future[Exchange]:
        """Send ``request``; the future ends at the whole answer, or at the head of a stream."""
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._answered: asyncio.Future[Exchange] = self._pool.loop.create_future()
        cast(asyncio.Transport, self.transport).write(request)
        return self._answered

    async def chunks(self) -> AsyncIterator[bytes]:
        """The rest of the body as it comes."""
        while True:
            if self.parts:
                data = b"".join(self.parts)
                self.parts.clear()
                yield data
            elif self._done:
                self._pool.idle.append(self)
                return
            else:
                self._waiter = self._pool.loop.create_future()
                await self._waiter
                self._waiter = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def on_message_begin(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self._done = False
        self.is_stream = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.is_stream = (b"content-type", b"text/event-stream") in self.headers
        if self.is_stream:
            self._answered.set_result(self)

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        self._done = True
        if not self.is_stream:
            self._pool.idle.append(self)
            self._answered.set_result(self)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (self.parts or self._done):
            waiter.set_result(None)


class Pool:
    """Idle connections to one place, the last used first."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.idle: list[Exchange] = []
        self.loop = asyncio.get_running_loop()

    async def post(self, head: bytes, body: bytes) -> Exchange:
        """Send ``body`` and wait for the answer, or for the head of a stream."""
        while self.idle:
            exchange = self.idle.pop()
            if exchange.transport is not None and not exchange.transport.is_closing():
                break
        else:
            _, exchange = await self.loop.create_connection(
                lambda: Exchange(self), self._host, self._port
            )
        return await exchange.begin(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))

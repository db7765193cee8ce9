"""A response of the HTTP/1.1 transport, filled by its connection and emptied by its reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from asgi_llm.errors import RawHeaders
from asgi_llm.transports.base import ConnectionLostError, ResponseTooLargeError, TransportError

if TYPE_CHECKING:
    from asgi_llm.transports._connection import Connection


class Http1Response:
    """See ``UpstreamResponse``. Holds its connection until the last byte has come."""

    __slots__ = (
        "_max_bytes",
        "chunks",
        "connection",
        "error",
        "framed",
        "headers",
        "length",
        "size",
        "status",
        "waiter",
        "whole",
    )

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: RawHeaders = []
        self.framed = True
        self.length: int | None = None
        """What ``content-length`` says."""
        self.connection: Connection | None = connection
        """None once nothing more comes. What is there may still be read, then ``error`` is due."""
        self.waiter: asyncio.Future[None] | None = None
        """Of the one who waits for the headers, for more, or for the end."""
        self.error: TransportError | None = None
        self.chunks: list[bytes] = []
        """What is there and was not read yet."""
        self.size = 0
        """Of the chunks, or a little more."""
        self._max_bytes: int | None = None
        self.whole = False
        """Whether the reader waits for the end, not for the next piece."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces, each what one wake-up of the connection brought."""
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Not a generator: one that is not run to its end is left to the loop."""
        chunks = self.chunks
        connection = self.connection
        while not chunks:
            if connection is not None:
                self.waiter = waiter = connection.watch()
                try:
                    await waiter
                except BaseException:
                    self.close()
                    raise
            elif self.error is not None:
                raise self.take_error()
            else:
                raise StopAsyncIteration
            connection = self.connection
        chunk = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.size = 0
        if connection is not None and connection.paused:
            connection.resume()
        return chunk

    async def read(self, max_bytes: int) -> bytes:
        """The whole body, with one wait for all of it."""
        if self.size > max_bytes or (self.length or 0) > max_bytes:
            self._refuse(max_bytes)
        elif (connection := self.connection) is not None:
            self._max_bytes = max_bytes
            self.whole = True
            if connection.paused:
                connection.resume()
            await self._wait(connection)
        if self.error is not None:
            raise self.take_error()
        chunks, self.chunks = self.chunks, []
        self.size = 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def aclose(self) -> None:
        """Close the connection, unless the whole response has come and it serves others already."""
        if self.connection is not None or self.chunks:
            self.close()

    def close(self) -> None:
        """The same, at once."""
        if self.connection is not None:
            self.connection.fail(ConnectionLostError("the response was closed before its end"))
        elif self.chunks:
            self.error = ConnectionLostError("the response was closed before its end")
        self.chunks.clear()
        self.size = 0

    def add(self, chunk: bytes, high_water_bytes: int) -> bool:
        """Take in a piece; whether reading should go on."""
        self.chunks.append(chunk)
        self.size += len(chunk)
        if self._max_bytes is None:
            return self.waiter is not None or self.size <= high_water_bytes
        if self.size > self._max_bytes:
            self._refuse(self._max_bytes)
        return True

    def wake(self) -> None:
        """Let the one who waits look again."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def take_error(self) -> TransportError:
        """The error to raise.

        It is not kept: an error holds the frames it passed, and they hold this response.
        """
        spent = ConnectionLostError("the response has failed before")
        error, self.error = self.error or spent, spent
        return error

    def _refuse(self, max_bytes: int) -> None:
        error = ResponseTooLargeError(f"the response is larger than {max_bytes} bytes")
        if self.connection is not None:
            self.connection.fail(error)
        else:
            self.error = error
        self.chunks.clear()

    async def _wait(self, connection: Connection) -> None:
        self.waiter = waiter = connection.watch()
        try:
            await waiter
        except BaseException:
            self.close()
            raise

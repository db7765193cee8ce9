"""Sending a request whose body comes piece by piece, and hearing an answer that comes before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable

from asgi_llm.transports._connection import Connection
from asgi_llm.transports._response import Http1Response
from asgi_llm.transports.base import ConnectionLostError, TransportError


async def upload(
    connection: Connection,
    response: Http1Response,
    body: AsyncIterable[bytes],
    length: int | None,
) -> None:
    """Send ``body`` as it comes and wait for the headers; they end the sending wherever it is.

    Raises:
        TransportError: The headers will not come.
        ValueError: The body is not ``length`` bytes long.
    """
    # A task of its own: the answer may come while the body's source has nothing to give.
    task = asyncio.get_running_loop().create_task(_write(connection, body, length))

    def broken_off(task: asyncio.Task[None]) -> None:
        broken = task.cancelled() or task.exception() is not None
        # The connection may serve another request by now; this response knows.
        if broken and response.connection is not None:
            response.connection.fail(ConnectionLostError("the request's body broke off"))

    task.add_done_callback(broken_off)
    try:
        if (waiter := response.waiter) is not None:
            try:
                await waiter
            except BaseException:
                response.close()
                raise
        if not response.status:
            raise response.take_error()
    except TransportError:
        error = None if task.cancelled() or not task.done() else task.exception()
        if error is not None:
            raise error from None
        raise
    finally:
        task.remove_done_callback(broken_off)
        task.cancel()
        try:
            await asyncio.wait((task,))
        except BaseException:
            # Nobody gets the response who could close it.
            response.close()
            raise


async def _write(connection: Connection, body: AsyncIterable[bytes], length: int | None) -> None:
    sent = 0
    try:
        async for piece in body:
            if connection.closed:
                return
            if not piece:
                continue
            sent += len(piece)
            if length is None:
                connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            elif sent > length:
                raise ValueError("the body is longer than its content_length")
            else:
                connection.write(piece)
                if sent == length:
                    connection.upload_ended()
                    continue
            await connection.drain()
        if length is None:
            connection.write(b"0\r\n\r\n")
            connection.upload_ended()
        elif sent < length:
            raise ValueError("the body is shorter than its content_length")
        elif not length:
            connection.upload_ended()
    finally:
        if isinstance(body, AsyncGenerator):
            await body.aclose()

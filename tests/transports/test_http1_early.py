"""Answers that come before their request has been sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asgi_llm.testing import Wait, json_reply, sse_reply
from asgi_llm.transports.base import UpstreamRequest
from tests.transports.wires import Wire, fetch, pieces, post, seconds, server_context

LARGE = 16 * 1024 * 1024
ANSWER = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\nno"


class Unread:
    """An upstream that answers the head of a request and reads no further."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(ANSWER)
        await self.over.wait()
        writer.transport.abort()


@asynccontextmanager
async def unread(http1: Wire) -> AsyncIterator[Unread]:
    upstream = Unread()
    context = None if http1.authority is None else server_context(http1.authority)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, ssl=context)
    scheme = "http" if context is None else "https"
    upstream.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield upstream
    finally:
        upstream.over.set()
        server.close()


@pytest.mark.parametrize("as_pieces", [False, True])
async def test_a_request_is_not_sent_behind_the_rest_of_another(
    http1: Wire, as_pieces: bool
) -> None:
    """Where an answer came before the body was sent, its connection serves no other request."""
    async with asyncio.timeout(10), unread(http1) as upstream:
        transport = http1.transport()
        large = UpstreamRequest(
            "POST",
            upstream.url,
            (),
            pieces(bytes(LARGE)) if as_pieces else bytes(LARGE),
            content_length=LARGE if as_pieces else None,
        )
        assert b"no" == await fetch(transport, large)
        small = UpstreamRequest("POST", upstream.url, (), b"small")
        assert b"no" == await fetch(transport, small, seconds(first_byte_seconds=5.0))
        assert 2 == upstream.connections


async def test_a_large_request_that_was_read_keeps_its_connection(http1: Wire) -> None:
    """Also under TLS."""
    async with http1.upstream() as upstream, asyncio.timeout(10):
        transport = http1.transport()
        upstream.script(json_reply({}))
        for _ in range(3):
            await fetch(transport, post(upstream, body=bytes(LARGE)))
        assert 1 == upstream.connections


async def test_cancelled_while_the_source_closes(http1: Wire) -> None:
    """The headers are there and nobody gets them: the connection and its place are given up."""
    closing, closed, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"begin"
            await never.wait()
        finally:
            closing.set()
            await closed.wait()

    async with http1.upstream(answer_early=True) as upstream, asyncio.timeout(5):
        transport = http1.transport(max_connections_per_origin=1)
        upstream.script(sse_reply([b"a", Wait(never)]), json_reply({}))
        request = post(upstream, body=source())
        call = asyncio.ensure_future(transport.send(request, seconds()))
        await closing.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await upstream.until(lambda: not upstream.open_connections)
        assert b"{}" == await fetch(transport, post(upstream))
        closed.set()

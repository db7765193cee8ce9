"""The scripted upstream when connections break, and clients that leave or do not read."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trustme
import uvloop

from asgi_llm.testing import (
    Close,
    ReceivedRequest,
    Reply,
    Reset,
    Upstream,
    Wait,
    json_reply,
    sse_reply,
)

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(upstream: Upstream, context: ssl.SSLContext | None = None) -> Streams:
    async with asyncio.timeout(5):
        return await asyncio.open_connection(upstream.host, upstream.port, ssl=context)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(5):
            await writer.wait_closed()
    except (OSError, ssl.SSLError):
        # The upstream was in the middle of a reply.
        return


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.fixture(params=["plain", "tls"])
def contexts(
    request: pytest.FixtureRequest,
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    if request.param == "plain":
        return None, None
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


async def test_a_reset_is_a_reset(contexts: Contexts) -> None:
    """The client reads what came before, then gets ECONNRESET, before and in the middle of it."""
    server, trusting = contexts
    async with Upstream(ssl_context=server) as upstream:
        upstream.script(json_reply("x", before=[Reset()]), sse_reply([b"data: 1\n\n", Reset()]))
        reader, writer = await connect(upstream, trusting)
        writer.write(GET)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)
        await hang_up(writer)
        reader, writer = await connect(upstream, trusting)
        writer.write(GET)
        assert b"data: 1\n\n\r\n" in await asyncio.wait_for(reader.readuntil(b"\n\n\r\n"), 5)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)
        await hang_up(writer)
        rows = await upstream.served(2)
        assert [(None, True), (200, True)] == [(row.status, row.cut) for row in rows]
        assert 0 == rows[0].sent_bytes
        await upstream.until(lambda: upstream.open_connections == 0)


async def test_an_early_close_is_a_clean_end_of_the_connection(contexts: Contexts) -> None:
    """The client sees the end of the stream, not an error; the row is cut, not left."""
    server, trusting = contexts
    async with Upstream(ssl_context=server) as upstream:
        upstream.script(Reply(body=[b"half", Close(), b"rest"]))
        reader, writer = await connect(upstream, trusting)
        writer.write(GET)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.endswith(b"content-length: 8\r\n\r\nhalf")
        (row,) = await upstream.served(1)
        assert (False, False, True) == (row.complete, row.client_left, row.cut)
        assert len(answer) == row.sent_bytes
        await hang_up(writer)


async def test_tls_can_be_truncated() -> None:
    """``Close(notify=False)`` leaves out close_notify, which a TLS peer can tell."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    def read_all(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            client.wrap_socket(
                plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            ) as sealed,
        ):
            sealed.sendall(GET)
            data = b""
            while piece := sealed.recv(65536):
                data += piece
            return data

    async with Upstream(ssl_context=server) as upstream:
        upstream.script(Reply(body=[b"ab", Close()]), Reply(body=[b"ab", Close(notify=False)]))
        assert (await asyncio.to_thread(read_all, upstream.port)).endswith(b"ab")
        with pytest.raises(ssl.SSLEOFError):
            await asyncio.to_thread(read_all, upstream.port)
        await upstream.served(2)


@pytest.mark.parametrize("leave", ["fin", "rst"])
async def test_a_client_that_leaves_is_noticed_while_the_reply_waits(
    contexts: Contexts, leave: str
) -> None:
    """In the middle of a stalled stream: the row says so and the connection is gone."""
    server, trusting = contexts
    async with Upstream(ssl_context=server) as upstream:
        upstream.script(sse_reply([{"a": 1}, Wait(asyncio.Event())]))
        reader, writer = await connect(upstream, trusting)
        writer.write(GET)
        await asyncio.wait_for(reader.readuntil(b"\n\n\r\n"), 5)
        if leave == "rst":
            reset(writer)
        await hang_up(writer)
        (row,) = await upstream.served(1)
        assert (False, True, False) == (row.complete, row.client_left, row.cut)
        assert [{"a": 1}] == row.documents
        await upstream.until(lambda: upstream.open_connections == 0)


async def test_a_handler_is_cancelled_when_its_client_leaves() -> None:
    """Before a byte was sent; the handler's own cleaning up runs."""
    cancelled = asyncio.Event()

    async def handler(request: ReceivedRequest) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError("unreachable")

    async with Upstream(handler) as upstream:
        _, writer = await connect(upstream)
        writer.write(GET)
        await upstream.arrived(1)
        await hang_up(writer)
        (row,) = await upstream.served(1)
        assert (None, 0, True) == (row.status, row.sent_bytes, row.client_left)
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_client_that_leaves_during_its_upload_is_noticed() -> None:
    """The row is there from the headers on, and counts what had arrived."""
    async with Upstream() as upstream:
        _, writer = await connect(upstream)
        writer.write(b"POST / HTTP/1.1\r\ncontent-length: 100\r\n\r\nabc")
        await upstream.until(lambda: upstream.ledger and upstream.ledger[0].request.body_bytes)
        await hang_up(writer)
        (row,) = await upstream.served(1)
        assert (b"abc", False, True) == (row.request.body, row.request.complete, row.client_left)


async def test_a_client_that_leaves_before_anything_has_no_row() -> None:
    """An idle connection that closes is nothing to tell."""
    async with Upstream() as upstream:
        _, writer = await connect(upstream)
        await upstream.until(lambda: upstream.open_connections == 1)
        await hang_up(writer)
        await upstream.until(lambda: upstream.open_connections == 0)
        assert [] == upstream.ledger


async def test_a_reader_that_stops_stops_the_upstream(contexts: Contexts) -> None:
    """sent_bytes stands still while the client does not read, goes on with it, then it leaves."""
    server, trusting = contexts
    taken = itertools.count(1)
    body = (b"x" * 10_000 for _ in taken)
    async with Upstream(ssl_context=server, send_buffer_bytes=8192) as upstream:
        upstream.script(Reply(body=body, framing="chunked"))
        reader, writer = await connect(upstream, trusting)
        writer.write(GET)
        (row,) = await upstream.arrived(1)
        await upstream.until(lambda: row.blocked)
        stopped = row.sent_bytes
        for _ in range(100):
            await asyncio.sleep(0)
        assert stopped == row.sent_bytes
        assert next(taken) * 10_000 < stopped + 40_000
        read = 0
        while row.sent_bytes == stopped:
            read += len(await asyncio.wait_for(reader.read(65536), 5))
        assert read > 0
        await upstream.until(lambda: row.blocked)
        writer.transport.abort()
        await upstream.served(1)
        assert row.client_left
        assert not row.complete
        await hang_up(writer)


async def test_idle_connections_can_be_dropped() -> None:
    """The client sees the end on a connection at rest; one in use goes on."""
    go_on = asyncio.Event()
    async with Upstream() as upstream:
        upstream.script(json_reply("ok"), json_reply("slow", before=[Wait(go_on)]))
        idle_reader, idle = await connect(upstream)
        idle.write(GET)
        await asyncio.wait_for(idle_reader.readuntil(b'"ok"'), 5)
        busy_reader, busy = await connect(upstream)
        busy.write(GET)
        await upstream.arrived(2)
        await upstream.drop_connections()
        assert b"" == await asyncio.wait_for(idle_reader.read(), 5)
        assert 1 == upstream.open_connections
        go_on.set()
        await asyncio.wait_for(busy_reader.readuntil(b'"slow"'), 5)
        await hang_up(idle)
        await hang_up(busy)


async def test_an_upstream_can_go_down_and_come_back() -> None:
    """New connections are refused at the same address, then accepted again."""
    async with Upstream() as upstream:
        upstream.script(json_reply("ok"))
        url = upstream.url
        upstream.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await connect(upstream)
        upstream.listen()
        reader, writer = await connect(upstream)
        writer.write(GET)
        await asyncio.wait_for(reader.readuntil(b'"ok"'), 5)
        assert url == upstream.url
        await hang_up(writer)


async def test_closing_ends_every_connection_and_task(contexts: Contexts) -> None:
    """Idle, stalled, blocked and handled ones; nothing of it is left, and rows say cut."""
    server, trusting = contexts

    async def handler(request: ReceivedRequest) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    before = asyncio.all_tasks()
    writers = []
    async with Upstream(handler, ssl_context=server, send_buffer_bytes=4096) as upstream:
        upstream.script(
            json_reply("x", before=[Wait(asyncio.Event())]),
            Reply(body=itertools.repeat(b"x" * 9000), framing="chunked"),
        )
        for n in range(4):
            _, writer = await connect(upstream, trusting)
            writers.append(writer)
            if n < 3:
                writer.write(GET)
                await upstream.arrived(n + 1)
        await upstream.until(lambda: upstream.ledger[1].blocked)
        assert 4 == upstream.open_connections
    assert 0 == upstream.open_connections
    assert [(False, True)] * 3 == [(row.client_left, row.cut) for row in upstream.ledger]
    assert before == asyncio.all_tasks()
    for writer in writers:
        await hang_up(writer)
    with pytest.raises(ConnectionRefusedError):
        await connect(upstream)
    gc.collect()


Case = Callable[[Contexts], Coroutine[Any, Any, None]]


@pytest.mark.parametrize(
    "case",
    [
        test_a_reset_is_a_reset,
        test_an_early_close_is_a_clean_end_of_the_connection,
        test_a_reader_that_stops_stops_the_upstream,
        test_closing_ends_every_connection_and_task,
    ],
)
def test_faults_on_uvloop(case: Case, contexts: Contexts) -> None:
    """The same facts hold on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(case(contexts))

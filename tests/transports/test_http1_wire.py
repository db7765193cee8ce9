"""What the HTTP/1.1 transport writes, and what it refuses to read."""

from __future__ import annotations

import asyncio
import math
import os
import random
import socket
import time
from collections.abc import AsyncIterator

import pytest
import trustme

from asgi_llm.testing import Close, Reply, Reset, Upstream, Wait, json_reply, raw_reply, sse_reply
from asgi_llm.transports import _dial
from asgi_llm.transports._connection import Connection
from asgi_llm.transports._pool import Keeper, PoolOptions
from asgi_llm.transports._target import Origin
from asgi_llm.transports.base import (
    ConnectError,
    TransportTimeoutError,
    UpstreamProtocolError,
    UpstreamRequest,
)
from asgi_llm.transports.http1 import Http1Transport
from tests.transports.wires import (
    Wire,
    client_context,
    fetch,
    pieces,
    post,
    seconds,
    server_context,
)

OPTIONS = PoolOptions(
    max_connections_per_origin=2,
    max_idle_per_origin=2,
    idle_expiry_seconds=30.0,
    max_header_bytes=65536,
    high_water_bytes=65536,
    clock=time.monotonic,
)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n"


async def test_small_request_is_one_write() -> None:
    """Head and body leave together, in this very form."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    transport = Http1Transport()
    request = UpstreamRequest("POST", f"http://127.0.0.1:{port}/a?b", [(b"x", b"y")], b"{}")
    async with asyncio.timeout(5):
        call = asyncio.ensure_future(fetch(transport, request))
        peer, _ = await loop.sock_accept(listener)
        received = await loop.sock_recv(peer, 65536)
        await loop.sock_sendall(peer, OK + b"content-length: 2\r\n\r\nok")
        assert b"ok" == await call
        peer.close()
    await transport.aclose()
    listener.close()
    head = f"POST /a?b HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nx: y\r\ncontent-length: 2\r\n\r\n"
    assert head.encode() + b"{}" == received


async def test_nagle_is_off(http1: Wire) -> None:
    """Small writes are not held back for the peer's acknowledgement."""
    async with http1.upstream() as upstream:
        transport = http1.transport()
        upstream.script(json_reply({}, before=[Wait(gate := asyncio.Event())]))
        call = asyncio.ensure_future(transport.send(post(upstream), seconds()))
        await upstream.arrived(1)
        [connection] = transport._keeper.open  # type: ignore[attr-defined]
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            assert 1 == same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        gate.set()
        await call


async def test_tls_names_and_protocol(authority: trustme.CA) -> None:
    """The server name and HTTP/1.1 are offered, and the certificate is checked by name."""
    offered: list[str | None] = []
    context = server_context(authority, "localhost")
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda tls, name, context: offered.append(name)
    with authority.cert_pem.tempfile() as ca_file:
        transport = Http1Transport(ca_file=ca_file)
    async with Upstream(ssl_context=context) as upstream:
        upstream.script(json_reply({}))
        request = UpstreamRequest("GET", f"https://localhost:{upstream.port}/", [])
        assert b"{}" == await fetch(transport, request)
    await transport.aclose()
    assert offered == ["localhost"]


async def test_other_protocols_are_refused(authority: trustme.CA) -> None:
    """A context that lets the upstream choose HTTP/2 is found out before anything is sent."""
    server = server_context(authority)
    server.set_alpn_protocols(["h2"])
    context = client_context(authority)
    context.set_alpn_protocols(["h2"])
    transport = Http1Transport(ssl_context=context)
    async with Upstream(ssl_context=server) as upstream:
        with pytest.raises(ConnectError, match="h2"):
            await transport.send(post(upstream), seconds())
        assert upstream.ledger == []
    await transport.aclose()


async def test_default_context_verifies(authority: trustme.CA) -> None:
    """Without options a certificate of an unknown authority is refused."""
    transport = Http1Transport()
    async with Upstream(ssl_context=server_context(authority)) as upstream:
        with pytest.raises(ConnectError, match="certificate"):
            await transport.send(post(upstream), seconds())
    await transport.aclose()


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="no ::1 on this machine")
async def test_ipv6(http1: Wire) -> None:
    """A literal IPv6 address is called, and named in brackets."""
    async with http1.upstream(host="::1") as upstream:
        upstream.script(json_reply({}))
        assert b"{}" == await fetch(http1.transport(), post(upstream))
        assert upstream.ledger[0].request.header("host") == b"[::1]:%d" % upstream.port


async def test_name_with_addresses_of_both_families() -> None:
    """``localhost`` is reached although nobody listens on one of its addresses."""
    transport = Http1Transport()
    async with Upstream() as upstream:
        upstream.script(json_reply({}))
        request = UpstreamRequest("GET", f"http://localhost:{upstream.port}/", [])
        assert b"{}" == await fetch(transport, request)
    await transport.aclose()


async def test_silent_address_does_not_hold_up_the_next() -> None:
    """The next address is tried beside one that says nothing; the first that stands wins."""
    tried: list[str] = []
    ended: list[str] = []
    won = Connection.__new__(Connection)

    async def connect(address: str, family: int) -> Connection:
        tried.append(address)
        if address == "silent":
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(address)
        if address == "refused":
            raise ConnectionRefusedError(address)
        return won

    async with asyncio.timeout(5):
        addresses = [(name, 0) for name in ("silent", "refused", "good", "unused")]
        assert won is await _dial.race(connect, addresses, stagger_seconds=0.01)
        await asyncio.sleep(0)
    assert tried == ["silent", "refused", "good"]
    assert ended == ["silent"]


async def test_only_one_connection_is_kept() -> None:
    """A connection that stands as late as the winner's is closed."""
    async with Upstream() as upstream, asyncio.timeout(5):
        keeper = Keeper(asyncio.get_running_loop(), OPTIONS)
        pool = keeper.pool(Origin("http", upstream.host, upstream.port), None)
        both = asyncio.Event()
        made: list[Connection] = []

        async def connect(address: str, family: int) -> Connection:
            connection = await pool.open(seconds(), math.inf, math.inf)
            made.append(connection)
            if len(made) == 2:
                both.set()
            await both.wait()
            return connection

        won = await _dial.race(connect, [("one", 0), ("two", 0)], stagger_seconds=0.01)
        await upstream.until(lambda: upstream.open_connections == 1)
        assert [one.closed for one in made] == [one is not won for one in made]
        await keeper.aclose()


async def test_all_addresses_fail() -> None:
    """The first failure is the one that is told."""

    async def connect(address: str, family: int) -> Connection:
        raise ConnectionRefusedError(address)

    with pytest.raises(ConnectionRefusedError, match="one"):
        await _dial.race(connect, [("one", 0), ("two", 0)])


async def test_name_that_cannot_be_resolved() -> None:
    """A host name that is none is a ConnectError."""
    transport = Http1Transport()
    with pytest.raises(ConnectError):
        await transport.send(UpstreamRequest("GET", f"http://{'a' * 70}.invalid/", []), seconds())
    await transport.aclose()


@pytest.mark.parametrize(
    "response",
    [
        OK + b"x: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
        OK + b"content-length: 0\r\n\t\r\n\r\n",
        OK + b"content-length: 2\r\ncontent-length: 2\r\n\r\nab",
        OK + b"content-length: 2, 2\r\n\r\nab",
        OK + b"content-length: +2\r\n\r\nab",
        OK + b"content-length: 0x2\r\n\r\nab",
        OK + b"content-length:\r\n\r\nab",
        OK + b"content-length: 99999999999999999999999\r\n\r\nab",
        OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: identity\r\n\r\nab",
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 099 X\r\ncontent-length: 3\r\n\r\nabc" + OK + b"content-length: 0\r\n\r\n",
        b"RTSP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"ICE/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        OK + b"x: a\rb\r\ncontent-length: 0\r\n\r\n",
        OK + b"x: a\x00b\r\ncontent-length: 0\r\n\r\n",
        OK + b": a\r\ncontent-length: 0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("split", [None, 1])
async def test_b21_ambiguous_head(http1: Wire, response: bytes, split: int | None) -> None:
    """A head that two readers could take in two ways is refused, however it is cut."""
    async with http1.upstream() as upstream:
        upstream.script(raw_reply(response, split=split))
        with pytest.raises(UpstreamProtocolError):
            await http1.transport().send(post(upstream), seconds())


@pytest.mark.parametrize(
    "body",
    [
        b"2\nab\r\n0\r\n\r\n",
        b"2\r\nab\n0\r\n\r\n",
        b"2 \r\nab\r\n0\r\n\r\n",
        b"0x2\r\nab\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nab\r\n",
        b"\r\nab\r\n0\r\n\r\n",
        b"2\r\nabc\r\n0\r\n\r\n",
        b"2\r\nab\r\n0\r\nx: y\n\r\n",
    ],
)
@pytest.mark.parametrize("split", [None, 1])
async def test_ambiguous_chunks(http1: Wire, body: bytes, split: int | None) -> None:
    """Sloppy chunk framing is refused, however it is cut."""
    async with http1.upstream() as upstream:
        upstream.script(raw_reply(CHUNKED + b"\r\n" + body, split=split))
        with pytest.raises(UpstreamProtocolError):
            await fetch(http1.transport(), post(upstream))


async def test_trailers_are_dropped(http1: Wire) -> None:
    """Extensions and trailers are no part of the answer, nor of the next one on the connection."""
    body = b"2;a=b\r\nab\r\n0\r\nx-late: 1\r\n\r\n"
    async with http1.upstream() as upstream:
        transport = http1.transport()
        upstream.script(raw_reply(CHUNKED + b"\r\n" + body, close=False), json_reply({}))
        response = await transport.send(post(upstream), seconds())
        assert b"ab" == await response.read(10)
        again = await transport.send(post(upstream), seconds())
        assert b"{}" == await again.read(10)
        assert upstream.connections == 1
    assert [(b"transfer-encoding", b"chunked")] == response.headers
    assert b"x-late" not in dict(again.headers)


async def test_http_1_0(http1: Wire) -> None:
    """An HTTP/1.0 answer is read, and its connection kept only where it says so."""
    async with http1.upstream() as upstream:
        transport = http1.transport()
        old = b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n"
        upstream.script(
            raw_reply(old + b"connection: keep-alive\r\n\r\nok", close=False),
            raw_reply(old + b"\r\nok", close=False),
            raw_reply(b"HTTP/1.0 200 OK\r\n\r\nok"),
        )
        assert [b"ok"] * 3 == [await fetch(transport, post(upstream)) for _ in range(3)]
        assert upstream.connections == 2


@pytest.mark.parametrize(
    "body",
    [
        b"0\r\n" + b"x: " + b"y" * 100_000,
        b"0\r\n" + b"x: y\r\n" * 50_000,
        b"2;" + b"e" * 100_000,
    ],
    ids=["one long trailer", "many trailers", "long extension"],
)
async def test_endless_trailers(http1: Wire, body: bytes) -> None:
    """Trailers and chunk extensions have the cap of headers."""
    async with http1.upstream() as upstream:
        stall = Wait(asyncio.Event())
        upstream.script(raw_reply([CHUNKED + b"\r\n2\r\nab\r\n", body, stall]))
        with pytest.raises(UpstreamProtocolError):
            await fetch(http1.transport(max_header_bytes=65536), post(upstream))


@pytest.mark.parametrize("split", [None, 1000])
@pytest.mark.parametrize(
    ("head", "fits"),
    [
        (OK + b"x: " + b"y" * 1900 + b"\r\n", True),
        (OK + b"x: " + b"y" * 2100 + b"\r\n", False),
        (OK + b"x: y\r\n" * 300, False),
        (b"HTTP/1.1 200 " + b"O" * 2100 + b"\r\n", False),
        (b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n" * 300 + OK, False),
    ],
    ids=["just fits", "one long", "many", "long reason", "many interim"],
)
async def test_b21_header_cap(http1: Wire, head: bytes, fits: bool, split: int | None) -> None:
    """The cap counts status lines and headers, not the body that comes in the same read."""
    body = b"z" * 5000
    response = head + b"content-length: 5000\r\n\r\n" + body
    async with http1.upstream() as upstream:
        upstream.script(raw_reply(response, split=split))
        transport = http1.transport(max_header_bytes=2048)
        if fits:
            assert body == await fetch(transport, post(upstream))
        else:
            with pytest.raises(UpstreamProtocolError):
                await transport.send(post(upstream), seconds())


async def test_slow_headers_run_into_first_byte(http1: Wire) -> None:
    """A head that comes drop by drop does not put the deadline off."""
    dripping = asyncio.Event()
    async with http1.upstream() as upstream:
        upstream.script(raw_reply([OK, b"x: y\r\n", b"x: y\r\n", Wait(dripping)]))
        with pytest.raises(TransportTimeoutError) as caught:
            await http1.transport().send(post(upstream), seconds(first_byte_seconds=0.1))
    assert caught.value.phase == "first_byte"


async def test_first_byte_later_than_idle(http1: Wire) -> None:
    """``idle`` does not bound the wait for the first byte, though one timer keeps both."""
    gate = asyncio.Event()
    async with http1.upstream() as upstream, asyncio.timeout(5):
        upstream.script(json_reply({}, before=[Wait(gate)]))
        asyncio.get_running_loop().call_later(0.15, gate.set)
        body = await fetch(http1.transport(), post(upstream), seconds(idle_seconds=0.05))
    assert body == b"{}"


async def test_a14_slow_reader_is_not_the_upstreams_fault(http1: Wire) -> None:
    """The idle deadline counts from when the reader waits, not while it is busy elsewhere."""
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with http1.upstream() as upstream, asyncio.timeout(5):
        upstream.script(sse_reply([b"a", Wait(gate), b"b"], done=False))
        response = await http1.transport().send(post(upstream), seconds(idle_seconds=0.1))
        chunks = aiter(response)
        assert await anext(chunks) == b"a"
        busy = loop.create_future()
        loop.call_later(0.3, busy.set_result, None)
        await busy
        loop.call_soon(gate.set)
        assert await anext(chunks) == b"b"
        await response.aclose()


async def test_deadlines_of_a_reused_connection(http1: Wire) -> None:
    """A shorter deadline of a later request holds on a connection with an older timer."""
    async with http1.upstream() as upstream, asyncio.timeout(5):
        transport = http1.transport()
        upstream.script(json_reply({}), json_reply({}, before=[Wait(asyncio.Event())]))
        await fetch(transport, post(upstream), seconds())
        with pytest.raises(TransportTimeoutError):
            await fetch(transport, post(upstream), seconds(first_byte_seconds=0.05))
        assert upstream.connections == 1


async def test_no_deadlines(http1: Wire) -> None:
    """None is no deadline, in all phases."""
    none = seconds(
        connect_seconds=None, first_byte_seconds=None, idle_seconds=None, total_seconds=None
    )
    async with http1.upstream() as upstream:
        upstream.script(sse_reply([b"a", b"b"], done=False))
        assert b"ab" == await fetch(http1.transport(), post(upstream), none)


@pytest.mark.parametrize("length", [None, 1000])
async def test_early_answer_ends_the_upload(http1: Wire, length: int | None) -> None:
    """An answer that comes before the body is sent is handed on, and the connection closed."""
    never = asyncio.Event()
    source = pieces(b"begin", then=never)
    async with http1.upstream(answer_early=True) as upstream, asyncio.timeout(5):
        transport = http1.transport()
        upstream.script(json_reply({"error": "too large"}, status=413))
        request = post(upstream, body=source, content_length=length)
        response = await transport.send(request, seconds())
        assert response.status == 413
        assert b'{"error":"too large"}' == await response.read(100)
        await response.aclose()
        await upstream.until(lambda: not upstream.open_connections)
    with pytest.raises(StopAsyncIteration):
        await anext(source)


async def test_answer_at_the_last_byte_keeps_the_connection(http1: Wire) -> None:
    """With its length known, a body is sent when that is reached, whatever its source does."""
    never = asyncio.Event()
    async with http1.upstream() as upstream, asyncio.timeout(5):
        transport = http1.transport()
        upstream.script(json_reply({}))
        for _ in range(2):
            body = pieces(b"ab", b"c", then=never)
            await fetch(transport, post(upstream, body=body, content_length=3))
        assert upstream.connections == 1


async def test_upload_waits_for_the_upstream(http1: Wire) -> None:
    """A body is not taken from its source faster than the upstream reads it."""
    taken = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield b"x" * 65536

    listener = socket.create_server(("127.0.0.1", 0))
    transport = Http1Transport()
    request = UpstreamRequest(
        "POST", f"http://127.0.0.1:{listener.getsockname()[1]}/", [], source()
    )
    # Nobody reads: the socket fills up, and the upstream's slowness counts as no answer.
    with pytest.raises(TransportTimeoutError) as caught:
        await transport.send(request, seconds(first_byte_seconds=0.2))
    assert caught.value.phase == "first_byte"
    assert 0 < taken < 500
    await transport.aclose()
    listener.close()


async def test_slow_source_is_not_the_upstreams_fault(http1: Wire) -> None:
    """Waiting for the request's own body does not count towards ``first_byte``."""
    gate = asyncio.Event()
    async with http1.upstream() as upstream, asyncio.timeout(5):
        upstream.script(json_reply({}))
        asyncio.get_running_loop().call_later(0.3, gate.set)
        request = post(upstream, body=pieces(b"ab", then=gate))
        assert b"{}" == await fetch(
            http1.transport(), request, seconds(first_byte_seconds=0.1, idle_seconds=0.1)
        )
        assert upstream.ledger[0].request.body == b"ab"


async def test_cancelled_upload(http1: Wire) -> None:
    """Cancelling an upload closes its source and leaves the upstream."""
    source = pieces(b"begin", then=asyncio.Event())
    async with http1.upstream() as upstream, asyncio.timeout(5):
        call = asyncio.ensure_future(http1.transport().send(post(upstream, body=source), seconds()))
        await upstream.arrived(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        rows = await upstream.served(1)
        assert rows[0].client_left
    with pytest.raises(StopAsyncIteration):
        await anext(source)


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1/", "/v1/x", "http://", "http://u:p@127.0.0.1/", "http://127.0.0.1:x/", ""],
)
async def test_urls_that_cannot_be_called(url: str) -> None:
    """A URL that is not absolute http or https, or holds a password, is refused."""
    transport = Http1Transport()
    with pytest.raises(ValueError):
        await transport.send(UpstreamRequest("GET", url, []), seconds())


@pytest.mark.parametrize(("method", "length"), [("get", None), ("G T", None), ("POST", -1)])
async def test_other_fields_that_cannot_be_sent(method: str, length: int | None) -> None:
    """A method that is no method and a negative length are refused."""
    transport = Http1Transport()
    request = UpstreamRequest(method, "http://127.0.0.1:1/", [], pieces(), content_length=length)
    with pytest.raises(ValueError, match=r"method|content_length"):
        await transport.send(request, seconds())


async def test_secrets_stay_out_of_errors(http1: Wire) -> None:
    """No error text holds a header, the query or the body of the request."""
    async with http1.upstream() as upstream:
        upstream.script(raw_reply(b"garbage\r\n\r\n"), raw_reply([Reset()]), raw_reply([Close()]))
        request = post(
            upstream, "/x?key=secret", headers=[(b"authorization", b"secret")], body=b"secret"
        )
        transport = http1.transport()
        texts = []
        for _ in range(3):
            with pytest.raises(Exception) as caught:
                await transport.send(request, seconds())
            texts.append(str(caught.value))
        for header in (b"secret\n", b"\0secret"):
            with pytest.raises(ValueError, match="header value") as refused:
                await transport.send(post(upstream, headers=[(b"x", header)]), seconds())
            texts.append(str(refused.value))
    assert [text for text in texts if "secret" in text] == []


async def test_many_urls() -> None:
    """More URLs than are remembered still reach their upstream."""
    async with Upstream(record_bodies=False) as upstream:
        transport = Http1Transport()
        upstream.script(json_reply({}))
        for n in range(1100):
            await fetch(transport, post(upstream, f"/{n}"))
        assert upstream.connections == 1
        assert upstream.ledger[-1].request.target == "/1099"
        await transport.aclose()


async def test_random_splits_and_reads(http1: Wire) -> None:
    """However a stream is cut, and however late it is read, its bytes arrive in order."""
    chance = random.Random(7)
    body = chance.randbytes(200_000)
    async with http1.upstream() as upstream:
        transport = http1.transport(high_water_bytes=512)
        for framing in ("chunked", "length", "close"):
            split = sorted(chance.sample(range(1, len(body)), 300))
            upstream.script(Reply(body=body, framing=framing, split=split))
            response = await transport.send(post(upstream), seconds())
            got = b""
            async for chunk in response:
                got += chunk
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            await response.aclose()
            assert got == body

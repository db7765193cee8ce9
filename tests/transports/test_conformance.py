"""What both drivers promise, over plain connections and TLS, on both loops."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme

from asgi_llm.testing import (
    Close,
    ReceivedRequest,
    Reply,
    Reset,
    Signal,
    Step,
    Upstream,
    Wait,
    json_reply,
    raw_reply,
    sse_reply,
)
from asgi_llm.testing.replies import Framing
from asgi_llm.transports._decoding import decoded
from asgi_llm.transports.base import (
    ConnectError,
    ConnectionLostError,
    ResponseTooLargeError,
    TransportTimeoutError,
    UpstreamProtocolError,
    UpstreamRequest,
)
from tests.transports.wires import Wire, fetch, pieces, post, seconds, server_context

EVENTS = [{"n": n} for n in range(5)]


async def test_answer_arrives(wire: Wire) -> None:
    """Status, header order, duplicates and the body are those that the upstream sent."""
    async with wire.upstream() as upstream:
        headers = [("X-B", "1"), ("X-A", " 2 "), ("x-b", "3")]
        upstream.script(json_reply({"a": "é"}, status=418, headers=headers))
        response = await wire.transport().send(post(upstream), seconds())
        body = await response.read(100)
        await response.aclose()
    assert response.status == 418
    assert [(b"x-b", b"1"), (b"x-a", b"2"), (b"x-b", b"3")] == response.headers[1:4]
    assert '{"a":"é"}'.encode() == body
    assert response.framed


async def test_request_arrives(wire: Wire) -> None:
    """Method, target, headers, host and body reach the upstream as they were given."""
    async with wire.upstream() as upstream:
        upstream.script(json_reply({}))
        headers = [(b"authorization", b"Bearer k"), (b"x-a", b"1"), (b"x-a", b"2")]
        request = post(upstream, "/v1/a%20b?q=%C3%A9&q=2", headers=headers, body=b'{"x":1}')
        await fetch(wire.transport(), request)
        received = upstream.ledger[0].request
    assert (received.method, received.target) == ("POST", "/v1/a%20b?q=%C3%A9&q=2")
    assert received.body == b'{"x":1}'
    assert received.header("host") == upstream.url.partition("//")[2].encode()
    assert received.header("content-length") == b"7"
    assert received.header("transfer-encoding") is None
    assert received.header("cookie") is None
    assert [pair for pair in received.headers if pair[0] in dict(headers)] == headers


async def test_large_bodies_both_ways(wire: Wire) -> None:
    """A megabyte goes up and another comes down, whole."""
    up = random.Random(1).randbytes(1 << 20)
    down = random.Random(2).randbytes(1 << 20)
    async with wire.upstream() as upstream:
        upstream.script(Reply(body=down))
        assert down == await fetch(wire.transport(), post(upstream, body=up))
        assert up == upstream.ledger[0].request.body


async def test_get_has_no_body(wire: Wire) -> None:
    """A GET without a body announces none."""
    async with wire.upstream() as upstream:
        upstream.script(json_reply([]))
        request = UpstreamRequest("GET", upstream.url + "/v1/models", [])
        assert b"[]" == await fetch(wire.transport(), request)
        received = upstream.ledger[0].request
    assert received.header("content-length") is None
    assert received.header("transfer-encoding") is None


async def test_chunk_leaves_before_the_next_is_sent(wire: Wire) -> None:
    """A piece of a stream is handed over although the upstream has not sent the next."""
    gates = [asyncio.Event() for _ in EVENTS]
    steps = [step for gate, n in zip(gates, EVENTS, strict=True) for step in (n, Wait(gate))]
    async with wire.upstream() as upstream, asyncio.timeout(5):
        upstream.script(sse_reply(steps))
        response = await wire.transport().send(post(upstream), seconds())
        chunks = aiter(response)
        seen = []
        for gate in gates:
            seen.append(await anext(chunks))
            gate.set()
        rest = b"".join([chunk async for chunk in chunks])
        await response.aclose()
    assert [b'data: {"n":%d}\n\n' % n for n in range(5)] == seen
    assert rest == b"data: [DONE]\n\n"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("split", [None, 1, 7])
async def test_framing_and_splits(wire: Wire, framing: Framing, split: int | None) -> None:
    """However the body is framed and cut, the same bytes arrive, in pieces that are not empty."""
    async with wire.upstream() as upstream:
        upstream.script(sse_reply(EVENTS, framing=framing, split=split))
        response = await wire.transport().send(post(upstream), seconds())
        chunks = [chunk async for chunk in response]
        await response.aclose()
    whole = b"".join(b'data: {"n":%d}\n\n' % n for n in range(5)) + b"data: [DONE]\n\n"
    assert whole == b"".join(chunks)
    assert all(chunks)
    assert response.framed == (framing != "close")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 204), ("POST", 304)])
async def test_responses_without_a_body(wire: Wire, method: str, status: int) -> None:
    """HEAD, 204 and 304 end with their headers, whatever length those name."""
    async with wire.upstream() as upstream:
        upstream.script(Reply(status=status, headers=[("content-length", "5")]))
        request = UpstreamRequest(method, upstream.url + "/v1/x", [])
        response = await wire.transport().send(request, seconds())
        assert b"" == await response.read(10)
        await response.aclose()
    assert response.status == status
    assert response.framed


async def test_b21_interim_responses_are_skipped(wire: Wire) -> None:
    """100 and 103 come before the response and are no part of it."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with wire.upstream() as upstream:
        upstream.script(json_reply({"a": 1}, before=[early]))
        response = await wire.transport().send(post(upstream), seconds())
        assert b'{"a":1}' == await response.read(10)
        await response.aclose()
    assert response.status == 200
    assert b"link" not in dict(response.headers)


async def test_b21_switching_protocols_is_refused(wire: Wire) -> None:
    """A 101, which nobody asked for, is an error."""
    async with wire.upstream() as upstream:
        head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
        upstream.script(raw_reply(head))
        with pytest.raises(UpstreamProtocolError):
            await wire.transport().send(post(upstream), seconds())


async def test_b9_b21_redirects_are_not_followed(wire: Wire) -> None:
    """A redirect is an answer like any other."""
    async with wire.upstream() as upstream:
        upstream.script(Reply(status=307, headers=[("location", upstream.url + "/elsewhere")]))
        response = await wire.transport().send(post(upstream), seconds())
        await response.read(10)
        await response.aclose()
        assert len(upstream.ledger) == 1
    assert response.status == 307


async def test_cookies_are_not_kept(wire: Wire) -> None:
    """What one answer sets is not sent with the next request."""
    async with wire.upstream() as upstream:
        upstream.script(json_reply({}, headers=[("set-cookie", "session=1; Path=/")]))
        transport = wire.transport()
        for _ in range(2):
            await fetch(transport, post(upstream))
        assert upstream.ledger[1].request.header("cookie") is None


async def test_iterable_body_is_chunked(wire: Wire) -> None:
    """A body of unknown length goes out chunked, piece by piece, empty pieces left out."""
    async with wire.upstream() as upstream:
        upstream.script(json_reply({}))
        await fetch(wire.transport(), post(upstream, body=pieces(b"ab", b"", b"c")))
        received = upstream.ledger[0].request
    assert received.body == b"abc"
    assert received.header("transfer-encoding") == b"chunked"


async def test_iterable_body_with_its_length(wire: Wire) -> None:
    """A body of known length goes out with that length."""
    async with wire.upstream() as upstream:
        upstream.script(json_reply({}))
        body = pieces(b"ab", b"c")
        await fetch(wire.transport(), post(upstream, body=body, content_length=3))
        received = upstream.ledger[0].request
    assert received.body == b"abc"
    assert received.header("content-length") == b"3"


@pytest.mark.parametrize("length", [2, 4])
async def test_iterable_body_of_another_length(wire: Wire, length: int) -> None:
    """A body that is not as long as it was said to be is the caller's error."""
    async with wire.upstream() as upstream:
        upstream.script(json_reply({}))
        with pytest.raises(ValueError, match="than its content_length"):
            body = pieces(b"ab", b"c")
            await wire.transport().send(post(upstream, body=body, content_length=length), seconds())


async def test_failing_body(wire: Wire) -> None:
    """An error of the body's source comes out as it is, and the upstream sees no whole request."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"ab"
        raise LookupError("the source broke")

    async with wire.upstream() as upstream:
        upstream.script(json_reply({}))
        with pytest.raises(LookupError, match="the source broke"):
            await wire.transport().send(post(upstream, body=failing()), seconds())
        await upstream.until(lambda: not upstream.open_connections)
        assert not any(row.request.complete for row in upstream.ledger)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a13_body_over_the_cap(wire: Wire, framing: Framing) -> None:
    """A body over the reader's cap is refused, and the upstream is left."""
    async with wire.upstream() as upstream:
        upstream.script(Reply(body=[b"x" * 1000] * 5000, framing=framing))
        with pytest.raises(ResponseTooLargeError):
            await fetch(wire.transport(), post(upstream), max_bytes=100_000)
        rows = await upstream.served(1)
        assert rows[0].client_left


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_body_at_the_cap(wire: Wire, framing: Framing) -> None:
    """A body of just the cap is not over it."""
    async with wire.upstream() as upstream:
        upstream.script(Reply(body=[b"x" * 1000] * 100, framing=framing))
        body = await fetch(wire.transport(), post(upstream), max_bytes=100_000)
    assert len(body) == 100_000


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("cut", [Close(), Close(notify=False), Reset()])
async def test_b19_body_cut_short(wire: Wire, framing: Framing, cut: Close | Reset) -> None:
    """A framed body that breaks off ends in an error, after the pieces that came."""
    seen = asyncio.Event()
    body: list[Step] = [b"ab", Wait(seen), cut, b"c" * 10]
    async with wire.upstream() as upstream, asyncio.timeout(5):
        upstream.script(Reply(body=body, framing=framing))
        response = await wire.transport().send(post(upstream), seconds())
        chunks = []
        with pytest.raises(ConnectionLostError):
            async for chunk in response:
                chunks.append(chunk)
                seen.set()
        await response.aclose()
    assert chunks == [b"ab"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("cut", [Close(), Reset()])
async def test_b19_body_cut_short_while_read_whole(
    wire: Wire, framing: Framing, cut: Close | Reset
) -> None:
    """Reading it whole fails as well: half an answer is none."""
    async with wire.upstream() as upstream:
        upstream.script(Reply(body=[b"ab", cut, b"c" * 10], framing=framing))
        with pytest.raises(ConnectionLostError):
            await fetch(wire.transport(), post(upstream))


@pytest.mark.parametrize("cut", [Close(), Reset()])
@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\ncontent-type: te"])
async def test_b19_cut_before_the_body(wire: Wire, begin: bytes, cut: Close | Reset) -> None:
    """A connection that ends before or within the headers is lost, and nothing is tried again."""
    async with wire.upstream() as upstream:
        upstream.script(raw_reply([begin, cut] if begin else [cut]))
        with pytest.raises(ConnectionLostError):
            await wire.transport().send(post(upstream), seconds())
        assert len(upstream.ledger) == 1


@pytest.mark.parametrize(
    "response",
    [
        b"garbage\r\n\r\n",
        b"<html>502 Bad Gateway</html>\r\n\r\n",
        b"HTTP/1.1 99 Low\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: rot13\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nname with space: x\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 40_000 + b"\r\n",
    ],
    ids=lambda response: response[:60].decode().strip(),
)
async def test_b21_malformed_response(wire: Wire, response: bytes) -> None:
    """A response that is malformed, ambiguous or has a bomb for headers is refused."""
    async with wire.upstream() as upstream:
        upstream.script(raw_reply(response))
        with pytest.raises(UpstreamProtocolError):
            await wire.transport().send(post(upstream), seconds())


@pytest.mark.parametrize("chunk", [b"xyz\r\nabc\r\n", b"-1\r\n", b"3\r\nabcdef\r\n"])
async def test_malformed_chunk(wire: Wire, chunk: bytes) -> None:
    """A chunk that is none ends the body in an error, not in silence."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with wire.upstream() as upstream:
        upstream.script(raw_reply([head, b"2\r\nab\r\n", chunk, b"0\r\n\r\n"]))
        with pytest.raises(UpstreamProtocolError):
            await fetch(wire.transport(), post(upstream))


async def test_first_byte_deadline(wire: Wire) -> None:
    """An upstream that takes the request and says nothing runs into ``first_byte``."""
    async with wire.upstream() as upstream:
        upstream.script(json_reply({}, before=[Wait(asyncio.Event())]))
        with pytest.raises(TransportTimeoutError) as caught:
            await wire.transport().send(post(upstream), seconds(first_byte_seconds=0.05))
        rows = await upstream.served(1, timeout_seconds=1)
    assert (caught.value.phase, caught.value.seconds) == ("first_byte", 0.05)
    assert rows[0].client_left


@pytest.mark.parametrize("whole", [True, False])
async def test_b19_idle_deadline(wire: Wire, whole: bool) -> None:
    """A stream that stalls runs into ``idle``, after the pieces that came."""
    async with wire.upstream() as upstream:
        upstream.script(sse_reply([b"a", Wait(asyncio.Event())]))
        response = await wire.transport().send(post(upstream), seconds(idle_seconds=0.05))
        chunks: list[bytes] = []
        with pytest.raises(TransportTimeoutError) as caught:
            if whole:
                await response.read(100)
            else:
                chunks.extend([chunk async for chunk in response])
        await response.aclose()
        rows = await upstream.served(1, timeout_seconds=1)
    assert (caught.value.phase, caught.value.seconds) == ("idle", 0.05)
    assert rows[0].client_left


async def test_pieces_put_the_idle_deadline_off(wire: Wire) -> None:
    """A stream may take far longer than ``idle`` as long as something keeps coming."""
    limit = 0.1
    loop = asyncio.get_running_loop()
    gates = [asyncio.Event() for _ in range(6)]
    async with wire.upstream() as upstream, asyncio.timeout(5):
        upstream.script(sse_reply([step for gate in gates for step in (b"x", Wait(gate))]))
        response = await wire.transport().send(post(upstream), seconds(idle_seconds=limit))
        started = loop.time()
        chunks = aiter(response)
        for gate in gates:
            await anext(chunks)
            loop.call_later(limit / 2, gate.set)
        rest = [chunk async for chunk in chunks]
        await response.aclose()
    assert rest == [b"data: [DONE]\n\n"]
    assert loop.time() - started > 2 * limit


@pytest.mark.parametrize("begun", [True, False])
async def test_total_deadline(wire: Wire, begun: bool) -> None:
    """The whole call is bounded, before the first byte and within the body."""
    stall = Wait(asyncio.Event())
    async with wire.upstream() as upstream:
        upstream.script(sse_reply([b"a", stall]) if begun else sse_reply([], before=[stall]))
        with pytest.raises(TransportTimeoutError) as caught:
            await fetch(wire.transport(), post(upstream), seconds(total_seconds=0.1))
    assert caught.value.phase == "total"


async def test_connect_deadline(wire: Wire) -> None:
    """A host that does not answer, or not in TLS, runs into ``connect``."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = []
        if wire.authority is None:
            # Full queue: the system lets further handshakes wait.
            for _ in range(3):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(address)
                fillers.append(filler)
        scheme = "http" if wire.authority is None else "https"
        request = UpstreamRequest("GET", f"{scheme}://127.0.0.1:{address[1]}/", [])
        with pytest.raises(TransportTimeoutError) as caught:
            await wire.transport().send(request, seconds(connect_seconds=0.1))
        for filler in fillers:
            filler.close()
    assert (caught.value.phase, caught.value.seconds) == ("connect", 0.1)


async def test_refused_connection(wire: Wire) -> None:
    """A port where nobody listens is a ConnectError."""
    async with wire.upstream() as upstream:
        request = post(upstream)
    with pytest.raises(ConnectError):
        await wire.transport().send(request, seconds())


async def test_b18_cancelled_before_the_answer(wire: Wire) -> None:
    """Cancelling ``send`` leaves the upstream at once."""
    async with wire.upstream() as upstream:
        upstream.script(json_reply({}, before=[Wait(asyncio.Event())]))
        task = asyncio.ensure_future(wire.transport().send(post(upstream), seconds()))
        await upstream.arrived(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rows = await upstream.served(1, timeout_seconds=1)
        assert rows[0].client_left
        await upstream.until(lambda: not upstream.open_connections, timeout_seconds=1)


@pytest.mark.parametrize("whole", [True, False])
async def test_b17_cancelled_in_the_body(wire: Wire, whole: bool) -> None:
    """Cancelling the reader leaves the upstream at once."""
    sent = asyncio.Event()

    async def read() -> None:
        response = await wire.transport().send(post(upstream), seconds())
        try:
            if whole:
                await response.read(100)
            else:
                async for _ in response:
                    pass
        finally:
            await response.aclose()

    async with wire.upstream() as upstream:
        upstream.script(sse_reply([b"a", Signal(sent), Wait(asyncio.Event())]))
        task = asyncio.ensure_future(read())
        await asyncio.wait_for(sent.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rows = await upstream.served(1, timeout_seconds=1)
        assert rows[0].client_left


async def test_closed_before_its_end(wire: Wire) -> None:
    """Closing a response that is not read to its end leaves the upstream, and is idempotent."""
    async with wire.upstream() as upstream:
        upstream.script(sse_reply([b"a", Wait(asyncio.Event())]))
        response = await wire.transport().send(post(upstream), seconds())
        assert await anext(aiter(response)) == b"a"
        await response.aclose()
        await response.aclose()
        rows = await upstream.served(1, timeout_seconds=1)
        assert rows[0].client_left
        await upstream.until(lambda: not upstream.open_connections, timeout_seconds=1)


async def test_connection_is_used_again(wire: Wire) -> None:
    """One connection serves requests one after the other, streams included."""
    async with wire.upstream() as upstream:
        transport = wire.transport()
        upstream.script(json_reply({}), sse_reply(EVENTS), Reply(status=204), json_reply({}))
        for _ in range(4):
            await fetch(transport, post(upstream))
        assert upstream.connections == 1


async def test_connection_with_an_unread_body_is_not_used_again(wire: Wire) -> None:
    """After an early close the next request does not see the rest of the last answer."""
    async with wire.upstream() as upstream:
        transport = wire.transport()
        upstream.script(sse_reply([b"a", Wait(asyncio.Event())]), json_reply({"fresh": True}))
        response = await transport.send(post(upstream), seconds())
        await response.aclose()
        assert b'{"fresh":true}' == await fetch(transport, post(upstream))
        assert upstream.connections == 2


async def test_connection_that_the_upstream_closes_is_not_used_again(wire: Wire) -> None:
    """Neither after ``connection: close`` nor after it has dropped idle ones is there an error."""
    async with wire.upstream() as upstream:
        transport = wire.transport()
        upstream.script(json_reply({}, keep_alive=False), json_reply({}))
        await fetch(transport, post(upstream))
        await fetch(transport, post(upstream))
        await upstream.drop_connections()
        await fetch(transport, post(upstream))
        assert upstream.connections == 3


async def test_many_at_once_do_not_mix(wire: Wire) -> None:
    """Fifty requests at once each get their own answer."""

    def echo(request: ReceivedRequest) -> Reply:
        return sse_reply([request.json()] * 3, split=random.Random(request.body))

    async def ask(number: int) -> bool:
        body = await fetch(transport, post(upstream, body=b'{"n":%d}' % number))
        return body == b'data: {"n":%d}\n\n' % number * 3 + b"data: [DONE]\n\n"

    async with wire.upstream(echo) as upstream, asyncio.timeout(20):
        transport = wire.transport()
        assert [True] * 50 == await asyncio.gather(*(ask(n) for n in range(50)))


async def test_a14_slow_reader_slows_the_upstream(wire: Wire) -> None:
    """What is not asked for is not read: the upstream's writes block until it is."""
    chunk = b"x" * 65536
    async with wire.upstream(send_buffer_bytes=65536) as upstream:
        upstream.script(Reply(body=[chunk] * 400, framing="chunked"))
        response = await wire.transport().send(post(upstream), seconds())
        chunks = aiter(response)
        size = len(await anext(chunks))
        row = upstream.ledger[0]
        await upstream.until(lambda: row.blocked)
        held = row.sent_bytes
        assert held < 200 * len(chunk)
        async for part in chunks:
            size += len(part)
        await response.aclose()
    assert size == 400 * len(chunk)


async def test_reading_whole_after_a_slow_start(wire: Wire) -> None:
    """A response that was left alone until the upstream blocked can still be read whole."""
    chunk = b"x" * 65536
    async with wire.upstream(send_buffer_bytes=65536) as upstream:
        upstream.script(Reply(body=[chunk] * 200, framing="chunked"))
        response = await wire.transport().send(post(upstream), seconds())
        await upstream.until(lambda: upstream.ledger[0].blocked)
        body = await response.read(1 << 24)
        await response.aclose()
    assert body == chunk * 200


async def test_encoding_is_left_to_the_reader(wire: Wire) -> None:
    """A compressed body arrives as it was sent, and ``decoded`` undoes it."""
    async with wire.upstream() as upstream:
        transport = wire.transport()
        upstream.script(json_reply({"a": 1}, gzip=True))
        raw = await fetch(transport, post(upstream))
        response = decoded(await transport.send(post(upstream), seconds()))
        plain = await response.read(100)
        await response.aclose()
        assert upstream.ledger[0].request.header("accept-encoding") in (None, b"identity")
    assert gzip.decompress(raw) == plain == b'{"a":1}'
    assert b"content-encoding" not in dict(response.headers)


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": [(b"x", b"a\r\nb: c")]},
        {"headers": [(b"x", b"a\nb")]},
        {"headers": [(b"x", b"a\0b")]},
        {"headers": [(b"x\r\ny", b"a")]},
        {"headers": [(b"x y", b"a")]},
        {"headers": [(b"x:", b"a")]},
        {"headers": [(b"", b"a")]},
        {"headers": [(b"content-length", b"5")]},
        {"headers": [(b"transfer-encoding", b"chunked")]},
        {"headers": [(b"host", b"other")]},
        {"path": "/a b"},
        {"path": "/a\r\nx: y"},
        {"path": "/é"},
    ],
)
async def test_a17_nothing_can_be_injected(wire: Wire, fields: dict[str, Any]) -> None:
    """A header or URL that would change the request is refused before anything is sent."""
    async with wire.upstream() as upstream:
        with pytest.raises(ValueError, match=r"header|URL"):
            await wire.transport().send(post(upstream, **fields), seconds())
        assert upstream.connections == 0


async def test_transport_closes_what_is_open(wire: Wire) -> None:
    """Closing the transport leaves no connection, idle or busy, and is idempotent."""
    async with wire.upstream() as upstream:
        transport = wire.transport()
        upstream.script(json_reply({}), sse_reply([b"a", Wait(asyncio.Event())]))
        await fetch(transport, post(upstream))
        response = await transport.send(post(upstream), seconds())
        await transport.aclose()
        await transport.aclose()
        await response.aclose()
        await upstream.until(lambda: not upstream.open_connections, timeout_seconds=1)


@pytest.mark.parametrize("driver", ["http1", "httpx2"])
async def test_untrusted_certificate(driver: str, authority: trustme.CA) -> None:
    """A certificate that no trusted authority has signed is a ConnectError."""
    wire = Wire(driver, authority)
    async with Upstream(ssl_context=server_context(trustme.CA())) as upstream:
        with pytest.raises(ConnectError):
            await wire.transport().send(post(upstream), seconds())
        assert upstream.ledger == []
    await wire.aclose()


@pytest.mark.parametrize("driver", ["http1", "httpx2"])
async def test_certificate_of_another_name(driver: str, authority: trustme.CA) -> None:
    """A certificate for another name is a ConnectError."""
    wire = Wire(driver, authority)
    async with Upstream(ssl_context=server_context(authority, "other.example")) as upstream:
        with pytest.raises(ConnectError):
            await wire.transport().send(post(upstream), seconds())
        assert upstream.ledger == []
    await wire.aclose()

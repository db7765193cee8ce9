"""The scripted upstream over real sockets: HTTP, framing, the script and the ledger."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from asgi_llm import errors
from asgi_llm.testing import (
    Close,
    Handler,
    ReceivedRequest,
    Reply,
    Reset,
    Signal,
    Step,
    Upstream,
    Wait,
    chat_answer,
    chat_events,
    error_answer,
    json_reply,
    raw_reply,
    sse_reply,
)
from asgi_llm.testing.replies import Framing, Split

POST = b"POST /v1/x?y=1 HTTP/1.1\r\nHost: a\r\nX-Key: 1\r\nx-key: 2\r\ncontent-length: 2\r\n\r\n{}"
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Client(asyncio.Protocol):
    """A raw client that keeps each piece as it was read."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = asyncio.Event()
        self.lost: Exception | None = None
        self.transport: asyncio.Transport
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        self.ended.set()
        self._news.set()

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(5):
            while not self.data.endswith(end):
                assert not self.ended.is_set(), self.data
                self._news.clear()
                await self._news.wait()
        return self.data

    async def exchange(self, request: bytes, end: bytes) -> bytes:
        self.pieces.clear()
        self.transport.write(request)
        return await self.until(end)

    async def until_ended(self) -> bytes:
        async with asyncio.timeout(5):
            await self.ended.wait()
        return self.data


@asynccontextmanager
async def connected(
    upstream: Upstream, context: ssl.SSLContext | None = None
) -> AsyncIterator[Client]:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        transport, client = await loop.create_connection(
            Client, upstream.host, upstream.port, ssl=context
        )
    try:
        yield client
    finally:
        transport.abort()
        await client.ended.wait()


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_a_json_reply_over_the_wire() -> None:
    """Status line, type and length; the request is in the ledger as it came."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(json_reply({"a": 1}, 201, {"x-b": "2"}))
        expected = (
            b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nx-b: 2\r\n"
            b'content-length: 7\r\n\r\n{"a":1}'
        )
        assert expected == await client.exchange(POST, b"}")
        (row,) = await upstream.served(1)
        request = row.request
        assert ("POST", "/v1/x?y=1", "/v1/x") == (request.method, request.target, request.path)
        assert request.headers == [
            (b"Host", b"a"),
            (b"X-Key", b"1"),
            (b"x-key", b"2"),
            (b"content-length", b"2"),
        ]
        assert b"1" == request.header("x-KEY")
        assert (b"{}", {}, 2, True) == (
            request.body,
            request.json(),
            request.body_bytes,
            request.complete,
        )
        assert (201, len(expected)) == (row.status, row.sent_bytes)
        assert (True, False, False) == (row.complete, row.client_left, row.cut)
        assert [{"a": 1}] == row.documents


@pytest.mark.parametrize(
    ("framing", "expected"),
    [
        ("chunked", b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"),
        ("length", b"content-length: 5\r\n\r\nabcde"),
        ("close", b"connection: close\r\n\r\nabcde"),
    ],
)
async def test_framings(framing: Framing, expected: bytes) -> None:
    """Each framing is what it says, and only close ends the connection."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(Reply(body=[b"ab", b"cde"], framing=framing))
        assert b"HTTP/1.1 200 OK\r\n" + expected == await client.exchange(GET, expected)
        if framing == "close":
            await client.until_ended()
        (row,) = await upstream.served(1)
        assert row.complete
        assert (framing == "close") == client.ended.is_set()


async def test_requests_of_one_connection_are_answered_in_turn() -> None:
    """Keep-alive and pipelined requests share a connection serial; another one has the next."""
    async with Upstream(lambda request: json_reply(request.target)) as upstream:
        async with connected(upstream) as client:
            piped = b"".join(GET.replace(b"/ ", b"/%d " % n) for n in range(3))
            answer = await client.exchange(piped, b'"/2"')
            assert answer.index(b'"/0"') < answer.index(b'"/1"') < answer.index(b'"/2"')
            await client.exchange(GET.replace(b"/ ", b"/last "), b'"/last"')
            assert 1 == upstream.open_connections
        async with connected(upstream) as client:
            await client.exchange(GET, b'"/"')
        assert [1, 1, 1, 1, 2] == [row.request.connection for row in upstream.ledger]
        assert 2 == upstream.connections
        await upstream.until(lambda: upstream.open_connections == 0)


async def test_a_pipelined_request_that_closes_does_not_close_early() -> None:
    """Only the reply to the request that said so is the last."""
    handler: Handler = lambda request: json_reply(request.target)  # noqa: E731
    async with Upstream(handler) as upstream, connected(upstream) as client:
        close = b"GET /b HTTP/1.1\r\nconnection: close\r\n\r\n"
        client.transport.write(GET + close)
        answer = await client.until_ended()
        assert answer.endswith(b'connection: close\r\n\r\n"/b"')
        assert 1 == answer.count(b'\r\n\r\n"/"HTTP/1.1 200 OK\r\n')


async def test_a_request_to_upgrade_is_answered_as_http() -> None:
    """Then the connection ends; what came after the request is not read as HTTP."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(json_reply("no", 400))
        client.transport.write(
            b"GET /ws HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x02hi"
        )
        assert b"HTTP/1.1 400 " in await client.until_ended()
        client.transport.write(b"more")
        assert 1 == len(upstream.ledger)


async def test_trailers_are_not_headers() -> None:
    """Fields after a chunked body are kept apart."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(json_reply("ok"))
        head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
        await client.exchange(head + b"1\r\na\r\n0\r\nx-sum: 7\r\n\r\n", b'"ok"')
        request = upstream.ledger[0].request
        assert [(b"x-sum", b"7")] == request.trailers
        assert request.header("x-sum") is None
        await client.exchange(GET, b'"ok"')
        assert [(b"host", b"a")] == upstream.ledger[1].request.headers


async def test_a_status_without_a_name_can_be_served() -> None:
    """Such as Cloudflare's 520."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(json_reply("x", 520))
        assert (await client.exchange(GET, b'"x"')).startswith(b"HTTP/1.1 520 Unknown\r\n")


async def test_a_reply_that_cannot_be_served_fails_the_test() -> None:
    """It ends the connection, and its error is raised at the end of the block."""
    with pytest.raises(AttributeError):
        async with Upstream() as upstream, connected(upstream) as client:
            upstream.script(Reply(headers={"x": 1}))  # type: ignore[arg-type]
            client.transport.write(GET)
            await client.until_ended()
            assert upstream.ledger[0].cut


async def test_a_body_that_can_be_taken_once_is_not_repeated() -> None:
    """A second request gets an error rather than an empty body."""
    with pytest.raises(LookupError, match="does not repeat"):
        async with Upstream() as upstream, connected(upstream) as client:
            upstream.script(Reply(body=(one for one in [b"ab"]), framing="chunked"))
            await client.exchange(GET, b"2\r\nab\r\n0\r\n\r\n")
            client.transport.write(GET)
            await client.until_ended()


async def test_a_chunked_request_body_is_joined() -> None:
    """The transfer encoding is undone, and counted even where bodies are not kept."""
    request = (
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    for keep, expected in ((True, b"abcde"), (False, b"")):
        async with Upstream(record_bodies=keep) as upstream, connected(upstream) as client:
            upstream.script(json_reply("ok"))
            await client.exchange(request, b'"ok"')
            got = upstream.ledger[0].request
            assert (expected, 5) == (got.body, got.body_bytes)


async def test_a_client_that_expects_continue_gets_it() -> None:
    """100 Continue comes before the body is sent, and is not counted into the reply."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(json_reply("ok"))
        head = b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await client.exchange(head, b"\r\n\r\n")
        answer = await client.exchange(b"{}", b'"ok"')
        assert len(answer) == upstream.ledger[0].sent_bytes


async def test_a_request_that_asks_to_close_closes() -> None:
    """HTTP/1.0, and 1.1 with ``connection: close``, end after the reply; 1.0 gets no chunks."""
    async with Upstream() as upstream:
        upstream.script(Reply(body=b"ab", framing="chunked"))
        for request in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"):
            async with connected(upstream) as client:
                client.transport.write(request)
                answer = await client.until_ended()
                assert b"connection: close" in answer
                assert (b"1.0" in request) == answer.endswith(b"\r\n\r\nab")
                assert client.lost is None


async def test_responses_without_a_body() -> None:
    """HEAD gets the length and no body; 204 and 304 get neither."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(json_reply("abc"), Reply(status=204, body=b"x"), Reply(status=304))
        answer = await client.exchange(GET.replace(b"GET", b"HEAD"), b"\r\n\r\n")
        assert b"content-length: 5\r\n" in answer
        assert b"HTTP/1.1 204 No Content\r\n\r\n" == await client.exchange(GET, b"\r\n\r\n")
        assert b"HTTP/1.1 304 Not Modified\r\n\r\n" == await client.exchange(GET, b"\r\n\r\n")


async def test_a_given_length_stands() -> None:
    """A content-length in the headers is not corrected, so that it can lie."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(Reply(headers={"Content-Length": "9"}, body=[b"abc", Close()]))
        client.transport.write(GET)
        expected = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
        assert expected == await client.until_ended()


async def test_the_script_comes_before_the_handler() -> None:
    """Each request takes the next reply; then the handler answers, sync or async."""

    async def handler(request: ReceivedRequest) -> Reply:
        await asyncio.sleep(0)
        return json_reply("handler")

    async with Upstream(handler) as upstream, connected(upstream) as client:
        upstream.script(json_reply("first"), json_reply("second"))
        for expected in (b'"first"', b'"second"', b'"handler"', b'"handler"'):
            assert (await client.exchange(GET, expected)).endswith(expected)


async def test_the_last_reply_repeats_without_a_handler() -> None:
    """Also one that streams."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(json_reply("first"), sse_reply([{"a": 1}]))
        await client.exchange(GET, b'"first"')
        second = await client.exchange(GET, b"0\r\n\r\n")
        assert second == await client.exchange(GET, b"0\r\n\r\n")


@pytest.mark.parametrize("repeat_last", [True, False])
async def test_a_test_without_a_reply_fails_with_the_reason(repeat_last: bool) -> None:
    """The client gets a 500 that explains, and the end of the block raises."""
    with pytest.raises(LookupError, match=r"script.*GET /"):
        async with Upstream(repeat_last=repeat_last) as upstream, connected(upstream) as client:
            if not repeat_last:
                upstream.script(json_reply("only"))
                await client.exchange(GET, b'"only"')
            client.pieces.clear()
            client.transport.write(GET)
            assert b"HTTP/1.1 500 " in await client.until_ended()
            assert b"no reply" in client.data


async def test_a_handler_that_raises_fails_the_test() -> None:
    """So that assertions in a handler count; an exception of the block itself goes first."""

    def handler(request: ReceivedRequest) -> Reply:
        raise AssertionError("wrong path")

    async def ask(upstream: Upstream) -> None:
        async with connected(upstream) as client:
            client.transport.write(GET)
            assert b"500" in await client.until_ended()

    with pytest.raises(AssertionError, match="wrong path"):
        async with Upstream(handler) as upstream:
            await ask(upstream)
    with pytest.raises(KeyError, match="the block's own"):
        async with Upstream(handler) as upstream:
            await ask(upstream)
            raise KeyError("the block's own")


async def test_malformed_http_from_the_client_fails_the_test() -> None:
    """What called the upstream is at fault, and its bytes are shown."""
    with pytest.raises(ValueError, match=r"malformed HTTP.*b'NONSENSE"):
        async with Upstream() as upstream, connected(upstream) as client:
            client.transport.write(b"NONSENSE\r\n\r\n")
            await client.until_ended()


@pytest.mark.parametrize("split", ["every", 3, [1, 2, 30], random.Random(7)])
async def test_a_split_is_seen_on_the_wire(split: Split) -> None:
    """A client on the same loop reads exactly the pieces that were asked for."""
    reply = raw_reply(
        b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n01234567890123456789", split=split
    )
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(reply)
        await upstream.until(lambda: upstream.open_connections == 1)
        client.transport.write(GET)
        whole = await client.until_ended()
        (row,) = await upstream.served(1)
        assert (200, len(whole), True) == (row.status, row.sent_bytes, row.complete)
        lengths = [len(piece) for piece in client.pieces]
        if split == "every":
            assert [1] * len(whole) == lengths
        elif split == 3:
            assert [3] * 19 + [2] == lengths[:20]
        elif isinstance(split, list):
            assert [1, 1, 28, len(whole) - 30] == lengths
        else:
            draw = random.Random(7)
            expected, left = [], len(whole)
            while left:
                size = min(left, draw.randint(1, 64))
                expected.append(size)
                left -= size
            assert expected == lengths


async def test_chunks_of_a_split_stream_are_single_writes() -> None:
    """In chunked framing each piece is one chunk, header and all, in one write."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(Reply(body=b"abcde", framing="chunked", split=2))
        await client.exchange(GET, b"0\r\n\r\n")
        assert [b"2\r\ncd\r\n", b"1\r\ne\r\n0\r\n\r\n"] == client.pieces[-2:]


async def test_a_wait_stalls_until_the_test_goes_on() -> None:
    """Before the status line and between events, with no sleeping; signals tell how far it is."""
    first, second, reached = asyncio.Event(), asyncio.Event(), asyncio.Event()
    events: list[Step | dict[str, Any]] = [{"a": 1}, Signal(reached), Wait(second), {"b": 2}]
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(sse_reply(events, before=[Wait(first)]))
        client.transport.write(GET)
        (row,) = await upstream.arrived(1)
        assert (None, 0, b"") == (row.status, row.sent_bytes, client.data)
        first.set()
        async with asyncio.timeout(5):
            await reached.wait()
        await client.until(b'{"a":1}\n\n\r\n')
        assert [{"a": 1}] == row.documents
        assert not row.done
        second.set()
        await client.until(b"0\r\n\r\n")
        assert [{"a": 1}, {"b": 2}] == row.documents


async def test_bytes_after_a_reply_are_not_part_of_it() -> None:
    """``after`` sends what nobody asked for, or drops the connection, once all is complete."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(json_reply("ok", after=[b"HTTP/1.1 200 OK\r\n\r\n", Close()]))
        client.transport.write(GET)
        assert (await client.until_ended()).endswith(b'"ok"HTTP/1.1 200 OK\r\n\r\n')
        (row,) = await upstream.served(1)
        assert (True, False) == (row.complete, row.cut)


async def test_gzip_is_said_and_done() -> None:
    """The body is compressed, the header says so, and the documents are still known."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(json_reply(chat_answer("a b"), gzip=True, split=5, keep_alive=False))
        client.transport.write(GET)
        head, _, body = (await client.until_ended()).partition(b"\r\n\r\n")
        assert b"content-encoding: gzip" in head
        assert b"content-length: %d" % len(body) in head
        assert b'"content":"a b"' in gzip.decompress(body)
        assert 2 == upstream.ledger[0].output_tokens


async def test_the_ledger_counts_what_a_cut_stream_delivered() -> None:
    """Tokens, text and usage are those of the events that went out before the cut."""
    events = chat_events("one two three four", usage_in="every")
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(sse_reply([*events[:3], Close(), *events[3:]]), sse_reply(events))
        client.transport.write(GET)
        await client.until_ended()
        (row,) = await upstream.served(1)
        assert ("one two", 2) == (row.text, row.output_tokens)
        assert row.usage is not None
        assert 2 == row.usage["completion_tokens"]
        assert (False, False, True) == (row.complete, row.client_left, row.cut)
        async with connected(upstream) as other:
            await other.exchange(GET, b"0\r\n\r\n")
        whole = upstream.ledger[1]
        assert ("one two three four", 4) == (whole.text, whole.output_tokens)
        assert whole.usage is not None
        assert 13 == whole.usage["total_tokens"]


async def test_a_split_event_counts_when_its_last_byte_is_out() -> None:
    """An event that was cut in its middle was not delivered."""
    events = chat_events("one two")
    async with Upstream() as upstream, connected(upstream) as client:
        whole = sse_reply(events[:2])
        size = sum(len(step) for step in whole.body if isinstance(step, bytes))
        place = size - len(b"data: [DONE]\n\n") - 1
        held = asyncio.Event()
        cut = [step for step in whole.body if isinstance(step, bytes)][:2]
        upstream.script(Reply(body=[*cut, Wait(held)], framing="chunked", split=[place]))
        client.transport.write(GET)
        (row,) = await upstream.arrived(1)
        await client.until(b"\n\r\n1\r\n\n\r\n")
        assert 1 == row.output_tokens
        assert events[:2] == row.documents


async def test_an_error_reply_has_no_tokens() -> None:
    """A row without usage or choices says so."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(error_answer(429, headers={"retry-after": "2"}))
        assert b"retry-after: 2\r\n" in await client.exchange(GET, b"}}")
        row = upstream.ledger[0]
        assert (429, None, "", 0) == (row.status, row.usage, row.text, row.output_tokens)


async def test_an_early_answer_does_not_wait_for_the_body() -> None:
    """With ``answer_early`` the handler runs on the headers, and can read the body itself."""

    async def handler(request: ReceivedRequest) -> Reply:
        if request.target == "/refuse":
            return json_reply("refused", 413)
        return json_reply((await request.read()).decode())

    async with Upstream(handler, answer_early=True) as upstream, connected(upstream) as client:
        await client.exchange(b"POST /refuse HTTP/1.1\r\ncontent-length: 4\r\n\r\nab", b'"refused"')
        assert not upstream.ledger[0].request.complete
        answer = await client.exchange(b"cdPOST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nef", b'"ef"')
        assert b"200 OK" in answer
        assert b"abcd" == upstream.ledger[0].request.body


async def test_an_ipv6_upstream() -> None:
    """The url has brackets and is served."""
    async with Upstream(host="::1") as upstream, connected(upstream) as client:
        upstream.script(json_reply("ok"))
        assert f"http://[::1]:{upstream.port}" == upstream.url
        await client.exchange(GET, b'"ok"')


async def test_a_tls_upstream(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """A verified handshake, a large body, and a count of bytes before sealing."""
    server, trusting = contexts
    async with Upstream(ssl_context=server) as upstream:
        assert upstream.url.startswith("https://127.0.0.1:")
        upstream.script(Reply(body=b"x" * 300_000 + b"!"))
        async with connected(upstream, trusting) as client:
            for _ in range(2):
                answer = await client.exchange(POST, b"!")
                assert 300_001 == len(answer.partition(b"\r\n\r\n")[2])
            assert [len(answer)] * 2 == [row.sent_bytes for row in upstream.ledger]
        assert 1 == upstream.connections


async def test_a_client_may_refuse_the_certificate(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """A failed handshake is the client's affair: no row, no failure, no open connection."""
    async with Upstream(ssl_context=contexts[0]) as upstream:
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected(upstream, ssl.create_default_context()):
                pass
        await upstream.until(lambda: upstream.open_connections == 0)
        assert ([], 1) == (upstream.ledger, upstream.connections)


async def test_a_url_needs_a_running_upstream() -> None:
    """Before it is entered there is no port, and the message says what to do."""
    with pytest.raises(RuntimeError, match="async with"):
        _ = Upstream().url


def test_a_bad_buffer_is_named() -> None:
    """A send buffer of no bytes is refused."""
    with pytest.raises(errors.ConfigurationError) as caught:
        Upstream(send_buffer_bytes=0)
    assert "send_buffer_bytes" == caught.value.param


async def test_waiting_shows_the_ledger_when_it_fails() -> None:
    """A deadline, and the rows in the message."""
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(json_reply("ok"))
        await client.exchange(GET, b'"ok"')
        with pytest.raises(TimeoutError, match=r"GET / on connection 1>: 200, .* complete"):
            await upstream.served(2, timeout_seconds=0.01)


async def test_endless_steps_are_taken_as_they_are_needed() -> None:
    """An endless body is produced only as fast as it is read; Reset ends it for the client."""
    taken = itertools.count()
    body = (b"x" * 1000 if n < 50 else Reset() for n in taken)
    async with Upstream() as upstream, connected(upstream) as client:
        upstream.script(Reply(body=body, framing="chunked"))
        client.transport.write(GET)
        await client.until_ended()
        assert isinstance(client.lost, ConnectionResetError)
        assert 51 == next(taken)

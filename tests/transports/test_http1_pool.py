"""The connections of the HTTP/1.1 transport: which one is taken, how many, and for how long."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import socket
import ssl
import time
from pathlib import Path

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.testing import (
    ManualClock,
    ReceivedRequest,
    Reply,
    Signal,
    Upstream,
    Wait,
    json_reply,
    raw_reply,
    sse_reply,
)
from asgi_llm.transports._connection import Connection
from asgi_llm.transports._pool import Keeper, PoolOptions
from asgi_llm.transports._response import Http1Response
from asgi_llm.transports._target import Origin
from asgi_llm.transports.base import (
    ConnectError,
    ConnectionLostError,
    ResponseTooLargeError,
    Transport,
    TransportError,
    TransportTimeoutError,
    UpstreamProtocolError,
    UpstreamRequest,
)
from asgi_llm.transports.http1 import Http1Transport
from tests.transports.wires import Wire, fetch, post, seconds


class Gates:
    """Answers that wait for their event, by the path asked for: ``/0``, ``/1`` ..."""

    def __init__(self, count: int) -> None:
        self.events = [asyncio.Event() for _ in range(count)]

    def __call__(self, request: ReceivedRequest) -> Reply:
        return json_reply({}, before=[Wait(self.events[int(request.path[1:])])])


async def test_last_in_first_out(http1: Wire) -> None:
    """The connection that became idle last is taken first."""
    gates = Gates(4)
    gates.events[3].set()
    async with http1.upstream(gates) as upstream, asyncio.timeout(5):
        transport = http1.transport()
        calls = [asyncio.ensure_future(fetch(transport, post(upstream, f"/{n}"))) for n in range(3)]
        await upstream.arrived(3)
        for n in (0, 2, 1):
            gates.events[n].set()
            await calls[n]
        await fetch(transport, post(upstream, "/3"))
        by_path = {row.request.target: row.request.connection for row in upstream.ledger}
        assert by_path["/3"] == by_path["/1"]
        assert upstream.connections == 3


async def test_requests_over_the_cap_wait_their_turn(http1: Wire) -> None:
    """With every place taken requests wait, first come first served, for what gets free."""
    gates = Gates(4)
    async with http1.upstream(gates) as upstream, asyncio.timeout(5):
        transport = http1.transport(max_connections_per_origin=1)
        calls = [asyncio.ensure_future(fetch(transport, post(upstream, f"/{n}"))) for n in range(4)]
        for n, gate in enumerate(gates.events):
            await upstream.arrived(n + 1)
            gate.set()
        await asyncio.gather(*calls)
        assert ["/0", "/1", "/2", "/3"] == [row.request.target for row in upstream.ledger]
        assert upstream.connections == 1


async def test_waiting_counts_as_connecting(http1: Wire) -> None:
    """The wait for a free place ends with the ``connect`` deadline, and gives the turn up."""
    gates = Gates(2)
    gates.events[1].set()
    async with http1.upstream(gates) as upstream, asyncio.timeout(5):
        transport = http1.transport(max_connections_per_origin=1)
        first = asyncio.ensure_future(fetch(transport, post(upstream, "/0")))
        await upstream.arrived(1)
        for name, phase in (("connect_seconds", "connect"), ("total_seconds", "total")):
            with pytest.raises(TransportTimeoutError) as caught:
                await transport.send(post(upstream, "/1"), seconds(**{name: 0.05}))
            assert caught.value.phase == phase
        gates.events[0].set()
        await first
        await fetch(transport, post(upstream, "/1"))
        assert upstream.connections == 1
        assert len(upstream.ledger) == 2


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_place_of_a_broken_connection_is_passed_on(
    http1: Wire, cancelled_first: bool
) -> None:
    """When a connection ends instead of getting free, the next in the queue opens another."""
    async with http1.upstream() as upstream, asyncio.timeout(5):
        transport = http1.transport(max_connections_per_origin=1)
        upstream.script(sse_reply([b"a", Wait(asyncio.Event())]), json_reply({}))
        response = await transport.send(post(upstream), seconds())
        cancelled = asyncio.ensure_future(fetch(transport, post(upstream)))
        waiting = asyncio.ensure_future(fetch(transport, post(upstream)))
        await asyncio.sleep(0)
        # Closing gives the place to the first in line, who is cancelled with it in hand; or is
        # cancelled already, and has to be passed over.
        if cancelled_first:
            cancelled.cancel()
        await response.aclose()
        cancelled.cancel()
        assert b"{}" == await waiting
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert (upstream.connections, len(upstream.ledger)) == (2, 2)


async def test_cancelled_with_a_connection_in_hand() -> None:
    """Who is cancelled in the moment of getting a connection gives it back."""
    async with Upstream() as upstream, asyncio.timeout(5):
        loop = asyncio.get_running_loop()
        keeper = Keeper(loop, _options(max_connections_per_origin=1))
        pool = keeper.pool(Origin("http", upstream.host, upstream.port), None)
        connection = await pool.open(seconds(), math.inf, math.inf)
        waiting = asyncio.ensure_future(pool.open(seconds(), math.inf, math.inf))
        await asyncio.sleep(0)
        pool.release(connection)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.take() is connection
        connection.close()
        assert pool.is_empty
        await keeper.aclose()


async def test_connection_that_dies_in_hand_over() -> None:
    """Who is given a connection that dies in that moment keeps the turn and opens another."""
    async with Upstream() as upstream, asyncio.timeout(5):
        loop = asyncio.get_running_loop()
        keeper = Keeper(loop, _options(max_connections_per_origin=1))
        pool = keeper.pool(Origin("http", upstream.host, upstream.port), None)
        connection = await pool.open(seconds(), math.inf, math.inf)
        waiting = asyncio.ensure_future(pool.open(seconds(), math.inf, math.inf))
        await asyncio.sleep(0)
        pool.release(connection)
        connection.close()
        other = await waiting
        assert other is not connection
        assert other.is_usable()
        assert pool.take() is None
        await keeper.aclose()


async def test_surplus_in_hand_over() -> None:
    """What came unasked between one request and the one that waits is the answer to neither."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    async with asyncio.timeout(5):
        keeper = Keeper(loop, _options(max_connections_per_origin=1))
        pool = keeper.pool(Origin("http", "127.0.0.1", listener.getsockname()[1]), None)
        connection = await pool.open(seconds(), math.inf, math.inf)
        peer, _ = await loop.sock_accept(listener)
        waiting = asyncio.ensure_future(pool.open(seconds(), math.inf, math.inf))
        await asyncio.sleep(0)
        pool.release(connection)
        peer.send(b"HTTP/1.1 200 OK\r\n")
        other = await waiting
        assert other is not connection
        assert connection.closed
        await keeper.aclose()
    peer.close()
    listener.close()


def _options(*, max_connections_per_origin: int) -> PoolOptions:
    return PoolOptions(
        max_connections_per_origin=max_connections_per_origin,
        max_idle_per_origin=1,
        idle_expiry_seconds=30.0,
        max_header_bytes=65536,
        high_water_bytes=65536,
        clock=time.monotonic,
    )


async def test_cancelled_at_any_moment(http1: Wire) -> None:
    """Wherever in connecting, sending or waiting a call is cancelled, it leaves nothing behind."""
    async with http1.upstream() as upstream, asyncio.timeout(10):
        upstream.script(json_reply({}))
        for turns in range(40):
            transport = http1.transport(max_connections_per_origin=1)
            call = asyncio.ensure_future(fetch(transport, post(upstream)))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait((call,))
            # The only place is free again.
            assert b"{}" == await fetch(transport, post(upstream))
            await transport.aclose()
        await upstream.until(lambda: not upstream.open_connections)


async def test_idle_connections_are_capped(http1: Wire) -> None:
    """Over the cap the connection that is idle for longest is closed."""
    gates = Gates(3)
    async with http1.upstream(gates) as upstream, asyncio.timeout(5):
        transport = http1.transport(max_idle_per_origin=2)
        calls = [asyncio.ensure_future(fetch(transport, post(upstream, f"/{n}"))) for n in range(3)]
        await upstream.arrived(3)
        for gate, call in zip(gates.events, calls, strict=True):
            gate.set()
            await call
        await upstream.until(lambda: upstream.open_connections == 2)


async def test_expired_connection_is_not_used(http1: Wire) -> None:
    """A connection idle for longer than the expiry is closed, by the injected clock."""
    clock = ManualClock()
    async with http1.upstream() as upstream:
        transport = http1.transport(idle_expiry_seconds=5.0, clock=clock)
        upstream.script(json_reply({}))
        await fetch(transport, post(upstream))
        clock.advance(5.0)
        await fetch(transport, post(upstream))
        assert upstream.connections == 1
        clock.advance(5.1)
        await fetch(transport, post(upstream))
        assert upstream.connections == 2
        await upstream.until(lambda: upstream.open_connections == 1)


async def test_idle_connections_expire_without_traffic(http1: Wire) -> None:
    """An idle connection is closed when its time is over, though no request comes."""
    async with http1.upstream() as upstream:
        transport = http1.transport(idle_expiry_seconds=0.05)
        upstream.script(json_reply({}))
        await fetch(transport, post(upstream))
        await upstream.until(lambda: not upstream.open_connections)


async def test_connection_that_died_idle_is_dropped_at_once(http1: Wire) -> None:
    """A close by the upstream is noticed without a request, and the next one opens another."""
    async with http1.upstream() as upstream, asyncio.timeout(5):
        transport = http1.transport()
        upstream.script(json_reply({}))
        await asyncio.gather(*(fetch(transport, post(upstream)) for _ in range(3)))
        opened = upstream.connections
        await upstream.drop_connections()
        await fetch(transport, post(upstream))
        assert upstream.connections == opened + 1
        assert upstream.open_connections == 1


@pytest.mark.parametrize(
    "unheard", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"], ids=["end", "surplus"]
)
async def test_what_the_loop_has_not_heard_of(unheard: bytes) -> None:
    """The socket itself is asked, at any age, before anything is written to it."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    async def serve() -> socket.socket:
        peer, _ = await loop.sock_accept(listener)
        await loop.sock_recv(peer, 65536)
        await loop.sock_sendall(peer, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        return peer

    peers = []
    transport = Http1Transport()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        request = UpstreamRequest("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", [])
        for _ in range(2):
            served = group.create_task(serve())
            assert b"ok" == await fetch(transport, request)
            peer = await served
            peers.append(peer)
            # No turn of the loop lies between this and the next look at the socket.
            if unheard:
                peer.send(unheard)
            else:
                peer.close()
    await transport.aclose()
    for sock in (listener, *peers):
        sock.close()


async def test_request_to_a_connection_that_dies_is_not_repeated() -> None:
    """Once the request was handed to a socket, also a used one, nothing is sent again."""
    async with Upstream() as upstream:
        transport = Http1Transport()
        upstream.script(json_reply({}), raw_reply(b""), json_reply({}))
        await fetch(transport, post(upstream))
        with pytest.raises(ConnectionLostError):
            await transport.send(post(upstream), seconds())
        assert (upstream.connections, len(upstream.ledger)) == (1, 2)
        await transport.aclose()


@pytest.mark.parametrize(
    "surplus", [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged", b"HTTP/1.1 200", b"x"]
)
@pytest.mark.parametrize("apart", [True, False])
async def test_surplus_after_a_response(http1: Wire, surplus: bytes, apart: bool) -> None:
    """Bytes that nobody asked for spoil neither their answer nor the next one."""
    sent = asyncio.Event()
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    steps = [whole, surplus] if apart else [whole + surplus]
    async with http1.upstream() as upstream, asyncio.timeout(5):
        transport = http1.transport()
        upstream.script(raw_reply([*steps, Signal(sent)], close=False), json_reply({"next": 1}))
        assert b"ok" == await fetch(transport, post(upstream))
        await sent.wait()
        await upstream.until(lambda: not upstream.open_connections)
        assert b'{"next":1}' == await fetch(transport, post(upstream))
        assert upstream.connections == 2


def test_one_instance_on_several_loops() -> None:
    """On a new loop the transport starts afresh; what the old loop left does not hang it."""
    transport = Http1Transport()

    async def call() -> int:
        async with Upstream() as upstream, asyncio.timeout(5):
            upstream.script(json_reply({}, keep_alive=False))
            for _ in range(2):
                await fetch(transport, post(upstream))
            return len(upstream.ledger)

    assert [2, 2, 2] == [asyncio.run(call()) for _ in range(3)]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_connections_of_a_closed_loop_are_ended() -> None:
    """What a loop left open when it closed is ended when the transport is used on the next."""
    transport = Http1Transport()
    with Upstream().in_thread() as upstream:
        upstream.script(json_reply({}))
        request = UpstreamRequest("GET", upstream.url + "/", [])
        assert b"{}" == asyncio.run(fetch(transport, request))
        assert upstream.open_connections == 1

        async def call_and_close() -> bytes:
            body = await fetch(transport, request)
            await transport.aclose()
            return body

        assert b"{}" == asyncio.run(call_and_close())
        upstream.until(lambda: not upstream.open_connections)
        assert upstream.connections == 2
    gc.collect()


async def test_closing_from_another_loop() -> None:
    """``aclose`` on a loop that never used the transport still closes its connections."""
    transport = Http1Transport()
    async with Upstream() as upstream, asyncio.timeout(5):
        upstream.script(json_reply({}))
        await fetch(transport, post(upstream))
        await asyncio.to_thread(lambda: asyncio.run(transport.aclose()))
        await upstream.until(lambda: not upstream.open_connections)
        with pytest.raises(ConnectError):
            await fetch(transport, post(upstream))


async def test_idle_connections_of_another_loop_are_dropped() -> None:
    """Used on a second loop, it closes its connections on the first."""
    transport = Http1Transport()

    async def call(upstream_url: str) -> bytes:
        from_other = post(upstream)
        assert from_other.url.startswith(upstream_url)
        body = await fetch(transport, from_other)
        await transport.aclose()
        return body

    async with Upstream() as upstream, asyncio.timeout(5):
        upstream.script(json_reply({}))
        await fetch(transport, post(upstream))
        assert upstream.open_connections == 1
        body = await asyncio.to_thread(asyncio.run, call(upstream.url))
        assert body == b"{}"
        await upstream.until(lambda: not upstream.open_connections)
        assert upstream.connections == 2


async def test_closed_transport_says_so(http1: Wire) -> None:
    """After ``aclose`` a request is a ConnectError, and so it is for one that waits its turn."""
    async with http1.upstream() as upstream, asyncio.timeout(5):
        transport = http1.transport(max_connections_per_origin=1)
        upstream.script(json_reply({}, before=[Wait(asyncio.Event())]))
        busy = asyncio.ensure_future(transport.send(post(upstream), seconds()))
        waiting = asyncio.ensure_future(transport.send(post(upstream), seconds()))
        await upstream.arrived(1)
        await transport.aclose()
        for call in (busy, waiting):
            with pytest.raises(ConnectError):
                await call
        with pytest.raises(ConnectError):
            await transport.send(post(upstream), seconds())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
async def test_nothing_is_left(http1: Wire) -> None:
    """After ``aclose`` no descriptor or task is left, however the calls ended."""

    async def calls() -> tuple[int, int]:
        async with http1.upstream() as upstream, asyncio.timeout(10):
            transport = http1.transport()
            await _end_in_every_way(transport, upstream)
            await transport.aclose()
            await upstream.until(lambda: not upstream.open_connections)
        gc.collect()
        return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())

    # The first time the loop opens descriptors of its own.
    assert await calls() == await calls()


async def test_no_cycle_keeps_a_response() -> None:
    """A call's objects go away with the call, not with the garbage collector, however it ended."""
    async with Upstream() as upstream:
        transport = Http1Transport()
        gc.collect()
        gc.disable()
        try:
            await _end_in_every_way(transport, upstream)
            await transport.aclose()
            kept = [o for o in gc.get_objects() if type(o) in (Http1Response, Connection)]
        finally:
            gc.enable()
    assert kept == []


async def _end_in_every_way(transport: Transport, upstream: Upstream) -> None:
    never = asyncio.Event()
    upstream.script(
        json_reply({}),
        sse_reply([b"a", b"b"]),
        sse_reply([b"a", Wait(never)]),
        raw_reply(b"garbage\r\n\r\n"),
        raw_reply(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"),
        sse_reply([b"a", Wait(never)]),
        json_reply({}, before=[Wait(never)]),
    )
    ends: list[type[Exception] | None] = []
    for n in range(7):
        try:
            response = await transport.send(post(upstream), seconds(first_byte_seconds=0.05))
            if n == 2:
                await response.aclose()
            else:
                max_bytes = 0 if n == 5 else 100
                await response.read(max_bytes)
        except TransportError as error:
            ends.append(type(error))
        else:
            ends.append(None)
    assert ends == [
        None,
        None,
        None,
        UpstreamProtocolError,
        ConnectionLostError,
        ResponseTooLargeError,
        TransportTimeoutError,
    ]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_connections_per_origin", 0),
        ("max_idle_per_origin", -1),
        ("idle_expiry_seconds", 0),
        ("idle_expiry_seconds", math.inf),
        ("max_header_bytes", 100),
        ("high_water_bytes", 0),
        ("ca_file", "/nowhere/ca.pem"),
    ],
)
def test_bad_options(option: str, value: object) -> None:
    """An option out of its range is a ConfigurationError that names it."""
    options: dict[str, object] = {option: value}
    with pytest.raises(ConfigurationError, match=option) as caught:
        Http1Transport(**options)  # type: ignore[arg-type]
    assert caught.value.param == option


def test_two_sources_of_trust() -> None:
    """A context and a file of authorities cannot both be given."""
    context = ssl.create_default_context()
    with pytest.raises(ConfigurationError) as caught:
        Http1Transport(ssl_context=context, ca_file="ca.pem")
    assert caught.value.param == "ca_file"

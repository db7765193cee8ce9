"""Slots and reservations: kept while the request lives, given back once however it ends."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import msgspec
import pytest
from starlette.types import Message, Receive, Scope, Send

from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.testing import Exchange, ManualClock, Recorder, http_scope
from asgi_llm.testing.serving import serve
from tests.middleware.rate_limit.conftest import HELLO, App, Watched, ask, read, until

BODY = msgspec.json.encode(HELLO)


class Slow:
    """Streams a chunk, and ends when it is told to.

    Attributes:
        inside: Requests under way.
        most: The most that were under way together.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.inside = self.most = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.begun.set()
        try:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
            await self.gate.wait()
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        finally:
            self.inside -= 1


def one_slot(app: Any, **options: Any) -> RateLimitMiddleware:
    """The layer with room for one request at a time."""
    return RateLimitMiddleware(app, limits="1 concurrent request", **options)


async def test_a_stream_holds_its_slot_to_the_end() -> None:
    """While chunks may come the next one is refused, and told to try again in a second."""
    app = Slow()
    layer = one_slot(app)
    async with Exchange(layer, body=BODY) as exchange:
        await exchange.next_chunk()
        refused = await ask(layer)
        assert (429, b"1") == (refused.status, refused.header("retry-after"))
        assert (
            "Too many requests at the same time: the limit is 1 concurrent request for this "
            "caller. Try again in 1 second."
        ) == refused.json()["error"]["message"]
        app.gate.set()
        await exchange.finish()
    assert 200 == (await ask(layer)).status


async def test_the_slot_is_free_before_the_client_has_its_last_byte() -> None:
    """A client that asks again the moment it has its answer is never refused for its own call."""
    app = Slow()
    app.gate.set()
    layer = one_slot(app)
    async with Exchange(layer, body=BODY) as first:
        await first.next_chunk()
        await first.settle()
        assert 1 == first.pending
        assert 200 == (await ask(layer)).status
        await first.finish()


async def test_200_at_once_at_10_concurrent_requests() -> None:
    """Exactly 10 run together, and the others are refused at once."""
    app = Slow()
    layer = RateLimitMiddleware(app, limits="10 concurrent requests")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(layer)) for _ in range(200)]
        await until(lambda: sum(task.done() for task in tasks) == 190)
        app.gate.set()
    assert (10, 10) == (app.most, [task.result().status for task in tasks].count(200))


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("broken")


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    await read(receive)


async def sends_a_file(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.pathsend", "path": "/srv/answer.json"})


@pytest.mark.parametrize("app", (fails, silent, sends_a_file, App(), App(status=500)))
@pytest.mark.parametrize("limits", ("1 concurrent request", "5000 tokens/minute"))
async def test_what_is_held_is_given_back_once(app: Any, limits: str) -> None:
    """Whether the app answers, fails, says nothing or sends a file: one settlement, one lease."""
    store = Watched()
    layer = RateLimitMiddleware(app, limits=limits, store=store)
    async with Exchange(layer, body=BODY) as exchange:
        try:
            await exchange.finish()
        except RuntimeError as error:
            assert "broken" == str(error)
    assert ["take", "settle"] == [name for name, _, _ in store.calls]


async def test_a_refused_request_holds_nothing() -> None:
    """There is nothing to give back of what was never taken."""
    store = Watched()
    layer = RateLimitMiddleware(
        App(), limits=["0 requests/minute", "1 concurrent request"], store=store
    )
    assert [429, 429] == [(await ask(layer)).status for _ in range(2)]
    assert [] == store.named("settle")


async def test_leases_of_all_requests_differ() -> None:
    """No reservation is taken for another's."""
    store = Watched()
    layer = RateLimitMiddleware(App(), limits="5 concurrent requests", store=store)
    for _ in range(50):
        await ask(layer)
    assert 50 == len(set(store.leases))


@pytest.mark.parametrize("spec_version", ("2.3", "2.4"))
async def test_b17_a_client_that_leaves_in_mid_stream_frees_its_slot(spec_version: str) -> None:
    """Whether the server raises out of send or is silent."""
    app = Slow()
    layer = one_slot(app)
    scope = http_scope(spec_version=spec_version)
    async with Exchange(layer, scope, body=BODY) as exchange:
        await exchange.next_chunk()
        exchange.disconnect()
        app.gate.set()
        try:
            await exchange.finish()
        except OSError:
            assert "2.4" == spec_version
    assert 200 == (await ask(layer)).status


async def test_b17_b18_a_request_that_is_cancelled_frees_its_slot() -> None:
    """Before the answer, and in the midst of it; the cancellation comes out."""
    app = Slow()
    layer = one_slot(app, store=Watched())
    for _ in range(2):
        running = asyncio.create_task(ask(layer))
        await app.begun.wait()
        running.cancel()
        await asyncio.wait({running}, timeout=5)
        assert running.cancelled()
        app.begun.clear()
    app.gate.set()
    assert 200 == (await ask(layer)).status


async def test_a_cancellation_while_the_slot_is_given_back_does_not_keep_it() -> None:
    """However often the host cancels: the store's answer is waited for, up to the deadline."""
    store = Watched()
    store.hangs.add("settle")
    layer = one_slot(App(), store=store, store_timeout_seconds=5)

    async def receive() -> Message:
        return {"type": "http.request", "body": BODY}

    async def serve_one() -> None:
        await layer(http_scope(), receive, Recorder())

    running = asyncio.create_task(serve_one())
    async with asyncio.timeout(5):
        await until(lambda: bool(store.named("settle")))
        for _ in range(3):
            running.cancel()
            await asyncio.sleep(0)
        assert not running.done()
        store.go_on.set()
        await asyncio.wait({running})
    assert running.cancelled()
    store.hangs.clear()
    assert 200 == (await ask(layer)).status


async def test_a_cancellation_while_the_slot_is_taken_does_not_keep_it() -> None:
    """Nobody knows whether the store had taken it, so it is given back."""
    store = Watched()
    store.hangs.add("take")
    layer = one_slot(App(), store=store, store_timeout_seconds=5)
    running = asyncio.create_task(ask(layer))
    async with asyncio.timeout(5):
        await store.called.wait()
        running.cancel()
        await asyncio.wait({running})
    assert [(0,)] == store.named("settle")


async def test_a_lease_is_renewed_as_long_as_its_request_lives() -> None:
    """A stream that is longer than its lease keeps its slot, and then the renewals end."""
    clock, app = ManualClock(), Slow()
    store = Watched(MemoryLimits(clock=clock))
    layer = one_slot(app, store=store, lease_seconds=0.06)
    async with Exchange(layer, body=BODY) as exchange:
        await exchange.next_chunk()
        for renewals in (1, 2, 3):
            await until(lambda least=renewals: len(store.named("renew")) >= least)  # type: ignore[misc]
            clock.advance(0.05)
        assert 429 == (await ask(layer)).status
        app.gate.set()
        await exchange.finish()
    before = len(store.named("renew"))
    assert 1 >= len(loop_timers())
    await until(lambda: not loop_timers())
    assert before == len(store.named("renew"))


def loop_timers() -> list[asyncio.TimerHandle]:
    """The timers of the layer that are set."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [handle for handle in scheduled if "_tick" in repr(handle)]


async def test_b14_a_slot_of_a_worker_that_died_comes_back() -> None:
    """Nobody renews it, so it ends with its lease."""
    clock = ManualClock()
    store = MemoryLimits(clock=clock)
    dead, alive = one_slot(Slow(), store=store), one_slot(App(), store=store)
    running = asyncio.create_task(ask(dead))
    await dead.app.begun.wait()  # type: ignore[attr-defined]
    await dead.aclose()
    assert 429 == (await ask(alive)).status
    clock.advance(60.1)
    assert 200 == (await ask(alive)).status
    running.cancel()
    await asyncio.wait({running}, timeout=5)


def test_one_layer_serves_several_loops_and_keeps_none_of_them() -> None:
    """Each run has a loop of its own, as some hosts have it; what is gone is let go."""
    layer = one_slot(App(), store=Watched())
    loops = []
    for _ in range(3):
        loop = asyncio.new_event_loop()
        assert 200 == loop.run_until_complete(ask(layer)).status
        loop.close()
        loops.append(weakref.ref(loop))
    del loop
    gc.collect()
    assert [None] * 3 == [ref() for ref in loops]


async def test_b17_over_a_socket_a_client_that_leaves_frees_its_slot() -> None:
    """Under uvicorn: the connection is cut in mid-stream, and the next caller is served."""
    freed = asyncio.Event()

    class Noting(Watched):
        async def settle(self, demands: Any, *, lease: str, costs: Any) -> None:
            await super().settle(demands, lease=lease, costs=costs)
            freed.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        message: Message = await receive()
        assert "http.disconnect" == message["type"]

    layer = one_slot(app, store=Noting())
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    request = head + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    async with serve(layer) as url, asyncio.timeout(10):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"data: {}")
        second, other = await asyncio.open_connection(host, int(port))
        other.write(request)
        assert (await second.readline()).startswith(b"HTTP/1.1 429")
        other.close()
        writer.close()
        await freed.wait()
        third, last = await asyncio.open_connection(host, int(port))
        last.write(request)
        assert (await third.readline()).startswith(b"HTTP/1.1 200")
        last.close()
        for one in (writer, other, last):
            await one.wait_closed()

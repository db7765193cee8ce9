"""What is awaited for a request: the app's call and its body, by objects that are no coroutines."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from asgi_llm._sending import send_both
from asgi_llm.middleware._cache_controls import NO_CONTROLS
from asgi_llm.middleware._cache_drive import drive, hand_on
from asgi_llm.middleware._cache_flight import Flight, Flights
from asgi_llm.middleware._cache_request import CacheRequest, read_request
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware

KEY = b"k" * 32
DEADLINE = 5.0


def request() -> CacheRequest:
    made = read_request({"model": "m"}, "/v1/chat/completions", b"", "shared", NO_CONTROLS, None)
    assert made is not None
    return made


class Given(Flight):
    """A flight whose ``receive`` gives one more message."""

    def receive(self) -> Awaitable[Message]:
        return self._more()

    async def _more(self) -> Message:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}


def begun() -> tuple[Flights, Flight]:
    flights, flight = Flights(), Given(request())
    flights.begin(KEY, flight)
    return flights, flight


def coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    assert inspect.isawaitable(awaitable)
    assert asyncio.iscoroutine(awaitable)
    return awaitable


async def test_a_flight_ends_with_its_app() -> None:
    """Once it has answered, and not before."""
    flights, flight = begun()
    waits = asyncio.Event()

    async def app() -> None:
        await waits.wait()

    task = asyncio.create_task(coroutine(drive(app(), flights, KEY, flight)))
    await asyncio.sleep(0)
    assert (1, False) == (len(flights), flight.over)
    waits.set()
    async with asyncio.timeout(DEADLINE):
        await task
    assert (0, True) == (len(flights), flight.over)


async def test_a_flight_ends_with_a_failure() -> None:
    """At once, or after waiting; the failure goes on to who awaits."""
    for pauses in (0, 1):
        flights, flight = begun()

        async def app(pauses: int = pauses) -> None:
            for _ in range(pauses):
                await asyncio.sleep(0)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await drive(app(), flights, KEY, flight)
        assert (0, True) == (len(flights), flight.over)


async def test_a_flight_ends_when_it_is_cancelled() -> None:
    """The app sees it, and may clean up."""
    flights, flight = begun()
    cleaned = asyncio.Event()

    async def app() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    async def layer() -> None:
        await drive(app(), flights, KEY, flight)

    task = asyncio.create_task(layer())
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert cleaned.is_set()
    assert (0, True) == (len(flights), flight.over)


def test_a_flight_ends_when_it_is_closed() -> None:
    """A coroutine that nobody goes on with is closed, and all that it awaits."""
    closed: list[bool] = []

    class Forever:
        def __await__(self) -> Generator[Any, None, None]:
            yield

    async def app() -> None:
        try:
            await Forever()
        finally:
            closed.append(True)

    async def layer() -> None:
        flights, flight = begun()
        told.append((flights, flight))
        await drive(app(), flights, KEY, flight)

    told: list[tuple[Flights, Flight]] = []

    async def begin() -> Coroutine[Any, Any, None]:
        running = layer()
        running.send(None)
        return running

    asyncio.run(begin()).close()
    flights, flight = told[0]
    assert ([True], 0, True) == (closed, len(flights), flight.over)


async def test_what_is_driven_may_be_any_awaitable() -> None:
    """Such as a future, or an object with ``__await__`` alone."""
    flights, flight = begun()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    async with asyncio.timeout(DEADLINE):
        await drive(future, flights, KEY, flight)
    assert 0 == len(flights)


async def test_a_body_is_handed_on_once() -> None:
    """To whoever awaits it first; the others get what comes after it."""
    flight = begun()[1]
    first, second = hand_on(flight, b"data"), hand_on(flight, b"data")
    expected = {"type": "http.request", "body": b"data", "more_body": False}
    assert expected == await second
    assert {"type": "http.disconnect"} == await first
    with pytest.raises(RuntimeError, match="already awaited"):
        await second


async def test_a_body_that_nobody_took_is_not_lost() -> None:
    """A ``receive`` that is cancelled or closed before it began has taken nothing."""
    flight = begun()[1]
    coroutine(hand_on(flight, b"data")).close()
    task = asyncio.create_task(coroutine(hand_on(flight, b"data")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    message = await asyncio.create_task(coroutine(hand_on(flight, b"data")))
    assert b"data" == message["body"]


async def test_what_comes_after_a_body_can_be_cancelled() -> None:
    """While it is waited for."""
    flight = begun()[1]
    await hand_on(flight, b"data")
    task = asyncio.create_task(coroutine(hand_on(flight, b"data")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Client:
    """A client's ``send``, which fails or waits where that is wanted."""

    def __init__(self, *, waits: bool = False, fails: bool = False) -> None:
        self.got: list[Message] = []
        self.goes_on = asyncio.Event()
        self._waits = waits
        self._fails = fails

    async def send(self, message: Message) -> None:
        self.got.append(message)
        if self._waits:
            await self.goes_on.wait()
        if self._fails:
            raise OSError("gone")


FIRST, SECOND = {"type": "http.response.start"}, {"type": "http.response.body"}


@pytest.mark.parametrize("waits", [False, True])
async def test_two_messages_are_sent_in_order(waits: bool) -> None:
    """The second one when the first one was sent."""
    client = Client(waits=waits)
    task = asyncio.create_task(coroutine(send_both(client.send, FIRST, SECOND)))
    await asyncio.sleep(0)
    assert ([FIRST] if waits else [FIRST, SECOND]) == client.got
    client.goes_on.set()
    async with asyncio.timeout(DEADLINE):
        await task
    assert [FIRST, SECOND] == client.got


async def test_nothing_is_sent_after_a_failure() -> None:
    """Nor to a client that is not waited for any more, nor by what never began."""
    client = Client(fails=True)
    with pytest.raises(OSError, match="gone"):
        await send_both(client.send, FIRST, SECOND)
    assert [FIRST] == client.got
    client = Client(waits=True)
    task = asyncio.create_task(coroutine(send_both(client.send, FIRST, SECOND)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [FIRST] == client.got
    client = Client()
    task = asyncio.create_task(coroutine(send_both(client.send, FIRST, SECOND)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    coroutine(send_both(client.send, FIRST, SECOND)).close()
    assert [] == client.got


async def test_a_send_may_be_any_awaitable() -> None:
    """Such as a future."""
    got: list[Message] = []

    def send(message: Message) -> Awaitable[None]:
        got.append(message)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        return future

    async with asyncio.timeout(DEADLINE):
        await send_both(send, FIRST, SECOND)
    assert [FIRST, SECOND] == got


def test_servers_see_a_coroutine_function() -> None:
    """They ask what they have been given, before they call it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    assert inspect.iscoroutinefunction(ExactCacheMiddleware(app).__call__)
    assert asyncio.iscoroutinefunction(ExactCacheMiddleware(app).__call__)

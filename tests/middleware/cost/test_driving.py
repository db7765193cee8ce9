"""An app whose answer is paid for is run as by a coroutine that awaits it, whatever comes of it."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Callable, Generator
from typing import Any

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.testing import chat_answer, http_scope
from tests.middleware.cost.conftest import HELLO, PRICES, Notes

BODY = msgspec.json.encode(chat_answer())
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json")],
}


def layer(app: Any, notes: Notes) -> CostMiddleware:
    return CostMiddleware(app, prices=PRICES, journal=notes)


class Host:
    """A host.

    Attributes:
        sent: The messages that it got.
    """

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self._given = False

    async def receive(self) -> Any:
        if self._given:
            await asyncio.Event().wait()
        self._given = True
        return {"type": "http.request", "body": msgspec.json.encode(HELLO), "more_body": False}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def run(self, app: Any) -> Any:
        scope = http_scope("POST", "/v1/chat/completions")
        return app(scope, self.receive, self.send)


async def answers(receive: Receive, send: Send) -> None:
    await receive()
    await send(dict(START))
    await send({"type": "http.response.body", "body": BODY})


async def test_an_app_need_not_be_a_coroutine() -> None:
    """All that can be awaited will do, as it does without the layer."""

    class Awaited:
        def __init__(self, receive: Receive, send: Send) -> None:
            self._both = receive, send

        def __await__(self) -> Generator[Any, None, None]:
            return answers(*self._both).__await__()

    @types.coroutine
    def old(receive: Receive, send: Send) -> Generator[Any, None, None]:
        yield from answers(receive, send).__await__()

    def task(receive: Receive, send: Send) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(answers(receive, send))

    makers: list[Callable[[Receive, Send], Any]] = [answers, Awaited, old, task]
    for make in makers:
        notes, host = Notes(), Host()

        def app(scope: Scope, receive: Receive, send: Send, make: Callable[..., Any] = make) -> Any:
            return make(receive, send)

        assert await host.run(layer(app, notes)) is None
        assert (2, "complete") == (len(host.sent), notes.row.outcome)


@pytest.mark.parametrize("waits", [0, 1, 3])
async def test_an_error_of_an_app_is_raised_when_it_is_written_down(waits: int) -> None:
    """It is the same object, and its traceback leads to where it was raised."""
    error = ValueError("broken")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise error

    notes = Notes()
    with pytest.raises(ValueError, match="broken") as raised:
        await Host().run(layer(app, notes))
    assert error is raised.value
    assert "app" in [entry.name for entry in raised.traceback]
    assert ["failed"] == [row.outcome for row in notes.rows]


async def test_an_app_that_fails_before_it_can_be_awaited_is_written_down() -> None:
    """It has reached nobody, as far as is known."""

    def app(scope: Scope, receive: Receive, send: Send) -> Any:
        raise ValueError("broken")

    notes = Notes()
    with pytest.raises(ValueError, match="broken"):
        await Host().run(layer(app, notes))
    assert ["failed"] == [row.outcome for row in notes.rows]


async def test_what_an_app_raises_while_it_is_cancelled_is_what_comes_of_it() -> None:
    """And the row is there."""
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("not so fast") from None

    notes = Notes()
    task = asyncio.ensure_future(Host().run(layer(app, notes)))
    async with asyncio.timeout(10):
        await begun.wait()
        task.cancel()
        with pytest.raises(ValueError, match="not so fast"):
            await task
    assert 1 == len(notes.rows)


async def test_an_app_may_take_no_notice_of_a_cancellation() -> None:
    """It is answered, and paid for as a whole."""
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        await answers(receive, send)

    notes, host = Notes(), Host()
    task = asyncio.ensure_future(host.run(layer(app, notes)))
    async with asyncio.timeout(10):
        await begun.wait()
        task.cancel()
        await task
    assert (2, ["complete"]) == (len(host.sent), [row.outcome for row in notes.rows])


async def test_a_request_that_is_cancelled_ends_as_cancelled() -> None:
    """With its row."""
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    notes = Notes()
    task = asyncio.ensure_future(Host().run(layer(app, notes)))
    async with asyncio.timeout(10):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ["client_disconnect"] == [row.outcome for row in notes.rows]


@pytest.mark.parametrize("raises", [False, True])
async def test_a_request_that_is_closed_closes_its_app(raises: bool) -> None:
    """As an event loop does that is ended; the row is written first."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("closed")
            if raises:
                raise ValueError("in closing")

    notes = Notes()
    running = Host().run(layer(app, notes))
    running.send(None)
    if raises:
        with pytest.raises(ValueError, match="in closing"):
            running.close()
    else:
        running.close()
    assert (["closed"], 1) == (seen, len(notes.rows))
    with pytest.raises(RuntimeError, match="already awaited"):
        running.send(None)


async def test_what_a_loop_sends_and_throws_in_reaches_the_app() -> None:
    """Also values, which asyncio never sends."""
    seen: list[Any] = []

    @types.coroutine
    def ask(value: int) -> Generator[int, Any, Any]:
        try:
            return (yield value)
        except KeyError as error:
            return type(error)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await ask(1))
        seen.append(await ask(2))
        seen.append(await ask(3))
        await answers(receive, send)

    notes = Notes()
    running = Host().run(layer(app, notes))
    assert 1 == running.send(None)
    assert 2 == running.send("a value")
    assert 3 == running.throw(KeyError("k"))
    with pytest.raises(StopIteration):
        running.send(None)
    assert ["a value", KeyError, None] == seen
    assert ["complete"] == [row.outcome for row in notes.rows]


async def test_the_layer_is_a_coroutine_function_to_hosts() -> None:
    """Some ask before they call it."""
    inside = layer(answers, Notes())
    assert inspect.iscoroutinefunction(type(inside).__call__)
    running = inside({"type": "lifespan"}, *(Host().receive, Host().send))
    assert inspect.iscoroutine(running)
    running.close()


async def test_an_app_that_ends_without_an_answer_is_written_down() -> None:
    """Nothing was sent; whoever asked is told by the host."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    notes, host = Notes(), Host()
    await host.run(layer(app, notes))
    assert ([], 1) == (host.sent, len(notes.rows))

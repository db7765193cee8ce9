"""How requests under way are ended when the process is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm.gateway._drain import Drain
from asgi_llm.testing import Recorder, call, http_scope, websocket_scope

JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]


class App:
    """Sends what it is given, says so, and then never ends."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages
        self.waiting = asyncio.Event()
        self.cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self.messages:
            await send(message)
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def start(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """The start of an answer."""
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def drained(app: App, *, begins: int = 1) -> tuple[Recorder, list[str]]:
    """What a client gets of a request that is ended at once."""
    begun: list[str] = []
    drain = Drain(app, deadline_seconds=0, on_begin=lambda: begun.append("begun"))
    recorder = Recorder()

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async with asyncio.timeout(5):
        request = asyncio.create_task(drain(http_scope(), receive, recorder))
        await app.waiting.wait()
        for _ in range(begins):
            drain.begin()
        await request
    assert app.cancelled
    return recorder, begun


async def test_no_answer_yet_becomes_a_503() -> None:
    """With a hint to try again soon."""
    recorder, begun = await drained(App(), begins=2)
    assert (recorder.status, recorder.header("retry-after")) == (503, b"1")
    assert b'"code":"server_shutting_down"' in recorder.body
    assert begun == ["begun"]


async def test_a_stream_gets_an_error_event_and_its_end() -> None:
    """What was sent stays, and the last event says that it is not whole."""
    data = {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
    recorder, _ = await drained(App(start(EVENTS), data))
    assert recorder.body.startswith(b'data: 1\n\ndata: {"error":{"message":"The gateway is rest')
    assert recorder.body.endswith(b"data: [DONE]\n\n")
    assert recorder.messages[-1].get("more_body", False) is False


async def test_any_other_answer_is_cut_off() -> None:
    """Half a JSON document gets no end, so that no client takes it for whole."""
    data = {"type": "http.response.body", "body": b'{"a":', "more_body": True}
    recorder, _ = await drained(App(start(JSON), data))
    assert recorder.messages[1:] == [data]


async def test_an_answer_that_is_whole_gets_nothing_more() -> None:
    """An app that has answered and still works is ended, its answer is not touched."""
    data = {"type": "http.response.body", "body": b"{}"}
    recorder, _ = await drained(App(start(JSON), data))
    assert recorder.messages == [start(JSON), data]


async def test_a_client_that_does_not_wait_is_no_failure() -> None:
    """Last words that cannot be sent are not missed."""
    app = App()
    drain = Drain(app, deadline_seconds=0, on_begin=lambda: None)

    async def gone(message: Any) -> None:
        raise OSError

    async with asyncio.timeout(5):
        request = asyncio.create_task(drain(http_scope(), app, gone))  # type: ignore[arg-type]
        await app.waiting.wait()
        drain.begin()
        await request
    assert app.cancelled


async def test_another_cancellation_passes() -> None:
    """Who cancels a request for a reason of their own gets what they asked for."""
    app = App()
    drain = Drain(app, deadline_seconds=0, on_begin=lambda: None)
    recorder = Recorder()
    request = asyncio.create_task(drain(http_scope(), app, recorder))  # type: ignore[arg-type]
    await app.waiting.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert recorder.messages == []


async def test_what_is_no_request_passes_as_it_is() -> None:
    """A websocket's scope and callables are the same objects inside."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, receive, send))

    scope, recorder = websocket_scope(), Recorder()
    await Drain(app, deadline_seconds=0, on_begin=lambda: None)(scope, app, recorder)  # type: ignore[arg-type]
    assert [one is other for one, other in zip(seen, (scope, app, recorder), strict=True)] == [
        True,
        True,
        True,
    ]


async def test_before_the_end_nothing_is_changed() -> None:
    """An answer passes as it was."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(JSON))
        await send({"type": "http.response.body", "body": b"{}"})

    answer = await call(Drain(app, deadline_seconds=0, on_begin=lambda: None))
    assert answer.messages == [start(JSON), {"type": "http.response.body", "body": b"{}"}]

"""Checks: what becomes of an app that fails, stops early or is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm.testing.conformance._probes import (
    answer,
    bodies,
    drain,
    events,
    json_start,
    stream_start,
)
from asgi_llm.testing.conformance._subject import Example, Layer, check, require
from asgi_llm.testing.exchange import Exchange
from asgi_llm.testing.recorder import Recorder


class AppError(Exception):
    """What the app of a check raises: known to no layer."""


def _stages() -> Mapping[str, Sequence[Message]]:
    whole = answer()
    return {
        "before the start": [],
        "after the start": [json_start(whole)],
        "in the middle of a stream": [stream_start(), *bodies(events()[:1], end=False)],
        "after the end": [json_start(whole), *bodies([whole])],
    }


def _stops(messages: Sequence[Message], error: Exception | None, calls: list[str]) -> ASGIApp:
    """An app that sends ``messages`` and then raises ``error``, or returns."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(scope["path"])
        await drain(receive)
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


def _require_sent(exchange: Exchange, messages: Sequence[Message], where: str) -> None:
    left = [message["type"] for message in exchange.recorder.messages]
    kinds = [message["type"] for message in messages]
    require(left == kinds, f"{left} left of an app that sent {kinds} and stopped {where}")
    complete = exchange.recorder.complete
    require(
        complete == (where == "after the end"),
        f"an end was made up for an app that stopped {where}",
    )


@check
async def exceptions_pass_once(layer: Layer, example: Example) -> None:
    """What the app raises is what the host sees, and nothing is sent that the app did not send."""
    for where, messages in _stages().items():
        error, calls = AppError(where), list[str]()
        raised: Exception | None = None
        body = example.body(mark=where)
        app = layer(_stops(messages, error, calls))
        async with Exchange(app, example.scope(body), body=body) as exchange:
            try:
                await exchange.finish()
            except Exception as caught:  # whatever it is, it is judged below
                raised = caught
        require(raised is not None, f"an exception raised {where} was hidden")
        require(raised is error, f"an exception raised {where} came out as {raised!r}")
        require(len(calls) == 1, f"the app was called {len(calls)} times, not once")
        _require_sent(exchange, messages, where)


@check
async def unfinished_answers_stay_unfinished(layer: Layer, example: Example) -> None:
    """Where the app returns early, no start and no end is made up for it."""
    for where, messages in _stages().items():
        body = example.body(mark=where)
        app = layer(_stops(messages, None, []))
        async with Exchange(app, example.scope(body), body=body) as exchange:
            await exchange.finish()
        _require_sent(exchange, messages, where)


@check
async def errors_of_send_reach_the_app(layer: Layer, example: Example) -> None:
    """The OSError by which a server says that the client left is raised to the app, and once."""
    heard: list[OSError] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drain(receive)
        try:
            await send(stream_start())
            for message in bodies(events()):
                await send(message)
        except OSError as error:
            heard.append(error)
            raise

    body = example.body(stream=True)
    async with Exchange(layer(app), example.scope(body), body=body) as exchange:
        await exchange.next_message()
        exchange.disconnect()
        try:
            await exchange.finish()
        except OSError as error:
            require([error] == heard, f"the app heard {heard}, and {error!r} came out")
    require(bool(heard), "the app went on sending to a client that had left")


@check
async def cancellation_reaches_the_app(layer: Layer, example: Example) -> None:
    """A server that cancels the request cancels the app, and gets the cancellation back."""
    heard: list[str] = []
    started = asyncio.Event()
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drain(receive)
        await send(stream_start())
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    body = example.body(stream=True)
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    inbox.put_nowait({"type": "http.request", "body": body, "more_body": False})

    async def serve() -> None:
        await layer(app)(example.scope(body), inbox.get, recorder)

    running = asyncio.create_task(serve())
    await started.wait()
    running.cancel()
    await asyncio.wait({running})
    require(heard == ["cancelled"], "the app went on after its request was cancelled")
    require(running.cancelled(), "the cancellation did not come out of the layer")
    require(len(recorder.messages) == 1, "something was sent after the cancellation")


CHECKS = (
    exceptions_pass_once,
    unfinished_answers_stay_unfinished,
    errors_of_send_reach_the_app,
    cancellation_reaches_the_app,
)

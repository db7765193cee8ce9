"""Scopes, the recorder, and an app run in process under the test's control."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from asgi_llm.testing import (
    Exchange,
    Recorder,
    call,
    http_scope,
    lifespan_scope,
    websocket_scope,
)

START: Message = {
    "type": "http.response.start",
    "status": 201,
    "headers": [(b"x-a", b"1"), (b"set-cookie", b"a"), (b"Set-Cookie", b"b")],
}


def body(data: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_an_http_scope_is_what_a_server_builds() -> None:
    """The path is decoded, the raw path kept, the query apart, and names are lower case."""
    scope = http_scope(
        "GET", "/a%2Fb?x=1", [("X-Key", "v"), (b"x-key", b"w")], root_path="/r", client=None
    )
    assert "/a/b" == scope["path"]
    assert b"/a%2Fb" == scope["raw_path"]
    assert b"x=1" == scope["query_string"]
    assert [(b"x-key", b"v"), (b"x-key", b"w")] == scope["headers"]
    assert ("http", "GET", "/r", None) == tuple(
        scope[key] for key in ("type", "method", "root_path", "client")
    )
    assert "2.5" == http_scope(spec_version="2.5")["asgi"]["spec_version"]


def test_other_scopes_have_their_types() -> None:
    """A websocket scope has subprotocols, a lifespan scope a state, and no method."""
    websocket = websocket_scope("/ws")
    assert ("websocket", "ws", []) == tuple(
        websocket[key] for key in ("type", "scheme", "subprotocols")
    )
    assert "method" not in websocket
    assert ("lifespan", {}) == tuple(lifespan_scope()[key] for key in ("type", "state"))


async def test_a_recorder_tells_what_was_sent() -> None:
    """Status, header pairs with duplicates, single headers, chunks and events."""
    recorder = Recorder()
    await recorder(START)
    await recorder(body(b"data: 1\n", more=True))
    assert (b"data: 1\n", True, False) == (recorder.body, recorder.started, recorder.complete)
    await recorder(body(b"\ndata: [DONE]\n\n"))
    assert recorder.complete
    assert 201 == recorder.status
    assert [(b"x-a", b"1"), (b"set-cookie", b"a"), (b"Set-Cookie", b"b")] == recorder.headers
    assert b"1" == recorder.header("X-A")
    assert recorder.header("x-none") is None
    assert [b"a", b"b"] == recorder.header_values("set-cookie")
    assert [b"data: 1\n", b"\ndata: [DONE]\n\n"] == recorder.chunks
    assert [b"1", b"[DONE]"] == [event.data for event in recorder.events]
    assert recorder.messages[0] is START


@pytest.mark.parametrize(
    "messages",
    [
        [START, START],
        [body(b"x")],
        [START, body(b"x"), body(b"y")],
    ],
)
async def test_a_recorder_refuses_what_no_server_takes(messages: list[Message]) -> None:
    """A second start, a body before the start and a body after the end raise in the app."""
    recorder = Recorder()
    for message in messages[:-1]:
        await recorder(message)
    with pytest.raises(RuntimeError, match=r"http\.response"):
        await recorder(messages[-1])


def test_no_response_is_said_so() -> None:
    """Asking for the status of nothing is an error, not None."""
    with pytest.raises(LookupError, match="no response"):
        _ = Recorder().status


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    await send(START)
    await send(body(message["body"]))


async def test_call_runs_one_request() -> None:
    """Body bytes go in as they are; a document brings its headers, on a copy of the scope."""
    assert b"abc" == (await call(echo, body=b"abc")).body
    scope = http_scope()
    seen: list[Scope] = []

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await echo(scope, receive, send)

    assert {"a": 1} == (await call(keep, scope, json={"a": 1})).json()
    assert [(b"content-type", b"application/json"), (b"content-length", b"7")] == seen[0]["headers"]
    assert [] == scope["headers"]
    await call(keep, scope, body=b"x")
    assert seen[1] is scope


async def test_an_app_cannot_run_ahead_of_its_client() -> None:
    """``send`` returns when the test has taken the message, so chunk n+1 is not made before."""
    made: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for n in range(3):
            made.append(n)
            await send(body(b"%d" % n, more=True))
        await send(body(b""))

    async with Exchange(app) as exchange:
        assert START == await exchange.next_message()
        await exchange.settle()
        assert [0] == made
        assert 1 == exchange.pending
        assert b"0" == await exchange.next_chunk()
        await exchange.settle()
        assert [0, 1] == made
        assert b"012" == (await exchange.finish()).body
        with pytest.raises(EOFError):
            await exchange.next_message()
        with pytest.raises(EOFError):
            await exchange.next_chunk()


async def test_a_layer_that_buffers_is_seen() -> None:
    """Where the app waits for the client to have read chunk n, a layer that holds it times out."""
    read = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"n", more=True))
        await read.wait()
        await send(body(b"n+1"))

    async def buffering(scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        await app(scope, receive, hold)
        for message in held:
            await send(message)

    async with Exchange(app) as exchange:
        assert b"n" == await exchange.next_chunk()
        read.set()
        await exchange.finish()
    read.clear()
    async with Exchange(buffering, timeout_seconds=0.05) as exchange:
        with pytest.raises(TimeoutError, match="sent nothing"):
            await exchange.next_chunk()


async def test_receive_gives_no_disconnect_until_there_is_one() -> None:
    """The body comes in the test's pieces; then ``receive`` waits until the client leaves."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with Exchange(app, body=None) as exchange:
        await exchange.until_receiving()
        assert [] == exchange.given
        exchange.send_body(b"a", more=True)
        exchange.send_body(b"b")
        await exchange.settle()
        assert ["http.request"] * 2 == [message["type"] for message in exchange.given]
        assert [True, False] == [message["more_body"] for message in exchange.given]
        assert 3 == exchange.receive_calls
        assert exchange.receiving
        exchange.disconnect()
        await exchange.finish()
        assert {"type": "http.disconnect"} == exchange.given[-1]
        assert not exchange.receiving


async def test_the_end_of_the_response_ends_receive() -> None:
    """After the last body message ``receive`` says disconnect, as servers do."""
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(body(b"x"))
        got.append(await receive())

    await call(app)
    assert [{"type": "http.disconnect"}] == got


@pytest.mark.parametrize(("version", "raised"), [("2.3", 0), ("2.4", 2), ("2.10", 2)])
async def test_sending_to_a_client_that_left(version: str, raised: int) -> None:
    """From spec_version 2.4 on ``send`` raises OSError; before, it does nothing."""
    caught = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for _ in range(2):
            try:
                await send(body(b"x", more=True))
            except OSError as error:
                caught.append(error)

    async with Exchange(app, http_scope(spec_version=version)) as exchange:
        await exchange.next_message()
        await exchange.settle()
        exchange.disconnect()
        await exchange.finish()
    assert raised == len(caught)
    assert [START] == exchange.recorder.messages
    assert [b"x", b"x"] == [message["body"] for message in exchange.dropped]


async def test_what_the_app_raises_is_raised_once() -> None:
    """``finish`` raises it; without it, the end of the block does."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("mine")

    async with Exchange(app) as exchange:
        with pytest.raises(ValueError, match="mine"):
            await exchange.finish()
    with pytest.raises(ValueError, match="mine"):
        async with Exchange(app):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    with pytest.raises(ValueError, match="mine"):
        await call(app)


async def test_an_app_that_never_returns_is_cancelled() -> None:
    """The end of the block cancels it, and a call has a deadline."""
    ended: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with Exchange(app) as exchange:
        await exchange.settle()
        assert ended == []
    assert ended == [True]
    with pytest.raises(TimeoutError):
        await call(app, timeout_seconds=0.01)
    assert [True, True] == ended


async def test_an_app_that_ignores_its_cancellation_is_told_of() -> None:
    """The block does not hang on it."""
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await go_on.wait()

    with pytest.raises(TimeoutError, match="cancelled"):
        async with Exchange(app, timeout_seconds=0.01) as exchange:
            await exchange.settle()
    go_on.set()
    await exchange.settle()


async def test_an_exchange_is_entered_first() -> None:
    """The message says how."""
    with pytest.raises(RuntimeError, match="async with"):
        await Exchange(echo).next_message()

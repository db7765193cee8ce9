"""Checks: what the app gets of the request body and of the client's leaving."""

from __future__ import annotations

import asyncio
import json

from starlette.types import Message, Receive, Scope, Send

from asgi_llm.testing.conformance._probes import (
    answer,
    bodies,
    drain,
    events,
    in_pieces,
    reply,
    request,
    stream_start,
)
from asgi_llm.testing.conformance._subject import Example, Layer, check, require
from asgi_llm.testing.exchange import Exchange

_LARGE = 2 * 1024 * 1024


class _Reader:
    """An app that keeps what it got, with the size of each message."""

    def __init__(self) -> None:
        self.bodies: list[bytes | None] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append(await drain(receive))
        await reply(send, answer())

    def require_body(self, expected: bytes, where: str) -> None:
        calls = len(self.bodies)
        require(calls == 1, f"the app was called {calls} times, not once: {where}")
        body = self.bodies[0]
        require(body is not None, f"the app saw a disconnect before the end of the body: {where}")
        require(
            body == expected,
            f"the body inside has {len(body or b'')} bytes and is not "
            f"the one sent ({len(expected)} bytes): {where}",
        )


@check
async def body_arrives_byte_for_byte(layer: Layer, example: Example) -> None:
    """The app gets the very bytes of the client, in however many messages they come."""
    body = example.body(note="zażółć \U0001f600", spaces="  ").replace(b": ", b" :\t", 1)
    cuts = {
        "in one message": [body],
        "byte by byte": in_pieces(body, 1),
        "in pieces of 7": in_pieces(body, 7),
        "with empty messages between": [b"", body[:3], b"", b"", body[3:], b""],
    }
    for where, pieces in cuts.items():
        reader = _Reader()
        await request(layer(reader), example.scope(body), pieces)
        reader.require_body(body, where)


@check
async def chunked_upload_arrives(layer: Layer, example: Example) -> None:
    """A body without ``content-length``, whose messages lack their optional keys, arrives."""
    body = example.body()
    scope = example.scope()
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
    scope["headers"].append((b"transfer-encoding", b"chunked"))
    reader = _Reader()
    layered = layer(reader)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        async def sparing() -> Message:
            return {key: value for key, value in (await receive()).items() if value}

        await layered(scope, sparing, send)

    await request(server, scope, [b"", body[:5], body[5:], b""])
    reader.require_body(body, "chunked")


@check
async def large_body_arrives(layer: Layer, example: Example) -> None:
    """A body of 2 MiB in messages of 64 KiB arrives whole."""
    body = example.body(padding="x" * _LARGE)
    reader = _Reader()
    await request(layer(reader), example.scope(body), in_pieces(body, 65536))
    reader.require_body(body, "2 MiB")


@check
async def document_arrives_unchanged(layer: Layer, example: Example) -> None:
    """The document inside equals the one outside: unknown fields, large integers, key order."""
    body = example.body(
        x_unknown={"z": [None, True, 1.5, ""], "a": 2**70}, note='\u0000 \\ " \u2028 \U0001f600'
    )
    reader = _Reader()
    await request(layer(reader), example.scope(body), [body])
    inside = reader.bodies[0] if reader.bodies else None
    require(inside is not None, "the document did not reach the app")
    expected = json.dumps(json.loads(body))
    require(json.dumps(json.loads(inside or b"null")) == expected, "the document inside differs")


@check
async def other_requests_pass(layer: Layer, example: Example) -> None:
    """Methods and paths that are not the layer's business pass: no body, or one that is no JSON."""
    cases = (
        ("GET", "/v1/models", b""),
        ("HEAD", "/", b""),
        ("POST", "/upload", b"\x00\xff not JSON {"),
        ("DELETE", "/v1/files/a%20b", b""),
    )
    for method, path, body in cases:
        reader = _Reader()
        scope = example.scope(body, method=method, path=path)
        recorder = await request(layer(reader), scope, [body])
        reader.require_body(body, f"{method} {path}")
        require(
            recorder.status == 200, f"{method} {path} is answered {recorder.status} by the layer"
        )


@check
async def receive_waits_after_the_body(layer: Layer, example: Example) -> None:
    """After the body, ``receive`` gives nothing until the client leaves, and then says that."""
    asked = asyncio.Event()
    after: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drain(receive)
        asked.set()
        after.append((await receive())["type"])
        after.append((await receive())["type"])

    body = example.body()
    async with Exchange(layer(app), example.scope(body), body=body) as exchange:
        await asked.wait()
        await exchange.settle()
        require(not after, f"{after} was invented while the client was still there")
        exchange.disconnect()
        await exchange.finish()
    require(after == ["http.disconnect"] * 2, f"after the client left the app got {after}")
    _require_silence(exchange, 0)


@check
async def disconnect_reaches_a_streaming_app(layer: Layer, example: Example) -> None:
    """An app that listens while it streams, as Starlette and Django do, hears the client leave."""
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drain(receive)
        await send(stream_start())
        for message in bodies(events()[:1], end=False):
            await send(message)
        heard.append((await receive())["type"])

    body = example.body(stream=True)
    scope = example.scope(body)
    async with Exchange(layer(app), scope, body=body, timeout_seconds=1.0) as exchange:
        await exchange.next_chunk()
        await exchange.settle()
        require(not heard, f"{heard} was invented while the client was still there")
        exchange.disconnect()
        await exchange.finish()
    require(heard == ["http.disconnect"], f"the app heard {heard} when the client left")
    _require_silence(exchange, 2)


@check
async def disconnect_before_the_end_of_the_body(layer: Layer, example: Example) -> None:
    """A client that leaves in the middle of its body is no request with a shorter body."""
    seen: list[bytes | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await drain(receive))

    body = example.body()
    async with Exchange(layer(app), example.scope(body), body=None) as exchange:
        exchange.send_body(body[:4], more=True)
        exchange.send_body(body[4:8], more=True)
        await exchange.until_receiving()
        exchange.disconnect()
        await exchange.finish()
    whole = [one for one in seen if one is not None]
    require(not whole, f"the app got {whole} as a whole body")
    _require_silence(exchange, 0)


def _require_silence(exchange: Exchange, before: int) -> None:
    """The client left after ``before`` messages, and nothing was sent after that."""
    added = [*exchange.recorder.messages[before:], *exchange.dropped]
    kinds = [message["type"] for message in added]
    require(not kinds, f"{kinds} was sent to a client that had left")


CHECKS = (
    body_arrives_byte_for_byte,
    chunked_upload_arrives,
    large_body_arrives,
    document_arrives_unchanged,
    other_requests_pass,
    receive_waits_after_the_body,
    disconnect_reaches_a_streaming_app,
    disconnect_before_the_end_of_the_body,
)

"""The apps inside the layer under test and the clients outside it: what they read and send."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.testing.chat import chat_answer, chat_events
from asgi_llm.testing.exchange import Exchange
from asgi_llm.testing.recorder import Recorder

__all__ = [
    "answer",
    "bodies",
    "drain",
    "events",
    "in_pieces",
    "json_start",
    "reply",
    "request",
    "stream_start",
]


async def request(app: ASGIApp, scope: Scope, pieces: Iterable[bytes]) -> Recorder:
    """Send one request whose body comes in ``pieces``, and take the whole answer."""
    async with Exchange(app, scope, body=None) as exchange:
        last = b""
        for at, piece in enumerate(pieces):
            if at:
                exchange.send_body(last, more=True)
            last = piece
        exchange.send_body(last)
        return await exchange.finish()


async def drain(receive: Receive) -> bytes | None:
    """The whole body; None where the client left first."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body", False):
            return body


async def reply(send: Send, body: bytes) -> None:
    """Send a whole JSON answer."""
    await send(json_start(body))
    await send({"type": "http.response.body", "body": body})


def answer(text: str = "Hello there.") -> bytes:
    """A chat completion."""
    return msgspec.json.encode(chat_answer(text))


def events(text: str = "One two three four five.") -> list[bytes]:
    """A chat stream, one event a piece, the end mark included."""
    encoded = [_sse.encode(msgspec.json.encode(event)) for event in chat_events(text)]
    return [*encoded, _sse.DONE]


def in_pieces(body: bytes, size: int) -> list[bytes]:
    """``body``, cut every ``size`` bytes."""
    return [body[at : at + size] for at in range(0, len(body), size)]


def json_start(body: bytes, **fields: object) -> Message:
    """The start of a JSON answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return {"type": "http.response.start", "status": 200, "headers": headers, **fields}


def stream_start() -> Message:
    """The start of a stream."""
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def bodies(pieces: Iterable[bytes], *, end: bool = True) -> list[Message]:
    """The messages that send ``pieces``; without ``end``, more is still to come."""
    messages: list[Message] = [
        {"type": "http.response.body", "body": piece, "more_body": True} for piece in pieces
    ]
    if end:
        messages[-1]["more_body"] = False
    return messages

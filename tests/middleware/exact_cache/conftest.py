"""Apps, callers and stores that the tests of the exact cache share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.state import PRINCIPAL, State, enter
from asgi_llm.testing import Recorder, call, chat_answer, chat_events, http_scope
from asgi_llm.types import Principal
from tests.services.redis_server import redis_server

__all__ = ["redis_server"]

CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "temperature": 0,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
STREAM = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}


class App:
    """Answers each request, whole or as a stream as it is asked for, and counts them.

    Each answer has another text, so that a stored one can be told from a new one.

    Args:
        answer: Makes the document of the answer with that number, from 1; for streams its text.
        status: The status to answer with.
        headers: Further headers of the answer.
        usage: Whether streams tell it where they are asked to.
    """

    def __init__(
        self,
        answer: Callable[[int], dict[str, Any]] | None = None,
        *,
        status: int = 200,
        headers: Sequence[tuple[bytes, bytes]] = (),
        usage: bool = True,
        events: Callable[[int], list[dict[str, Any]]] | None = None,
        done: bool = True,
    ) -> None:
        self.calls = 0
        self.documents: list[Any] = []
        self.states: list[State] = []
        self.gate: asyncio.Event | None = None
        self.started = asyncio.Event()
        self.status = status
        self._answer = answer or (lambda number: chat_answer(f"Answer number {number}."))
        self._events = events
        self._headers = tuple(headers)
        self._usage = usage
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        number = self.calls
        self.states.append(enter(scope)[1])
        document = msgspec.json.decode(await read(receive))
        self.documents.append(document)
        self.started.set()
        if self.gate is not None and not document.get("stream"):
            await self.gate.wait()
        if document.get("stream") and self.status == 200:
            await self._stream(number, document, send)
            return
        body = msgspec.json.encode(self._answer(number))
        headers = [(b"content-type", b"application/json"), *self._headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, number: int, document: Any, send: Send) -> None:
        tells = self._usage and (document.get("stream_options") or {}).get("include_usage")
        if self._events is not None:
            events = self._events(number)
        else:
            events = chat_events(f"Answer number {number}.", usage_in="final" if tells else "none")
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for place, event in enumerate(events):
            if self.gate is not None and place == 2:
                await self.gate.wait()
            body = _sse.encode(msgspec.json.encode(event))
            await send({"type": "http.response.body", "body": body, "more_body": True})
        end = _sse.DONE if self._done else b""
        await send({"type": "http.response.body", "body": end})


async def read(receive: Receive) -> bytes:
    """The whole request body."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else go on until ``condition`` holds, for at most five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  there is no event for all that is waited for
            await asyncio.sleep(0)


class As:
    """Stands where a layer for authentication stands: every request comes from ``principal``."""

    def __init__(self, app: ASGIApp, **principal: Any) -> None:
        self.app = app
        self.principal = Principal(**principal)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        state.set(PRINCIPAL, self.principal)
        await self.app(scope, receive, send)


async def ask(
    app: ASGIApp,
    document: Any = None,
    headers: dict[str, str] | None = None,
    timeout_seconds: float = 10.0,
    **scope: Any,
) -> Recorder:
    """Send one request and take its answer."""
    made = http_scope(headers=headers or {}, **scope)
    asked = CHAT if document is None else document
    return await call(app, made, json=asked, timeout_seconds=timeout_seconds)


def cache_of(recorder: Recorder) -> tuple[bytes | None, bytes | None]:
    """What the client was told of the cache: its status and its type."""
    return recorder.header("x-cache-status"), recorder.header("x-cache-type")


def text_of(recorder: Recorder) -> str:
    """What the answer says, whole or streamed."""
    if (recorder.header("content-type") or b"").startswith(b"application/json"):
        return str(recorder.json()["choices"][0]["message"]["content"])
    return "".join(
        choice["delta"].get("content") or ""
        for event in recorder.events
        if not event.done
        for choice in event.json()["choices"]
    )


MISS = (b"MISS", None)
HIT = (b"HIT", b"EXACT")
BYPASS = (b"BYPASS", None)

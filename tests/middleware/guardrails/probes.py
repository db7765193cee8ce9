"""Guards, apps and streams that the tests of the guardrails share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.guards.base import Finding, GuardContext, GuardCost
from asgi_llm.guards.patterns import PatternGuard, Rule
from asgi_llm.state import State, enter
from asgi_llm.testing import Recorder, call, chat_answer, chat_events

HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello there, how are you?"}]}


class Pattern:
    """A guard that finds what a regular expression matches."""

    cost: GuardCost = "inline"

    def __init__(
        self,
        pattern: str,
        *,
        window: int | None = 64,
        category: str = "pii.email",
        name: str = "pattern",
    ) -> None:
        self.name = name
        self.window = window
        self.category = category
        self.texts: list[str] = []
        self.contexts: list[GuardContext] = []
        self._pattern = re.compile(pattern)

    def check(self, text: str, context: GuardContext) -> list[Finding]:
        self.texts.append(text)
        self.contexts.append(context)
        return [
            Finding(start=match.start(), end=match.end(), category=self.category)
            for match in self._pattern.finditer(text)
        ]


def emails(name: str = "pii") -> Pattern:
    """A guard for e-mail addresses of at most 60 characters."""
    return Pattern(r"(?<![\w.])[A-Za-z0-9._]{1,24}@[A-Za-z0-9]{1,24}\.[a-z]{2,8}(?!\w)", name=name)


def cards() -> Pattern:
    """A guard for card numbers: sixteen digits in groups."""
    return Pattern(r"(?<!\d)\d{4}(?:[ -]?\d{4}){3}(?!\d)", category="pii.card", window=24)


def fused() -> PatternGuard:
    """A guard of the package's own kind, whose rules are looked for together with others'."""
    return PatternGuard(
        "fused",
        [
            Rule(
                category="pii.email",
                pattern=r"[A-Za-z0-9._]{1,24}@[A-Za-z0-9]{1,24}\.[a-z]{2,8}",
                max_length=64,
            ),
            Rule(
                category="pii.card",
                pattern=r"\b\d{4}(?:[ -]?\d{4}){3}\b",
                max_length=24,
            ),
        ],
    )


def words(*words: str, window: int | None = 32, name: str = "words") -> Pattern:
    """A guard for words of the test's own."""
    pattern = "|".join(map(re.escape, words))
    return Pattern(pattern, category="topic.secret", window=window, name=name)


class Remote:
    """A guard that waits for somebody: what it does is the test's."""

    cost: GuardCost = "remote"
    window: int | None = 64

    def __init__(
        self, judge: Callable[[str], Awaitable[Sequence[Finding]]], name: str = "remote"
    ) -> None:
        self.name = name
        self.calls = 0
        self.cancelled = 0
        self._judge = judge

    async def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        self.calls += 1
        try:
            return await self._judge(text)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Threaded:
    """A guard that runs in a thread: what it does is the test's."""

    cost: GuardCost = "thread"
    window: int | None = 64

    def __init__(self, judge: Callable[[str], Sequence[Finding]], name: str = "threaded") -> None:
        self.name = name
        self.check = lambda text, context: judge(text)


def whole(category: str = "bad") -> Finding:
    """A finding about a text as a whole."""
    return Finding(start=0, end=0, category=category)


class App:
    """Answers each request with a document, or with what a function makes of the request's."""

    def __init__(
        self,
        answer: Any = None,
        *,
        status: int = 200,
        content_type: bytes = b"application/json",
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.calls = 0
        self.documents: list[Any] = []
        self.bodies: list[bytes] = []
        self.states: list[State] = []
        self.completed = 0
        self._answer = chat_answer() if answer is None else answer
        self._status = status
        self._headers = ((b"content-type", content_type), *headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        self.states.append(enter(scope)[1])
        body = await read(receive)
        self.bodies.append(body)
        if body.startswith(b"{"):
            self.documents.append(msgspec.json.decode(body))
        answer = self._answer
        if callable(answer):
            answer = answer(self.documents[-1])
        data = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        length = (b"content-length", b"%d" % len(data))
        await send(
            {
                "type": "http.response.start",
                "status": self._status,
                "headers": [*self._headers, length],
            }
        )
        await send({"type": "http.response.body", "body": data})
        self.completed += 1


class Stream:
    """Answers each request with a stream, one body message a chunk."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = list(chunks)
        self.sent = 0
        self.refused = 0
        self.states: list[State] = []
        self.documents: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.states.append(enter(scope)[1])
        self.documents.append(msgspec.json.decode(await read(receive)))
        headers = [(b"content-type", b"text/event-stream")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for chunk in self.chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self.sent += 1
            await send({"type": "http.response.body", "body": b""})
        except OSError:
            self.refused += 1
            raise


def encoded(events: Iterable[Any], *, done: bool = True) -> list[bytes]:
    """Events as the bytes of a stream, one chunk each."""
    chunks = [_sse.encode(msgspec.json.encode(event)) for event in events]
    return [*chunks, _sse.DONE] if done else chunks


def stream_of(pieces: Sequence[str], **options: Any) -> Stream:
    """A chat stream whose content comes in ``pieces``."""
    return Stream(encoded(chat_events(list(pieces), **options)))


def content(recorder: Recorder, field: str = "content", index: int = 0) -> str:
    """What a streamed choice says in a field of its deltas."""
    said = []
    for event in recorder.events:
        if event.done:
            continue
        for choice in event.json().get("choices", ()):
            if choice["index"] == index:
                said.append(choice.get("delta", {}).get(field) or "")
    return "".join(said)


def arguments(recorder: Recorder, call_index: int = 0) -> str:
    """The arguments of a streamed tool call."""
    said = []
    for event in recorder.events:
        if event.done:
            continue
        for choice in event.json().get("choices", ()):
            for one in choice["delta"].get("tool_calls") or ():
                if one["index"] == call_index:
                    said.append(one.get("function", {}).get("arguments") or "")
    return "".join(said)


def finish_reasons(recorder: Recorder) -> list[str]:
    """Every finish reason of a stream, in order."""
    return [
        choice["finish_reason"]
        for event in recorder.events
        if not event.done
        for choice in event.json().get("choices", ())
        if choice.get("finish_reason")
    ]


async def read(receive: Receive) -> bytes:
    """The whole request body."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


def chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    """A chat request; a text is a message of the user."""
    return {
        "model": "gpt-4o",
        "messages": [
            {"role": "user", "content": one} if isinstance(one, str) else one for one in messages
        ],
        **fields,
    }


async def ask(app: ASGIApp, document: Any = None) -> Recorder:
    """Send one chat request and take its answer."""
    return await call(app, json=HELLO if document is None else document)

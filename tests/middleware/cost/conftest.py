"""Prices, apps and books that the tests of the cost layer share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.errors import StoreError
from asgi_llm.pricing import PriceTable
from asgi_llm.state import PRINCIPAL, State, enter
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.testing import Recorder, call, chat_answer, http_scope
from asgi_llm.types import Document, Principal
from asgi_llm.wire.tokens import TokenCount

PRICES = PriceTable(
    overrides={
        "openai": {"*": {"input": 1, "output": 10}},
        "free": {"*": {"input": 0, "output": 0}},
    }
)
"""A USD for a million tokens of input, ten for output."""

HELLO = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Hello there."}],
    "max_tokens": 100,
}


class NineTokens:
    """Counts the 9 tokens of input that the test kit's answers report, exactly."""

    async def count(self, document: Document, model: str) -> TokenCount:
        if "prompt" in document:
            return TokenCount(len(document["prompt"].split()), True)
        return TokenCount(9, True)


class Notes:
    """A journal and a ledger that keeps all it gets, and fails where it is told to.

    Attributes:
        intents: Rows of calls that were to be made.
        rows: Rows of what came of them.
        settled: Ids of the intents that were settled.
        fails: Names of the methods that raise StoreError.
    """

    def __init__(self) -> None:
        self.intents: list[LedgerRow] = []
        self.rows: list[LedgerRow] = []
        self.settled: list[str] = []
        self.fails: set[str] = set()

    def intend(self, row: LedgerRow) -> None:
        self._fail("intend")
        self.intents.append(row)

    def settle(self, rows: Sequence[LedgerRow], *, intent: str) -> None:
        self._fail("settle")
        self.rows.extend(rows)
        self.settled.append(intent)

    async def record(self, rows: Sequence[LedgerRow]) -> None:
        self._fail("record")
        known = {row.id for row in self.rows}
        self.rows.extend(row for row in rows if row.id not in known)

    def _fail(self, name: str) -> None:
        if name in self.fails:
            raise StoreError("out of order")

    @property
    def row(self) -> LedgerRow:
        """The one row that there is."""
        (row,) = self.rows
        return row


class App:
    """Answers each request with a document, and keeps what it got.

    Args:
        answer: The document, or bytes; default: a chat completion that reports 9 + 2 tokens.
        status: The status to answer with.
        headers: Those of the answer besides its type.
        before: Called with the state before the answer begins.
    """

    def __init__(
        self,
        answer: Any = None,
        *,
        status: int = 200,
        headers: Sequence[tuple[bytes, bytes]] = (),
        media: bytes = b"application/json",
        before: Callable[[State], None] | None = None,
    ) -> None:
        self.documents: list[Any] = []
        document = chat_answer() if answer is None else answer
        self._body = document if isinstance(document, bytes) else msgspec.json.encode(document)
        self._status = status
        self._headers = [(b"content-type", media), *headers]
        self._before = before

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.documents.append(msgspec.json.decode(await read(receive)))
        if self._before is not None:
            self._before(enter(scope)[1])
        await send(
            {"type": "http.response.start", "status": self._status, "headers": self._headers}
        )
        await send({"type": "http.response.body", "body": self._body})


class Stream:
    """Streams events, as bytes in given pieces.

    Args:
        events: Documents of the events.
        done: Whether ``[DONE]`` follows.
        pieces: How the bytes are cut; None: an event a message.
        ends_apart: Whether the end of the body is a message of its own.
        before: Called with the state before the answer begins.
    """

    def __init__(
        self,
        events: Sequence[Any],
        *,
        done: bool = True,
        size: int | None = None,
        ends_apart: bool = True,
        before: Callable[[State], None] | None = None,
    ) -> None:
        self.documents: list[Any] = []
        self._before = before
        chunks = [_sse.encode(msgspec.json.encode(event)) for event in events]
        if done:
            chunks.append(_sse.DONE)
        if size is not None:
            whole = b"".join(chunks)
            chunks = [whole[at : at + size] for at in range(0, len(whole), size)]
        self.chunks = chunks
        self._ends_apart = ends_apart

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.documents.append(msgspec.json.decode(await read(receive)))
        if self._before is not None:
            self._before(enter(scope)[1])
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        last = None if self._ends_apart else len(self.chunks) - 1
        for place, chunk in enumerate(self.chunks):
            more = place != last
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
        if self._ends_apart:
            await send({"type": "http.response.body", "body": b""})


async def read(receive: Receive) -> bytes:
    """The whole request body."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


async def until(condition: Callable[[], object]) -> None:
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


async def ask(app: ASGIApp, document: Any = None, **scope: Any) -> Recorder:
    """Send one chat request and take its answer."""
    return await call(app, http_scope(**scope), json=HELLO if document is None else document)


def usd(text: str) -> Decimal:
    """An amount."""
    return Decimal(text)

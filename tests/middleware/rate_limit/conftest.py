"""Apps, callers and stores that the tests of the rate limits share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm.errors import StoreError
from asgi_llm.state import PRINCIPAL, State, enter
from asgi_llm.stores.base import Decision, Demand
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.testing import Recorder, call, chat_answer, http_scope
from asgi_llm.types import Principal

HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello there, how are you?"}]}


class App:
    """Answers each request with a chat completion, and counts them.

    Args:
        answer: The document to answer with; default: one that reports 9 + 2 tokens.
        status: The status to answer with.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        answer: Any = None,
        *,
        status: int = 200,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.calls = 0
        self.bodies: list[bytes] = []
        self.states: list[State] = []
        self._body = msgspec.json.encode(chat_answer() if answer is None else answer)
        self._status = status
        self._headers = tuple(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        self.states.append(enter(scope)[1])
        self.bodies.append(await read(receive))
        headers = [(b"content-type", b"application/json"), *self._headers]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})


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


async def ask(app: ASGIApp, document: Any = None, **scope: Any) -> Recorder:
    """Send one chat request and take its answer."""
    return await call(app, http_scope(**scope), json=HELLO if document is None else document)


def told(recorder: Recorder, kind: str) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Limit, remaining and reset of ``requests`` or ``tokens``, as the client was told."""
    limit, remaining, reset = (
        recorder.header(f"x-ratelimit-{word}-{kind}") for word in ("limit", "remaining", "reset")
    )
    return limit, remaining, reset


class Watched:
    """A store in memory that notes every call, and fails or hangs where it is told to.

    Attributes:
        calls: Name, keys and costs of every call.
        fails: Names of the calls that raise StoreError.
        hangs: Names of the calls that wait for ``go_on`` first.
    """

    def __init__(self, store: MemoryLimits | None = None) -> None:
        self.store = store or MemoryLimits()
        self.calls: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = []
        self.leases: list[str] = []
        self.fails: set[str] = set()
        self.hangs: set[str] = set()
        self.go_on = asyncio.Event()
        self.called = asyncio.Event()

    async def take(
        self, demands: Sequence[Demand], *, lease: str, lease_seconds: float, enforce: bool = True
    ) -> Decision:
        await self._note("take", demands, [demand.cost for demand in demands])
        self.leases.append(lease)
        return await self.store.take(
            demands, lease=lease, lease_seconds=lease_seconds, enforce=enforce
        )

    async def renew(self, demands: Sequence[Demand], *, lease: str, lease_seconds: float) -> None:
        await self._note("renew", demands, [])
        await self.store.renew(demands, lease=lease, lease_seconds=lease_seconds)

    async def settle(self, demands: Sequence[Demand], *, lease: str, costs: Sequence[int]) -> None:
        await self._note("settle", demands, costs)
        await self.store.settle(demands, lease=lease, costs=costs)

    async def aclose(self) -> None:
        await self.store.aclose()

    async def _note(self, name: str, demands: Sequence[Demand], costs: Sequence[int]) -> None:
        keys = tuple(demand.key for demand in demands)
        self.calls.append((name, keys, tuple(costs)))
        self.called.set()
        if name in self.hangs:
            await self.go_on.wait()
        if name in self.fails:
            raise StoreError("the store is away")

    def named(self, name: str) -> list[tuple[int, ...]]:
        """The costs of every call of that name."""
        return [costs for called, _, costs in self.calls if called == name]

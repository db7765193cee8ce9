"""The answer of a request that was let through: told of its limits, and settled at its end."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm.errors import RawHeaders
from asgi_llm.middleware._answer_usage import AnswerReader
from asgi_llm.middleware._limit_answers import LIMIT_HEADERS
from asgi_llm.middleware._limit_calls import LimitCalls
from asgi_llm.middleware._limit_cost import real_cost
from asgi_llm.middleware._limit_plan import Plan
from asgi_llm.state import USAGE, State
from asgi_llm.stores.base import Demand
from asgi_llm.types import Usage

__all__ = ["Asked", "HeldAnswer", "ToldAnswer"]


class Asked(NamedTuple):
    """What was read of a request.

    Attributes:
        receive: For the app further in.
        plan: The limits that concern it.
        demands: With the cost of each.
        input_tokens: As counted.
    """

    receive: Receive
    plan: Plan
    demands: tuple[Demand, ...]
    input_tokens: int


class ToldAnswer:
    """The ``send`` of an app whose answer gets the headers of the limits."""

    __slots__ = ("_headers", "_send")

    def __init__(self, send: Send, headers: RawHeaders) -> None:
        self._send = send
        self._headers = headers

    def __call__(self, message: Message) -> Awaitable[None]:
        # No coroutine of its own: a chunk costs one look at its type.
        if message["type"] == "http.response.start":
            message = {**message, "headers": _merged(message.get("headers", ()), self._headers)}
        return self._send(message)


def _merged(headers: Iterable[tuple[bytes, bytes]], ours: RawHeaders) -> RawHeaders:
    """The answer's headers and ours, which stand in the place of a provider's of those names."""
    if not ours:
        return list(headers)
    merged = [pair for pair in headers if pair[0] not in LIMIT_HEADERS]
    merged += ours
    return merged


class HeldAnswer:
    """The ``send`` of an app whose request holds reservations, which end with its answer.

    They are settled before the last byte is handed on: a client that has its answer and asks again
    at once finds its place free, on whichever worker.
    """

    __slots__ = (
        "_asked",
        "_calls",
        "_ended",
        "_failed",
        "_headers",
        "_held",
        "_lease",
        "_reader",
        "_send",
        "_state",
        "_status",
    )

    def __init__(
        self,
        send: Send,
        headers: RawHeaders,
        calls: LimitCalls,
        held: tuple[Demand, ...],
        lease: str,
        state: State,
        asked: Asked | None,
    ) -> None:
        self._send = send
        self._headers = headers
        self._calls = calls
        self._held = held
        self._lease = lease
        self._state = state
        # Without tokens among the limits the answer is not looked at.
        self._asked = asked if asked is not None and asked.plan.tokens else None
        self._reader: AnswerReader | None = None
        self._status: int | None = None
        self._failed = self._ended = False

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run ``app``, and end what is held however it ends."""
        self._calls.hold(self._lease, self._held)
        try:
            await app(scope, receive, self)
        except Exception:
            self._failed = True
            raise
        finally:
            if not self._ended:
                await self._end()

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            if self._reader is not None:
                chunk = message.get("body", b"")
                if chunk:
                    self._reader.feed(chunk)
            if not message.get("more_body", False) and not self._ended:
                await self._end()
        elif kind == "http.response.start":
            self._status = message["status"]
            headers = _merged(message.get("headers", ()), self._headers)
            message = {**message, "headers": headers}
            if self._asked is not None:
                self._reader = AnswerReader(headers)
        await self._send(message)

    async def _end(self) -> None:
        self._ended = True
        await self._calls.settle(self._held, self._lease, self._costs())

    def _costs(self) -> list[int]:
        asked = self._asked
        if asked is None:
            return [0] * len(self._held)
        usage = self._usage(asked)
        if usage is not None:
            return [real_cost(demand, usage) for demand in self._held]
        return [
            0 if demand.limit.unit == "concurrent_requests" else demand.cost
            for demand in self._held
        ]

    def _usage(self, asked: Asked) -> Usage | None:
        """What was used, or an estimate; None: nobody can say."""
        usage = self._state.get(USAGE)
        if usage is not None:
            return usage
        reader = self._reader
        if reader is None:
            # Whoever left before the answer began may have been heard by a provider all the same.
            unanswered = 0 if self._failed else asked.input_tokens
            return Usage(input_uncached=unanswered, estimated=True)
        if self._status is not None and self._status >= 400:
            return Usage()
        return reader.usage(asked.input_tokens)

"""The answer of an app, recorded as it passes: for the store, and for those who asked the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm._traceback import describe
from asgi_llm.middleware._cache_answer import AnswerHead, judge_answer, read_head
from asgi_llm.middleware._cache_controls import NO_CONTROLS
from asgi_llm.middleware._cache_drive import drive, hand_on
from asgi_llm.middleware._cache_flight import Flight
from asgi_llm.middleware._cache_headers import values_of
from asgi_llm.middleware._cache_replay import LARGE_BYTES, MISS, MISS_HEADER, told_headers
from asgi_llm.middleware._cache_request import CacheRequest
from asgi_llm.middleware._cache_settings import ExactSettings
from asgi_llm.state import CACHE_STATUS, State
from asgi_llm.stores._kept_answer import KeptAnswer
from asgi_llm.stores.cache import StoredAnswer

__all__ = ["LedAnswer"]

logger = logging.getLogger(__name__)

# Bodies that do not come this way.
_BY_OTHER_MEANS: Final = frozenset(("http.response.pathsend", "http.response.zerocopysend"))


class LedAnswer(Flight):
    """The ``send`` and ``receive`` of an app whose answer is recorded, for others to follow.

    Chunks pass as they come. While others wait for the answer the app does not learn that the
    client has left: it is they for whom it goes on.

    Args:
        settings: Of the layer.
        request: Whose answer it is.
        key: Its digest.
        data: Its body.
        scope: Of the request, for the app.
        receive: The host's own, after the body has been read.
        send: The client's.
        state: Of the request.

    Attributes:
        scope: Of the request.
        kept: What came of it, if that may be kept and the store is not in memory, which has it.
        has_left: Whether the client is known to have left.
        failed: Whether a failure was kept from the client, which has got nothing so far.
    """

    __slots__ = (
        "_data",
        "_has_stale",
        "_key",
        "_receive",
        "_recorded",
        "_send",
        "_settings",
        "_state",
        "failed",
        "has_left",
        "kept",
        "scope",
    )

    def __init__(
        self,
        settings: ExactSettings,
        request: CacheRequest,
        key: bytes,
        data: bytes,
        scope: Scope,
        receive: Receive,
        send: Send,
        state: State,
    ) -> None:
        self._set_off(settings, request, key, data, scope, receive, send, state)

    def _set_off(
        self,
        settings: ExactSettings,
        request: CacheRequest,
        key: bytes,
        data: bytes,
        scope: Scope,
        receive: Receive,
        send: Send,
        state: State,
    ) -> None:
        self._set_out(request)
        self.scope = scope
        self.kept: StoredAnswer | None = None
        self.has_left = False
        self.failed = False
        self._has_stale = False
        self._recorded: AnswerHead | None = None
        self._settings = settings
        self._key = key
        self._data = data
        self._receive = receive
        self._send = send
        self._state = state

    def run(self) -> Awaitable[None]:
        """Let the app answer. Whatever comes of that, then nobody can follow it any more."""
        settings = self._settings
        flights = settings.flights
        flights.begin(self._key, self)
        try:
            running = settings.app(self.scope, self.receive, self.send)
        except BaseException:
            flights.end(self._key, self)
            raise
        return drive(running, flights, self._key, self)

    async def run_or_fail(self, app: ASGIApp) -> None:
        """Run ``app``. If it fails before it has begun to answer, nobody but ``failed`` says so."""
        self._has_stale = True
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as error:
            if not self._has_stale:
                raise
            self.failed = True
            logger.warning("an old answer is served, since the app failed:\n%s", describe(error))

    def receive(self) -> Awaitable[Message]:
        """The ``receive`` for the app."""
        return self._next_message() if self._given else hand_on(self, self._data)

    async def _next_message(self) -> Message:
        if self.has_left:
            await self.until_deserted()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.has_left = True
            await self.until_deserted()
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """The ``send`` for the app."""
        # No coroutine of its own: as a rule a message costs what is done here, and no more.
        told = message if type(message) is dict else dict(message)
        kind = told["type"]
        if kind == "http.response.body":
            head = self._recorded
            if head is not None:
                chunk = told.get("body", b"")
                if type(chunk) is not bytes:
                    # It may be the app's own buffer, which it uses again.
                    chunk = bytes(chunk)
                if (
                    told.get("more_body", False)
                    # Empty where what came before was too long to be kept.
                    or self.parts is not None
                    or self.followers
                    or len(chunk) > self._settings.at_once_bytes
                ):
                    later = self._record(head, chunk, message)
                    if later is not None:
                        return later
                else:
                    # All of it has come at once, and to nobody else: no parts have to be kept.
                    self._recorded = None
                    self.whole = True
                    self._settle(self._judge(head, chunk))
            elif self.failed:
                return _done()
        elif kind == "http.response.start":
            status = told["status"]
            if self._has_stale:
                if status >= 500 or status == 429:
                    self.failed = True
                    return _done()
                self._has_stale = False
            headers = list(told.get("headers", ()))
            head = read_head(status, headers)
            if (
                head is None
                or head.tells_of_caches
                or values_of(self._state).get(CACHE_STATUS) is not MISS
            ):
                headers = told_headers(message, self._state)
            else:
                headers.append(MISS_HEADER)
            if head is None or "trailers" in told:
                self.finish(None)
            else:
                self.head = self._recorded = head
            told = told.copy()
            told["headers"] = headers
            message = told
        elif kind in _BY_OTHER_MEANS:
            self._recorded = None
            self.finish(None)
        if self.followers:
            return self._send_with_followers(message)
        return self._send(message)

    async def _send_with_followers(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            if not self.followers:
                raise

    def _record(self, head: AnswerHead, chunk: bytes, message: Message) -> Awaitable[None] | None:
        """Take in a piece of the answer. None: it can be sent on as it is."""
        if chunk:
            self.feed(chunk, self._settings.max_entry_bytes)
        if not message.get("more_body", False):
            self._recorded = None
            self.whole = True
            if self.too_long:
                self.finish(None)
                return None
            body = self.body()
            if len(body) > LARGE_BYTES:
                return self._end_and_send(head, body, message)
            self._settle(self._judge(head, body))
        return None

    async def _end_and_send(self, head: AnswerHead, body: bytes, message: Message) -> None:
        self._settle(await asyncio.to_thread(self._judge, head, body))
        await self._send_with_followers(message)

    def _judge(self, head: AnswerHead, body: bytes) -> KeptAnswer | None:
        settings, request = self._settings, self.request
        fresh_seconds, keep_seconds = settings.ttl_seconds, settings.keep_seconds
        if request.controls is not NO_CONTROLS:
            told = request.controls.ttl_seconds
            if told:
                fresh_seconds, keep_seconds = told, told + settings.longest_stale_seconds
        return judge_answer(request, head, body, self._state, fresh_seconds, keep_seconds)

    def _settle(self, judged: KeptAnswer | None) -> None:
        """Keep what came, where that takes no waiting: before the client has it."""
        if judged is None:
            self.finish(None)
            return
        controls = self.request.controls
        if judged.may_be_stored and (controls is NO_CONTROLS or controls.stores):
            settings = self._settings
            settings.counts.writes += 1
            if settings.memory is None:
                self.kept = judged.answer
            else:
                settings.memory.keep(self._key, judged)
        self.finish_with(judged)


async def _done() -> None:
    """What is sent is kept from the client."""

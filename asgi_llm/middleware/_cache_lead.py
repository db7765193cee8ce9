"""The answer of an app, recorded as it passes: for the store, and for those who asked the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm._traceback import describe
from asgi_llm.middleware._cache_answer import AnswerHead, Verdict, judge_answer, read_head
from asgi_llm.middleware._cache_flight import Flight
from asgi_llm.middleware._cache_replay import LARGE_BYTES, told_headers
from asgi_llm.middleware._cache_request import CacheRequest
from asgi_llm.middleware._cache_settings import ExactSettings
from asgi_llm.state import State
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
        send: The client's.
        receive: Gives the request's body first.
        state: Of the request.

    Attributes:
        kept: What came of it, if that may be kept; a store in memory has it by then.
        has_left: Whether the client is known to have left.
        failed: Whether a failure was kept from the client, which has got nothing so far.
    """

    kept: StoredAnswer | None = None
    has_left = False
    failed = False
    _given = False
    _records = False
    _has_stale = False

    def __init__(
        self,
        settings: ExactSettings,
        request: CacheRequest,
        key: bytes,
        send: Send,
        receive: Receive,
        state: State,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.parts = []
        self.max_bytes = settings.max_entry_bytes
        self.streams = request.streams
        self.tells_usage = request.tells_usage
        self._settings = settings
        self._request = request
        self._key = key
        self._send = send
        self._receive = receive
        self._state = state

    async def run_or_fail(self, app: ASGIApp, scope: Scope) -> None:
        """Run ``app``. If it fails before it has begun to answer, nobody but ``failed`` says so."""
        self._has_stale = True
        try:
            await app(scope, self.receive, self)
        except Exception as error:
            if not self._has_stale:
                raise
            self.failed = True
            logger.warning("an old answer is served, since the app failed:\n%s", describe(error))

    async def receive(self) -> Message:
        """The ``receive`` for the app."""
        if self.has_left and self._given:
            await self.until_deserted()
            return {"type": "http.disconnect"}
        self._given = True
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.has_left = True
            await self.until_deserted()
        return message

    def __call__(self, message: Message) -> Awaitable[None]:
        """The ``send`` for the app."""
        # No coroutine of its own: as a rule a message costs what is done here, and no more.
        kind = message["type"]
        if kind == "http.response.body":
            if self.failed:
                return _done()
            if self._records:
                chunk = message.get("body", b"")
                if chunk:
                    self.feed(chunk)
                if not message.get("more_body", False):
                    self._records = False
                    head = self._whole()
                    if head is not None:
                        body = self.body()
                        if len(body) > LARGE_BYTES:
                            return self._end_and_send(head, body, message)
                        self._settle(self._judge(head, body))
        elif kind == "http.response.start":
            status = message["status"]
            if self._has_stale and (status >= 500 or status == 429):
                self.failed = True
                return _done()
            self._has_stale = False
            headers = told_headers(message, self._state)
            message = {**message, "headers": headers}
            head = read_head(status, headers)
            if head is None or "trailers" in message:
                self.finish(None)
            else:
                self.head = head
                self._records = True
        elif kind in _BY_OTHER_MEANS:
            self._records = False
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

    def _whole(self) -> AnswerHead | None:
        """The answer's end has come; its head, if all of it is there to be judged."""
        self.whole = True
        if self.too_long:
            self.finish(None)
            return None
        return self.head

    async def _end_and_send(self, head: AnswerHead, body: bytes, message: Message) -> None:
        self._settle(await asyncio.to_thread(self._judge, head, body))
        await self._send_with_followers(message)

    def _judge(self, head: AnswerHead, body: bytes) -> Verdict | None:
        settings, request = self._settings, self._request
        fresh_seconds = request.controls.ttl_seconds or settings.ttl_seconds
        return judge_answer(
            request,
            head,
            body,
            self._state,
            fresh_seconds=fresh_seconds,
            keep_seconds=fresh_seconds + settings.longest_stale_seconds,
        )

    def _settle(self, verdict: Verdict | None) -> None:
        """Keep what came, where that takes no waiting: before the client has it."""
        if verdict is None:
            self.finish(None)
            return
        answer = verdict.answer
        if verdict.may_be_stored and self._request.controls.stores:
            settings = self._settings
            self.kept = answer
            settings.counts.writes += 1
            if settings.memory is not None:
                settings.memory.put(self._key, answer)
        self.finish(answer)


async def _done() -> None:
    """What is sent is kept from the client."""

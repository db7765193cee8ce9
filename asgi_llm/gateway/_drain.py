"""The end of a serving process: requests under way may finish until a deadline, then are ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm._asgi import is_event_stream, send_error, stream_error
from asgi_llm.errors import InternalError
from asgi_llm.state import State, enter

__all__ = ["Drain"]

logger = logging.getLogger(__name__)

# A client that does not read must not hold up the end.
_LAST_WORDS_SECONDS = 1.0


class Drain:
    """Knows the requests under way, and ends them when their time is over.

    An answer that has not begun becomes a 503, a stream ends with an error event, and any other
    answer is cut off, so that none can be taken for whole.

    Args:
        app: What is served.
        deadline_seconds: From ``begin`` to the end of what is still under way, at least 0.
        on_begin: Called once, when the end begins.
    """

    def __init__(
        self, app: ASGIApp, *, deadline_seconds: float, on_begin: Callable[[], None]
    ) -> None:
        self._app = app
        self._deadline_seconds = deadline_seconds
        self._on_begin = on_begin
        self._begun = False
        self._running: dict[asyncio.Task[object], _Exchange] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope, state = enter(scope)
        exchange = _Exchange(send, state)
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._running[task] = exchange
        try:
            await self._app(scope, receive, exchange)
        except asyncio.CancelledError:
            if not exchange.expired:
                raise
            task.uncancel()
        finally:
            del self._running[task]
        if exchange.expired and not exchange.complete:
            await exchange.end()

    def begin(self) -> None:
        """No more requests come; those under way have until the deadline. Idempotent."""
        if self._begun:
            return
        self._begun = True
        self._on_begin()
        if self._running:
            logger.info(
                "stopping: %s under way, ended in %g seconds at the latest",
                _requests(len(self._running)),
                self._deadline_seconds,
            )
        asyncio.get_running_loop().call_later(self._deadline_seconds, self.expire)

    def expire(self) -> None:
        """End what is under way now."""
        if not self._running:
            return
        logger.warning("ending %s that would not end in time", _requests(len(self._running)))
        # From here on a server would report each cut answer as the app's failure.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        for task, exchange in self._running.items():
            exchange.expired = True
            task.cancel()


class _Exchange:
    """The ``send`` of one request."""

    __slots__ = ("_is_stream", "_send", "_started", "_state", "complete", "expired")

    def __init__(self, send: Send, state: State) -> None:
        self._send = send
        self._state = state
        self._started = False
        self._is_stream = False
        self.complete = False
        self.expired = False

    async def __call__(self, message: Message) -> None:
        await self._send(message)
        if message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        elif message["type"] == "http.response.start":
            self._started = True
            self._is_stream = is_event_stream(message["headers"])

    async def end(self) -> None:
        """The last words to the client, where the answer still allows any."""
        error = InternalError(
            "The gateway is restarting; please try again.",
            status=503,
            type="server_error",
            code="server_shutting_down",
            retry_after_seconds=1,
        )
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                if not self._started:
                    await send_error(self._send, self._state, error)
                elif self._is_stream:
                    body = stream_error(error)
                    await self._send({"type": "http.response.body", "body": body})
        except (OSError, TimeoutError):
            logger.debug("request %s: the client did not wait", self._state.request_id)


def _requests(number: int) -> str:
    return f"{number} request{'s' if number != 1 else ''}"

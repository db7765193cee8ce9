"""An ASGI app run in process, with the test in the place of the server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec
from starlette.types import ASGIApp, Message, Scope

from asgi_llm.testing.recorder import Recorder
from asgi_llm.testing.scopes import http_scope

__all__ = ["Exchange", "call"]

# Turns of the event loop after which tasks that only wait for each other have come to rest.
_SETTLE_TURNS = 50


class Exchange:
    """One HTTP request to an app, its response taken message by message.

    ``send`` returns to the app only when the test has taken the message, so that the app cannot run
    ahead of its client. As with a server, ``receive`` gives ``http.disconnect`` when the client has
    left or the response has ended and not before, and from then on ``send`` raises OSError
    (spec_version 2.4 and up) or does nothing (below).

    Use it as an async context manager: it runs the app, raises what the app raised unless a method
    here already did, and cancels an app that has not returned.

    Args:
        app: The app.
        scope: An HTTP scope, handed over as it is; None takes ``http_scope()``.
        body: The request body; None lets the test send it piece by piece with ``send_body``.
        timeout_seconds: Deadline of every wait.

    Attributes:
        recorder: What the test has taken of the response.
        dropped: What the app sent and a client that left did not get.
        given: What ``receive`` has given to the app.
        receive_calls: How often the app has called ``receive``.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope | None = None,
        *,
        body: bytes | None = b"",
        timeout_seconds: float = 5.0,
    ) -> None:
        self.recorder = Recorder()
        self.dropped: list[Message] = []
        self.given: list[Message] = []
        self.receive_calls = 0
        self._sent = Recorder()
        self._app = app
        self._scope = http_scope() if scope is None else scope
        self._timeout = timeout_seconds
        version = self._scope["asgi"].get("spec_version", "2.0")
        self._send_raises = tuple(int(part) for part in version.split(".")) >= (2, 4)
        self._incoming: deque[Message] = deque()
        self._offered: deque[tuple[Message, asyncio.Future[None]]] = deque()
        self._receiving = 0
        self._left = False
        self._ended = False
        self._told = False
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        if body is not None:
            self._incoming.append({"type": "http.request", "body": body, "more_body": False})

    @property
    def pending(self) -> int:
        """Messages that the app has sent and the test has not taken."""
        return len(self._offered)

    @property
    def receiving(self) -> bool:
        """Whether the app waits in ``receive``."""
        return self._receiving > 0

    @property
    def returned(self) -> bool:
        """Whether the app has returned or raised."""
        return self._task is not None and self._task.done()

    async def next_message(self) -> Message:
        """Take the next message of the response.

        Raises:
            EOFError: The app has returned and there is none.
            TimeoutError: None came.
        """
        await self._until(lambda: bool(self._offered) or self.returned, "sent nothing")
        if not self._offered:
            self._raise_error()
            raise EOFError("the app has returned and sent nothing more")
        message, taken = self._offered.popleft()
        self.recorder.record(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._ended = True
        if not taken.done():
            taken.set_result(None)
        self._changed()
        return message

    async def next_chunk(self) -> bytes:
        """Take messages up to the next one that holds bytes of the body, and return those.

        Raises:
            EOFError: The response has ended.
            TimeoutError: None came.
        """
        while not self._ended:
            message = await self.next_message()
            if message["type"] == "http.response.body" and message.get("body"):
                return bytes(message["body"])
        raise EOFError("the response has ended")

    def send_body(self, data: bytes, *, more: bool = False) -> None:
        """Give the app a piece of the request body; ``more`` says that it is not the last."""
        self._incoming.append({"type": "http.request", "body": data, "more_body": more})
        self._changed()

    def disconnect(self) -> None:
        """Let the client leave. What the test has not taken is dropped."""
        self._left = True
        while self._offered:
            message, taken = self._offered.popleft()
            self.dropped.append(message)
            if not taken.done():
                taken.set_result(None)
        self._changed()

    async def settle(self) -> None:
        """Let the app go as far as it gets without the test."""
        for _ in range(_SETTLE_TURNS):
            await asyncio.sleep(0)

    async def until_receiving(self) -> None:
        """Wait until the app waits in ``receive``.

        Raises:
            TimeoutError: It does not.
        """
        await self._until(lambda: self.receiving, "did not wait in receive")

    async def finish(self) -> Recorder:
        """Take the rest of the response and wait for the app to return.

        Raises:
            TimeoutError: It did not.
            Exception: What the app raised.
        """
        while True:
            await self._until(lambda: bool(self._offered) or self.returned, "did not return")
            if not self._offered:
                break
            await self.next_message()
        self._raise_error()
        return self.recorder

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(lambda _: self._changed())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=self._timeout)
            if not self._task.done():
                raise TimeoutError("the app did not return when it was cancelled") from error
        if error is None:
            self._raise_error()

    async def _run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        self.receive_calls += 1
        self._receiving += 1
        self._changed()
        try:
            while not (self._incoming or self._left or self._ended):
                await self._change()
        finally:
            self._receiving -= 1
        if self._left or self._ended:
            message: Message = {"type": "http.disconnect"}
        else:
            message = self._incoming.popleft()
        self.given.append(message)
        return message

    async def _send(self, message: Message) -> None:
        if self._left:
            self.dropped.append(message)
        else:
            self._sent.record(message)
            taken = asyncio.get_running_loop().create_future()
            self._offered.append((message, taken))
            self._changed()
            await taken
        if self._left and self._send_raises:
            raise OSError("the client has left")

    async def _until(self, condition: Callable[[], bool], failing: str) -> None:
        if self._task is None:
            raise RuntimeError("enter the Exchange first: async with Exchange(...) as exchange")
        try:
            async with asyncio.timeout(self._timeout):
                while not condition():
                    await self._change()
        except TimeoutError as error:
            raise TimeoutError(
                f"the app {failing} within {self._timeout:g} s; it has sent "
                f"{len(self._sent.messages)} messages, called receive {self.receive_calls} "
                f"times and {'waits there' if self.receiving else 'does not wait there'}"
            ) from error

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _raise_error(self) -> None:
        task = self._task
        if task is None or not task.done() or task.cancelled() or self._told:
            return
        self._told = True
        error = task.exception()
        if error is not None:
            raise error


async def call(
    app: ASGIApp,
    scope: Scope | None = None,
    *,
    body: bytes = b"",
    json: Any = None,
    timeout_seconds: float = 5.0,
) -> Recorder:
    """Send one request to ``app`` in process and take its whole response.

    Args:
        app: The app.
        scope: An HTTP scope, handed over as it is, except with ``json``; None takes
            ``http_scope()``.
        body: The request body.
        json: A document to encode as the body; a copy of the scope gets ``content-type`` and
            ``content-length`` where it has none.
        timeout_seconds: Deadline.

    Raises:
        TimeoutError: The app did not return.
        Exception: What the app raised.
    """
    scope = http_scope() if scope is None else scope
    if json is not None:
        body = msgspec.json.encode(json)
        names = {name for name, _ in scope["headers"]}
        added = [
            (name, value)
            for name, value in (
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            )
            if name not in names
        ]
        scope = {**scope, "headers": [*scope["headers"], *added]}
    async with Exchange(app, scope, body=body, timeout_seconds=timeout_seconds) as exchange:
        async with asyncio.timeout(timeout_seconds):
            return await exchange.finish()

"""Notices a client that left, or that stopped reading, while its request is under way."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final

from starlette.types import Message, Receive, Send

__all__ = ["ClientWatch"]

WATCH_AFTER_SECONDS: Final = 0.1


class ClientWatch:
    """Ends the request's work when its client is gone; a context manager around that work.

    The block is left without an exception and with ``gone`` set, whether the client was seen to
    leave (the work is cancelled), stopped reading, or ``send`` failed. A cancellation that came
    from elsewhere passes.

    The disconnect is listened for by a task, and the task is begun by the one timer that also
    checks the time of a blocked ``send``: an answer that is there within a tenth of a second costs
    no task, and a client that leaves is still noticed well within a second.

    Args:
        receive: The ``receive`` that will bring the disconnect; the body must have been read.
        send: The client's ``send``.
        write_timeout_seconds: How long one ``send`` may wait for a client that does not read.
    """

    __slots__ = (
        "_cancelled",
        "_loop",
        "_receive",
        "_send",
        "_sending_since",
        "_task",
        "_timer",
        "_watcher",
        "_write_timeout",
        "gone",
    )

    _task: asyncio.Task[Any]
    _loop: asyncio.AbstractEventLoop
    _timer: asyncio.TimerHandle

    def __init__(self, receive: Receive, send: Send, write_timeout_seconds: float) -> None:
        self._receive = receive
        self._send = send
        self._write_timeout = write_timeout_seconds
        self._sending_since: float | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._cancelled = False
        self.gone = False

    def __enter__(self) -> ClientWatch:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an ASGI app runs in a task")
        self._task = task
        self._loop = task.get_loop()
        self._timer = self._loop.call_later(WATCH_AFTER_SECONDS, self._check)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._cancelled:
            self._task.uncancel()
            return kind is asyncio.CancelledError and not self._task.cancelling()
        return self.gone and kind is not None and issubclass(kind, OSError)

    async def send(self, message: Message) -> None:
        """Send to the client, who is given up when the wait for it is longer than the timeout."""
        self._sending_since = self._loop.time()
        try:
            await self._send(message)
        except OSError:
            self.gone = True
            raise
        finally:
            self._sending_since = None

    def _check(self) -> None:
        """Begin to listen; then come back when a ``send`` under way would be due."""
        if self._watcher is None:
            self._watcher = self._loop.create_task(self._watch())
        since = self._sending_since
        now = self._loop.time()
        if since is None:
            since = now
        elif now - since >= self._write_timeout:
            self._give_up()
            return
        self._timer = self._loop.call_at(since + self._write_timeout, self._check)

    async def _watch(self) -> None:
        # After the body, a host has nothing to say but the disconnect. One that repeats the end
        # of the body is let off a few times, and then not listened to any more.
        for _ in range(3):
            try:
                message = await self._receive()
            except OSError:
                self._give_up()
                return
            if message["type"] == "http.disconnect":
                self._give_up()
                return

    def _give_up(self) -> None:
        if not self.gone:
            self.gone = self._cancelled = True
            self._task.cancel()

"""Notices a client that left, or that stopped reading, while its request is under way."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from starlette.types import Message, Receive, Send

__all__ = ["ClientWatch"]


class ClientWatch:
    """Ends the request's work when its client is gone; a context manager around that work.

    The block is left without an exception and with ``gone`` set, whether the client was seen to
    leave (the work is cancelled), stopped reading, or ``send`` failed. A cancellation that came
    from elsewhere passes.

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

    def __init__(self, receive: Receive, send: Send, write_timeout_seconds: float) -> None:
        self._receive = receive
        self._send = send
        self._write_timeout = write_timeout_seconds
        self._sending_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled = False
        self.gone = False

    async def __aenter__(self) -> ClientWatch:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an ASGI app runs in a task")
        self._task: asyncio.Task[Any] = task
        self._loop = task.get_loop()
        self._watcher = self._loop.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._watcher.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._cancelled:
            self._task.uncancel()
            return kind is asyncio.CancelledError and not self._task.cancelling()
        return self.gone and kind is not None and issubclass(kind, OSError)

    async def send(self, message: Message) -> None:
        """Send to the client, who is given up when the wait for it is longer than the timeout."""
        self._sending_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._write_timeout, self._check)
        try:
            await self._send(message)
        except OSError:
            self.gone = True
            raise
        finally:
            self._sending_since = None

    def _check(self) -> None:
        """Re-arm once per timeout rather than once per chunk."""
        since = self._sending_since
        now = self._loop.time()
        if since is not None and now - since >= self._write_timeout:
            self._give_up()
            return
        due = (now if since is None else since) + self._write_timeout
        self._timer = self._loop.call_at(due, self._check)

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

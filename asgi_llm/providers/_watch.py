"""Notices clients that left, or that stopped reading, while their requests are under way."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final

from starlette.types import Message, Receive

__all__ = ["ClientWatch", "Watchman"]

TICK_SECONDS: Final = 0.25


class Watchman:
    """Looks after all requests of an app, with one timer that runs only while there are any.

    At the first tick that a request lives to see, a task begins to listen for its disconnect. An
    answer that is there sooner costs no task, and a client that leaves is noticed within a tick.

    Args:
        write_timeout_seconds: How long one ``send`` may wait for a client that does not read.
    """

    __slots__ = ("loop", "timer", "watches", "write_timeout_seconds")

    def __init__(self, write_timeout_seconds: float) -> None:
        self.write_timeout_seconds = write_timeout_seconds
        self.loop: asyncio.AbstractEventLoop | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.watches: set[ClientWatch] = set()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look after ``watches``. The timer ends by itself when there are none."""
        self.loop = loop
        self.timer = loop.call_later(self._tick_seconds, self._tick)

    def aclose(self) -> None:
        """Stop the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    @property
    def _tick_seconds(self) -> float:
        return min(TICK_SECONDS, self.write_timeout_seconds)

    def _tick(self) -> None:
        self.timer = None
        loop = self.loop
        for watch in tuple(self.watches):
            watch.tick(self._tick_seconds, self.write_timeout_seconds)
        if self.watches and loop is not None:
            self.timer = loop.call_later(self._tick_seconds, self._tick)


class ClientWatch:
    """Ends the request's work when its client is gone; a context manager around that work.

    The block is left without an exception and with ``gone`` set, whether the client was seen to
    leave (the work is cancelled), stopped reading, or ``send`` failed. A cancellation that came
    from elsewhere passes.

    Args:
        watchman: Whose timer is used.
        receive: The ``receive`` that will bring the disconnect; the body must have been read.

    Attributes:
        sending: The message on its way to the client, None between two; set by the work, so that
            one ``send`` that takes too long can be told from many that end.
        gone: Whether there is nobody to answer any more.
    """

    # Not slots: what most requests never change costs nothing to set up.
    _blocked_seconds = 0.0
    _watcher: asyncio.Task[None] | None = None
    _cancelled = False
    _seen: Message | None = None
    gone = False
    sending: Message | None = None
    _task: asyncio.Task[Any]

    def __init__(self, watchman: Watchman, receive: Receive) -> None:
        self._watchman = watchman
        self._receive = receive

    def __enter__(self) -> ClientWatch:
        watchman = self._watchman
        task = asyncio.current_task(watchman.loop) or asyncio.current_task()
        if task is None:
            raise RuntimeError("an ASGI app runs in a task")
        self._task = task
        watchman.watches.add(self)
        if watchman.timer is None or watchman.loop is not task.get_loop():
            watchman.start(task.get_loop())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._watchman.watches.discard(self)
        if self._watcher is not None:
            self._watcher.cancel()
        if self._cancelled:
            self._task.uncancel()
            return kind is asyncio.CancelledError and not self._task.cancelling()
        if kind is not None and self.sending is not None and issubclass(kind, OSError):
            self.gone = True
        return self.gone

    def tick(self, passed_seconds: float, write_timeout_seconds: float) -> None:
        """Take note that time has passed."""
        if self._watcher is None:
            self._watcher = self._task.get_loop().create_task(self._listen())
        # Kept until the next tick, so that no other message can be taken for this one.
        seen, self._seen = self._seen, self.sending
        if self._seen is None or self._seen is not seen:
            # The tick may come right after the begin of a `send`, so the first one does not count.
            self._blocked_seconds = 0.0
            return
        self._blocked_seconds += passed_seconds
        if self._blocked_seconds > write_timeout_seconds:
            self._give_up()

    async def _listen(self) -> None:
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

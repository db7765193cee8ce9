"""Threads for the guards that would keep the loop from its work."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from asgi_llm.errors import StoreError

__all__ = ["Threads"]

T = TypeVar("T")

_WAITING_PER_THREAD: Final = 16


class _Job:
    """One call, what came of it, and whether anybody still wants to know."""

    __slots__ = ("call", "future", "loop")

    def __init__(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.call = call
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def run(self) -> None:
        if self.future.cancelled():
            return
        error: BaseException | None = None
        result: Any = None
        try:
            result = self.call()
        except Exception as caught:  # it is raised to whoever waits
            error = caught
        try:
            self.loop.call_soon_threadsafe(self._tell, result, error)
        except RuntimeError:
            # The loop is closed, so that nobody waits.
            return

    def _tell(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Threads:
    """A few threads, started when they are first needed.

    A call whose request has ended is not begun any more; one that has begun goes on, since threads
    cannot be stopped. They end with the process: a call that hangs does not keep it alive.

    Args:
        count: How many, at least 1. At most 16 times as many calls may be waiting.
    """

    __slots__ = ("_closing", "_count", "_jobs", "_lock", "_threads")

    def __init__(self, count: int) -> None:
        self._count = count
        self._jobs: queue.Queue[_Job | None] = queue.Queue(count * _WAITING_PER_THREAD)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closing = False

    async def run(self, call: Callable[[], T]) -> T:
        """What ``call`` gives, called in a thread.

        Raises:
            StoreError: Too many calls are waiting, or the threads are closed.
        """
        if self._closing:
            raise StoreError("The threads of the guards are closed.")
        job = _Job(call, asyncio.get_running_loop())
        try:
            self._jobs.put_nowait(job)
        except queue.Full as error:
            raise StoreError("All threads of the guards are busy.") from error
        if len(self._threads) < self._count:
            self._start_one()
        result: T = await job.future
        return result

    def close(self) -> None:
        """Let the threads end when they are done."""
        self._closing = True
        with contextlib.suppress(queue.Full):
            # Where there is no room, a thread has a call before it and looks up after that.
            for _ in self._threads:
                self._jobs.put_nowait(None)

    def _start_one(self) -> None:
        with self._lock:
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name="asgi-llm-guard", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        while not self._closing and (job := self._jobs.get()) is not None:
            job.run()

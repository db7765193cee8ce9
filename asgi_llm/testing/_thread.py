"""An event loop in a thread, for the synchronous side of the kit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

__all__ = ["LoopThread"]

T = TypeVar("T")


class LoopThread:
    """A thread that runs an event loop until ``stop``.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._over = asyncio.Event()

    def start(self) -> None:
        """Start the loop."""
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        """Cancel what still runs, close the loop and end the thread. Idempotent."""
        if self._thread.is_alive():
            self._ready.result().call_soon_threadsafe(self._over.set)
            self._thread.join()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` on the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._ready.result()).result()

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call ``function`` on the loop and wait for its result."""

        async def calling() -> T:
            return function(*args)

        return self.run(calling())

    def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter ``manager`` on the loop; ``leave`` exits it."""

        async def entering() -> T:
            return await manager.__aenter__()

        return self.run(entering())

    def leave(
        self, manager: AbstractAsyncContextManager[Any], error: BaseException | None = None
    ) -> None:
        """Exit ``manager``, with ``error`` as the exception that ended its block."""

        async def leaving() -> None:
            trace = error.__traceback__ if error is not None else None
            await manager.__aexit__(type(error) if error is not None else None, error, trace)

        self.run(leaving())

    def _main(self) -> None:
        async def stay() -> None:
            self._ready.set_result(asyncio.get_running_loop())
            await self._over.wait()

        asyncio.run(stay())

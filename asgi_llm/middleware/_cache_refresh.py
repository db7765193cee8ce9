"""Answers made anew while an old one is served: so many at once, and all owned by their layer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, cast

from starlette.types import Message, Scope

from asgi_llm._traceback import describe
from asgi_llm.state import SCOPE_KEY, State

__all__ = ["Refreshes", "forked_scope", "receive_nothing", "send_nowhere"]

logger = logging.getLogger(__name__)


class Refreshes:
    """The tasks of one layer, which end with it.

    Args:
        most: How many there may be at once, at least 1; what would be one more is left to a later
            request.

    Attributes:
        is_closed: Whether the layer has ended: what begins now need not ask the app.
    """

    __slots__ = ("_most", "_tasks", "is_closed")

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def has_room_for(self, key: bytes) -> bool:
        """Whether the answer of ``key`` may be made anew, and is not being so already."""
        return key not in self._tasks and len(self._tasks) < self._most and not self.is_closed

    def begin(self, key: bytes, work: Coroutine[Any, Any, None]) -> None:
        """Begin; only where there is room."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[key] = task
        task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: bytes, task: asyncio.Task[None]) -> None:
        del self._tasks[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("an old answer was not made anew:\n%s", describe(error))

    async def aclose(self) -> None:
        """End all of them. Idempotent."""
        self.is_closed = True
        here = asyncio.get_running_loop()
        tasks = [task for task in self._tasks.values() if task.get_loop() is here]
        try:
            # One that is cancelled before its first step could not give its lease back.
            await asyncio.sleep(0)
        finally:
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def forked_scope(scope: Scope, state: State) -> Scope:
    """The scope of a request of the layer's own, with a state that nobody else writes to."""
    return {**cast("Mapping[str, Any]", scope), SCOPE_KEY: state.fork()}


async def receive_nothing() -> Message:
    """The ``receive`` of a request that no client waits for, once its body is read: it waits."""
    return cast("Message", await asyncio.get_running_loop().create_future())


async def send_nowhere(message: Message) -> None:
    """The ``send`` of a request whose answer is only recorded."""

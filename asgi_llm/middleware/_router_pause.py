"""A wait between two attempts, which ends when nobody waits for the answer any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.types import Receive

__all__ = ["pause"]

# A host that repeats the end of the body is let off so often, and then not listened to any more.
_REPEATS: Final = 3


async def pause(
    seconds: float, receive: Receive, sleep: Callable[[float], Awaitable[None]]
) -> bool:
    """Wait; whether the client is still there.

    Args:
        seconds: How long.
        receive: The client's; its body must have been read.
        sleep: Waits.
    """
    sleeping = asyncio.ensure_future(sleep(seconds))
    listening = asyncio.ensure_future(_disconnect(receive))
    tasks: tuple[asyncio.Future[Any], ...] = (sleeping, listening)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Neither outlives the wait.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if not sleeping.cancelled():
        sleeping.result()
    return listening.cancelled() or not listening.result()


async def _disconnect(receive: Receive) -> bool:
    """Wait until the client has left, if the host ever says so."""
    for _ in range(_REPEATS):
        try:
            message = await receive()
        except OSError:
            return True
        if message["type"] == "http.disconnect":
            return True
    await asyncio.Event().wait()
    return False

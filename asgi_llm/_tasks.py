"""Work that is not left undone when its request is cancelled, and tasks that end when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

__all__ = ["end", "finish"]

T = TypeVar("T")

_AGAIN_SECONDS: Final = 0.5
"""How long a task may take to end before it is told again."""


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end, however often the caller is cancelled meanwhile.

    Hosts cancel a request whose client has left, some of them again and again. Until the work is
    done the request waits for it, so it needs a deadline of its own; then the cancellation goes on.

    Raises:
        asyncio.CancelledError: The caller was cancelled. The work was done all the same.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks of this loop that run for ever, and wait until they have ended.

    A task can miss a cancellation: ``asyncio.wait_for`` loses one that comes as its own wait is
    over (until Python 3.12), and drivers turn some into errors of a connection, which a loop that
    goes on trying outlives. So it is told again until it hears. What must be left in order after
    one, a transaction for example, needs a task that ends by itself, or ``finish``.

    Args:
        tasks: What runs; those that are done are passed over, and what they raised stays theirs.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)

"""Load on every worker of a gateway, and a look at its health all the while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.e2e.faults.fleet import Fleet, poll
from tests.e2e.faults.wire import Answer, Connection

__all__ = ["Load", "under_load"]

PAUSE_SECONDS = 0.03


class Load:
    """What a running load has got so far.

    Attributes:
        chats: Answers to chats.
        lives: Answers of ``/health/live``.
    """

    def __init__(self) -> None:
        self.chats: list[Answer] = []
        self.lives: list[Answer] = []

    def stall_seconds(self) -> float:
        """The longest that the machine kept a request waiting that asks nobody anything."""
        return max(live.ended - live.began for live in self.lives)

    async def goes_on(self, since: float, *, seconds: float) -> None:
        """Wait until 20 chats in a row, all of them begun after ``since``, were served.

        Raises:
            AssertionError: They were not, in ``seconds``.
        """

        async def does() -> bool:
            last = self.chats[-20:]
            return len(last) == 20 and all(
                chat.status == 200 and chat.began > since for chat in last
            )

        await poll("20 chats in a row are served", does, seconds=seconds)


@asynccontextmanager
async def under_load(fleet: Fleet, keys: Sequence[str]) -> AsyncIterator[Load]:
    """Chats with each of ``keys`` in turn on every worker, and its liveness asked for."""
    load = Load()
    ended = asyncio.Event()

    async def chat(connection: Connection) -> None:
        number = 0
        while not ended.is_set():
            load.chats.append(await connection.chat(keys[number % len(keys)]))
            number += 1
            # Real time is the subject: requests keep coming, and leave some of the machine.
            await asyncio.sleep(PAUSE_SECONDS)

    async def look(connection: Connection) -> None:
        while not ended.is_set():
            load.lives.append(await connection.ask("/health/live"))
            await asyncio.sleep(PAUSE_SECONDS)

    async with fleet.connections(3 * fleet.workers) as kept, asyncio.TaskGroup() as tasks:
        for first, second, third in kept.values():
            tasks.create_task(chat(first))
            tasks.create_task(chat(second))
            tasks.create_task(look(third))
        try:
            yield load
        finally:
            ended.set()

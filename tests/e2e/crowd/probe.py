"""Other callers: ``python -m tests.e2e.crowd.probe PORT KEY ...`` asks at a steady rate."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from statistics import median
from typing import Any

from tests.e2e.crowd.peers import answer_lines
from tests.e2e.crowd.seats import MODEL
from tests.e2e.faults.wire import Connection

__all__ = ["CONNECTIONS", "Probe", "share_of"]

CONNECTIONS = 8
"""Kept alive; at a modest rate one of them is always free."""


def share_of(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not pass."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Probe:
    """Callers with keys of their own and connections that they keep.

    Args:
        port: The gateway's.
        keys: Used in turn.
    """

    def __init__(self, port: int, keys: Sequence[str]) -> None:
        self._keys = cycle(keys)
        self._connections = [Connection(port) for _ in range(CONNECTIONS)]
        self._free: asyncio.Queue[Connection] = asyncio.Queue()

    async def open(self) -> None:
        """Open the connections."""
        for connection in self._connections:
            self._free.put_nowait(await connection.open())

    async def close(self) -> None:
        """Close them."""
        for connection in self._connections:
            await connection.close()

    async def ask(self, requests: int, *, per_second: float) -> list[float]:
        """Seconds that each request took, from the time on at which it was due.

        Raises:
            AssertionError: One was not served.
        """
        loop = asyncio.get_running_loop()

        async def one() -> float:
            began = time.perf_counter()
            connection = await self._free.get()
            answer = await connection.chat(next(self._keys), model=MODEL)
            took = time.perf_counter() - began
            self._free.put_nowait(connection)
            assert answer.status == 200, answer
            return took

        tasks = []
        started = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(requests):
                await asyncio.sleep(started + number / per_second - loop.time())
                tasks.append(group.create_task(one()))
        return [task.result() for task in tasks]


async def main() -> None:
    """Ask as told, and give milliseconds."""
    probe = Probe(int(sys.argv[1]), sys.argv[2:])
    await probe.open()
    # What this process does for itself is no delay of the gateway's.
    gc.collect()
    gc.freeze()

    async def answer(requests: int, per_second: float) -> Any:
        gc.disable()
        took = [seconds * 1e3 for seconds in await probe.ask(requests, per_second=per_second)]
        gc.enable()
        gc.collect()
        return {"median": median(took), "p99": share_of(took, 0.99), "worst": max(took)}

    await answer_lines(answer)
    await probe.close()


if __name__ == "__main__":
    asyncio.run(main())

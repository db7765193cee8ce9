"""Clients that take up connections: ``python -m tests.e2e.crowd.seats PORT [KEY]``.

Without a key they say nothing. With one each asks for a stream that hardly moves, and stays
connected whatever the answer is.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from typing import Any, Literal, cast

from tests.e2e.crowd.peers import answer_lines

__all__ = ["MODEL", "Seats", "stream_request"]

MODEL = "up/test-model"
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 10)]
"""Where the clients come from, so that no address runs out of ports."""
OPENED_AT_ONCE = 64
ANSWER_SECONDS = 120.0


def stream_request(key: str) -> bytes:
    """A request for a stream, as it goes over the wire."""
    messages = [{"role": "user", "content": "Hello"}]
    body = json.dumps({"model": MODEL, "messages": messages, "stream": True}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    ) % (key.encode(), len(body), body)


class _Seat(asyncio.Protocol):
    """One connection. It keeps the status of its answer, and forgets what follows."""

    def __init__(self, seats: Seats) -> None:
        self._seats = seats
        self._begun = b""
        self.status: int | None = None
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._seats.open.add(self)
        self.transport.write(self._seats.request)

    def data_received(self, data: bytes) -> None:
        if self.status is None:
            self._begun += data
            if len(self._begun) >= len("HTTP/1.1 200"):
                self.status = int(self._begun[9:12])
                self._seats.statuses[self.status] += 1
                self._done()

    def connection_lost(self, exc: Exception | None) -> None:
        self._seats.open.discard(self)
        self._done()

    def _done(self) -> None:
        if not self.answered.done():
            self.answered.set_result(None)


class Seats:
    """Many connections to ``port``.

    Args:
        port: The gateway's.
        key: With it each asks for a stream; None: they stay silent.

    Attributes:
        open: Those that the gateway has not closed.
        statuses: Of the answers so far.
    """

    def __init__(self, port: int, key: str | None = None) -> None:
        self._port = port
        self._addresses: Iterator[str] = cycle(ADDRESSES)
        self._asks = key is not None
        self.request = b"" if key is None else stream_request(key)
        self.open: set[_Seat] = set()
        self.statuses: Counter[int] = Counter()

    async def fill(self, count: int, *, per_second: float | None = None) -> None:
        """Open ``count`` more; those that ask have their answer's status when this returns.

        Args:
            count: How many.
            per_second: How many in a second; None: as fast as they are taken.
        """
        loop = asyncio.get_running_loop()
        room = asyncio.Semaphore(OPENED_AT_ONCE)
        began = loop.time()

        async def take(number: int) -> None:
            if per_second is not None:
                await asyncio.sleep(began + number / per_second - loop.time())
            async with room, asyncio.timeout(ANSWER_SECONDS):
                _, seat = await loop.create_connection(
                    lambda: _Seat(self),
                    "127.0.0.1",
                    self._port,
                    local_addr=(next(self._addresses), 0),
                )
            if self._asks:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await seat.answered

        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                tasks.create_task(take(number))

    def leave(self) -> None:
        """Close all at once, whatever is under way."""
        for seat in self.open:
            seat.transport.abort()
        self.statuses.clear()

    def told(self) -> dict[str, int]:
        """How many are open, and how many had which answer."""
        return {"open": len(self.open), **{str(key): n for key, n in self.statuses.items()}}


async def main() -> None:
    """Open and leave connections as told."""
    seats = Seats(int(sys.argv[1]), *sys.argv[2:])

    async def answer(
        order: Literal["fill", "leave", "tell"], count: int = 0, per_second: float | None = None
    ) -> Any:
        if order == "fill":
            await seats.fill(count, per_second=per_second)
        elif order == "leave":
            seats.leave()
        return seats.told()

    await answer_lines(answer)
    seats.leave()


if __name__ == "__main__":
    asyncio.run(main())

"""An upstream that counts what it serves, and clients that ask it by way of a gateway."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from asgi_llm.testing import chat_answer, chat_events
from asgi_llm.testing.chat import usage_of
from asgi_llm.testing.upstream import ReceivedRequest, Reply, Step, Wait, json_reply, sse_reply
from tests.e2e.faults.wire import Connection

__all__ = ["MODEL", "Traffic", "call_of", "serve", "under_traffic"]

MODEL = "up/test-model"
EVENT_SECONDS = 0.002
PAUSE_SECONDS = 0.01
MOST_TOKENS = 30
PIECE = "abc "
"""A token, also for whoever takes four bytes for one."""


def call_of(request: ReceivedRequest) -> str:
    """What the client calls its request; the row has it as a tag."""
    return str(request.json()["metadata"]["call"])


async def serve(request: ReceivedRequest, *, event_seconds: float = EVENT_SECONDS) -> Reply:
    """An answer of some tokens, whole or as a stream, that takes its time; the same for each call.

    A tenth of them fail.
    """
    document = request.json()
    chance = random.Random(document["metadata"]["call"])
    tokens = chance.randrange(1, MOST_TOKENS)
    if chance.random() < 0.1:
        return json_reply({"error": {"message": "busy", "type": "server_error"}}, 500)
    if document.get("stream"):
        return sse_reply(_paced(chat_events([PIECE] * tokens), event_seconds))
    await asyncio.sleep(chance.uniform(0, MOST_TOKENS * event_seconds))
    return json_reply(chat_answer(PIECE * tokens, usage=usage_of(9, tokens)))


def _paced(events: list[dict[str, Any]], seconds: float) -> Iterator[Step | dict[str, Any]]:
    loop = asyncio.get_running_loop()
    for event in events:
        yield event
        gate = asyncio.Event()
        loop.call_later(seconds, gate.set)
        yield Wait(gate)


class Traffic:
    """What clients have asked for and got, by what they call their requests.

    Attributes:
        asked: Those that were sent.
        statuses: Of answers that began.
        answered: Those whose answer arrived whole.
        left: Those that the client left on its own account, with the tokens that it had read.
    """

    def __init__(self, port: int, *, seed: int, leaves: float) -> None:
        self._port = port
        self._seed = seed
        self._leaves = leaves
        self._ended = asyncio.Event()
        self.asked: list[str] = []
        self.statuses: dict[str, int] = {}
        self.answered: set[str] = set()
        self.left: dict[str, int] = {}

    def end(self) -> None:
        """Begin no more requests."""
        self._ended.set()

    async def run(self, number: int) -> None:
        """One client."""
        chance = random.Random(f"{self._seed}-{number}")
        connection: Connection | None = None
        try:
            while not self._ended.is_set():
                call = f"{self._seed}-{number}-{len(self.asked)}"
                self.asked.append(call)
                # A closed connection, or a gateway that is not there, is what this is about.
                kept = False
                with suppress(OSError, TimeoutError):
                    connection = connection or await Connection(self._port).open()
                    kept = await self._ask(connection, call, chance)
                if not kept and connection is not None:
                    await connection.close()
                    connection = None
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            if connection is not None:
                await connection.close()

    async def _ask(self, connection: Connection, call: str, chance: random.Random) -> bool:
        """Whether the answer arrived whole."""
        streamed = chance.random() < 0.6
        document = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 64,
            "metadata": {"call": call},
            **({"stream": True} if streamed else {}),
        }
        path = "/v1/chat/completions"
        if chance.random() >= self._leaves:
            answer = await connection.ask(path, document=document)
            self.statuses[call] = answer.status
            self.answered.add(call)
            return True
        self.left[call] = 0
        patience = chance.uniform(0, MOST_TOKENS * EVENT_SECONDS)
        events = chance.randrange(MOST_TOKENS)
        with suppress(TimeoutError):
            async with asyncio.timeout(None if streamed else patience):
                status, _ = await connection.begin(path, document=document)
                self.statuses[call] = status
                while streamed and status == 200 and self.left[call] < events:
                    chunk = await connection.chunk()
                    if not chunk:
                        break
                    self.left[call] += chunk.count(b'"content":"' + PIECE.encode() + b'"')
        return False


@asynccontextmanager
async def under_traffic(
    port: int, *, clients: int = 8, seed: int = 1, leaves: float = 0.0
) -> AsyncIterator[Traffic]:
    """Clients that ask a gateway on ``port`` until the block ends, and then finish what they have.

    Args:
        port: The gateway's.
        clients: How many ask at the same time.
        seed: Of what they ask for.
        leaves: The share of requests that are left before their answer is whole.
    """
    traffic = Traffic(port, seed=seed, leaves=leaves)
    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(traffic.run(number))
        try:
            yield traffic
        finally:
            traffic.end()

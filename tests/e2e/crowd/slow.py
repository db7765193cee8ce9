"""The provider: ``python -m tests.e2e.crowd.slow`` prints its URL, and a tally when asked.

A whole answer comes at once; a stream has an event a second or so, and does not end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

from asgi_llm.testing import ReceivedRequest, Reply, Step, Upstream, Wait, chat_answer, json_reply
from asgi_llm.testing.replies import sse_reply
from tests.e2e.crowd.peers import answer_lines

__all__ = ["reply_to", "tally"]

EVENT_SECONDS = 1.0
_EVENT = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "test-model",
    "choices": [{"index": 0, "delta": {"content": "abc "}, "finish_reason": None}],
}


def _endless() -> Iterator[Step | dict[str, Any]]:
    loop = asyncio.get_running_loop()
    while True:
        yield _EVENT
        gate = asyncio.Event()
        # Not all streams at the same moment.
        loop.call_later(random.uniform(0.5, 1.5) * EVENT_SECONDS, gate.set)
        yield Wait(gate)


def reply_to(request: ReceivedRequest) -> Reply:
    """What the provider answers."""
    if request.json().get("stream"):
        return sse_reply(_endless(), done=False)
    return json_reply(chat_answer("hello"))


def tally(upstream: Upstream) -> dict[str, int]:
    """Streams that were ever asked of it, and those that still run."""
    streams = [row for row in upstream.ledger if b'"stream":true' in row.request.body]
    return {"streams": len(streams), "running": sum(not row.client_left for row in streams)}


async def main() -> None:
    """Serve until nobody asks any more."""
    async with Upstream(reply_to) as upstream:

        async def answer() -> Any:
            return {"url": upstream.url, **tally(upstream)}

        await answer_lines(answer)


if __name__ == "__main__":
    asyncio.run(main())

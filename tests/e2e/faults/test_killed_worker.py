"""A worker that is killed while it holds slots and reservations."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.e2e.faults.fleet import Fleet, poll
from tests.e2e.faults.wire import Answer, Connection
from tests.services.redis_server import RedisServer

LEASE_SECONDS = 2
MARGIN_SECONDS = 1.5
"""For a machine that is busy."""
SLOTS = 4
TOKENS = 10_000
KEY = "sk-test-killed-7f3b9c2e8a1d4560"
LONG: dict[str, Any] = {
    "model": "e/echo",
    "messages": [{"role": "user", "content": "word " * 60}],
    "max_tokens": 1000,
    "stream": True,
}
"""Reserves more than 1,000 tokens, and takes longer than the test."""


def configuration(url: str) -> dict[str, Any]:
    limits = [f"{SLOTS} concurrent requests", f"{TOKENS} tokens/hour"]
    keys = [{"name": "only", "key": KEY, "limits": limits}]
    return {
        "providers": {"e": {"type": "echo", "chunk_delay_seconds": 0.5}},
        "storage": {"redis": url},
        "stack": [
            "access_log",
            {"auth": {"keys": keys, "database": False}},
            {"rate_limit": {"on_store_error": "deny", "lease_seconds": LEASE_SECONDS}},
        ],
    }


async def begin(connections: list[Connection]) -> list[int]:
    """The statuses of as many streams, begun at the same time."""
    heads = await asyncio.gather(
        *(
            connection.begin("/v1/chat/completions", key=KEY, document=LONG)
            for connection in connections
        )
    )
    return [status for status, _ in heads]


async def ask(connection: Connection) -> Answer:
    """A chat that reserves little; a look at the limits, too."""
    return await connection.chat(KEY, max_tokens=1)


def reserved(answer: Answer) -> int:
    """Tokens that were not free when ``answer`` was admitted or refused."""
    return TOKENS - int(answer.headers["x-ratelimit-remaining-tokens"])


async def test_b14_b15_a_killed_worker_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its slots and reserved tokens are held for as long as it lives, and come back after a lease.

    Another worker is there in its place soon.
    """
    with RedisServer() as redis, Fleet(tmp_path, configuration(redis.url), workers=2) as fleet:
        async with asyncio.timeout(60), fleet.connections(2 * (SLOTS + 1)) as kept:
            (doomed, mine), (_, others) = kept.items()
            assert [200] * SLOTS == await begin(mine[:SLOTS])
            began = time.monotonic()
            # Real time is the subject: a lease that nobody renewed would be over by then.
            while time.monotonic() < began + LEASE_SECONDS + MARGIN_SECONDS:
                answer = await ask(others[0])
                assert 429 == answer.status
                assert "Too many requests at the same time" in answer.json["error"]["message"]
                assert reserved(answer) > SLOTS * 1000
                await asyncio.sleep(0.1)
            os.kill(doomed, signal.SIGKILL)
            assert 429 == (await ask(others[0])).status

            async def is_free() -> bool:
                answer = await ask(others[0])
                assert answer.status in (200, 429)
                return answer.status == 200 and reserved(answer) < 100

            await poll("all is given back", is_free, seconds=LEASE_SECONDS + MARGIN_SECONDS)
            assert [200] * SLOTS == await begin(others[1:])
        async with asyncio.timeout(60), fleet.connections(2) as kept:
            assert doomed not in kept
            for (connection,) in kept.values():
                ready = await connection.ask("/health/ready")
                assert (200, "ready") == (ready.status, ready.json["status"])

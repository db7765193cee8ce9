"""Several processes on one Redis: a half-open breaker lets one call through, of all of theirs."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from asgi_llm.stores.breakers_redis import RedisBreakers
from tests.services.redis_server import RedisServer
from tests.stores.breakers.worker import PATIENT_SECONDS, POLICY

ROOT = Path(__file__).parents[3]
WORKERS = 4
ROUNDS = 20
DEADLINE_SECONDS = 60


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Process]:
    """A worker that is connected and waits for a line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.stores.breakers.worker", url),
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
    )
    try:
        assert process.stdout is not None
        assert b"ready\n" == await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_half_open_lets_exactly_one_through_of_4_processes(
    redis_server: RedisServer,
) -> None:
    """200 claims at once, 50 of each process, 20 times: one has the trial each time."""
    async with asyncio.timeout(DEADLINE_SECONDS), AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(running(redis_server.url)) for _ in range(WORKERS)
        ]
        store = RedisBreakers(redis_server.url, policy=POLICY, timeout_seconds=PATIENT_SECONDS)
        for number in range(ROUNDS):
            target = f"a/{number}"
            store.failed(target)
            lease = None
            while not lease:
                lease = await store.claim(target)
            store.released(target, lease)
            assert "" == await store.claim("nobody/nothing")
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(f"{target}\n".encode())
            given = []
            for worker in workers:
                assert worker.stdout is not None
                given.append(int(await worker.stdout.readline()))
            assert 1 == sum(given)
        await store.aclose()

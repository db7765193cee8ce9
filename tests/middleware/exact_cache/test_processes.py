"""Several processes on one Redis make one call, and outlive the one that makes it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.middleware.exact_cache.conftest import CHAT, STREAM
from tests.services.redis_server import RedisServer

ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = 90


@asynccontextmanager
async def workers(
    number: int, url: str, document: Any, requests: int, lease_seconds: float
) -> AsyncIterator[list[Process]]:
    """Processes that have imported everything, are connected, and wait for a line."""
    command = (sys.executable, "-m", "tests.middleware.exact_cache.worker", url)
    options = (json.dumps(document), str(requests), str(lease_seconds))
    started = [
        await asyncio.create_subprocess_exec(*command, *options, cwd=ROOT, stdin=PIPE, stdout=PIPE)
        for _ in range(number)
    ]
    try:
        for process in started:
            assert b"ready\n" == await line(process)
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def line(process: Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


async def go(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    assert b"asked\n" == await line(process)


async def until_called(server: RedisServer, times: int) -> None:
    """Until the app has been called so many times."""
    while int(await asyncio.to_thread(server.command, "GET", "calls") or 0) < times:
        continue


@pytest.mark.parametrize("document", [CHAT, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("number", [1, 4])
async def test_b7_two_hundred_requests_in_four_processes_make_one_call(
    redis_server: RedisServer, number: int, document: Any
) -> None:
    """All at once, in one process or in four; the answer comes while all of them wait."""
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        workers(number, redis_server.url, document, 200 // number, 5.0) as processes,
    ):
        for process in processes:
            await go(process)
        await until_called(redis_server, 1)
        redis_server.command("RPUSH", "go", "1")
        texts = [text for process in processes for text in json.loads(await line(process))]
    assert ["Answer number 1."] * 200 == texts
    assert b"1" == redis_server.command("GET", "calls")


async def test_b7_a_process_that_is_killed_leaves_nobody_hanging(
    redis_server: RedisServer,
) -> None:
    """When its lease has run out one of the other processes asks, and all have that answer."""
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        workers(3, redis_server.url, CHAT, 20, 0.5) as (leader, *others),
    ):
        await go(leader)
        await until_called(redis_server, 1)
        for process in others:
            await go(process)
        leader.send_signal(signal.SIGKILL)
        await leader.wait()
        await until_called(redis_server, 2)
        redis_server.command("RPUSH", "go", "1", "2")
        texts = [text for process in others for text in json.loads(await line(process))]
    assert ["Answer number 2."] * 40 == texts
    assert b"2" == redis_server.command("GET", "calls")


async def test_a_lease_is_kept_for_as_long_as_the_call_takes(redis_server: RedisServer) -> None:
    """Four times the lease later nobody else has asked."""
    lease_seconds = 0.4
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        workers(2, redis_server.url, CHAT, 5, lease_seconds) as (leader, other),
    ):
        await go(leader)
        await until_called(redis_server, 1)
        await go(other)
        loop = asyncio.get_running_loop()
        later = loop.time() + 4 * lease_seconds
        while loop.time() < later:
            assert b"1" == await asyncio.to_thread(redis_server.command, "GET", "calls")
        redis_server.command("RPUSH", "go", "1")
        texts = [text for process in (leader, other) for text in json.loads(await line(process))]
    assert ["Answer number 1."] * 10 == texts

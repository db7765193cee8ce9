"""Several processes on one Redis: the limit holds over all of them, and outlives none of them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.stores.base import Demand
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.stores.limits_redis import RedisLimits
from asgi_llm.types import Limit
from tests.services.redis_server import RedisServer

ROOT = Path(__file__).parents[3]
WORKERS = 4
WINDOW = 1
DEADLINE_SECONDS = 60


@asynccontextmanager
async def workers(
    number: int, url: str, what: str, options: dict[str, Any], *, skew_seconds: int = 0
) -> AsyncIterator[list[Process]]:
    """Processes that have imported everything, are connected, and wait for a line.

    The wall clock of each is ``skew_seconds`` ahead of the one before.
    """
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.services.skewed", str(skew_seconds * (place - 1))),
            *("tests.stores.limits.worker", url, what, json.dumps(options)),
            cwd=ROOT,
            stdin=PIPE,
            stdout=PIPE,
        )
        for place in range(number)
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


def go(process: Process, **options: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(options).encode() + b"\n")


async def results(processes: list[Process], **options: Any) -> list[Any]:
    for process in processes:
        go(process, **options)
    return [json.loads(await line(process)) for process in processes]


async def test_b14_200_at_once_from_4_processes_admit_exactly_100(
    redis_server: RedisServer,
) -> None:
    """50 requests each, all at once, at a limit of 100 for all."""
    options = {"requests": 50, "amount": 100}
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        workers(WORKERS, redis_server.url, "at_once", options) as processes,
    ):
        assert 100 == sum(await results(processes))


async def test_b16_workers_whose_clocks_differ_share_a_window(redis_server: RedisServer) -> None:
    """Five minutes behind, right, five and ten minutes ahead: one window, by the time of Redis."""
    options = {"requests": 50, "amount": 100}
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        workers(4, redis_server.url, "at_once", options, skew_seconds=300) as processes,
    ):
        assert 100 == sum(await results(processes))


def most_in_any_window(admitted: list[tuple[float, float]]) -> int:
    """The most that were sent and answered within one window: they were admitted in it for sure."""
    return max(
        sum(begin <= sent and answered < begin + WINDOW for sent, answered in admitted)
        for begin, _ in admitted
    )


@pytest.mark.parametrize("unit", ["requests", "tokens"])
async def test_b14_three_times_the_limit_from_4_processes_admits_the_limit(
    redis_server: RedisServer, unit: str
) -> None:
    """For three windows: within 1 % of the limit, over the whole and over any window.

    Tokens are reserved at 150 and settled at 100 each.
    """
    amount = 200
    options = {
        "seconds": 3 * WINDOW,
        "per_second": 3 * amount / WINDOW / WORKERS,
        "requests": amount if unit == "requests" else 0,
        "tokens": 100 * amount if unit == "tokens" else 0,
        "reserved": 150,
        "used": 100,
        "window": WINDOW,
    }
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        workers(WORKERS, redis_server.url, "offer", options) as processes,
    ):
        answers = await results(processes, begin=time.monotonic() + 0.1)
        admitted = [tuple(one) for one in chain.from_iterable(answers)]
    assert 0.99 * 3 * amount <= len(admitted) <= 1.01 * 3 * amount
    assert most_in_any_window(admitted) <= 1.01 * amount


async def test_b14_three_times_the_limit_in_memory_admits_the_limit() -> None:
    """The same with one worker and the memory store, in real time."""
    amount = 200
    limit = Limit(unit="requests", amount=amount, window_seconds=WINDOW)
    store = MemoryLimits()
    admitted: list[tuple[float, float]] = []
    begin, per_second = time.monotonic(), 3 * amount / WINDOW
    async with asyncio.timeout(DEADLINE_SECONDS):
        for number in range(3 * WINDOW * int(per_second)):
            await asyncio.sleep(max(0.0, begin + number / per_second - time.monotonic()))
            sent = time.monotonic()
            decision = await store.take(
                [Demand("r", limit, 1, False)], lease=f"{number}", lease_seconds=1.0
            )
            if decision.admitted:
                admitted.append((sent, time.monotonic()))
    assert 0.99 * 3 * amount <= len(admitted) <= 1.01 * 3 * amount
    assert most_in_any_window(admitted) <= 1.01 * amount


async def test_b14_sigkill_leaves_nothing_behind(redis_server: RedisServer) -> None:
    """A holder keeps its slot and its tokens by its heartbeat; after SIGKILL both come back."""
    lease_seconds = 0.6
    look = [
        Demand("slot", Limit(unit="concurrent_requests", amount=1), 0, True),
        Demand("t", Limit(unit="tokens", amount=1000, window_seconds=3600), 0, True),
    ]
    store = RedisLimits(redis_server.url, timeout_seconds=10.0)

    async def free() -> list[int]:
        decision = await store.take(look, lease="look", lease_seconds=1.0)
        return [status.remaining for status in decision.statuses]

    options = {"lease_seconds": lease_seconds, "tokens": 700}
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        workers(1, redis_server.url, "hold", options) as (holder,),
    ):
        go(holder)
        assert b"true\n" == await line(holder)
        held_until = time.monotonic() + 3 * lease_seconds
        while time.monotonic() < held_until:
            assert [0, 300] == await free()
            await asyncio.sleep(0.05)
        holder.send_signal(signal.SIGKILL)
        await holder.wait()
        given_back = time.monotonic() + lease_seconds + 5.0
        while (left := await free()) != [1, 1000]:
            assert time.monotonic() < given_back, left
            await asyncio.sleep(0.02)
        await store.aclose()
    assert all(b"mine" not in redis_server.command("HKEYS", key) for key in hashes(redis_server))


def hashes(server: RedisServer) -> list[bytes]:
    return [key for key in server.keys() if server.command("TYPE", key) == b"hash"]  # noqa: SIM118

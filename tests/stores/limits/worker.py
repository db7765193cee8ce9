"""A worker process of a test: ``python -m ... url what options``, begun by a line of more."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from asgi_llm.stores.base import Demand
from asgi_llm.stores.limits_redis import RedisLimits
from asgi_llm.types import Limit

PATIENT_SECONDS = 10.0


async def at_once(store: RedisLimits, *, requests: int, amount: int) -> int:
    """How many of so many requests at once are admitted."""
    limit = Limit(unit="requests", amount=amount, window_seconds=3600)
    demand = Demand("all", limit, 1, False)
    decisions = await asyncio.gather(
        *(store.take([demand], lease=f"{n}", lease_seconds=30.0) for n in range(requests))
    )
    return sum(decision.admitted for decision in decisions)


async def offer(
    store: RedisLimits,
    *,
    begin: float,
    seconds: float,
    per_second: float,
    requests: int,
    tokens: int,
    reserved: int,
    used: int,
    window: int,
) -> list[tuple[float, float]]:
    """Offer a steady load; when each admitted request was sent, and when it was answered."""
    limits = [
        Demand("r", Limit(unit="requests", amount=requests, window_seconds=window), 1, False),
        Demand("t", Limit(unit="tokens", amount=tokens, window_seconds=window), reserved, True),
    ]
    demands = [one for one in limits if one.limit.amount]
    admitted: list[tuple[float, float]] = []

    async def ask(number: int) -> None:
        lease = f"{os.getpid()}-{number}"
        sent = time.monotonic()
        decision = await store.take(demands, lease=lease, lease_seconds=30.0)
        if decision.admitted:
            admitted.append((sent, time.monotonic()))
            await store.settle(demands, lease=lease, costs=[used] * len(demands))

    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * per_second)):
            await asyncio.sleep(max(0.0, begin + number / per_second - time.monotonic()))
            group.create_task(ask(number))
    return admitted


async def hold(store: RedisLimits, *, lease_seconds: float, tokens: int) -> None:
    """Hold a slot and a reservation, kept alive, until the process is killed."""
    demands = [
        Demand("slot", Limit(unit="concurrent_requests", amount=1), 1, True),
        Demand("t", Limit(unit="tokens", amount=1000, window_seconds=3600), tokens, True),
    ]
    decision = await store.take(demands, lease="mine", lease_seconds=lease_seconds)
    print(json.dumps(decision.admitted), flush=True)
    while True:
        await asyncio.sleep(lease_seconds / 3)
        await store.renew(demands, lease="mine", lease_seconds=lease_seconds)


async def main(url: str, what: str, options: dict[str, Any]) -> None:
    jobs: dict[str, Callable[..., Any]] = {"at_once": at_once, "offer": offer, "hold": hold}
    store = RedisLimits(url, timeout_seconds=PATIENT_SECONDS)
    await store.take([], lease="warm", lease_seconds=1.0)
    print("ready", flush=True)
    more = json.loads(await asyncio.to_thread(sys.stdin.readline))
    result = await jobs[what](store, **options, **more)
    print(json.dumps(result), flush=True)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))

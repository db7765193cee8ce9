"""A worker process of a test: ``python -m ... url``; claims at once what a line of input names."""

from __future__ import annotations

import asyncio
import json
import sys

from asgi_llm.stores.breakers import BreakerPolicy
from asgi_llm.stores.breakers_redis import RedisBreakers

PATIENT_SECONDS = 10.0
POLICY = BreakerPolicy(failures=1, minimum_calls=1, cool_down_seconds=0.001, jitter=0.0)


async def main(url: str) -> None:
    """Print ``ready``; for each line, a target, how many of 50 claims at once got a trial."""
    store = RedisBreakers(url, policy=POLICY, timeout_seconds=PATIENT_SECONDS)
    await store.claim("nobody/nothing")
    print("ready", flush=True)
    while target := (await asyncio.to_thread(sys.stdin.readline)).rstrip("\n"):
        leases = await asyncio.gather(*(store.claim(target) for _ in range(50)))
        assert "" not in leases
        print(json.dumps(sum(lease is not None for lease in leases)), flush=True)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

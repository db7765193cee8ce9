"""A worker process of the budget tests: ``python -m tests.stores.budgets.worker KIND URL COUNT``.

It says ``ready``, waits for a line, then makes its requests all at once, each of a cent, and says
how many were admitted. With ``hold`` for COUNT it reserves all there is and waits to be killed.
"""

from __future__ import annotations

import asyncio
import os
import sys

from asgi_llm.stores.budgets import PICO, BudgetStore
from asgi_llm.stores.budgets_redis import RedisBudgets
from asgi_llm.stores.sql.budgets import SQLBudgets
from asgi_llm.stores.sql.engine import open_engine
from tests.stores.budgets.conftest import demand

CENT = PICO // 100
ROOM = demand(1, "shared")
WIDE = demand(50, "other", period="rolling", days=30)


async def main(kind: str, url: str, count: str) -> None:
    engine = None
    if kind == "redis":
        store: BudgetStore = RedisBudgets(url, timeout_seconds=30.0)
    else:
        engine = open_engine(url, lock_timeout_seconds=20.0)
        store = SQLBudgets(engine, timeout_seconds=30.0)
    if count == "hold":
        decision = await store.reserve([ROOM], PICO, lease="dead", lease_seconds=3.0)
        print("held" if decision.admitted else "refused", flush=True)
        await asyncio.Event().wait()
    await store.spent([WIDE])
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

    async def request(number: int) -> bool:
        lease = f"{os.getpid()}-{number}"
        decision = await store.reserve([ROOM, WIDE], CENT, lease=lease, lease_seconds=60.0)
        if decision.admitted:
            await asyncio.sleep(0)
            await store.settle([ROOM, WIDE], lease=lease, actual=CENT)
        return decision.admitted

    admitted = await asyncio.gather(*(request(number) for number in range(int(count))))
    print(sum(admitted), flush=True)
    await store.aclose()
    if engine is not None:
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

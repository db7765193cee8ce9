"""Budgets in a database: what is cleaned up, and what becomes of callers when something breaks."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from asgi_llm.stores.budgets import PICO
from asgi_llm.stores.sql.budgets import SQLBudgets
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.migrations import create_schema
from tests.stores.budgets.conftest import START, demand, in_sql


async def test_parts_that_count_no_more_are_deleted(tmp_path: Path) -> None:
    """Of each rolling budget by its own length, when it is next asked of; no others."""
    days = [demand(9, "a", period="rolling", days=days) for days in (1, 2, 5)]
    other = [demand(9, "b", period="rolling", days=1), demand(9, "c", period="day")]
    file = tmp_path / "budgets.db"
    async with in_sql(f"sqlite:///{file}") as world, asyncio.timeout(20):
        await world.store.settle([*days, *other], lease="a", actual=PICO)
        world.set_time(START + 3 * 86400)
        await world.store.settle([*days, *other[1:]], lease="b", actual=PICO)
        with sqlite3.connect(file) as connection:
            rows = connection.execute("SELECT key FROM llm_budget_spending").fetchall()
        connection.close()
        found = [[key for (key,) in rows].count(one.key) for one in (*days, *other)]
    assert [1, 1, 2, 1, 2] == found


async def test_what_nobody_expects_reaches_all_who_wait_and_stops_nobody_else(
    tmp_path: Path,
) -> None:
    """A clock that fails, here: nobody waits for ever, and who asks next is answered."""
    times: list[float | Exception] = [START, OverflowError("no time")]

    def clock() -> float:
        time = times.pop() if len(times) > 1 else times[0]
        if isinstance(time, Exception):
            raise time
        return time

    engine = open_engine(f"sqlite:///{tmp_path}/budgets.db")
    await create_schema(engine)
    store = SQLBudgets(engine, clock=clock)
    try:
        async with asyncio.timeout(20):

            async def ask(owner: str) -> None:
                await store.settle([demand(9, owner)], lease="a", actual=PICO)

            found = await asyncio.gather(*map(ask, "abc"), return_exceptions=True)
            assert [OverflowError] * 3 == [type(error) for error in found]
            await ask("a")
            (status,) = await store.spent([demand(9, "a")])
            assert PICO == status.spent
    finally:
        await store.aclose()
        await engine.dispose()

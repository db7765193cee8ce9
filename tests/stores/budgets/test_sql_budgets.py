"""Budgets in a database: what is cleaned up, and what becomes of callers when something breaks."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from asgi_llm.stores.budgets import PICO
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

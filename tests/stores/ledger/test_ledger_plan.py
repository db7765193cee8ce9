"""A report reads kept sums, and no more of them for more rows; see also ``million``."""

from __future__ import annotations

import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.stores.sql.ledger import SQLLedger
from tests.stores.ledger.plans import Reading, explain, statements
from tests.stores.ledger.rows import DAY, make_row

MONTH = datetime.timedelta(days=30)
USERS = 40


async def read_for_a_month(engine: AsyncEngine) -> Reading:
    ledger = SQLLedger(engine)
    async with engine.connect() as connection:
        await connection.execute(text("ANALYZE"))
        await connection.commit()
    with statements(engine) as ran:
        found = await ledger.summary(
            start=DAY, end=DAY + MONTH, where={"user_id": "u7"}, group_by=["model"]
        )
    assert found.totals.attempts > 0
    return await explain(engine, [one for one in ran if "sum(" in one[0]])


async def fill(engine: AsyncEngine, first: int, last: int) -> None:
    """Rows of all users on all days, so that further ones make no new sums by the day."""
    ledger = SQLLedger(engine)
    for start in range(first, last, 600):
        await ledger.record(
            [
                make_row(
                    f"r{n:08}",
                    user_id=f"u{n % USERS}",
                    at=DAY + datetime.timedelta(days=n // USERS % 30, minutes=n % 1440),
                )
                for n in range(start, start + 600)
            ]
        )


async def test_a_users_month_reads_sums_alone_and_no_more_for_more_rows(
    engine: AsyncEngine,
) -> None:
    """Neither plan names the rows' table; five times the rows are the same work."""
    await fill(engine, 0, 1200)
    before = await read_for_a_month(engine)
    await fill(engine, 1200, 6000)
    after = await read_for_a_month(engine)
    for reading in (before, after):
        assert {"llm_usage_daily"} == reading.tables
        assert {"ix_llm_usage_daily_user_id_at"} == reading.indexes
    # PostgreSQL: 30 days, for the totals and for the groups.
    if engine.dialect.name == "postgresql":
        assert (60, 60) == (before.rows, after.rows)
    assert before.rows == after.rows


async def test_a_page_of_a_users_rows_reads_a_page(engine: AsyncEngine) -> None:
    """The newest rows of one user come from an index in their order."""
    await fill(engine, 0, 3000)
    ledger = SQLLedger(engine)
    async with engine.connect() as connection:
        await connection.execute(text("ANALYZE"))
        await connection.commit()
    with statements(engine) as ran:
        page = await ledger.rows(where={"user_id": "u7"}, limit=10)
    assert 10 == len(page.rows)
    reading = await explain(engine, [one for one in ran if "llm_ledger" in one[0]])
    assert {"ix_llm_ledger_user_id_at_id"} == reading.indexes
    if engine.dialect.name == "postgresql":
        assert 11 == reading.rows


async def test_retention_finds_the_oldest_by_an_index(engine: AsyncEngine) -> None:
    """A batch of old rows is found and deleted without going over the others."""
    await fill(engine, 0, 3000)
    ledger = SQLLedger(engine)
    async with engine.connect() as connection:
        await connection.execute(text("ANALYZE"))
        await connection.commit()
    with statements(engine) as ran:
        await ledger.retain(DAY - MONTH, batch_rows=10)
    deletes = [one for one in ran if one[0].startswith("DELETE")]
    reading = await explain(engine, deletes)
    assert "ix_llm_ledger_at_id" in reading.indexes
    if engine.dialect.name == "postgresql":
        assert 0 == reading.rows

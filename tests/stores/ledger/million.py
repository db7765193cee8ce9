"""A ledger of a million rows: what a report reads, what recording costs, what retention holds up.

``python -m tests.stores.ledger.million [--rows 1000000] [--postgres]`` records rows of 100 users on
30 days, measures after 10,000 and after all of them, deletes half of the days while it goes on to
record, and prints the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import resource
import statistics
import sys
import tempfile
import time

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm._ids import draw_ids
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.stores.sql.migrations import create_schema
from tests.services.postgres_server import PostgresServer
from tests.stores.ledger.plans import Reading, explain, statements
from tests.stores.ledger.rows import DAY, make_row

USERS, DAYS, BATCH, FIRST = 100, 30, 500, 10_000


async def fill(ledger: SQLLedger, first: int, last: int) -> list[float]:
    """Record rows of all the days, one after the other; the seconds that each batch took."""
    took = []
    step = datetime.timedelta(days=DAYS) / (last - first)
    for start in range(first, last, BATCH):
        rows = [
            make_row(id, user_id=f"u{n % USERS}", at=DAY + step * (n - first))
            for n, id in enumerate(draw_ids("row_", BATCH), start)
        ]
        began = time.perf_counter()
        await ledger.record(rows)
        took.append(time.perf_counter() - began)
    return took


async def ask(engine: AsyncEngine, ledger: SQLLedger) -> tuple[float, Reading]:
    """The median time of the month's summary of one user, and what it reads."""
    async with engine.connect() as connection:
        await connection.execute(text("ANALYZE"))
        await connection.commit()
    month = (DAY, DAY + datetime.timedelta(days=DAYS))
    took = []
    with statements(engine) as ran:
        for _ in range(200):
            began = time.perf_counter()
            await ledger.summary(
                start=month[0], end=month[1], where={"user_id": "u7"}, group_by=["model"]
            )
            took.append(time.perf_counter() - began)
    ours = [one for one in ran if "sum(" in one[0]][:2]
    return statistics.median(took), await explain(engine, ours)


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def retain(ledger: SQLLedger) -> tuple[int, float, int, float, float]:
    """Delete half of the days and record meanwhile: deleted, seconds, batches, longest, memory."""
    before = memory_mb()
    began = time.perf_counter()
    deleting = asyncio.create_task(
        ledger.retain(DAY + datetime.timedelta(days=DAYS // 2), batch_rows=1000)
    )
    longest, number = 0.0, 0
    while not deleting.done():
        started = time.perf_counter()
        await ledger.record([make_row(f"late{number}", at=DAY + datetime.timedelta(days=DAYS - 1))])
        longest = max(longest, time.perf_counter() - started)
        number += 1
    deleted = await deleting
    return deleted, time.perf_counter() - began, number, longest, memory_mb() - before


async def measure(url: str, rows: int) -> bool:
    engine = open_engine(url)
    await create_schema(engine)
    ledger = SQLLedger(engine, timeout_seconds=30)
    first = await fill(ledger, 0, FIRST)
    small, small_read = await ask(engine, ledger)
    later = await fill(ledger, FIRST, rows)
    large, large_read = await ask(engine, ledger)
    unit = "rows read" if engine.dialect.name == "postgresql" else "steps"
    print(f"{engine.dialect.name}, {rows:,} rows")
    for count, seconds, reading in (
        (FIRST, small, small_read),
        (rows, large, large_read),
    ):
        print(
            f"  a user's month with {count:>9,} rows: {seconds * 1e3:.2f} ms,"
            f" {reading.rows:,} {unit}, tables {sorted(reading.tables)}"
        )
    print(f"  plan: {large_read.plan[0]}, by {sorted(large_read.indexes)}")
    print(f"  time with all rows over time with {FIRST:,}: {large / small:.2f}")
    tail = later[-len(first) :]
    per_row = [statistics.median(part) / BATCH * 1e6 for part in (first[1:], tail)]
    print(
        f"  recording a row, of batches of {BATCH}: {per_row[0]:.0f} us at first,"
        f" {per_row[1]:.0f} us at the end"
    )
    deleted, seconds, written, longest, memory = await retain(ledger)
    print(
        f"  retention: {deleted:,} rows deleted in {seconds:.1f} s; meanwhile {written:,} were"
        f" recorded, the slowest in {longest * 1e3:.0f} ms; memory grew by {memory:.0f} MB"
    )
    await engine.dispose()
    return large <= 1.5 * small and large_read.tables == {"llm_usage_daily"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--postgres", action="store_true", help="in place of SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="million-") as folder:
        if not options.postgres:
            return 0 if asyncio.run(measure(f"sqlite:///{folder}/l.db", options.rows)) else 1
        server = PostgresServer()
        try:
            server.start()
            return 0 if asyncio.run(measure(server.create_database(), options.rows)) else 1
        finally:
            server.close()


if __name__ == "__main__":
    sys.exit(main())

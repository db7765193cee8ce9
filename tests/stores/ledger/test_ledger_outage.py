"""A database that is away, frozen or full: rows wait in the journal, and are there once each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from asgi_llm.errors import StoreError
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.journal_shipper import JournalShipper
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.stores.sql.migrations import create_schema
from tests.services.postgres_server import PostgresServer
from tests.stores.ledger.rows import DAY, make_row
from tests.stores.ledger.waiting import until


@pytest.mark.parametrize("outage", ["stopped", "crashed", "frozen"])
async def test_b28_rows_of_an_outage_are_recorded_after_it_once_each(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str, outage: str
) -> None:
    """While PostgreSQL is away calls are settled as ever; when it is back, nothing is missing."""
    engine = open_engine(postgres_url, connect_timeout_seconds=0.5)
    await create_schema(engine)
    ledger = SQLLedger(engine, timeout_seconds=0.5)
    journal = FileJournal(tmp_path)
    shipper = JournalShipper(
        journal, ledger, max_batch_rows=20, interval_seconds=0, max_retry_seconds=0.2
    )
    rows = [make_row(f"r{number:03}") for number in range(120)]

    async def serve(part: slice) -> None:
        for row in rows[part]:
            journal.intend(row)
            await asyncio.sleep(0)
            journal.settle((row,), intent=row.id)

    await serve(slice(0, 40))
    if outage == "frozen":
        postgres_server.freeze()
    else:
        postgres_server.stop(mode="fast" if outage == "stopped" else "immediate")
    await serve(slice(40, 80))
    failures = shipper.failures
    await until(lambda: shipper.failures >= failures + 2)
    assert shipper.pending_rows >= 40
    assert shipper.oldest_age_seconds > 0
    if outage == "frozen":
        postgres_server.thaw()
    else:
        postgres_server.start()
    await serve(slice(80, 120))
    await until(lambda: shipper.pending_rows == 0)
    await shipper.aclose()
    # The short deadline was for the outage; reading takes what it takes.
    patient = SQLLedger(engine)
    found = await patient.rows(limit=1000)
    assert rows == sorted(found.rows, key=lambda row: row.id)
    day = DAY.replace(hour=15)
    totals = (await patient.summary(start=day, end=day.replace(hour=16))).totals
    assert 120 == totals.attempts
    await engine.dispose()


async def test_b29_a_locked_sqlite_file_is_waited_for(tmp_path: Path, sqlite_url: str) -> None:
    """Another process that holds the write lock delays rows and loses none."""
    engine, other = open_engine(sqlite_url, lock_timeout_seconds=0.05), open_engine(sqlite_url)
    await create_schema(engine)
    ledger = SQLLedger(engine)
    journal = FileJournal(tmp_path / "journal")
    shipper = JournalShipper(
        journal, ledger, interval_seconds=0, min_retry_seconds=0.01, max_retry_seconds=0.05
    )
    async with other.connect() as connection:
        await connection.execute(text("DELETE FROM llm_ledger"))
        journal.settle((make_row("a"),), intent="a")
        await until(lambda: shipper.failures >= 2)
        assert 1 == shipper.pending_rows
        await connection.rollback()
    await until(lambda: shipper.pending_rows == 0)
    await shipper.aclose()
    assert ["a"] == [row.id for row in (await ledger.rows()).rows]
    await engine.dispose()
    await other.dispose()


async def test_b29_a_full_database_keeps_rows_in_the_journal(
    tmp_path: Path, sqlite_url: str
) -> None:
    """SQLite that may not grow refuses rows without harm; with room again it has them all."""
    engine = open_engine(sqlite_url, max_connections=1)
    await create_schema(engine)
    async with engine.connect() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 20}")
    ledger = SQLLedger(engine)
    journal = FileJournal(tmp_path / "journal")
    shipper = JournalShipper(
        journal,
        ledger,
        max_batch_rows=50,
        interval_seconds=0,
        min_retry_seconds=0.01,
        max_retry_seconds=0.05,
    )
    for number in range(300):
        journal.settle((make_row(f"r{number:03}"),), intent=f"r{number:03}")
    await until(lambda: shipper.failures >= 2)
    assert 0 < shipper.pending_rows
    async with engine.connect() as connection:
        assert "ok" == (await connection.exec_driver_sql("PRAGMA integrity_check")).scalar_one()
        await connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    await until(lambda: shipper.pending_rows == 0)
    await shipper.aclose()
    assert 300 == len((await ledger.rows(limit=1000)).rows)
    await engine.dispose()


async def test_a_database_without_tables_says_what_to_do(sqlite_url: str) -> None:
    """The error names the command that makes them, and the rows may be given again."""
    engine = open_engine(sqlite_url)
    with pytest.raises(StoreError) as caught:
        await SQLLedger(engine).record([make_row("a")])
    assert "db upgrade" in caught.value.message
    await engine.dispose()

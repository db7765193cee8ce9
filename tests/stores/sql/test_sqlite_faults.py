"""SQLite read-only, locked, full or gone: clear errors, and a file that stays whole."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.errors import StoreError
from asgi_llm.stores.directory import Key, Organization
from asgi_llm.stores.sql import SQLDirectory, SQLKeys, create_schema, open_engine
from tests.stores.sql.members import add_family, digest, entry, key, organization


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest_asyncio.fixture
async def engine(file: Path) -> AsyncIterator[AsyncEngine]:
    """A file with a family in it."""
    engine = open_engine(f"sqlite:///{file}", lock_timeout_seconds=0.1)
    await create_schema(engine)
    await add_family(SQLDirectory(engine))
    yield engine
    await engine.dispose()


def is_whole(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as connection:
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        return [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall() and not broken


def driver_threads() -> set[threading.Thread]:
    """Those that aiosqlite runs, one for each connection."""
    return {one for one in threading.enumerate() if "connection_worker" in one.name}


async def test_b29_a_file_that_is_read_only(engine: AsyncEngine, file: Path) -> None:
    """Keys are found, writes are store errors."""
    reader = open_engine(f"sqlite:///file:{file}?mode=ro&uri=true")
    assert await SQLKeys(reader).find(digest("key")) is not None
    with pytest.raises(StoreError, match="SQLITE_READONLY"):
        await SQLDirectory(reader).add(organization("other"), entry())
    await reader.dispose()
    assert is_whole(file)


async def test_b29_a_file_that_another_process_writes(engine: AsyncEngine, file: Path) -> None:
    """Keys are found all the while; a write waits a little, fails, and works afterwards."""
    directory = SQLDirectory(engine)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE llm_keys SET tier = 'lost'")
        found = await SQLKeys(engine).find(digest("key"))
        assert found is not None
        assert None is found.principal.tier
        with pytest.raises(StoreError, match="SQLITE_BUSY"):
            await directory.add(organization("other"), entry())
        other.execute("ROLLBACK")
    await directory.add(organization("other"), entry())
    assert is_whole(file)


async def test_b29_a_new_file_that_another_process_writes(file: Path) -> None:
    """The log ahead, which SQLite refuses at once then, is waited for like any lock."""
    engine = open_engine(f"sqlite:///{file}", lock_timeout_seconds=30)
    impatient = open_engine(f"sqlite:///{file}", lock_timeout_seconds=0.02)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE mine (id INTEGER)")
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO mine VALUES (1)")
        with pytest.raises(StoreError, match="SQLITE_BUSY"):
            await create_schema(impatient)
        opening = asyncio.create_task(create_schema(engine))
        asyncio.get_running_loop().call_later(0.05, other.execute, "COMMIT")
        async with asyncio.timeout(30):
            await opening
    await add_family(SQLDirectory(engine))
    assert await SQLKeys(engine).find(digest("key")) is not None
    await engine.dispose()
    await impatient.dispose()


async def test_b29_a_file_that_another_process_locks(engine: AsyncEngine, file: Path) -> None:
    """Whoever holds all of it makes look-ups fail, not wait for ever."""
    keys = SQLKeys(engine)
    await engine.dispose()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="SQLITE_BUSY"):
            await keys.find(digest("key"))
        other.execute("ROLLBACK")
    assert await keys.find(digest("key")) is not None


async def test_b29_a_disk_that_is_full(file: Path, engine: AsyncEngine) -> None:
    """What did not fit is not there, not even in part, and the rest is whole."""
    await engine.dispose()
    full = open_engine(f"sqlite:///{file}")

    @event.listens_for(full.sync_engine, "connect")
    def allow_no_growth(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA max_page_count = 1")
        cursor.close()

    directory = SQLDirectory(full)
    metadata = {f"{n}": "x" * 1000 for n in range(100)}
    with pytest.raises(StoreError, match="SQLITE_FULL"):
        await directory.add_key(key("big", metadata=metadata), digest("big"), entry())
    assert None is await directory.get(Key, "big")
    assert await SQLKeys(full).find(digest("key")) is not None
    await full.dispose()
    assert is_whole(file)


async def test_b29_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Neither a start nor a look-up takes it for one, and it is left as it was."""
    file = tmp_path / "notes.txt"
    file.write_text("not a database, and long enough to be none" * 100)
    before, threads = file.read_bytes(), driver_threads()
    engine = open_engine(f"sqlite:///{file}")
    for work in (create_schema(engine), SQLKeys(engine).find(digest("key"))):
        with pytest.raises(StoreError, match="SQLITE_NOTADB"):
            await work
    await engine.dispose()
    assert before == file.read_bytes()
    for thread in driver_threads() - threads:
        thread.join(5)
        assert not thread.is_alive()


async def test_b29_a_folder_that_is_missing(tmp_path: Path) -> None:
    """The error says that the file cannot be opened, and no thread is left to say more."""
    threads = driver_threads()
    engine = open_engine(f"sqlite:///{tmp_path}/missing/test.db")
    with pytest.raises(StoreError, match="SQLITE_CANTOPEN"):
        await create_schema(engine)
    assert threads == driver_threads()
    await engine.dispose()


async def test_b29_a_write_ahead_log_that_is_lost(engine: AsyncEngine, file: Path) -> None:
    """Without its log the file is as of its last checkpoint, and whole."""
    await SQLDirectory(engine).add(organization("checkpointed"), entry())
    async with engine.connect() as connection:
        await connection.rollback()
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await SQLDirectory(engine).add(organization("logged"), entry())
    copy = Path(shutil.copy(file, file.with_name("copy.db")))
    assert is_whole(copy)
    other = open_engine(f"sqlite:///{copy}")
    page = await SQLDirectory(other).list(Organization, where={}, limit=9)
    assert {"org", "checkpointed"} == {one.id for one in page.items}
    await other.dispose()


async def test_b29_many_writers_take_turns(file: Path, engine: AsyncEngine) -> None:
    """Two engines, as in two processes, lose no write to each other."""
    engines = [open_engine(f"sqlite:///{file}") for _ in range(2)]
    async with asyncio.timeout(60):
        await asyncio.gather(
            *(
                SQLDirectory(one).add(organization(f"{number}-{n}"), entry())
                for number, one in enumerate(engines)
                for n in range(20)
            )
        )
    page = await SQLDirectory(engine).list(Organization, where={}, limit=100)
    assert 41 == len(page.items)
    for one in engines:
        await one.dispose()

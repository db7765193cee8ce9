"""PostgreSQL stopped, frozen, restarted, in deadlock: errors in time, then back again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from asgi_llm.errors import StoreError
from asgi_llm.stores.directory import Key, Organization
from asgi_llm.stores.sql import SQLDirectory, SQLKeys, create_schema, open_engine
from asgi_llm.stores.sql._database import Database
from tests.services.postgres_server import PostgresServer
from tests.stores.sql.members import add_family, digest, entry, organization

DEADLINE_SECONDS = 0.3
SLACK_SECONDS = 0.7
"""For a busy machine; a driver that has its own way takes two seconds and more."""
RETURN_SECONDS = 5.0


@pytest_asyncio.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(postgres_url, max_connections=4)
    await create_schema(engine)
    await add_family(SQLDirectory(engine))
    yield engine
    await engine.dispose()


@pytest.fixture
def keys(engine: AsyncEngine) -> SQLKeys:
    return SQLKeys(engine, timeout_seconds=DEADLINE_SECONDS)


async def fails_in_time(work: Awaitable[Any]) -> StoreError:
    began = time.monotonic()
    with pytest.raises(StoreError) as raised:
        await work
    assert time.monotonic() - began < DEADLINE_SECONDS + SLACK_SECONDS
    return raised.value


async def comes_back(keys: SQLKeys) -> None:
    """A look-up works again within the time that is promised."""
    async with asyncio.timeout(RETURN_SECONDS):
        while True:
            try:
                assert await keys.find(digest("key")) is not None
                return
            except StoreError:
                await asyncio.sleep(0.05)


async def test_b28_a_stopped_server(keys: SQLKeys, postgres_server: PostgresServer) -> None:
    """Look-ups fail at once while it is away, and go on when it is back."""
    assert await keys.find(digest("key")) is not None
    postgres_server.stop()
    for _ in range(3):
        await fails_in_time(keys.find(digest("key")))
    postgres_server.start()
    await comes_back(keys)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_b28_a_restarted_server_costs_no_request(
    keys: SQLKeys, postgres_server: PostgresServer, mode: Any
) -> None:
    """Connections that the old server had are noticed before they are used."""
    for _ in range(3):
        assert await keys.find(digest("key")) is not None
        postgres_server.restart(mode=mode)
    assert await keys.find(digest("key")) is not None


async def test_b28_a_frozen_server(
    keys: SQLKeys, engine: AsyncEngine, postgres_server: PostgresServer
) -> None:
    """Nobody waits longer than the deadline: not the first, not those without a connection."""
    directory = SQLDirectory(engine, timeout_seconds=DEADLINE_SECONDS)
    assert await keys.find(digest("key")) is not None
    postgres_server.freeze()
    try:
        await asyncio.gather(*(fails_in_time(keys.find(digest("key"))) for _ in range(12)))
        await fails_in_time(directory.get(Key, "key"))
        await fails_in_time(directory.add(organization("other"), entry()))
    finally:
        postgres_server.thaw()
    await comes_back(keys)
    assert await directory.get(Key, "key") is not None


async def test_b28_a_pool_in_use(keys: SQLKeys, engine: AsyncEngine) -> None:
    """Without a free connection a look-up fails in time, and works once there is one."""
    async with engine.connect(), engine.connect(), engine.connect(), engine.connect():
        await fails_in_time(keys.find(digest("key")))
    await comes_back(keys)


async def test_b28_a_pool_says_that_it_is_in_use(postgres_url: str) -> None:
    """Where the wait for a connection ends before the deadline, the error names the cause."""
    engine = open_engine(postgres_url, max_connections=1, connect_timeout_seconds=0.05)
    keys = SQLKeys(engine)
    async with engine.connect():
        with pytest.raises(StoreError, match="in use"):
            await keys.find(digest("key"))
    await engine.dispose()


async def test_b28_a_cancelled_look_up_gives_its_connection_back(
    keys: SQLKeys, engine: AsyncEngine, postgres_server: PostgresServer
) -> None:
    """A client that leaves while the server is silent costs no connection for good."""
    postgres_server.freeze()
    tasks = [asyncio.create_task(keys.find(digest("key"))) for _ in range(8)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    postgres_server.thaw()
    assert [True] * 8 == [isinstance(end, asyncio.CancelledError) for end in ends]
    await comes_back(keys)
    async with (
        asyncio.timeout(RETURN_SECONDS),
        engine.connect(),
        engine.connect(),
        engine.connect(),
        engine.connect(),
    ):
        pass


async def wait_for_a_lock(engine: AsyncEngine) -> None:
    """Until a statement waits for another's lock."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    async with asyncio.timeout(10), engine.connect() as connection:
        while not (await connection.execute(waiting)).scalar():
            await connection.rollback()
            await asyncio.sleep(0.01)


async def test_b28_a_deadlock_is_tried_again(engine: AsyncEngine) -> None:
    """The transaction that the server gave up runs once more, and both are kept."""
    database = Database(engine, timeout_seconds=20)
    for name in ("a", "b"):
        await SQLDirectory(engine).add(organization(name), entry())
    change = text("UPDATE llm_organizations SET tier = coalesce(tier, '') || :by WHERE id = :id")
    both = asyncio.Barrier(2)
    runs = 0

    async def cross(by: str, first: str, second: str) -> None:
        met = False

        async def work(connection: AsyncConnection) -> None:
            nonlocal met, runs
            runs += 1
            await connection.execute(change, {"by": by, "id": first})
            if not met:
                met = True
                await both.wait()
            await connection.execute(change, {"by": by, "id": second})

        await database.write(work)

    async with asyncio.timeout(30):
        await asyncio.gather(cross("x", "a", "b"), cross("y", "b", "a"))
    assert 3 == runs
    page = await SQLDirectory(engine).list(Organization, where={}, limit=9)
    tiers = {one.id: one.tier for one in page.items}
    assert ["xy", "xy"] == ["".join(sorted(tiers[name])) for name in ("a", "b")]


async def test_b28_a_serialisation_failure_is_tried_again(engine: AsyncEngine) -> None:
    """Who read what another has changed since reads it again, and no change is lost."""
    strict = engine.execution_options(isolation_level="SERIALIZABLE")
    database = Database(strict, timeout_seconds=20)
    read = text("SELECT coalesce(tier, '0') FROM llm_organizations WHERE id = 'org'")
    write = text("UPDATE llm_organizations SET tier = :tier WHERE id = 'org'")
    both = asyncio.Barrier(2)
    runs = 0

    async def add_one() -> None:
        met = False

        async def work(connection: AsyncConnection) -> None:
            nonlocal met, runs
            runs += 1
            number = int((await connection.execute(read)).scalar_one())
            if not met:
                met = True
                await both.wait()
            await connection.execute(write, {"tier": str(number + 1)})

        await database.write(work)

    async with asyncio.timeout(30):
        await asyncio.gather(add_one(), add_one())
    assert 3 == runs
    kept = await SQLDirectory(engine).get(Organization, "org")
    assert kept is not None
    assert "2" == kept.tier


async def test_b28_a_write_that_waits_for_a_lock_ends_in_time(engine: AsyncEngine) -> None:
    """A row that another holds for long is a store error, and nothing is written."""
    directory = SQLDirectory(engine, timeout_seconds=DEADLINE_SECONDS)
    async with engine.begin() as other:
        await other.execute(text("SELECT id FROM llm_keys FOR UPDATE"))
        task = asyncio.create_task(
            fails_in_time(directory.update(Key, "key", {"tier": "pro"}, entry()))
        )
        await wait_for_a_lock(engine)
        await task
    kept = await SQLDirectory(engine).get(Key, "key")
    assert kept is not None
    assert None is kept.tier


async def test_b28_use_is_written_when_the_server_is_back(
    engine: AsyncEngine, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Times of last use wait in memory meanwhile."""
    keys = SQLKeys(engine, timeout_seconds=DEADLINE_SECONDS)
    postgres_server.stop()
    keys.note_used("key", 1_800_000_000)
    await keys.flush()
    assert 1 == len(caplog.records)
    postgres_server.start()
    await keys.flush()
    kept = await SQLDirectory(engine).get(Key, "key")
    assert kept is not None
    assert kept.last_used_at is not None
    assert 1_800_000_000 == kept.last_used_at.timestamp()

"""With 100,000 keys a look-up goes through the indexes and reads no more rows than with few."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from asgi_llm.stores.directory import Entity, Key, Organization, Team, User
from asgi_llm.stores.sql._rows import TABLES, values_of
from asgi_llm.stores.sql.keys import SQLKeys
from asgi_llm.stores.sql.models import CredentialRow
from tests.stores.sql.members import at, digest, key, organization, team, user

KEYS = 100_000
BATCH = 10_000
LOOK_UPS = 200


def rows(members: Sequence[Entity]) -> list[dict[str, object]]:
    return [values_of(msgspec.structs.asdict(member)) for member in members]


async def add_keys(connection: AsyncConnection, begin: int, end: int) -> None:
    made = [
        key(f"k{n}", organization_id=f"o{n % 1000}", team_id=f"t{n % 1000}", user_id=f"u{n % 1000}")
        for n in range(begin, end)
    ]
    await connection.execute(insert(TABLES[Key]), rows(made))
    await connection.execute(
        insert(CredentialRow),
        [{"digest": digest(one.id), "key_id": one.id, "created_at": at()} for one in made],
    )


async def fill(connection: AsyncConnection) -> None:
    """The 1,000 families that the keys belong to."""
    names = range(1000)
    for kind, members in (
        (Organization, [organization(f"o{n}") for n in names]),
        (Team, [team(f"t{n}", organization_id=f"o{n}") for n in names]),
        (User, [user(f"u{n}", organization_id=f"o{n}", team_id=f"t{n}") for n in names]),
    ):
        await connection.execute(insert(TABLES[kind]), rows(members))


async def statement_of_find(engine: AsyncEngine) -> tuple[str, Any]:
    """What ``SQLKeys.find`` really sends."""
    sent: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        sent.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    assert await SQLKeys(engine).find(digest("k1")) is not None
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    [found] = sent
    return found


async def sqlite_steps(engine: AsyncEngine, statement: str, parameters: Any) -> int:
    """How many instructions of its machine SQLite runs for the statement."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.set_progress_handler(count, 1)
        await connection.exec_driver_sql(statement, parameters)
        await driver.set_progress_handler(None, 0)
    return steps


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


async def postgres_nodes(
    engine: AsyncEngine, statement: str, parameters: Any
) -> list[dict[str, Any]]:
    """The parts of the plan of PostgreSQL, run."""
    async with engine.connect() as connection:
        result = await connection.exec_driver_sql(
            "EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters
        )
        [answer] = result.scalar_one()
    return nodes(answer["Plan"])


async def print_cost(engine: AsyncEngine, stored: int, capsys: pytest.CaptureFixture[str]) -> None:
    keys = SQLKeys(engine)
    began = time.perf_counter()
    for number in range(LOOK_UPS):
        await keys.find(digest(f"k{number % 100}"))
    microseconds = (time.perf_counter() - began) / LOOK_UPS * 1e6
    with capsys.disabled():
        print(f"\n{engine.dialect.name}: {microseconds:.0f} us a look-up in {stored} keys")


async def test_a_look_up_does_not_grow(
    engine: AsyncEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Index searches only, and as many rows with 100,000 keys as with 100."""
    async with engine.begin() as connection:
        await fill(connection)
        await add_keys(connection, 0, 100)
    statement, parameters = await statement_of_find(engine)
    is_sqlite = engine.dialect.name == "sqlite"
    few = await sqlite_steps(engine, statement, parameters) if is_sqlite else 0
    await print_cost(engine, 100, capsys)
    async with engine.begin() as connection:
        if not is_sqlite:
            # The families are there; to look them up for each key takes most of the time.
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
        for begin in range(100, KEYS, BATCH):
            await add_keys(connection, begin, min(begin + BATCH, KEYS))
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
    await print_cost(engine, KEYS, capsys)
    if is_sqlite:
        async with engine.connect() as connection:
            plan = await connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)
            details = [row.detail for row in plan]
        assert 5 == len(details)
        assert [] == [one for one in details if not one.startswith("SEARCH ")]
        assert await sqlite_steps(engine, statement, parameters) <= 1.2 * few
    else:
        parts = await postgres_nodes(engine, statement, parameters)
        scans = [part for part in parts if "Relation Name" in part]
        assert 5 == len(scans)
        assert ["Index Scan"] * 5 == [part["Node Type"] for part in scans], json.dumps(scans)
        assert [1] * 5 == [part["Actual Rows"] for part in scans]
        assert 0 == sum(part.get("Rows Removed by Filter", 0) for part in parts)

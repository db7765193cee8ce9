"""The schema: the same as the models', made by many at once, taken back, guarded by triggers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.sql import create_schema, current, downgrade, open_engine, upgrade
from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.stores.sql.migrations import VERSION_TABLE, head
from asgi_llm.stores.sql.models import AuditRow, Base
from tests.stores.sql.members import entry, organization


async def table_names(engine: AsyncEngine) -> set[str]:
    async with engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_models_and_migrations_agree(engine: AsyncEngine) -> None:
    """Alembic finds nothing that the migrations left out or the models forgot."""

    def differences(connection: Connection) -> list[Any]:
        options = {"compare_server_default": True, "version_table": VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        found: list[Any] = compare_metadata(context, Base.metadata)
        return found

    async with engine.connect() as connection:
        assert [] == await connection.run_sync(differences)


async def test_constraints_of_models_and_migrations_have_the_same_text(
    engine: AsyncEngine, database_url: str
) -> None:
    """Checks, which Alembic does not compare, are the same by name and text."""

    def checks(connection: Connection) -> set[tuple[str, str, str]]:
        inspector = inspect(connection)
        return {
            (table, str(check["name"]), " ".join(check["sqltext"].split()))
            for table in inspector.get_table_names()
            for check in inspector.get_check_constraints(table)
        }

    async with engine.connect() as connection:
        migrated = await connection.run_sync(checks)
    assert len(migrated) > 20
    await downgrade(database_url, "base")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        assert migrated == await connection.run_sync(checks)


async def test_the_schema_goes_up_and_down_and_up(database_url: str) -> None:
    """Down to nothing leaves no table but Alembic's own, and the way up works again."""
    engine = open_engine(database_url)
    assert None is await current(database_url)
    await upgrade(database_url)
    assert head() == await current(database_url)
    full = await table_names(engine)
    assert {VERSION_TABLE, *Base.metadata.tables} == full
    await downgrade(database_url, "base")
    assert None is await current(database_url)
    assert {VERSION_TABLE} == await table_names(engine)
    await upgrade(database_url)
    assert full == await table_names(engine)
    await engine.dispose()


async def test_a_second_start_changes_nothing(engine: AsyncEngine) -> None:
    """What the first start made and others filled is left alone."""
    await SQLDirectory(engine).add(organization("org"), entry())
    await create_schema(engine)
    assert await SQLDirectory(engine).get(type(organization("org")), "org") is not None


def test_four_processes_may_start_at_once(database_url: str) -> None:
    """Each ends well, and the schema is there once."""
    code = (
        "import asyncio, sys\n"
        "from asgi_llm.stores.sql import create_schema, open_engine\n"
        "async def main():\n"
        "    engine = open_engine(sys.argv[1], lock_timeout_seconds=30)\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    await create_schema(engine)\n"
        "    await engine.dispose()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=60) for process in processes]
    assert [("", "")] * 4 == ends
    assert [0] * 4 == [process.returncode for process in processes]
    assert head() == asyncio.run(current(database_url))


async def test_two_starts_in_one_process_do_not_mix(database_url: str) -> None:
    """Alembic's global state is used by one at a time."""
    engines = [open_engine(database_url), open_engine(database_url)]
    async with asyncio.timeout(30):
        await asyncio.gather(*(create_schema(engine) for engine in engines))
    assert head() == await current(database_url)
    for engine in engines:
        await engine.dispose()


async def test_a_database_in_memory_gets_its_schema() -> None:
    """The steps run on the connection that holds the database."""
    engine = open_engine("sqlite://")
    await create_schema(engine)
    assert {VERSION_TABLE, *Base.metadata.tables} == await table_names(engine)
    await engine.dispose()


async def test_a_failed_step_leaves_nothing(database_url: str) -> None:
    """The steps are one transaction: a table in the way means that no other is made."""
    engine = open_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE llm_credentials (mine INTEGER)"))
    with pytest.raises(Exception, match="The database failed"):
        await create_schema(engine)
    assert {"llm_credentials"} == await table_names(engine)
    await engine.dispose()


async def test_a_newer_database_is_refused(engine: AsyncEngine, database_url: str) -> None:
    """An older program does not touch a schema that it does not know."""
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE llm_schema_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="9999"):
        await create_schema(engine)
    assert "9999" == await current(database_url)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE llm_audit_log SET actor = 'nobody'",
        "DELETE FROM llm_audit_log",
        "DELETE FROM llm_audit_log WHERE id = 1",
    ],
)
async def test_an_audit_entry_cannot_be_changed(engine: AsyncEngine, statement: str) -> None:
    """The database itself refuses to edit the log or to take from it."""
    await SQLDirectory(engine).add(organization("org"), entry("organization.create"))
    with pytest.raises(DBAPIError, match="append-only"):
        async with engine.begin() as connection:
            await connection.execute(text(statement))
    async with engine.connect() as connection:
        rows = await connection.execute(select(AuditRow.actor, AuditRow.action))
        assert [("master", "organization.create")] == [tuple(row) for row in rows]


async def test_an_audit_entry_cannot_be_replaced(sqlite_url: str) -> None:
    """SQLite's REPLACE is refused too, also on a connection that is not ours."""
    engine = open_engine(sqlite_url)
    await create_schema(engine)
    await SQLDirectory(engine).add(organization("org"), entry("organization.create"))
    with pytest.raises(DBAPIError, match="append-only"):
        async with engine.begin() as connection:
            await connection.execute(text("PRAGMA recursive_triggers = OFF"))
            await connection.execute(
                text(
                    "REPLACE INTO llm_audit_log (id, at, actor, action, target, changes) "
                    "SELECT id, at, 'nobody', action, target, changes FROM llm_audit_log"
                )
            )
    await engine.dispose()


async def test_the_audit_log_cannot_be_emptied(postgres_url: str) -> None:
    """PostgreSQL's TRUNCATE is refused too."""
    engine = open_engine(postgres_url)
    await create_schema(engine)
    with pytest.raises(DBAPIError, match="append-only"):
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE llm_audit_log"))
    await engine.dispose()

"""The schema of the database: made at the first start, brought up to date, and taken back.

The steps are Alembic's and part of the package. They note where they are in a table of their own,
``llm_schema_version``, so that they do not meet the migrations of a host that shares the database.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.sql._database import Database
from asgi_llm.stores.sql.engine import open_engine

__all__ = ["VERSION_TABLE", "create_schema", "current", "downgrade", "upgrade"]

VERSION_TABLE = "llm_schema_version"

# Any number that no other program takes for an advisory lock of the same database.
_LOCK = 0x61736769_6C6C6D
# Alembic keeps the connection that it works on in a global of its own.
_alembic = threading.Lock()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def head() -> str:
    """The newest revision of this version of the package."""
    [revision] = ScriptDirectory.from_config(_config()).get_heads()
    return revision


async def create_schema(engine: AsyncEngine, *, timeout_seconds: float = 60.0) -> None:
    """Bring the database of ``engine`` to the newest revision, whatever it has.

    Any number of processes may call this at once: one does the work, the others wait for it.

    Args:
        engine: As ``open_engine`` gives it; it stays its owner's to dispose of.
        timeout_seconds: For all of it, the wait included, above 0.

    Raises:
        StoreError: The database did not answer in time, or with an error.
        ConfigurationError: The database is of a newer version of the package.
    """
    if await _revision(engine, timeout_seconds) != head():
        await _migrate(engine, timeout_seconds, lambda config: command.upgrade(config, "head"))


async def upgrade(url: str, revision: str = "head", *, timeout_seconds: float = 600.0) -> None:
    """Bring the database at ``url`` up to ``revision``.

    Raises:
        StoreError: The database did not answer in time, or with an error.
        ConfigurationError: The URL or the revision is wrong.
    """
    engine = open_engine(url)
    try:
        await _migrate(engine, timeout_seconds, lambda config: command.upgrade(config, revision))
    finally:
        await engine.dispose()


async def downgrade(url: str, revision: str, *, timeout_seconds: float = 600.0) -> None:
    """Take the database at ``url`` back to ``revision``, or with ``base`` to nothing.

    What only the newer revisions can hold is lost.

    Raises:
        StoreError: The database did not answer in time, or with an error.
        ConfigurationError: The URL or the revision is wrong.
    """
    engine = open_engine(url)
    try:
        await _migrate(engine, timeout_seconds, lambda config: command.downgrade(config, revision))
    finally:
        await engine.dispose()


async def current(url: str, *, timeout_seconds: float = 10.0) -> str | None:
    """The revision of the database at ``url``; None: it has no tables of ours.

    Raises:
        StoreError: The database did not answer in time, or with an error.
        ConfigurationError: The URL is wrong.
    """
    engine = open_engine(url)
    try:
        return await _revision(engine, timeout_seconds)
    finally:
        await engine.dispose()


async def _revision(engine: AsyncEngine, timeout_seconds: float) -> str | None:
    def ask(connection: Connection) -> str | None:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return context.get_current_revision()

    async def work(connection: AsyncConnection) -> str | None:
        return await connection.run_sync(ask)

    return await Database(engine, timeout_seconds=timeout_seconds).read(work)


async def _migrate(
    engine: AsyncEngine, timeout_seconds: float, step: Callable[[Config], None]
) -> None:
    """Run ``step`` in one transaction that no other process shares."""

    def run(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        step(config)

    async def work(connection: AsyncConnection) -> None:
        if connection.dialect.name == "postgresql":
            # SQLite's write lock is taken already.
            await connection.execute(
                text(
                    "SELECT set_config('statement_timeout', '0', true),"
                    " set_config('lock_timeout', '0', true)"
                )
            )
            await connection.execute(
                select(func.pg_advisory_xact_lock(bindparam("number"))), {"number": _LOCK}
            )
        await connection.run_sync(run)

    while not _alembic.acquire(blocking=False):  # noqa: ASYNC110 -- shared by loops and threads
        await asyncio.sleep(0.01)
    try:
        await Database(engine, timeout_seconds=timeout_seconds).write(work)
    except CommandError as error:
        raise ConfigurationError(f"database: {error}", param="database") from error
    finally:
        _alembic.release()

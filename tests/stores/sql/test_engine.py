"""Opening databases: URL forms, refusals, and what each connection is set to."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import text

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores import sql
from asgi_llm.stores.sql import open_engine


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("sqlite:///file.db", "sqlite+aiosqlite:///file.db"),
        ("sqlite+aiosqlite:///file.db", "sqlite+aiosqlite:///file.db"),
        ("postgresql://me@host/name", "postgresql+asyncpg://me@host/name"),
        ("postgres://me@host/name", "postgresql+asyncpg://me@host/name"),
        ("postgresql+asyncpg://me@host/name", "postgresql+asyncpg://me@host/name"),
        ("postgresql://h/n?sslmode=require", "postgresql+asyncpg://h/n?ssl=require"),
    ],
)
async def test_a_plain_url_gets_its_driver(url: str, opened: str) -> None:
    """The forms that other tools write are taken, and no connection is made."""
    engine = open_engine(url)
    assert opened == engine.url.render_as_string()
    await engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:hunter2@host/name",
        "postgresql+psycopg://me:hunter2@host/name",
        "postgresql://me:hunter2@host:port/name",
        "me:hunter2@host",
        "://hunter2",
        "",
    ],
)
def test_a_bad_url_is_refused_without_its_password(url: str) -> None:
    """Neither the message nor what it was raised from holds the URL."""
    with pytest.raises(ConfigurationError) as raised:
        open_engine(url)
    assert "database" == raised.value.param
    error: BaseException | None = raised.value
    while error is not None:
        assert "hunter2" not in repr(error)
        error = error.__cause__


@pytest.mark.parametrize(
    "option",
    [
        {"max_connections": 0},
        {"connect_timeout_seconds": 0},
        {"statement_timeout_seconds": -1.0},
        {"lock_timeout_seconds": float("nan")},
        {"lock_timeout_seconds": float("inf")},
    ],
)
def test_an_option_out_of_range_is_named(option: dict[str, float]) -> None:
    """The error says which option it is."""
    with pytest.raises(ConfigurationError) as raised:
        open_engine("sqlite://", **option)  # type: ignore[arg-type]
    assert next(iter(option)) == raised.value.param


@pytest.mark.parametrize(
    ("missing", "use", "command"),
    [
        ("asyncpg", "open_engine('postgresql://h/n')", "pip install 'asgi-llm[postgres]'"),
        ("aiosqlite", "open_engine('sqlite://')", "pip install 'asgi-llm[sql]'"),
        ("sqlalchemy", "sql.SQLKeys", "pip install 'asgi-llm[sql]'"),
        ("alembic", "sql.create_schema", "pip install 'asgi-llm[sql]'"),
    ],
)
def test_a_missing_package_is_named_with_its_command(missing: str, use: str, command: str) -> None:
    """Whoever lacks a driver reads what to run."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from asgi_llm.errors import ConfigurationError\n"
        "from asgi_llm.stores import sql\n"
        "def open_engine(url): return sql.open_engine(url)\n"
        f"try: {use}\n"
        "except ConfigurationError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"{missing} is not installed; run: {command}" == ran.stdout.strip()


def test_the_package_has_no_other_names() -> None:
    """A misspelt name is an AttributeError, and each promised one is there."""
    for name in sql.__all__:
        assert name == getattr(sql, name).__name__
    with pytest.raises(AttributeError, match="nothing"):
        sql.nothing  # noqa: B018


async def test_b29_a_sqlite_connection_is_durable_and_strict(sqlite_url: str) -> None:
    """Write-ahead log, commits on the disk, foreign keys held, locks waited for."""
    engine = open_engine(sqlite_url, lock_timeout_seconds=1.5)
    expected = {
        "PRAGMA journal_mode": "wal",
        "PRAGMA synchronous": 2,
        "PRAGMA foreign_keys": 1,
        "PRAGMA recursive_triggers": 1,
        "PRAGMA busy_timeout": 1500,
    }
    async with engine.connect() as connection:
        actual = {name: (await connection.execute(text(name))).scalar() for name in expected}
    assert expected == actual
    await engine.dispose()


async def test_a_database_in_memory_is_one_database() -> None:
    """What one connection wrote the next one finds."""
    engine = open_engine("sqlite://")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE one (id INTEGER)"))
    async with engine.begin() as connection:
        assert [] == list(await connection.execute(text("SELECT id FROM one")))
    await engine.dispose()


async def test_a_postgres_connection_has_its_bounds(postgres_url: str) -> None:
    """The server itself ends what takes too long."""
    engine = open_engine(postgres_url, statement_timeout_seconds=7, lock_timeout_seconds=2)
    expected = {
        "SHOW statement_timeout": "7s",
        "SHOW lock_timeout": "2s",
        "SHOW idle_in_transaction_session_timeout": "7s",
        "SHOW application_name": "asgi-llm",
    }
    async with engine.connect() as connection:
        actual = {name: (await connection.execute(text(name))).scalar() for name in expected}
    assert expected == actual
    await engine.dispose()


async def test_an_engine_does_not_show_its_password() -> None:
    """Its representation holds stars in the password's place."""
    engine = open_engine("postgresql://me:hunter2@host/name")
    assert "hunter2" not in repr(engine)
    assert "hunter2" not in str(engine.url)
    await engine.dispose()

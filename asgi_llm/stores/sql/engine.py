"""Opening a database: what SQLite and PostgreSQL each need to be safe under many tasks."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import msgspec
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only

from asgi_llm import _optional
from asgi_llm.errors import ConfigurationError

__all__ = ["BEGIN_OPTION", "open_engine"]

BEGIN_OPTION = "asgi_llm_sqlite_begin"
"""Execution option of a connection: the statement that begins its transactions on SQLite."""

_DRIVERS = {
    "sqlite": ("sqlite+aiosqlite", "aiosqlite", "sql"),
    "sqlite+aiosqlite": ("sqlite+aiosqlite", "aiosqlite", "sql"),
    "postgres": ("postgresql+asyncpg", "asyncpg", "postgres"),
    "postgresql": ("postgresql+asyncpg", "asyncpg", "postgres"),
    "postgresql+asyncpg": ("postgresql+asyncpg", "asyncpg", "postgres"),
}
_SQLITE_WAL = "PRAGMA journal_mode = WAL"
_SQLITE_RETRY_SECONDS = 0.01
_SQLITE_SETTINGS = (
    # A commit is on the disk before it is acknowledged.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # Else REPLACE would delete rows past the triggers that refuse it.
    "PRAGMA recursive_triggers = ON",
)


def _parse(url: str) -> URL:
    """The URL with the driver that we use, or an error that does not hold the URL."""
    try:
        parsed = make_url(url)
        known = _DRIVERS.get(parsed.drivername)
    except (ArgumentError, ValueError):
        # Not as its cause: SQLAlchemy's message quotes the URL, password and all.
        known = None
    if known is None:
        raise ConfigurationError(
            "database: not a URL of the form sqlite:///file.db or "
            "postgresql://user:password@host:5432/name",
            param="database",
        )
    driver, module, extra = known
    _optional.require(module, extra=extra)
    return parsed.set(drivername=driver)


def open_engine(
    url: str,
    *,
    max_connections: int = 10,
    connect_timeout_seconds: float = 5.0,
    statement_timeout_seconds: float = 30.0,
    lock_timeout_seconds: float = 3.0,
) -> AsyncEngine:
    """An engine for ``url``; no connection is made yet, and who calls this disposes of it.

    Args:
        url: ``sqlite:///file.db``, ``sqlite://`` (in memory, for tests) or
            ``postgresql://user:password@host:port/name``; the drivers ``+aiosqlite`` and
            ``+asyncpg`` may be named. libpq's ``sslmode`` is understood.
        max_connections: How many are open at most, from 1.
        connect_timeout_seconds: How long to wait for a free connection, and for a new one.
        statement_timeout_seconds: After this PostgreSQL itself ends a statement.
        lock_timeout_seconds: How long a statement waits for another's lock.

    Raises:
        ConfigurationError: The URL or an option is wrong, or a driver is not installed. The
            message never holds the URL.
    """
    if max_connections < 1:
        raise ConfigurationError("max_connections must be at least 1", param="max_connections")
    for name, value in (
        ("connect_timeout_seconds", connect_timeout_seconds),
        ("statement_timeout_seconds", statement_timeout_seconds),
        ("lock_timeout_seconds", lock_timeout_seconds),
    ):
        if not (0 < value < math.inf):
            raise ConfigurationError(f"{name} must be a number above 0", param=name)
    parsed = _parse(url)
    common: dict[str, Any] = {
        "hide_parameters": True,
        "json_serializer": _encode,
        "json_deserializer": msgspec.json.decode,
        "poolclass": AsyncAdaptedQueuePool,
        "pool_timeout": connect_timeout_seconds,
    }
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed, common, max_connections, lock_timeout_seconds)
    query = dict(parsed.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    settings = {
        "application_name": "asgi-llm",
        "statement_timeout": _milliseconds(statement_timeout_seconds),
        "lock_timeout": _milliseconds(lock_timeout_seconds),
        # A task that lost its way must not hold locks for ever.
        "idle_in_transaction_session_timeout": _milliseconds(statement_timeout_seconds),
    }
    return create_async_engine(
        parsed.set(query=query),
        pool_size=max_connections,
        max_overflow=0,
        # One round trip a checkout, so that a restarted server costs no request.
        pool_pre_ping=True,
        connect_args={"timeout": connect_timeout_seconds, "server_settings": settings},
        **common,
    )


def _encode(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


async def _connect_sqlite(*arguments: Any, **options: Any) -> Any:
    connection = _optional.require("aiosqlite", extra="sql").connect(*arguments, **options)
    thread = connection._thread
    # A connection that nobody closed must not keep the process from its end.
    thread.daemon = True
    try:
        return await connection
    except BaseException:
        # aiosqlite does not wait for the thread of a connection that could not be made: its last
        # word would go to a loop that may be closed by then, and end as a traceback.
        await asyncio.to_thread(thread.join)
        raise


def _log_ahead(cursor: Any, timeout_seconds: float) -> None:
    """Switch a file to its write-ahead log, which is done once in its life.

    Of several that do so at once SQLite refuses all but one without any wait, lock timeout or not,
    because two that wait for each other would never end (sqlite3_busy_handler).
    """
    ends_at = time.monotonic() + timeout_seconds
    while True:
        try:
            cursor.execute(_SQLITE_WAL)
            return
        except Exception as error:
            is_busy = getattr(error, "sqlite_errorname", None) == "SQLITE_BUSY"
            if not is_busy or time.monotonic() >= ends_at:
                raise
        await_only(asyncio.sleep(_SQLITE_RETRY_SECONDS))


def _open_sqlite(
    url: URL, common: dict[str, Any], max_connections: int, lock_timeout_seconds: float
) -> AsyncEngine:
    in_memory = url.database in (None, "", ":memory:")
    engine = create_async_engine(
        url,
        # Each connection of its own would see a database of its own.
        pool_size=1 if in_memory else max_connections,
        max_overflow=0,
        # No isolation level: the driver begins no transaction behind our back, so that schema
        # changes are part of one as well.
        connect_args={
            "isolation_level": None,
            "timeout": lock_timeout_seconds,
            "async_creator_fn": _connect_sqlite,
        },
        **common,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        try:
            _log_ahead(cursor, lock_timeout_seconds)
            for statement in _SQLITE_SETTINGS:
                cursor.execute(statement)
        except Exception:
            # The pool forgets a connection that fails here; its thread would stay.
            connection.close()
            raise
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # Who reads first and writes then can be refused at once by another writer; so the write
        # lock is taken at the start, except by those who say that they only read.
        statement = connection.get_execution_options().get(BEGIN_OPTION, "BEGIN IMMEDIATE")
        if statement:
            connection.exec_driver_sql(statement)

    return engine

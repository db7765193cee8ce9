"""Running work in a database: one deadline, one transaction, one kind of error.

What the drivers say is not passed on, nor kept as a cause: their messages and their arguments can
hold the values of a statement, digests of keys among them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, TypeVar

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.sql.engine import BEGIN_OPTION

__all__ = ["Constraint", "Database", "IntegrityFailure"]

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]
Constraint = Literal["unique", "foreign_key", "other"]

# PostgreSQL: serialization_failure and deadlock_detected. The transaction had no effect.
_TRY_AGAIN = frozenset({"40001", "40P01"})
_ATTEMPTS = 4
_NO_TABLE = "42P01"
_CONSTRAINTS: dict[str, Constraint] = {
    "23505": "unique",
    "SQLITE_CONSTRAINT_UNIQUE": "unique",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "unique",
    "23503": "foreign_key",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign_key",
}


class IntegrityFailure(Exception):
    """A constraint refused a write, and nothing was written."""

    def __init__(self, constraint: Constraint) -> None:
        super().__init__(constraint)
        self.constraint = constraint


class Database:
    """An engine, used with a deadline. The engine stays its owner's to dispose of.

    Args:
        engine: As ``open_engine`` gives it.
        timeout_seconds: For one piece of work, with the wait for a connection, above 0.

    Raises:
        ConfigurationError: ``timeout_seconds`` is out of range.
    """

    def __init__(self, engine: AsyncEngine, *, timeout_seconds: float) -> None:
        if not (0 < timeout_seconds < math.inf):
            raise ConfigurationError(
                "timeout_seconds must be a number above 0", param="timeout_seconds"
            )
        self._reader = engine.execution_options(**{BEGIN_OPTION: ""})
        self._writer = engine
        self.timeout_seconds = timeout_seconds
        self._abandoned: set[asyncio.Task[Any]] = set()

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` on a connection, each statement for itself.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """

        async def run() -> T:
            async with self._reader.connect() as connection:
                return await work(connection)

        return await self._finish(self._run(run))

    async def write(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction: all of it is kept, or nothing.

        It is run again where PostgreSQL gave it up for another's sake. After a missed deadline it
        is not known whether it was kept.

        Raises:
            StoreError: The database did not answer in time, or with an error.
            IntegrityFailure: A constraint refused it.
        """

        async def run() -> T:
            async with self._writer.begin() as connection:
                return await work(connection)

        return await self._finish(self._run(run))

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, or a StoreError at the deadline.

        The task is left to end by itself then: closing a connection whose server is silent takes
        the driver seconds more, which are not the caller's.
        """
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait((task,), timeout=self.timeout_seconds)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        if not done:
            self._abandon(task)
            raise StoreError("The database did not answer in time.")
        return task.result()

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        # Asked for, so that asyncio does not report an error that the caller was told of in time.
        _ = task.cancelled() or task.exception()

    async def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run ``work``, again where that helps, and let out no exception of a driver."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await work()
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                code = _code(error)
                failure = _translate(error, code)
            # Raised out here, the failure has neither cause nor context.
            if code not in _TRY_AGAIN or attempt == _ATTEMPTS:
                raise failure
            await asyncio.sleep(0.01 * 2**attempt)


def _code(error: Exception) -> str | None:
    """The cause in the database's own terms: a SQLSTATE, or SQLite's name of the error."""
    if not isinstance(error, DBAPIError):
        return None
    codes = (getattr(error.orig, name, None) for name in ("sqlstate", "sqlite_errorname"))
    return next((code for code in codes if isinstance(code, str)), None)


def _translate(error: Exception, code: str | None) -> Exception:
    if isinstance(error, IntegrityError):
        return IntegrityFailure(_CONSTRAINTS.get(code or "", "other"))
    if isinstance(error, PoolTimeoutError):
        return StoreError("All connections to the database are in use.")
    if code == _NO_TABLE or "no such table" in str(getattr(error, "orig", "")):
        return StoreError("The database lacks tables of this version; run: asgi-llm db upgrade")
    cause = getattr(error, "orig", None) or error
    name = type(getattr(cause, "__cause__", None) or cause).__name__
    return StoreError(f"The database failed ({code or name}).")

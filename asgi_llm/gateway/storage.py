"""The database of a gateway: opened when it is needed, its tables made where there are none."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._tasks import end
from asgi_llm.errors import LLMError, StoreError
from asgi_llm.stores.base import KeyRecord, KeyStore
from asgi_llm.stores.sql.budget_rules import StoredBudgets
from asgi_llm.stores.sql.budgets import SQLBudgets
from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.keys import SQLKeys
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.stores.sql.migrations import create_schema, current, head

__all__ = ["Storage"]

logger = logging.getLogger(__name__)

_LAST_SECONDS = 2.0
_PAUSE_SECONDS = 0.5


class Storage:
    """One database, for all parts of a gateway that keep something.

    Nothing is opened before it is first used, so that a gateway works in a host that starts nothing
    at its start; and a database that is away then is asked again at the next use.

    Args:
        url: See ``open_engine``.

    Raises:
        ConfigurationError: The URL is wrong, or a driver is missing.

    Attributes:
        engine: Its connections.
        directory: Who there is; for whoever has prepared the tables, like the next ones.
        stored_budgets: What may be spent, as far as it is not in the file.
        ledger: What was used.
    """

    def __init__(self, url: str) -> None:
        self.engine: AsyncEngine = open_engine(url)
        self._url = url
        self.directory = SQLDirectory(self.engine)
        self.ledger = SQLLedger(self.engine)
        self.stored_budgets = StoredBudgets(self.engine)
        self._keys = SQLKeys(self.engine)
        self._ready = False
        self._preparing: asyncio.Task[None] | None = None
        self._failure: str | None = None
        self._again_at = 0.0

    @property
    def keys(self) -> KeyStore:
        """The keys of the database."""
        return _Keys(self, self._keys)

    def prepared(self, app: ASGIApp) -> ASGIApp:
        """``app``, with the tables made before its first request."""

        async def wait_and_serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self.prepare()
            await app(scope, receive, send)

        return wait_and_serve

    def open_budgets(self, *, timeout_seconds: float) -> SQLBudgets:
        """What is spent; for whoever has prepared the tables, and closes it before this."""
        return SQLBudgets(self.engine, timeout_seconds=timeout_seconds)

    @property
    def is_ready(self) -> bool:
        """Whether the tables are there, and the stored budgets known."""
        return self._ready

    @property
    def journal_folder(self) -> Path:
        """Where journals of its rows are, unless somebody says otherwise."""
        name = self.engine.url.database if self.engine.dialect.name == "sqlite" else None
        if not name or name == ":memory:" or name.startswith("file:"):
            return Path("asgi-llm.journal")
        return Path(name).with_suffix(".journal")

    def start(self) -> None:
        """Make the tables soon, so that the first request need not wait for them."""
        if not self._ready:
            self._prepare_soon()

    async def prepare(self) -> None:
        """Make the tables of an empty database, once; those of an older version stay.

        Whoever gives up waiting does not keep the others from it.

        Raises:
            StoreError: The database does not answer, or is of another version of the package.
        """
        if self._ready:
            return
        if self._failure is not None and asyncio.get_running_loop().time() < self._again_at:
            raise StoreError(self._failure)
        await asyncio.shield(self._prepare_soon())

    def _prepare_soon(self) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        task = self._preparing
        if task is None or task.done() or task.get_loop() is not loop:
            task = self._preparing = loop.create_task(self._prepare(), name="prepare-database")
            task.add_done_callback(self._note)
        return task

    def _note(self, task: asyncio.Task[None]) -> None:
        """Log what went wrong, once, whether anybody waits for it or not."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        failure = error.message if isinstance(error, LLMError) else type(error).__name__
        if failure != self._failure:
            logger.warning("the database is not ready: %s", failure)
        self._failure = failure
        self._again_at = task.get_loop().time() + _PAUSE_SECONDS

    async def _prepare(self) -> None:
        revision = await current(self._url)
        if revision is None:
            await create_schema(self.engine)
        elif revision != head():
            raise StoreError(f"The database is of revision {revision}; run: asgi-llm db upgrade")
        await self.stored_budgets.ready()
        self._ready = True
        if self._failure is not None:
            logger.warning("the database is ready")
            self._failure = None

    async def retain(self, before: datetime, *, sums: bool = False) -> int:
        """Delete rows of the ledger that are older than ``before``; see ``SQLLedger.retain``."""
        await self.prepare()
        return await self.ledger.retain(before, sums=sums)

    async def aclose(self) -> None:
        """Write what waits to be written, and close all connections. May be called again."""
        task, self._preparing = self._preparing, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            # A migration is better ended than broken off.
            await asyncio.wait((task,), timeout=_LAST_SECONDS)
            await end(task)
        await self.stored_budgets.aclose()
        if self._ready:
            await self._keys.flush()
        await self.engine.dispose()


class _Keys:
    """Keys whose tables are made before they are first asked; look-ups are noted as uses."""

    def __init__(self, storage: Storage, keys: SQLKeys) -> None:
        self._storage = storage
        self._keys = keys

    async def find(self, digest: bytes) -> KeyRecord | None:
        await self._storage.prepare()
        record = await self._keys.find(digest)
        if record is not None and record.active and record.principal.key_id is not None:
            # One in use is looked up every few seconds: often enough to say when it was last used.
            self._keys.note_used(record.principal.key_id, time.time())
        return record

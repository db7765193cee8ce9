"""The database of a gateway: opened when it is needed, its tables made where there are none."""

from __future__ import annotations

import asyncio
import time

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm.errors import StoreError
from asgi_llm.stores.base import KeyRecord, KeyStore
from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.keys import SQLKeys
from asgi_llm.stores.sql.migrations import create_schema, current, head

__all__ = ["Storage"]


class Storage:
    """One database, for all parts of a gateway that keep something.

    Nothing is opened before it is first used, so that a gateway works in a host that starts nothing
    at its start; and a database that is away then is asked again at the next use.

    Args:
        url: See ``open_engine``.

    Raises:
        ConfigurationError: The URL is wrong, or a driver is missing.
    """

    def __init__(self, url: str) -> None:
        self.engine: AsyncEngine = open_engine(url)
        self._url = url
        self.directory = SQLDirectory(self.engine)
        self._keys = SQLKeys(self.engine)
        self._ready = False
        self._lock = asyncio.Lock()

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

    async def prepare(self) -> None:
        """Make the tables of an empty database, once; those of an older version stay.

        Raises:
            StoreError: The database does not answer, or is of another version of the package.
        """
        if not self._ready:
            async with self._lock:
                await self._prepare_once()

    async def _prepare_once(self) -> None:
        if not self._ready:
            revision = await current(self._url)
            if revision is None:
                await create_schema(self.engine)
            elif revision != head():
                raise StoreError(
                    f"The database is of revision {revision}; run: asgi-llm db upgrade"
                )
            self._ready = True

    async def aclose(self) -> None:
        """Write what waits to be written, and close all connections. May be called again."""
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

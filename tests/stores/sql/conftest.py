"""Databases for the tests of this folder: a SQLite file and a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.keys import SQLKeys
from asgi_llm.stores.sql.migrations import create_schema
from tests.services.postgres_server import PostgresServer, postgres_server, postgres_url

__all__ = ["PostgresServer", "postgres_server", "postgres_url"]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/test.db"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database, once of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest_asyncio.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a database with the schema."""
    engine = open_engine(database_url)
    await create_schema(engine)
    yield engine
    await engine.dispose()


@pytest.fixture
def directory(engine: AsyncEngine) -> SQLDirectory:
    return SQLDirectory(engine)


@pytest.fixture
def keys(engine: AsyncEngine) -> SQLKeys:
    return SQLKeys(engine)

"""Journals and databases for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.stores.sql.migrations import create_schema
from tests.services.postgres_server import PostgresServer, postgres_server, postgres_url
from tests.services.redis_server import RedisServer, redis_server, redis_url

__all__ = [
    "PostgresServer",
    "RedisServer",
    "postgres_server",
    "postgres_url",
    "redis_server",
    "redis_url",
]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/ledger.db"


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
def ledger(engine: AsyncEngine) -> SQLLedger:
    return SQLLedger(engine)

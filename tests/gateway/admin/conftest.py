"""Directories for the tests of this folder: in memory, and in SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asgi_llm.stores.directory import Directory
from asgi_llm.stores.directory_memory import MemoryDirectory
from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.migrations import create_schema
from asgi_llm.stores.sql.models import Base
from tests.gateway.admin.caches import fill_caches
from tests.gateway.admin.money import PATIENT_SECONDS, fill_money
from tests.gateway.admin.world import API, fill


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def directory(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Directory]:
    """A directory that has nobody."""
    if request.param == "memory":
        yield MemoryDirectory()
        return
    engine = open_engine(f"sqlite:///{tmp_path}/test.db")
    await create_schema(engine)
    yield SQLDirectory(engine, timeout_seconds=PATIENT_SECONDS)
    await engine.dispose()


@pytest_asyncio.fixture
async def api(directory: Directory) -> API:
    """The admin API over the two tenants of ``world``."""
    await fill(directory)
    return API(directory)


@pytest_asyncio.fixture
async def memory_api() -> AsyncIterator[API]:
    """The same in memory, with a ledger, budgets and stored answers of both tenants."""
    directory = MemoryDirectory()
    await fill(directory)
    engine = open_engine("sqlite://")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    money = await fill_money(engine)
    yield API(directory, **money, **await fill_caches())
    await engine.dispose()

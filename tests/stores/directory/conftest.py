"""Directories, each with the key store over it: in memory, and in SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from asgi_llm.stores.base import KeyStore
from asgi_llm.stores.directory import Directory
from asgi_llm.stores.directory_memory import MemoryDirectory
from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.keys import SQLKeys
from asgi_llm.stores.sql.migrations import create_schema


class Stores(NamedTuple):
    """What is written, and what is found."""

    directory: Directory
    keys: KeyStore


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """Nobody is there yet."""
    if request.param == "memory":
        memory = MemoryDirectory()
        yield Stores(memory, memory)
        return
    engine = open_engine(f"sqlite:///{tmp_path}/test.db")
    await create_schema(engine)
    yield Stores(SQLDirectory(engine), SQLKeys(engine))
    await engine.dispose()


@pytest.fixture
def directory(stores: Stores) -> Directory:
    return stores.directory

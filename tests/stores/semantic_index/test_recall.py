"""What an index finds among 10,000 entries, against brute force."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from qdrant_client import AsyncQdrantClient

from asgi_llm.stores.semantic_index import SemanticIndex
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex
from asgi_llm.stores.semantic_index_qdrant import QdrantSemanticIndex
from asgi_llm.stores.semantic_index_redis import RedisSemanticIndex
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.semantic_index import SQLSemanticIndex
from tests.stores.semantic_index.conftest import PATIENT_SECONDS
from tests.stores.semantic_index.rows import fill, nearest, unit_vectors

DIMENSION = 128
HERE, THERE = b"here", b"there"
QUERIES = 20
K = 10
OPTIONS: dict[str, Any] = {"dimension": DIMENSION, "timeout_seconds": PATIENT_SECONDS}


@pytest.fixture(params=["memory", "postgres exact", "postgres hnsw", "redis", "qdrant"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[tuple[SemanticIndex, str | None]]:
    """An empty index, and its database's address."""
    kind, _, method = request.param.partition(" ")
    if kind == "memory":
        yield MemorySemanticIndex(), None
    elif kind == "qdrant":
        client = AsyncQdrantClient(":memory:")
        yield QdrantSemanticIndex(client, **OPTIONS), None
        await client.close()
    elif kind == "redis":
        url = request.getfixturevalue("redis8_url")
        with redis.Redis.from_url(url) as plain:
            plain.flushdb()
        index = RedisSemanticIndex(url, method="hnsw", **OPTIONS)
        yield index, None
        await index.aclose()
    else:
        url = request.getfixturevalue("pgvector_url")
        engine = open_engine(url)
        # An approximate index is made at once, over all that is there by then.
        await SQLSemanticIndex(engine, **OPTIONS).create()
        yield SQLSemanticIndex(engine, method=method, **OPTIONS), url
        await engine.dispose()


async def recall(index: SemanticIndex, partition: bytes, vectors: Any) -> float:
    """The share of brute force's nearest that the index finds."""
    prefix = partition.decode()
    found = 0
    for query in unit_vectors(QUERIES, DIMENSION, seed=99):
        matches = await index.search(partition, query, K)
        rows = {int(match.entry.id.removeprefix(f"{prefix}-")) for match in matches}
        found += len(rows & nearest(vectors, query, K))
    return found / (QUERIES * K)


async def test_an_index_finds_what_brute_force_finds(
    opened: tuple[SemanticIndex, str | None],
) -> None:
    """99 % of the nearest ten, among 9,000 of one partition and among 1,000 of another.

    The filter by partition must not thin out what an approximate index gives.
    """
    index, url = opened
    large, small = unit_vectors(9000, DIMENSION, seed=2), unit_vectors(1000, DIMENSION, seed=3)
    async with asyncio.timeout(10 * PATIENT_SECONDS):
        await fill(index, url, large, HERE)
        await fill(index, url, small, THERE)
        if isinstance(index, SQLSemanticIndex):
            await index.create()
        assert 10_000 == (await index.statistics()).entries
        assert 0.99 <= await recall(index, HERE, large)
        assert 0.99 <= await recall(index, THERE, small)

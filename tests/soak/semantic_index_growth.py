"""How a look-up in each semantic index grows from 1,000 to 100,000 entries of one partition.

    python -m tests.soak.semantic_index_growth --sizes 1000 10000 100000 --queries 200

Prints a row for each index and size: the look-up's median and 99th percentile in milliseconds, and
its recall against brute force. Redis takes part where ``python -m tests.services.redis8`` has
compiled one with vector sets, or where ``ASGI_LLM_REDIS_8`` is the address of one; a Qdrant server
where ``ASGI_LLM_QDRANT`` is its address.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgi_llm.stores.semantic_index import Selection, SemanticIndex
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex
from asgi_llm.stores.semantic_index_qdrant import QdrantSemanticIndex
from asgi_llm.stores.semantic_index_redis import RedisSemanticIndex
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.semantic_index import SQLSemanticIndex
from tests.services import redis8
from tests.services.postgres_server import PostgresServer
from tests.services.redis_server import RedisServer
from tests.stores.semantic_index.conftest import pgvector_programs
from tests.stores.semantic_index.rows import fill, nearest, unit_vectors

DIMENSION = 384
K = 5
PARTITION = b"here"
KINDS = ("memory", "postgres exact", "postgres hnsw", "redis exact", "redis hnsw", "qdrant")


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[tuple[SemanticIndex, str | None] | None]:
    """An empty index of a kind; None where it is not to be had."""
    options: dict[str, Any] = {
        "dimension": DIMENSION,
        "timeout_seconds": 600.0,
        "max_entries_per_partition": 10**6,
    }
    name, _, method = kind.partition(" ")
    if name == "memory":
        yield MemorySemanticIndex(max_entries_per_partition=10**6, max_bytes=2**32), None
    elif name == "postgres":
        with pgvector_programs():
            server = PostgresServer()
        server.start()
        engine = open_engine(server.url, statement_timeout_seconds=600)
        try:
            await SQLSemanticIndex(engine, **options).create()
            yield SQLSemanticIndex(engine, method=method, **options), server.url  # type: ignore[arg-type]
        finally:
            await engine.dispose()
            server.close()
    elif name == "redis" and (url := os.environ.get("ASGI_LLM_REDIS_8")):
        async with in_redis(url, method, options) as index:
            yield index, None
    elif name == "redis" and (program := redis8.built()):
        with RedisServer(binary=str(program)) as redis_server:
            async with in_redis(redis_server.url, method, options) as index:
                yield index, None
    elif name == "qdrant" and (url := os.environ.get("ASGI_LLM_QDRANT")):
        qdrant = QdrantSemanticIndex(url, collection="growth", **options)
        yield qdrant, None
        await qdrant.remove(Selection())
        await qdrant.aclose()
    else:
        yield None


@asynccontextmanager
async def in_redis(
    url: str, method: Any, options: dict[str, Any]
) -> AsyncIterator[RedisSemanticIndex]:
    """An index that leaves nothing behind."""
    index = RedisSemanticIndex(url, method=method, prefix="growth", **options)
    yield index
    await index.remove(Selection())
    await index.aclose()


async def measure(kind: str, size: int, queries: int) -> str:
    """One row."""
    vectors = unit_vectors(size, DIMENSION, seed=2)
    async with opened(kind) as found:
        if found is None:
            return f"{kind:<16}{size:>9,}  not to be had here"
        index, url = found
        began = time.perf_counter()
        await fill(index, url, vectors, PARTITION)
        if isinstance(index, SQLSemanticIndex):
            await index.create()
        filled = time.perf_counter() - began
        asked = unit_vectors(queries + 10, DIMENSION, seed=99)
        for query in asked[:10]:
            await index.search(PARTITION, query, K)
        seconds, hits = [], 0
        for query in asked[10:]:
            began = time.perf_counter()
            matches = await index.search(PARTITION, query, K)
            seconds.append(time.perf_counter() - began)
            rows = {int(match.entry.id.partition("-")[2]) for match in matches}
            hits += len(rows & nearest(vectors, query, K))
    seconds.sort()
    half, most = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]
    return (
        f"{kind:<16}{size:>9,}{half * 1000:>10.2f}{most * 1000:>10.2f}"
        f"{hits / (queries * K):>9.4f}{filled:>10.1f}"
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    options = parser.parse_args()
    print(f"{'index':<16}{'entries':>9}{'p50 ms':>10}{'p99 ms':>10}{'recall':>9}{'fill s':>10}")
    for kind in options.kinds:
        for size in options.sizes:
            print(asyncio.run(measure(kind, size, options.queries)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

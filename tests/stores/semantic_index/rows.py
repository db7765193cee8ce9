"""Many entries in an index at once, put there by the shortest way of each kind."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from asgi_llm.stores._qdrant_points import payload_of, point_id
from asgi_llm.stores.semantic_index import SemanticIndex
from asgi_llm.stores.semantic_index_qdrant import QdrantSemanticIndex
from asgi_llm.stores.sql.semantic_index import SQLSemanticIndex
from tests.stores.semantic_index.conftest import entry

__all__ = ["fill", "nearest", "unit_vectors"]

Matrix = npt.NDArray[np.float32]
BATCH = 500


def unit_vectors(count: int, dimension: int, seed: int) -> Matrix:
    """Vectors in loose groups, as sentences are: not all equally far from each other."""
    numbers = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(64, dimension))
    chosen = centres[numbers.integers(0, len(centres), count)]
    vectors = chosen + 0.8 * numbers.normal(size=(count, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def nearest(vectors: Matrix, query: Matrix, k: int) -> set[int]:
    """The rows that brute force finds."""
    return set(np.argsort(-(vectors @ query), kind="stable")[:k].tolist())


async def fill(index: SemanticIndex, url: str | None, vectors: Matrix, partition: bytes) -> None:
    """Entries ``0``, ``1`` ... of ``partition``, one for each row of ``vectors``."""
    prefix = partition.decode()
    if isinstance(index, SQLSemanticIndex):
        assert url is not None
        await asyncio.to_thread(_copy, url, vectors, partition)
    elif isinstance(index, QdrantSemanticIndex):
        await index.statistics()
        for start in range(0, len(vectors), BATCH):
            points = [
                index._models.PointStruct(
                    id=point_id(f"{prefix}-{row}"),
                    vector=vectors[row].tolist(),
                    payload=payload_of(entry(f"{prefix}-{row}", partition)),
                )
                for row in range(start, min(start + BATCH, len(vectors)))
            ]
            await index._client.upsert(index._collection, points)
    else:
        for row, vector in enumerate(vectors):
            await index.add(entry(f"{prefix}-{row}", partition), vector)


def _copy(url: str, vectors: Matrix, partition: bytes) -> None:
    prefix = partition.decode()
    table = psycopg.sql.Identifier(f"llm_semantic_{vectors.shape[1]}")
    statement = psycopg.sql.SQL(
        "COPY {} (id, partition, embedding, text, payload, model, namespace, scope, created,"
        " expires, uses, last_used, learning, learning_version) FROM STDIN"
    ).format(table)
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(statement) as copy:
            for row, vector in enumerate(vectors):
                fixed: tuple[Any, ...] = (b"", b"", "m", "", "", 0.0, float("inf"), 0, 0.0, b"", 0)
                copy.write_row((f"{prefix}-{row}", partition, str(vector.tolist()), *fixed))
        connection.commit()
        connection.execute(psycopg.sql.SQL("ANALYZE {}").format(table))

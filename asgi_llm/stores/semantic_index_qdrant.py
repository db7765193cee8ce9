"""A semantic index in Qdrant: a server, or in process for development."""

from __future__ import annotations

import asyncio
import heapq
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from asgi_llm._optional import require
from asgi_llm.errors import LLMError, StoreError
from asgi_llm.stores._qdrant_collection import is_local, make_collection, open_client
from asgi_llm.stores._qdrant_points import (
    Filters,
    as_base64,
    entry_at,
    payload_of,
    point_id,
)
from asgi_llm.stores._semantic_rows import (
    best_matches,
    check_method,
    check_options,
)
from asgi_llm.stores.semantic_index import (
    IndexEntry,
    IndexStatistics,
    Match,
    Selection,
    can_match,
    check_count,
    check_entry,
    check_state,
    check_timeout,
    check_vector,
    is_id,
)

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["QdrantSemanticIndex"]

T = TypeVar("T")

_PAGE: Final = 500
_WRITERS: Final = 8
_CLEAN_EVERY_SECONDS: Final = 60.0
_MAX_DIMENSION: Final = 65_536


class QdrantSemanticIndex:
    """A ``SemanticIndex`` in one collection of Qdrant, which the first call makes.

    Every search is filtered by partition, which Qdrant's own graph is built for (``is_tenant``);
    with ``exact`` it compares all vectors of the partition.

    Uses are counted without a lock: of two touches at the same moment one may be lost. What was
    learned is not: an update applies only where the version is the expected one. In process
    (``:memory:`` or a folder) calls run on the event loop, which is for development.

    Args:
        server: ``http://`` or ``https://`` address, ``:memory:``, the folder of a database in
            process, or an ``AsyncQdrantClient``, which stays open when the index is closed.
        dimension: Length of a vector, from 1 to 65536.
        api_key: For a server.
        collection: Its name.
        method: ``hnsw`` or ``exact``.
        ef: How many candidates the graph's search keeps, from 1 to 100000.
        max_entries_per_partition: At least 1.
        max_entries: Of the whole collection, at least 1; kept to about once a minute. None: no
            bound.
        timeout_seconds: For one call, above 0.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is wrong, or the package qdrant-client is missing.

    Source: https://qdrant.tech/documentation (1.16), "Filtering", "Search", "Multitenancy".
    """

    def __init__(
        self,
        server: Any,
        *,
        dimension: int,
        api_key: str | None = None,
        collection: str = "asgi-llm-semantic",
        method: Literal["hnsw", "exact"] = "hnsw",
        ef: int = 256,
        max_entries_per_partition: int = 10_000,
        max_entries: int | None = None,
        timeout_seconds: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_method(method)
        check_options(
            dimension=(dimension, _MAX_DIMENSION),
            max_entries_per_partition=max_entries_per_partition,
            max_entries=max_entries,
        )
        check_count("ef", ef, 100_000)
        self.timeout_seconds = check_timeout(timeout_seconds)
        self.dimension = dimension
        library = require("qdrant_client", extra="qdrant")
        self._models = require("qdrant_client.models", extra="qdrant")
        self._owned = isinstance(server, str)
        self._filters = Filters(self._models, clock)
        self._client = open_client(library, server, api_key) if isinstance(server, str) else server
        self._local = is_local(self._client)
        self._collection = collection
        # In process there is neither a graph nor an index of payloads: every search is exact.
        self._how = (
            None if self._local else self._models.SearchParams(exact=method == "exact", hnsw_ef=ef)
        )
        self._max_in_partition = max_entries_per_partition
        self._max_entries = max_entries
        self._clock = clock
        self._ready = False
        self._cleaned = -math.inf
        self._evicted = 0

    async def search(
        self, partition: bytes, vector: Vector, k: int = 5, *, min_similarity: float = -1.0
    ) -> tuple[Match, ...]:
        """The ``k`` entries of ``partition`` that are most like ``vector``, the likest first.

        Raises:
            StoreError: Qdrant refused, failed, or did not answer in time.
        """
        check_count("k", k)
        check_vector(vector, self.dimension)
        return await self._ask(self._search(partition, vector, k, min_similarity))

    async def add(self, entry: IndexEntry, vector: Vector) -> None:
        """Keep ``entry``; one of the same id is replaced.

        Raises:
            StoreError: Qdrant refused, failed, or did not answer in time. It may have been kept.
        """
        check_entry(entry)
        check_vector(vector, self.dimension)
        await self._ask(self._add(entry, vector))

    async def get(self, id: str) -> IndexEntry | None:
        """The entry of that id; None where there is none, or it has run out.

        Raises:
            StoreError: Qdrant refused, failed, or did not answer in time.
        """
        return await self._ask(self._get(id)) if is_id(id) else None

    async def find(
        self, selection: Selection, *, limit: int = 50, after: str | None = None
    ) -> tuple[IndexEntry, ...]:
        """The entries of ``selection`` by the order of their ids; reads the ids of all of them.

        Raises:
            StoreError: Qdrant refused, failed, or did not answer in time.
        """
        check_count("limit", limit)
        if not can_match(selection):
            return ()
        names = [
            name
            async for page in self._pages(selection)
            for name in page
            if after is None or name > after
        ]
        return await self._ask(self._several(heapq.nsmallest(limit, names)))

    async def remove(self, selection: Selection) -> int:
        """Remove the entries of ``selection``; how many there were.

        Raises:
            StoreError: Qdrant refused, failed, or did not answer in time. Some may be removed.
        """
        return await self._ask(self._remove(selection)) if can_match(selection) else 0

    async def touch(self, id: str) -> None:
        """Note that an entry was used; one that is gone stays gone.

        Raises:
            StoreError: Qdrant refused, failed, or did not answer in time.
        """
        if is_id(id):
            await self._ask(self._touch(id))

    async def update_learning(self, id: str, *, expected_version: int, state: bytes) -> bool:
        """Write what was learned, if nobody else has written since ``expected_version``.

        Raises:
            StoreError: Qdrant refused, failed, or did not answer in time. It may have been written.
        """
        check_state(state)
        return is_id(id) and await self._ask(self._learn(id, expected_version, state))

    async def statistics(self) -> IndexStatistics:
        """How the index stands.

        Raises:
            StoreError: Qdrant refused, failed, or did not answer in time.
        """
        return IndexStatistics(
            entries=await self._ask(self._count(None)),
            partitions=None,
            size_bytes=None,
            evicted=self._evicted,
        )

    async def aclose(self) -> None:
        """Close the client, if it was made here."""
        if self._owned:
            await self._client.close()

    # In Qdrant

    async def _search(
        self, partition: bytes, vector: Vector, k: int, min_similarity: float
    ) -> tuple[Match, ...]:
        found = await self._client.query_points(
            self._collection,
            query=vector.tolist(),
            query_filter=self._filters.alive(self._filters.equal("partition", partition.hex())),
            search_params=self._how,
            limit=k,
            with_payload=True,
        )
        matches = [
            Match(entry_at(point.payload), max(-1.0, min(1.0, point.score)))
            for point in found.points
        ]
        return best_matches(matches, k=k, min_similarity=min_similarity)

    async def _add(self, entry: IndexEntry, vector: Vector) -> None:
        models = self._models
        point = models.PointStruct(
            id=point_id(entry.id), vector=vector.tolist(), payload=payload_of(entry)
        )
        await self._client.upsert(self._collection, [point], wait=True)
        mine = models.Filter(must=[self._filters.equal("partition", entry.partition.hex())])
        over = await self._count(mine) - self._max_in_partition
        if over > 0:
            await self._evict(mine, over, spare=entry.id)
        now = self._clock()
        if now - self._cleaned >= _CLEAN_EVERY_SECONDS:
            self._cleaned = now
            await self._delete(models.Filter(must=[self._filters.range("expires", lte=now)]))
            if self._max_entries is not None:
                over = await self._count(None) - self._max_entries
                if over > 0:
                    await self._evict(None, over, spare=entry.id)

    async def _evict(self, among: Any, count: int, *, spare: str) -> None:
        """Remove ``count`` entries: those that have run out, then those used least recently."""
        models = self._models
        outdated = models.Filter(
            must=[*(among.must if among else ()), self._filters.range("expires", lte=self._clock())]
        )
        gone = await self._count(outdated)
        if gone:
            await self._delete(outdated)
        if gone < count:
            points, _ = await self._client.scroll(
                self._collection,
                scroll_filter=models.Filter(
                    must=among.must if among else None,
                    must_not=[models.HasIdCondition(has_id=[point_id(spare)])],
                ),
                order_by=models.OrderBy(key="last_used", direction=models.Direction.ASC),
                limit=count - gone,
                with_payload=False,
            )
            if points:
                await self._client.delete(
                    self._collection,
                    models.PointIdsList(points=[point.id for point in points]),
                    wait=True,
                )
            gone += len(points)
        self._evicted += gone

    async def _get(self, id: str) -> IndexEntry | None:
        found = await self._several([id])
        return found[0] if found else None

    async def _several(self, ids: list[str]) -> tuple[IndexEntry, ...]:
        if not ids:
            return ()
        points = await self._client.retrieve(
            self._collection, [point_id(id) for id in ids], with_payload=True
        )
        now = self._clock()
        entries = [entry_at(point.payload) for point in points]
        return tuple(sorted((one for one in entries if one.expires > now), key=lambda one: one.id))

    async def _pages(self, selection: Selection) -> AsyncIterator[list[str]]:
        """The ids of a selection's entries, in no order."""
        offset = None
        while True:
            points, offset = await self._ask(
                self._client.scroll(
                    self._collection,
                    scroll_filter=self._filters.alive(*self._filters.of(selection)),
                    limit=_PAGE,
                    offset=offset,
                    with_payload=["id"],
                )
            )
            yield [point.payload["id"] for point in points]
            if offset is None:
                return

    async def _remove(self, selection: Selection) -> int:
        conditions = self._filters.of(selection)
        removed = await self._count(self._filters.alive(*conditions))
        await self._delete(self._models.Filter(must=conditions))
        return removed

    async def _touch(self, id: str) -> None:
        entry = await self._get(id)
        if entry is not None:
            await self._client.set_payload(
                self._collection,
                {"uses": entry.uses + 1, "last_used": max(entry.last_used, self._clock())},
                points=[point_id(id)],
                wait=True,
            )

    async def _learn(self, id: str, expected_version: int, state: bytes) -> bool:
        """Compare and set: Qdrant applies a filtered update as one step, and tells nothing of it.

        So each writer leaves a mark, which those after it keep for a while, and looks for it.
        """
        models = self._models
        points = await self._client.retrieve(
            self._collection, [point_id(id)], with_payload=["version", "writers", "expires"]
        )
        if not points:
            return False
        read = points[0].payload
        if read["version"] != expected_version or read["expires"] <= self._clock():
            return False
        mark = secrets.token_hex(8)
        await self._client.set_payload(
            self._collection,
            {
                "learning": as_base64(state),
                "version": expected_version + 1,
                "writers": [*read["writers"][1 - _WRITERS :], mark],
            },
            points=models.Filter(
                must=[
                    models.HasIdCondition(has_id=[point_id(id)]),
                    self._filters.equal("version", expected_version),
                ]
            ),
            wait=True,
        )
        points = await self._client.retrieve(
            self._collection, [point_id(id)], with_payload=["writers"]
        )
        return bool(points) and mark in points[0].payload["writers"]

    async def _count(self, where: Any) -> int:
        found = await self._client.count(self._collection, count_filter=where, exact=True)
        return int(found.count)

    async def _delete(self, where: Any) -> None:
        await self._client.delete(
            self._collection, self._models.FilterSelector(filter=where), wait=True
        )

    # The collection

    async def _ask(self, work: Awaitable[T]) -> T:
        """The result of ``work``, or a StoreError in time."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                if not self._ready:
                    await make_collection(
                        self._client,
                        self._models,
                        self._collection,
                        self.dimension,
                        has_indexes=not self._local,
                    )
                    self._ready = True
                return await work
        except LLMError:
            raise
        except TimeoutError:
            failure = StoreError("Qdrant did not answer in time.")
        except Exception as error:
            # Its client raises what pydantic, httpx, grpc and numpy raise.
            failure = StoreError(f"Qdrant failed ({type(error).__name__}).")
        finally:
            if asyncio.iscoroutine(work):
                work.close()
        raise failure

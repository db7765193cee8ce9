"""A semantic index in Redis 8 or later, by its vector sets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from asgi_llm._optional import require
from asgi_llm.errors import StoreError
from asgi_llm.stores._redis_client import connect, disconnect
from asgi_llm.stores._semantic_rows import (
    FIELDS,
    LABELS,
    best_matches,
    check_method,
    check_options,
    entry_of,
    row_of,
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
    is_selected,
)

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["RedisSemanticIndex"]

T = TypeVar("T")

SCRIPT: Final = Path(__file__).with_name("semantic_index.lua")
_PAGE: Final = 500
_MAX_DIMENSION: Final = 32_768
# The id is in the key.
_FIELDS: Final = FIELDS[1:]
_TIMES: Final = ("created", "expires", "last_used")
_COUNTS: Final = ("uses", "version")


class RedisSemanticIndex:
    """A ``SemanticIndex`` in the vector sets of Redis, one for each partition.

    A partition is a key of its own, so that a search cannot leave it. With ``exact`` all vectors
    of the partition are compared; with ``hnsw`` the set's graph is followed, which is for
    partitions of tens of thousands of entries and more. Vectors are kept in full precision.

    Whole batches of entries are gone with what Redis loses or evicts; that is a miss, no error (all
    of them with the key that names them, without which none could be removed). In a Cluster all of
    it lies on one node. What purges and lists by model, namespace, scope or age reads every entry's
    labels.

    Args:
        server: An address (see ``asgi_llm.stores._redis_client.connect``), or a client of
            ``redis.asyncio`` that gives bytes. A client stays open when the index is closed.
        dimension: Length of a vector, from 1 to 32768.
        method: ``exact`` or ``hnsw``.
        ef: How many candidates the graph's search keeps, from 1 to 1000000.
        max_entries_per_partition: At least 1.
        max_entries: Of the whole index, at least 1; None: no bound.
        timeout_seconds: For one call, above 0.
        prefix: What every key begins with.
        tag: The hash tag of every key.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is out of range, or the package redis is missing.

    Source: https://redis.io/docs/latest/develop/data-types/vector-sets/ (Redis 8.0), and the pages
    of VADD, VSIM and VREM.
    """

    def __init__(
        self,
        server: Any,
        *,
        dimension: int,
        method: Literal["exact", "hnsw"] = "exact",
        ef: int = 200,
        max_entries_per_partition: int = 10_000,
        max_entries: int | None = None,
        timeout_seconds: float = 0.25,
        prefix: str = "asgi-llm:semantic",
        tag: str = "asgi-llm",
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_method(method)
        check_options(
            dimension=(dimension, _MAX_DIMENSION),
            max_entries_per_partition=max_entries_per_partition,
            max_entries=max_entries,
        )
        check_count("ef", ef, 1_000_000)
        self.timeout_seconds = check_timeout(timeout_seconds)
        self.dimension = dimension
        self._failures = require("redis.exceptions", extra="redis")
        self._owned = isinstance(server, str)
        self._client = connect(server) if isinstance(server, str) else server
        self._script = self._client.register_script(SCRIPT.read_text(encoding="utf-8"))
        self._how = ("TRUTH",) if method == "exact" else ("EF", ef)
        self._max_in_partition = max_entries_per_partition
        self._max_entries = max_entries or 0
        self._start = f"{prefix}:{{{tag}}}:"
        self._clock = clock
        self._evicted = 0

    async def search(
        self, partition: bytes, vector: Vector, k: int = 5, *, min_similarity: float = -1.0
    ) -> tuple[Match, ...]:
        """The ``k`` entries of ``partition`` that are most like ``vector``, the likest first.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time.
        """
        check_count("k", k)
        check_vector(vector, self.dimension)
        return await self._ask(self._search(partition, vector, k, min_similarity))

    async def add(self, entry: IndexEntry, vector: Vector) -> None:
        """Keep ``entry``; one of the same id is replaced.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time. It may have been kept.
        """
        check_entry(entry)
        check_vector(vector, self.dimension)
        now = self._clock()
        if entry.expires <= now:
            await self.remove(Selection(ids=(entry.id,)))
            return
        fields = [word for pair in _written(entry).items() for word in pair]
        self._evicted += await self._ask(
            self._step(
                "add",
                entry.id,
                entry.partition.hex(),
                _number(entry.expires),
                _number(max(entry.last_used, entry.created)),
                self._max_in_partition,
                self._max_entries,
                _number(now),
                vector.astype("<f4", copy=False).tobytes(),
                *fields,
            )
        )

    async def get(self, id: str) -> IndexEntry | None:
        """The entry of that id; None where there is none, or it has run out.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time.
        """
        # By its name, as ``remove`` finds it.
        named = is_id(id) and await self._lexical(f"[{id} ", f"({id}!", 1)
        return (await self._ask(self._entries([id])))[0] if named else None

    async def find(
        self, selection: Selection, *, limit: int = 50, after: str | None = None
    ) -> tuple[IndexEntry, ...]:
        """The entries of ``selection`` by the order of their ids.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time.
        """
        check_count("limit", limit)
        found: list[IndexEntry] = []
        async for names in self._names(selection, after):
            ids = [name.partition(" ")[0] for name in names]
            entries = await self._ask(self._entries(ids))
            found += [one for one in entries if one is not None and is_selected(one, selection)]
            if len(found) >= limit:
                break
        return tuple(found[:limit])

    async def remove(self, selection: Selection) -> int:
        """Remove the entries of ``selection``; how many there were.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time. Some may be removed.
        """
        removed = 0
        async for names in self._names(selection, None):
            ids = [name.partition(" ")[0] for name in names]
            entries = await self._ask(self._entries(ids))
            chosen = [
                name
                for name, entry in zip(names, entries, strict=True)
                if entry is None or is_selected(entry, selection)
            ]
            # What has run out is cleared away as well, and does not count.
            removed += len(chosen) - entries.count(None)
            if chosen:
                await self._ask(self._step("drop", *chosen))
        return removed

    async def touch(self, id: str) -> None:
        """Note that an entry was used; one that is gone stays gone.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time.
        """
        if is_id(id):
            await self._ask(self._step("touch", id, _number(self._clock())))

    async def update_learning(self, id: str, *, expected_version: int, state: bytes) -> bool:
        """Write what was learned, if nobody else has written since ``expected_version``.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time. It may have been written.
        """
        check_state(state)
        if not is_id(id):
            return False
        now = _number(self._clock())
        return await self._ask(self._step("learn", id, expected_version, state, now)) == 1

    async def statistics(self) -> IndexStatistics:
        """How the index stands.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time.
        """
        await self._ask(self._step("clean", _number(self._clock())))
        entries = await self._ask(self._client.execute_command("ZCARD", self._start + "names"))
        return IndexStatistics(
            entries=entries, partitions=None, size_bytes=None, evicted=self._evicted
        )

    async def aclose(self) -> None:
        """Close the client, if it was made here."""
        if self._owned:
            await disconnect(self._client)

    # In Redis

    async def _search(
        self, partition: bytes, vector: Vector, k: int, min_similarity: float
    ) -> tuple[Match, ...]:
        key = self._start + "p" + partition.hex()
        blob = vector.astype("<f4", copy=False).tobytes()
        count = k
        while True:
            reply = await self._client.execute_command(
                "VSIM", key, "FP32", blob, "WITHSCORES", "COUNT", count, *self._how
            )
            near = _scores(reply)
            entries = await self._entries([id for id, _ in near], partition)
            matches = [
                Match(entry, similarity)
                for (_, similarity), entry in zip(near, entries, strict=True)
                if entry is not None and entry.partition == partition
            ]
            # What has run out may lie in the set until the next `add`, and is in the way.
            if len(matches) >= k or len(near) < count:
                break
            count *= 4
        return best_matches(matches, k=k, min_similarity=min_similarity)

    async def _entries(
        self, ids: Sequence[str], partition: bytes | None = None
    ) -> list[IndexEntry | None]:
        """The entries of those ids, in their order.

        Those of ``partition`` whose names are lost are cleared away: nobody could remove them.
        """
        if not ids:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for id in ids:
            pipeline.execute_command("HMGET", self._start + "e" + id, *_FIELDS)
        members = [] if partition is None else [f"{id} {partition.hex()}" for id in ids]
        if members:
            pipeline.execute_command("ZMSCORE", self._start + "names", *members)
        replies = await pipeline.execute()
        scores = replies.pop() if members else ()
        lost = [member for member, score in zip(members, scores, strict=True) if score is None]
        if lost:
            await self._step("drop", *lost)
            return await self._entries(ids)
        now = self._clock()
        found = [_entry(id, reply) for id, reply in zip(ids, replies, strict=True)]
        return [None if one is None or one.expires <= now else one for one in found]

    async def _names(self, selection: Selection, after: str | None) -> AsyncIterator[list[str]]:
        """Pages of "id partition" by the order of ids, all of ``selection`` among them."""
        if not can_match(selection):
            return
        if selection.ids is not None:
            ids = sorted(
                {id for id in selection.ids if is_id(id) and (after is None or id > after)}
            )
            for at in range(0, len(ids), _PAGE):
                page = [await self._lexical(f"[{id} ", f"({id}!", 1) for id in ids[at : at + _PAGE]]
                yield [name for names in page for name in names]
            return
        low = "-" if after is None else f"({after}!"
        while names := await self._lexical(low, "+", _PAGE):
            low = f"({names[-1]}"
            yield names

    async def _lexical(self, low: str, high: str, count: int) -> list[str]:
        reply = await self._ask(
            self._client.execute_command(
                "ZRANGEBYLEX", self._start + "names", low, high, "LIMIT", 0, count
            )
        )
        return [name.decode("ascii") for name in reply]

    async def _step(self, *arguments: Any) -> int:
        found: int = await self._script(keys=[self._start], args=arguments)
        return found

    async def _ask(self, work: Awaitable[T]) -> T:
        """The result of ``work``, or a StoreError in time."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await work
        except TimeoutError:
            failure = StoreError("Redis (semantic index) did not answer in time.")
        except self._failures.ResponseError as error:
            failure = StoreError(_refusal(str(error)))
        except (self._failures.RedisError, OSError) as error:
            failure = StoreError(f"Redis (semantic index) failed ({type(error).__name__}).")
        except (TypeError, ValueError, UnicodeDecodeError, LookupError) as error:
            failure = StoreError(f"Redis (semantic index) answered nonsense ({error}).")
        raise failure


def _refusal(text: str) -> str:
    if "unknown command" in text.lower() or "unknown redis command" in text.lower():
        return "This Redis has no vector sets: a semantic index needs Redis 8 or later."
    return f"Redis (semantic index) refused ({text.split(' ', 1)[0]})."


def _scores(reply: Any) -> list[tuple[str, float]]:
    """Ids and cosines of an answer: a list in version 2 of the protocol, a map in version 3."""
    if isinstance(reply, Mapping):
        pairs = list(reply.items())
    else:
        flat = list(reply)
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
    # Redis tells the similarity from 0 (opposite) to 1 (the same).
    return [(_text(id), max(-1.0, min(1.0, 2.0 * float(score) - 1.0))) for id, score in pairs]


def _text(given: Any) -> str:
    return given.decode("ascii") if isinstance(given, bytes) else str(given)


def _number(value: float) -> str:
    return "inf" if value == inf else repr(value)


def _written(entry: IndexEntry) -> dict[str, Any]:
    row = row_of(entry)
    del row["id"]
    row["partition"] = entry.partition.hex()
    for name in _TIMES:
        row[name] = _number(row[name])
    return row


def _entry(id: str, reply: Sequence[bytes | None]) -> IndexEntry | None:
    if None in reply:
        return None
    row: dict[str, Any] = dict(zip(_FIELDS, reply, strict=True))
    row["id"] = id
    row["partition"] = bytes.fromhex(row["partition"].decode("ascii"))
    for name in LABELS:
        row[name] = row[name].decode()
    for name in _TIMES:
        row[name] = float(row[name])
    for name in _COUNTS:
        row[name] = int(row[name])
    return entry_of(row)

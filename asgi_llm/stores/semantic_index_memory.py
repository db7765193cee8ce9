"""A semantic index in process: exact, bounded, and kept over restarts in a file."""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asgi_llm._optional import require
from asgi_llm._tasks import end, finish
from asgi_llm.errors import ConfigurationError
from asgi_llm.stores._index_block import Block, Record
from asgi_llm.stores._index_snapshot import (
    CHUNK,
    Chunk,
    SnapshotError,
    put_aside,
    read_snapshot,
    write_snapshot,
)
from asgi_llm.stores.semantic_index import (
    IndexEntry,
    IndexStatistics,
    Learning,
    Match,
    Selection,
    check_count,
    check_entry,
    check_state,
    check_vector,
    is_selected,
)

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["MemorySemanticIndex"]

logger = logging.getLogger(__name__)

_INLINE_NUMBERS: Final = 4_000_000
"""What is multiplied on the event loop: about as long as going to a thread and back takes."""


class MemorySemanticIndex:
    """A ``SemanticIndex`` over NumPy: every entry of a partition is looked at.

    Where there is no room, what has run out goes first, then what was used least recently: of the
    partition where that is full, of all where the memory is.

    With ``snapshot_path`` the entries outlive the process: they are written at ``aclose``, and
    at most ``snapshot_seconds`` after something was added or removed. A file that is damaged, or
    of another version, is put aside as ``NAME.damaged``, and the index starts empty; one whose
    vectors are of another length than the first that is asked with or added counts for nothing,
    too. Each process needs a path of its own: of two that share one, the last to write wins.

    Args:
        max_entries_per_partition: At least 1.
        max_bytes: Of all entries, roughly, at least 1 MiB.
        snapshot_path: A file in a folder that exists. It holds prompts and answers, readable for
            the process's user alone.
        snapshot_seconds: At least 1.
        clock: Unix time in seconds.
        sleep: Waits so many seconds until a snapshot is due.

    Raises:
        ConfigurationError: An option is wrong, or numpy is missing.
    """

    def __init__(
        self,
        *,
        max_entries_per_partition: int = 10_000,
        max_bytes: int = 256 * 1024 * 1024,
        snapshot_path: str | Path | None = None,
        snapshot_seconds: float = 300.0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if max_entries_per_partition < 1:
            raise ConfigurationError(
                "max_entries_per_partition must be at least 1", param="max_entries_per_partition"
            )
        if max_bytes < 1024 * 1024:
            raise ConfigurationError("max_bytes must be at least 1048576", param="max_bytes")
        if not 1 <= snapshot_seconds < math.inf:
            raise ConfigurationError(
                "snapshot_seconds must be at least 1", param="snapshot_seconds"
            )
        self._np = require("numpy", extra="semantic")
        self._path = path = None if snapshot_path is None else Path(snapshot_path)
        if path is not None and not path.parent.is_dir():
            raise ConfigurationError(f"the folder of {path} does not exist", param="snapshot_path")
        self._max_entries = max_entries_per_partition
        self._max_bytes = max_bytes
        self._snapshot_seconds = snapshot_seconds
        self._clock = clock
        self._sleep = sleep
        self._dimension: int | None = None
        self._is_of_file = False
        self._blocks: dict[bytes, Block] = {}
        self._by_use: OrderedDict[str, Record] = OrderedDict()
        self._ends: list[tuple[float, str]] = []
        self._bytes = 0
        self._evicted = 0
        self._loading: asyncio.Task[None] | None = None
        self._loaded = self._path is None
        self._writing: asyncio.Task[None] | None = None
        self._changed = self._closed = False
        self._written = clock()

    async def search(
        self, partition: bytes, vector: Vector, k: int = 5, *, min_similarity: float = -1.0
    ) -> tuple[Match, ...]:
        """The ``k`` entries of ``partition`` that are most like ``vector``, the likest first."""
        check_count("k", k)
        if not self._loaded:
            await self._load()
        self._check(vector)
        block = self._blocks.get(partition)
        if block is None:
            return ()
        now = self._clock()
        if block.numbers > _INLINE_NUMBERS:
            rows = await asyncio.to_thread(block.scan, vector, k, now)
        else:
            rows = block.scan(vector, k, now)
        return tuple(
            [
                Match(record.current(), similarity)
                for record, similarity in block.check(rows, vector, now)
                if similarity >= min_similarity and record.kept
            ]
        )

    async def add(self, entry: IndexEntry, vector: Vector) -> None:
        """Keep ``entry``; what has no room in the whole index is not kept."""
        check_entry(entry)
        if not self._loaded:
            await self._load()
        self._check(vector)
        self._put(entry, vector)
        self._note_change()

    async def get(self, id: str) -> IndexEntry | None:
        """The entry of that id; None where there is none, or it has run out."""
        record = await self._find(id)
        return None if record is None else record.current()

    async def find(
        self, selection: Selection, *, limit: int = 50, after: str | None = None
    ) -> tuple[IndexEntry, ...]:
        """The entries of ``selection`` by the order of their ids."""
        check_count("limit", limit)
        if not self._loaded:
            await self._load()
        now = self._clock()
        found = heapq.nsmallest(
            limit,
            (
                record
                for record in self._selected(selection)
                if record.entry.expires > now and (after is None or record.entry.id > after)
            ),
            key=lambda record: record.entry.id,
        )
        return tuple([record.current() for record in found])

    async def remove(self, selection: Selection) -> int:
        """Remove the entries of ``selection``; how many there were."""
        if not self._loaded:
            await self._load()
        now = self._clock()
        found = list(self._selected(selection))
        for record in found:
            self._drop(record)
        if found:
            self._note_change()
        return sum(record.entry.expires > now for record in found)

    async def touch(self, id: str) -> None:
        """Note that an entry was used; one that is gone stays gone."""
        record = await self._find(id)
        if record is not None:
            record.uses += 1
            record.last_used = max(record.last_used, self._clock())
            self._by_use.move_to_end(id)
            self._blocks[record.entry.partition].by_use.move_to_end(id)

    async def update_learning(self, id: str, *, expected_version: int, state: bytes) -> bool:
        """Write what was learned, if nobody else has written since ``expected_version``."""
        check_state(state)
        record = await self._find(id)
        if record is None or record.learning.version != expected_version:
            return False
        self._bytes += record.learn(Learning(state, expected_version + 1))
        self._note_change()
        return True

    async def statistics(self) -> IndexStatistics:
        """How the index stands."""
        if not self._loaded:
            await self._load()
        return IndexStatistics(
            entries=len(self._by_use),
            partitions=len(self._blocks),
            size_bytes=self._bytes,
            evicted=self._evicted,
        )

    async def save(self) -> None:
        """Write the snapshot now; does nothing without a path.

        What goes wrong is logged, and tried again later: an index is no less of use without.
        """
        path = self._path
        if path is None:
            return
        if not self._loaded:
            await self._load()
        self._changed, self._written = False, self._clock()
        records = list(self._by_use.values())
        try:
            await asyncio.to_thread(write_snapshot, path, self._chunks(records))
        except OSError as error:
            self._changed = True
            logger.warning("the semantic index could not be written to %s: %s", path, error)

    async def aclose(self) -> None:
        """Write the snapshot, if something changed since the last."""
        self._closed = True
        writing = self._writing
        if writing is not None and writing.get_loop() is asyncio.get_running_loop():
            await end(writing)
        if self._changed and self._loaded:
            await self.save()

    # Records

    async def _find(self, id: str) -> Record | None:
        if not self._loaded:
            await self._load()
        record = self._by_use.get(id)
        return None if record is None or record.entry.expires <= self._clock() else record

    def _selected(self, selection: Selection) -> Iterator[Record]:
        records = self._by_use
        if selection.ids is not None:
            found = [records[id] for id in dict.fromkeys(selection.ids) if id in records]
        elif selection.partition is not None:
            block = self._blocks.get(selection.partition)
            found = [] if block is None else list(block.by_use.values())
        else:
            found = list(records.values())
        return (record for record in found if is_selected(record.entry, selection))

    def _check(self, vector: Vector) -> None:
        """Refuse a vector that is not as it must be; entries of another model may go for it."""
        length = check_vector(vector, None)
        if self._dimension is not None and length != self._dimension:
            self._drop_ended(self._clock())
            if self._is_of_file and self._by_use:
                logger.warning(
                    "the semantic index starts empty: its %d entries in %s have vectors of %d, "
                    "and the model's are of %d numbers",
                    *(len(self._by_use), self._path, self._dimension, length),
                )
                for record in list(self._by_use.values()):
                    self._drop(record)
                self._note_change()
            check_vector(vector, self._dimension)
        self._is_of_file = False

    def _put(self, entry: IndexEntry, vector: Vector) -> None:
        now = self._clock()
        if (old := self._by_use.get(entry.id)) is not None:
            self._drop(old)
        self._drop_ended(now)
        if entry.expires <= now:
            return
        record = Record(entry)
        if record.size + vector.nbytes > self._max_bytes:
            self._evicted += 1
            return
        block = self._blocks.get(entry.partition)
        if block is not None and len(block.by_use) >= self._max_entries:
            self._evict(next(iter(block.by_use.values())))
            block = self._blocks.get(entry.partition)
        if block is None:
            self._dimension = vector.shape[0]
            block = self._blocks[entry.partition] = Block(self._np, vector.shape[0])
            self._bytes += block.size
        before = block.size
        block.put(record, vector)
        self._by_use[entry.id] = record
        self._bytes += record.size + block.size - before
        if entry.expires < math.inf:
            if len(self._ends) > 2 * len(self._by_use) + 1000:
                self._ends = [end for end in self._ends if self._is_end(end)]
                heapq.heapify(self._ends)
            heapq.heappush(self._ends, (entry.expires, entry.id))
        while self._bytes > self._max_bytes:
            self._evict(next(iter(self._by_use.values())))

    def _is_end(self, end: tuple[float, str]) -> bool:
        """Whether an entry is there that ends then; it may have gone, or been replaced."""
        record = self._by_use.get(end[1])
        return record is not None and record.entry.expires == end[0]

    def _drop_ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            if self._is_end(end := heapq.heappop(self._ends)):
                self._drop(self._by_use[end[1]])

    def _evict(self, record: Record) -> None:
        self._evicted += 1
        self._drop(record)

    def _drop(self, record: Record) -> None:
        partition = record.entry.partition
        block = self._blocks[partition]
        block.take(record)
        del self._by_use[record.entry.id]
        self._bytes -= record.size
        if not block.by_use:
            del self._blocks[partition]
            self._bytes -= block.size
            if not self._blocks:
                self._dimension = None
        elif block.is_sparse():
            packed = self._blocks[partition] = block.packed()
            self._bytes += packed.size - block.size

    # The file

    def _note_change(self) -> None:
        self._changed = True
        if self._path is None or self._closed:
            return
        loop = asyncio.get_running_loop()
        writing = self._writing
        # What runs on a loop that has ended writes nothing any more.
        if writing is None or writing.done() or writing.get_loop() is not loop:
            self._writing = loop.create_task(self._save_when_due())

    async def _save_when_due(self) -> None:
        while self._changed:
            passed = max(0.0, self._clock() - self._written)
            await self._sleep(max(0.0, self._snapshot_seconds - passed))
            # Its thread cannot be cancelled, and must not be overtaken by a later save's.
            await finish(self.save())

    async def _load(self) -> None:
        """Read the snapshot, once, whoever comes first; a cancelled caller does not stop it."""
        if self._loading is None or (
            self._loading.done() and (self._loading.cancelled() or self._loading.exception())
        ):
            self._loading = asyncio.create_task(asyncio.to_thread(self._read))
        await asyncio.shield(self._loading)

    def _read(self) -> None:
        """Fill the index from the file; nobody else touches it before this is done."""
        path = self._path
        if path is not None and path.exists():
            try:
                # The chunks are all checked before any is used: an index is whole, or empty.
                for entries, vectors in list(read_snapshot(path, self._np)):
                    for entry, vector in zip(entries, vectors, strict=True):
                        self._put(entry, vector)
            except (SnapshotError, OSError) as error:
                put_aside(path, error)
        self._evicted = 0
        self._is_of_file = True
        self._loaded = True

    def _chunks(self, records: list[Record]) -> Iterator[Chunk]:
        """``records``, those used least recently first, in pieces; called in a thread."""
        left = iter(records)
        while piece := list(islice(left, CHUNK)):
            entries, vectors = [], []
            for record in piece:
                vector = record.vector()
                if vector is not None:
                    entries.append(record.current())
                    vectors.append(vector)
            if entries:
                yield Chunk(entries, self._np.stack(vectors))

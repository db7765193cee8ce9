"""A semantic index in PostgreSQL, by the extension pgvector."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from asgi_llm._tasks import end
from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._semantic_rows import (
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
    check_vector,
    is_id,
)
from asgi_llm.stores.sql._database import Database, IntegrityFailure
from asgi_llm.stores.sql._semantic_table import (
    FORMAT,
    MAX_EXACT_DIMENSION,
    MAX_HNSW_DIMENSION,
    hnsw_index,
    semantic_table,
)

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["SQLSemanticIndex"]

T = TypeVar("T")

_LOCK: Final = 0x6C6C6D5F73656D
_CREATE_SECONDS: Final = 600.0
_CLEAN_EVERY_SECONDS: Final = 60.0
_EXTENSION: Final = sa.text("CREATE EXTENSION IF NOT EXISTS vector")


class SQLSemanticIndex:
    """A ``SemanticIndex`` in PostgreSQL with pgvector 0.8 or later.

    It has one table for each length of vector, made by ``create``, which the first call does by
    itself; the user of the database needs the right to create it, and the extension.

    A search is always confined to its partition. With ``exact`` all vectors of the partition are
    compared, which no index can make less than complete. With ``hnsw`` PostgreSQL chooses between
    that and an approximate index over all partitions, which is read on until enough entries of the
    partition were found: for partitions of tens of thousands of entries and more.

    Args:
        engine: As ``open_engine`` gives it; it stays its owner's to dispose of.
        dimension: Length of a vector, from 1 to 16000 (``hnsw``: 2000).
        method: ``exact`` or ``hnsw``.
        ef_search: How many candidates a step of the approximate index keeps, from 1 to 1000.
        max_entries_per_partition: At least 1.
        max_entries: Of the whole table, at least 1; kept to about once a minute. None: no bound.
        timeout_seconds: For one call, above 0.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is out of range, or the database is not PostgreSQL.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        dimension: int,
        method: Literal["exact", "hnsw"] = "exact",
        ef_search: int = 100,
        max_entries_per_partition: int = 10_000,
        max_entries: int | None = None,
        timeout_seconds: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if engine.dialect.name != "postgresql":
            raise ConfigurationError(
                "a semantic index in SQL needs PostgreSQL with pgvector", param="database"
            )
        check_method(method)
        most = MAX_EXACT_DIMENSION if method == "exact" else MAX_HNSW_DIMENSION
        check_options(
            dimension=(dimension, most),
            max_entries_per_partition=max_entries_per_partition,
            max_entries=max_entries,
        )
        check_count("ef_search", ef_search)
        self.dimension = dimension
        self._database = Database(engine, timeout_seconds=timeout_seconds)
        self._patient = Database(engine, timeout_seconds=_CREATE_SECONDS)
        self._table = semantic_table(dimension)
        self._hnsw = hnsw_index(self._table) if method == "hnsw" else None
        self._ef_search = ef_search
        self._max_in_partition = max_entries_per_partition
        self._max_entries = max_entries
        self._clock = clock
        self._ready = False
        self._creating: asyncio.Task[None] | None = None
        self._cleaned = -math.inf
        self._evicted = 0
        names = [name for name in self._table.c.keys() if name != "embedding"]  # noqa: SIM118
        self._columns = [self._table.c[name] for name in names]

    async def create(self) -> None:
        """Make the table and its indexes, where they are not there yet; takes as long as it takes.

        Raises:
            StoreError: The database failed, or lacks pgvector, or the rights for it.
            ConfigurationError: The table is of another version.
        """
        await self._patient.write(self._create)
        self._ready = True

    async def search(
        self, partition: bytes, vector: Vector, k: int = 5, *, min_similarity: float = -1.0
    ) -> tuple[Match, ...]:
        """The ``k`` entries of ``partition`` that are most like ``vector``, the likest first.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        check_count("k", k)
        check_vector(vector, self.dimension)
        table = self._table
        distance: sa.ColumnElement[float] = table.c.embedding.op("<=>", return_type=sa.Double())(
            vector
        )
        statement = (
            sa.select(*self._columns, distance.label("distance"))
            .where(table.c.partition == partition, table.c.expires > self._clock())
            # Of a sum an approximate index knows nothing.
            .order_by(distance if self._hnsw is not None else distance + sa.literal(0.0))
            .limit(k)
        )
        matches = [
            Match(_entry(row), max(-1.0, min(1.0, 1.0 - row.distance)))
            for row in await self._read(partial(self._search, statement=statement))
        ]
        return best_matches(matches, k=k, min_similarity=min_similarity)

    async def add(self, entry: IndexEntry, vector: Vector) -> None:
        """Keep ``entry``; one of the same id is replaced.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        check_entry(entry)
        check_vector(vector, self.dimension)
        await self._write(partial(self._add, values=_values(entry), vector=vector))
        now = self._clock()
        if now - self._cleaned >= _CLEAN_EVERY_SECONDS:
            self._cleaned = now
            await self._write(self._clean)

    async def get(self, id: str) -> IndexEntry | None:
        """The entry of that id; None where there is none, or it has run out.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        found = await self.find(Selection(ids=(id,)), limit=1)
        return found[0] if found else None

    async def find(
        self, selection: Selection, *, limit: int = 50, after: str | None = None
    ) -> tuple[IndexEntry, ...]:
        """The entries of ``selection`` by the order of their ids.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        check_count("limit", limit)
        if not can_match(selection):
            return ()
        statement = (
            sa.select(*self._columns)
            .where(*self._conditions(selection), self._table.c.expires > self._clock())
            .order_by(self._table.c.id)
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(self._table.c.id > after)
        return tuple([_entry(row) for row in await self._read(partial(_rows, statement=statement))])

    async def remove(self, selection: Selection) -> int:
        """Remove the entries of ``selection``; how many there were.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        if not can_match(selection):
            return 0
        statement = (
            sa.delete(self._table)
            .where(*self._conditions(selection))
            .returning(self._table.c.expires)
        )
        now = self._clock()
        rows = await self._write(partial(_rows, statement=statement))
        return sum(row.expires > now for row in rows)

    async def touch(self, id: str) -> None:
        """Note that an entry was used; one that is gone stays gone.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        table = self._table
        statement = (
            sa.update(table)
            .where(table.c.id == id)
            .values(
                uses=table.c.uses + 1,
                last_used=sa.func.greatest(table.c.last_used, self._clock()),
            )
        )
        if is_id(id):
            await self._write(partial(_count, statement=statement))

    async def update_learning(self, id: str, *, expected_version: int, state: bytes) -> bool:
        """Write what was learned, if nobody else has written since ``expected_version``.

        Raises:
            StoreError: The database did not answer in time, or with an error. It may have been
                written all the same.
        """
        check_state(state)
        table = self._table
        statement = (
            sa.update(table)
            .where(
                table.c.id == id,
                table.c.learning_version == expected_version,
                table.c.expires > self._clock(),
            )
            .values(learning=state, learning_version=expected_version + 1)
        )
        return is_id(id) and await self._write(partial(_count, statement=statement)) == 1

    async def statistics(self) -> IndexStatistics:
        """How the index stands; counts every entry.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        table = self._table
        statement = sa.select(
            sa.func.count().label("entries"),
            sa.func.count(table.c.partition.distinct()).label("partitions"),
            sa.func.pg_total_relation_size(sa.cast(table.name, sa.Text)).label("size"),
        ).select_from(table)
        (row,) = await self._read(partial(_rows, statement=statement))
        return IndexStatistics(
            entries=row.entries,
            partitions=row.partitions,
            size_bytes=row.size,
            evicted=self._evicted,
        )

    async def aclose(self) -> None:
        """Let the making of tables end, if it is under way. The engine stays open."""
        if self._creating is not None:
            await end(self._creating)

    # In the database

    async def _create(self, connection: AsyncConnection) -> None:
        # Two that start at once would both find nothing there.
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        await connection.execute(_EXTENSION)
        await connection.run_sync(self._table.metadata.create_all)
        if self._hnsw is not None:
            await connection.run_sync(partial(self._hnsw.create, checkfirst=True))
        comment = await connection.run_sync(
            lambda sync: sa.inspect(sync).get_table_comment(self._table.name)["text"]
        )
        if comment != FORMAT:
            raise ConfigurationError(
                f"the table {self._table.name} is not of this version; drop it to begin anew",
                param="database",
            )

    async def _search(
        self, connection: AsyncConnection, statement: sa.Select[Any]
    ) -> Sequence[sa.Row[Any]]:
        if self._hnsw is not None:
            # Of this transaction alone: what the index gives is filtered by partition, and where
            # too little is left, the index is read on, in the order of distance.
            await connection.execute(
                sa.select(
                    sa.func.set_config("hnsw.ef_search", str(self._ef_search), True),
                    sa.func.set_config("hnsw.iterative_scan", "strict_order", True),
                )
            )
        return await _rows(connection, statement)

    async def _add(
        self, connection: AsyncConnection, values: dict[str, Any], vector: Vector
    ) -> None:
        table = self._table
        new = insert(table).values(**values, embedding=vector)
        changed = {name: new.excluded[name] for name in [*values, "embedding"] if name != "id"}
        await connection.execute(new.on_conflict_do_update(index_elements=["id"], set_=changed))
        mine = table.c.partition == values["partition"]
        held = await connection.scalar(sa.select(sa.func.count()).select_from(table).where(mine))
        if held is not None and held > self._max_in_partition:
            await self._evict(connection, mine, held - self._max_in_partition, spare=values["id"])

    async def _evict(
        self,
        connection: AsyncConnection,
        among: sa.ColumnElement[bool],
        count: int,
        *,
        spare: str = "",
    ) -> None:
        """Remove ``count`` entries: those that have run out, then those used least recently."""
        table = self._table
        least = (
            sa.select(table.c.id)
            .where(among, table.c.id != spare)
            .order_by(table.c.expires > self._clock(), table.c.last_used)
            .limit(count)
        )
        self._evicted += await _count(connection, sa.delete(table).where(table.c.id.in_(least)))

    async def _clean(self, connection: AsyncConnection) -> None:
        table = self._table
        await connection.execute(sa.delete(table).where(table.c.expires <= self._clock()))
        if self._max_entries is not None:
            held = await connection.scalar(sa.select(sa.func.count()).select_from(table))
            if held is not None and held > self._max_entries:
                await self._evict(connection, sa.true(), held - self._max_entries)

    def _conditions(self, selection: Selection) -> list[sa.ColumnElement[bool]]:
        column = self._table.c
        given: list[sa.ColumnElement[bool]] = [
            column[name] == value
            for name in ("partition", *LABELS)
            if (value := getattr(selection, name)) is not None
        ]
        if selection.ids is not None:
            given.append(column.id.in_([id for id in selection.ids if is_id(id)]))
        if selection.created_before is not None:
            given.append(column.created < selection.created_before)
        return given

    async def _read(self, work: Callable[[AsyncConnection], Any]) -> Any:
        if not self._ready:
            await self._prepare()
        return await self._database.read(work)

    async def _write(self, work: Callable[[AsyncConnection], Any]) -> Any:
        if not self._ready:
            await self._prepare()
        try:
            return await self._database.write(work)
        except IntegrityFailure as error:
            raise StoreError("The database refused an entry of a semantic index.") from error

    async def _prepare(self) -> None:
        """Have the table made, by whoever comes first; the others wait, each until its deadline."""
        loop = asyncio.get_running_loop()
        task = self._creating
        if task is None or task.done() or task.get_loop() is not loop:
            task = self._creating = loop.create_task(self.create())
            # Whoever waits is told; with nobody left, asyncio would report it once more.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(self._database.timeout_seconds):
                await asyncio.shield(task)
        except TimeoutError:
            raise StoreError("The tables of the semantic index are still being made.") from None


async def _rows(connection: AsyncConnection, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
    return (await connection.execute(statement)).all()


async def _count(connection: AsyncConnection, statement: sa.Executable) -> int:
    return (await connection.execute(statement)).rowcount


def _values(entry: IndexEntry) -> dict[str, Any]:
    row = row_of(entry)
    row["learning_version"] = row.pop("version")
    return row


def _entry(row: sa.Row[Any]) -> IndexEntry:
    values = dict(row._mapping)
    values.pop("distance", None)
    values["version"] = values.pop("learning_version")
    return entry_of(values)

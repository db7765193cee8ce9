"""The ledger in SQLite or PostgreSQL: rows, each once, and sums that answer the reports."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from sqlalchemy import Table, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from asgi_llm.stores._ledger_values import clean_row, fit_id
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.stores.ledger_csv import csv_header, csv_lines
from asgi_llm.stores.ledger_reports import Dimension, RowPage, UsageSummary
from asgi_llm.stores.sql._database import Database
from asgi_llm.stores.sql._ledger_reports import (
    check_range,
    group_of,
    groups_query,
    kept_sums,
    totals_of,
    totals_query,
)
from asgi_llm.stores.sql._ledger_rows import add_up, as_text, columns_of, row_from_columns
from asgi_llm.stores.sql._ledger_statements import ROWS, insert_missing, insert_or_add
from asgi_llm.stores.sql._ledger_tags import has_tags, rows_as_sums
from asgi_llm.stores.sql._paging import filtered, following, next_cursor
from asgi_llm.stores.sql.ledger_models import DailyUsage, HourlyUsage, LedgerEntry

__all__ = ["SQLLedger"]

_FILTERS: Final = frozenset(
    {
        "key_id",
        "user_id",
        "team_id",
        "organization_id",
        "request_id",
        "provider",
        "model",
        "requested_model",
        "operation",
        "outcome",
        "cached",
    }
)
_IDS: Final = frozenset(
    {
        "key_id",
        "user_id",
        "team_id",
        "organization_id",
        "request_id",
        "provider",
        "model",
        "requested_model",
    }
)
_PAGE: Final = 1000


class SQLLedger:
    """A ``Ledger`` in a database, which answers reports as well (``LedgerReports``).

    The sums by the hour and by the day are kept with the rows, in one transaction, so that they
    are what a sum over the rows would give, and outlive them.

    Args:
        engine: As ``open_engine`` gives it; it stays its owner's to dispose of. The tables are
            made by ``create_schema``.
        timeout_seconds: For one call, and for one page or batch of the longer ones, above 0.

    Raises:
        ConfigurationError: ``timeout_seconds`` is out of range.
    """

    def __init__(self, engine: AsyncEngine, *, timeout_seconds: float = 10.0) -> None:
        self._database = Database(engine, timeout_seconds=timeout_seconds)
        self._dialect = engine.dialect.name
        self._rows = cast(Table, LedgerEntry.__table__)
        hourly, daily = cast(Table, HourlyUsage.__table__), cast(Table, DailyUsage.__table__)
        self._insert = insert_missing(self._rows, self._dialect)
        self._add = (insert_or_add(hourly, self._dialect), insert_or_add(daily, self._dialect))
        self._sums = (hourly, daily)

    async def record(self, rows: Sequence[LedgerRow]) -> None:
        """Insert rows and add them to the sums; those whose id is there already change nothing.

        Raises:
            StoreError: None of them is known to be kept; they may be given again.
        """
        # In one order, so that two who record the same rows do not wait for each other.
        unique = {row.id: row for row in reversed([clean_row(row) for row in rows])}
        ordered = [unique[id] for id in sorted(unique)]
        if not ordered:
            return
        encoded = self._encode({**columns_of(row), "at": row.at} for row in ordered)

        async def work(connection: AsyncConnection) -> None:
            result = await connection.execute(self._insert, {ROWS: encoded})
            new = set(result.scalars())
            if not new:
                return
            sums = add_up(row for row in ordered if row.id in new)
            for statement, cells in zip(self._add, sums, strict=True):
                await connection.execute(statement, {ROWS: self._encode(cells)})

        await self._database.write(work)

    def _encode(self, rows: Iterable[Mapping[str, Any]]) -> str:
        zoned = self._dialect == "postgresql"
        return msgspec.json.encode(
            [{**row, "at": as_text(row["at"], zoned=zoned)} for row in rows]
        ).decode()

    async def summary(
        self,
        *,
        start: datetime.datetime,
        end: datetime.datetime,
        where: Mapping[str, str | bool | None] | None = None,
        tags: Mapping[str, str] | None = None,
        group_by: Sequence[Dimension] = (),
        max_groups: int = 1000,
    ) -> UsageSummary:
        """Sums from ``start`` up to, not including, ``end``, out of the kept sums alone.

        The sums are not told apart by tags: those of some tags are made of the rows, as far as
        these are kept.

        Args:
            start: A whole hour in UTC; a whole day, to group by day.
            end: The same.
            where: What the rows must have: ids, provider, model, operation (None: they must not
                have it), ``cached``.
            tags: Names and values of tags that the rows must have.
            group_by: What to tell apart; with nothing there are only totals.
            max_groups: From 1 to 10,000; the dearest are given.

        Raises:
            ValueError: An argument is out of range.
            StoreError: The database did not answer in time, or with an error.
        """
        if not (1 <= max_groups <= 10_000):
            raise ValueError("max_groups must be from 1 to 10000")
        start, end = check_range(start, end, group_by)
        wanted = where or {}
        source = (
            rows_as_sums(wanted, tags, start, end, group_by, self._dialect)
            if tags
            else kept_sums(wanted, start, end, group_by)
        )
        totals_statement = totals_query(source)
        groups_statement = groups_query(source, group_by, max_groups) if group_by else None

        async def work(connection: AsyncConnection) -> UsageSummary:
            totals = totals_of((await connection.execute(totals_statement)).mappings().one())
            if groups_statement is None:
                return UsageSummary(start=start, end=end, totals=totals)
            found = (await connection.execute(groups_statement)).mappings().all()
            return UsageSummary(
                start=start,
                end=end,
                totals=totals,
                groups=tuple(group_of(row, group_by) for row in found[:max_groups]),
                truncated=len(found) > max_groups,
            )

        return await self._database.read(work)

    async def rows(
        self,
        *,
        where: Mapping[str, str | bool | None] | None = None,
        tags: Mapping[str, str] | None = None,
        start: datetime.datetime | None = None,
        end: datetime.datetime | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> RowPage:
        """Rows newest first, a page at a time; rows that come meanwhile move nothing.

        Args:
            where: What the rows must have: ids, provider, models, operation, outcome, ``cached``.
            tags: Names and values of tags that they must have.
            start: The earliest.
            end: Behind the latest.
            limit: From 1 to 1,000.
            after: ``next`` of the page before.

        Raises:
            ValueError: An argument is out of range.
            StoreError: The database did not answer in time, or with an error.
        """
        wanted = dict(where or {})
        if unknown := wanted.keys() - _FILTERS:
            raise ValueError(f"where cannot name {', '.join(sorted(unknown))}")
        for field in wanted.keys() & _IDS:
            if isinstance(value := wanted[field], str):
                wanted[field] = fit_id(value)
        table = self._rows
        statement = filtered(select(table), table, wanted)
        if statement is None:
            return RowPage(rows=())
        for bound, name in ((start, "start"), (end, "end")):
            if bound is not None and bound.tzinfo is None:
                raise ValueError(f"{name} must be a time with a zone")
        if tags:
            statement = statement.where(has_tags(tags))
        if start is not None:
            statement = statement.where(table.c.at >= start)
        if end is not None:
            statement = statement.where(table.c.at < end)
        page = following(statement, table.c.at, table.c.id, limit, after)

        async def work(connection: AsyncConnection) -> RowPage:
            found = (await connection.execute(page)).mappings().all()
            return RowPage(
                rows=tuple(row_from_columns(dict(row)) for row in found[:limit]),
                next=next_cursor(found, limit, "at"),
            )

        return await self._database.read(work)

    async def export_csv(
        self,
        *,
        where: Mapping[str, str | bool | None] | None = None,
        tags: Mapping[str, str] | None = None,
        start: datetime.datetime | None = None,
        end: datetime.datetime | None = None,
    ) -> AsyncIterator[str]:
        """Lines of CSV, newest row first: the names of the columns, and then a page at a time.

        No field begins as a formula does, see ``asgi_llm.stores.ledger_csv.harmless``.

        Raises:
            ValueError: An argument is out of range.
            StoreError: The database did not answer in time, or with an error.
        """
        page = await self.rows(where=where, tags=tags, start=start, end=end, limit=_PAGE)
        yield csv_header()
        while True:
            yield csv_lines(page.rows)
            if page.next is None:
                return
            page = await self.rows(
                where=where, tags=tags, start=start, end=end, limit=_PAGE, after=page.next
            )

    async def retain(
        self, before: datetime.datetime, *, batch_rows: int = 1000, sums: bool = False
    ) -> int:
        """Delete the rows that are older than ``before``, the oldest first, in small transactions.

        Between two of them it rests for as long as the last one took, so that writers get their
        turn. It may be given up at any time and called again. Sums stay unless ``sums`` is true.
        A row that is recorded again after it was deleted counts again: keep rows for longer than
        the journal of a worker may lie without being sent, days at the least.

        Args:
            before: With a zone; with ``sums`` a whole day in UTC.
            batch_rows: Rows of one transaction, from 1 to 10,000.
            sums: Delete the sums of that time as well.

        Returns:
            How many rows of the ledger were deleted.

        Raises:
            ValueError: An argument is out of range.
            StoreError: The database did not answer in time, or with an error.
        """
        if not (1 <= batch_rows <= 10_000):
            raise ValueError("batch_rows must be from 1 to 10000")
        if before.tzinfo is None:
            raise ValueError("before must be a time with a zone")
        if sums:
            check_range(before, before, ("day",))
        deleted = await self._delete_before(self._rows, "id", before, batch_rows)
        if sums:
            for table in self._sums:
                await self._delete_before(table, "digest", before, batch_rows)
        return deleted

    async def _delete_before(
        self, table: Table, key: str, before: datetime.datetime, batch_rows: int
    ) -> int:
        clock = asyncio.get_running_loop().time
        columns = (table.c.at, table.c[key])
        oldest = select(*columns).where(table.c.at < before).order_by(*columns).limit(batch_rows)
        statement = delete(table).where(tuple_(*columns).in_(oldest))

        async def work(connection: AsyncConnection) -> int:
            return int((await connection.execute(statement)).rowcount)

        deleted = 0
        while True:
            began = clock()
            count = await self._database.write(work)
            deleted += count
            if count == 0:
                return deleted
            await asyncio.sleep(clock() - began)

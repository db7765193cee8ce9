"""What a database reads to answer: the tables and indexes of the plan, and how much."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["Reading", "explain", "statements"]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one or more statements read."""

    tables: set[str]
    indexes: set[str]
    rows: int
    """PostgreSQL: rows that its scans went over. SQLite, which says not: steps of its machine."""
    plan: list[str]


@contextlib.contextmanager
def statements(engine: AsyncEngine) -> Iterator[list[tuple[str, Any]]]:
    """The statements, with their parameters, that run on the engine in the block."""
    found: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)


async def explain(engine: AsyncEngine, ran: list[tuple[str, Any]]) -> Reading:
    """What the statements read when they are run again."""
    if engine.dialect.name == "postgresql":
        return await _explain_postgres(engine, ran)
    return _explain_sqlite(str(engine.url.database), ran)


async def _explain_postgres(engine: AsyncEngine, ran: list[tuple[str, Any]]) -> Reading:
    tables, indexes, plan, rows = set(), set(), [], 0
    async with engine.connect() as connection:
        for statement, parameters in ran:
            result = await connection.exec_driver_sql(
                "EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters
            )
            found = result.scalar_one()
            nodes = [(json.loads(found) if isinstance(found, str) else found)[0]["Plan"]]
            while nodes:
                node = nodes.pop()
                nodes += node.get("Plans", [])
                if "Index Name" in node:
                    indexes.add(node["Index Name"])
                if "Relation Name" in node:
                    tables.add(node["Relation Name"])
                    read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                    rows += round(read * node["Actual Loops"])
                    plan.append(f"{node['Node Type']} {node['Relation Name']}")
    return Reading(tables=tables, indexes=indexes, rows=rows, plan=plan)


def _explain_sqlite(path: str, ran: list[tuple[str, Any]]) -> Reading:
    tables, indexes, plan = set(), set(), []
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = {name for (name,) in connection.execute("SELECT tbl_name FROM sqlite_master")}
        for statement, parameters in ran:
            for *_, detail in connection.execute("EXPLAIN QUERY PLAN " + statement, parameters):
                words = detail.split()
                if words[0] in ("SEARCH", "SCAN") and words[1] in names:
                    tables.add(words[1])
                    plan.append(detail)
                    if "INDEX" in words:
                        indexes.add(words[words.index("INDEX") + 1])
            connection.set_progress_handler(step, 1)
            connection.execute(statement, parameters).fetchall()
            connection.set_progress_handler(None, 1)
    return Reading(tables=tables, indexes=indexes, rows=steps, plan=plan)

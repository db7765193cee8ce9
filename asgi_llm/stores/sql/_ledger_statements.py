"""Statements that write many rows at once, out of one parameter that is a JSON array.

One parameter in place of forty a row: the rows are encoded in one step, the statement is the same
for any number of them, and the database takes them apart, outside of this process' interpreter.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    JSON,
    ColumnElement,
    FromClause,
    Insert,
    String,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    select,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from asgi_llm.stores.sql._ledger_rows import SUMS

__all__ = ["ROWS", "insert_missing", "insert_or_add"]

ROWS: Final = "rows"
"""The parameter: a JSON array of objects whose names are the table's columns."""


def _source(table: Table, dialect: str) -> tuple[FromClause, list[ColumnElement[Any]]]:
    """What to select from, and the table's columns in it."""
    if dialect == "postgresql":
        batch = func.json_to_recordset(cast(bindparam(ROWS, type_=Text), postgresql.JSON))
        typed = [column(one.name, _type(one.type)) for one in table.columns]
        source = batch.table_valued(*typed, name="batch").render_derived(
            name="batch", with_types=True
        )
        return source, [source.c[one.name] for one in table.columns]
    each = func.json_each(bindparam(ROWS, type_=Text)).table_valued("value", name="batch")
    return each, [
        func.json_extract(each.c.value, f"$.{one.name}", type_=String) for one in table.columns
    ]


def _type(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    return postgresql.JSONB() if isinstance(type_, JSON) else type_


def _insert(table: Table, dialect: str) -> Any:
    source, columns = _source(table, dialect)
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    # Without a condition SQLite takes ON CONFLICT for the ON of a join.
    return insert(table).from_select(
        [one.name for one in table.columns], select(*columns).select_from(source).where(true())
    )


def insert_missing(table: Table, dialect: str) -> Insert:
    """Insert the rows whose ids the table does not have, and return their ids."""
    statement: Insert = (
        _insert(table, dialect).on_conflict_do_nothing(index_elements=["id"]).returning(table.c.id)
    )
    return statement


def insert_or_add(table: Table, dialect: str) -> Insert:
    """Insert sums, or add them to those that the table has."""
    statement = _insert(table, dialect)
    result: Insert = statement.on_conflict_do_update(
        index_elements=["at", "digest"],
        set_={name: table.c[name] + statement.excluded[name] for name in SUMS},
    )
    return result

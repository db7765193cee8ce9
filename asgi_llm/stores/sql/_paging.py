"""Listings newest first, by filters that are values and cursors that are opaque."""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, RowMapping, Select, Table, tuple_

from asgi_llm.stores.sql._rows import is_text

__all__ = ["filtered", "following", "next_cursor"]

_MOST = 1000


class _Cursor(msgspec.Struct, array_like=True, frozen=True):
    at: datetime.datetime
    id: str | int


def filtered(statement: Select[Any], table: Table, where: Mapping[str, Any]) -> Select[Any] | None:
    """``statement`` for the rows whose columns equal ``where``; None: no row can.

    Raises:
        ValueError: A value is of a type that the column does not have.
    """
    for field, value in where.items():
        column = table.c[field]
        if value is None:
            statement = statement.where(column.is_(None))
            continue
        if type(value) is not column.type.python_type:
            raise ValueError(f"{field} must be {column.type.python_type.__name__}")
        if isinstance(value, str) and not is_text(value):
            return None
        statement = statement.where(column == value)
    return statement


def following(
    statement: Select[Any],
    at: ColumnElement[Any],
    id: ColumnElement[Any],
    limit: int,
    after: str | None,
) -> Select[Any]:
    """The page of ``statement`` behind ``after``, with one row more to see whether it goes on.

    Raises:
        ValueError: ``limit`` is out of range, or ``after`` is no cursor of such a listing.
    """
    if not (1 <= limit <= _MOST):
        raise ValueError(f"limit must be from 1 to {_MOST}")
    if after is not None:
        cursor = _decode(after)
        if type(cursor.id) is not id.type.python_type or not is_text(str(cursor.id)):
            raise ValueError("after is not a cursor of this listing")
        statement = statement.where(tuple_(at, id) < tuple_(cursor.at, cursor.id))
    return statement.order_by(at.desc(), id.desc()).limit(limit + 1)


def next_cursor(rows: Sequence[RowMapping], limit: int, time_column: str) -> str | None:
    """The cursor behind the last of ``limit`` rows, if there are more."""
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    packed = msgspec.json.encode(_Cursor(last[time_column], last["id"]))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _decode(text: str) -> _Cursor:
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        cursor = msgspec.json.decode(packed, type=_Cursor)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise ValueError("after is not a cursor of this listing") from None
    if cursor.at.tzinfo is None or (type(cursor.id) is int and abs(cursor.id) > 2**62):
        raise ValueError("after is not a cursor of this listing")
    return cursor

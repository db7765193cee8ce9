"""Rows by their tags, in the form of the sums, which know no tags."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, FromClause, Table, and_, case, func, or_, select, type_coerce

from asgi_llm.stores._ledger_values import fit_id
from asgi_llm.stores.sql._ledger_reports import conditions
from asgi_llm.stores.sql._ledger_rows import BUCKETS, DIMENSIONS, SUMS
from asgi_llm.stores.sql._rows import is_text
from asgi_llm.stores.sql.ledger_models import LedgerEntry
from asgi_llm.stores.sql.models import UTCTime

__all__ = ["has_tags", "rows_as_sums"]

_ROWS: Final = cast(Table, LedgerEntry.__table__)
# SQLite takes a name for a part of a path, where quotes and backslashes would end it.
_NAME: Final = re.compile(r'[^"\\\x00-\x1f]{1,200}')
_INDEXED: Final = frozenset(("key_id", "user_id", "team_id", "organization_id"))
_MONEY: Final = ("cost_micros", "cost_picos", "saved_micros", "saved_picos")


def has_tags(tags: Mapping[str, str]) -> ColumnElement[bool]:
    """Whether a row has all of ``tags``.

    Raises:
        ValueError: A name or a value is none that can be asked for.
    """
    for name, value in tags.items():
        if not _NAME.fullmatch(name) or not is_text(name) or not is_text(value):
            raise ValueError("tags must be of texts, and their names without quotes")
    return and_(True, *(_ROWS.c.tags[name].as_string() == value for name, value in tags.items()))


def rows_as_sums(
    where: Mapping[str, str | bool | None],
    tags: Mapping[str, str],
    start: datetime.datetime,
    end: datetime.datetime,
    group_by: Sequence[str],
    dialect: str,
) -> FromClause:
    """The rows with ``tags``, each with what it adds to the sums.

    Raises:
        ValueError: As ``conditions`` and ``has_tags``.
    """
    rows = _ROWS.c
    columns: dict[str, ColumnElement[Any]] = {
        name: func.coalesce(rows[name], "") for name in DIMENSIONS
    }
    columns |= {
        "model": func.coalesce(rows.model, rows.requested_model),
        "cached": rows.cached,
        "requests": _one(rows.attempt <= 1),
        "attempts": _one(rows.attempt >= 0),
        "errors": _one(rows.outcome.in_(("failed", "refused"))),
        "estimated": _one(or_(rows.usage_estimated, rows.cost["estimated"].as_boolean())),
        "unknown_costs": _one(rows.cost_micros.is_(None)),
        **{name: rows[name] for name in BUCKETS},
        **{name: func.coalesce(rows[name], 0) for name in _MONEY},
        "at": _start_of(group_by, dialect),
    }
    found = select(*(columns[name].label(name) for name in ("at", *DIMENSIONS, *SUMS))).where(
        rows.at >= start, rows.at < end, has_tags(tags)
    )
    # By the columns themselves, which have indices; what the sums know is asked for below.
    for name in _INDEXED & where.keys():
        if isinstance(value := where[name], str):
            found = found.where(rows[name] == fit_id(value))
    inner = found.subquery("tagged")
    return select(inner).where(conditions(inner, where)).subquery("sums")


def _one(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _start_of(group_by: Sequence[str], dialect: str) -> ColumnElement[Any]:
    """Where the hour or the day of a row begins, in UTC; else its time."""
    if "hour" not in group_by and "day" not in group_by:
        return _ROWS.c.at
    unit = "hour" if "hour" in group_by else "day"
    if dialect == "postgresql":
        return type_coerce(func.date_trunc(unit, _ROWS.c.at, "UTC"), UTCTime())
    form = f"%Y-%m-%d {'%H' if unit == 'hour' else '00'}:00:00.000000"
    return type_coerce(func.strftime(form, _ROWS.c.at), UTCTime())

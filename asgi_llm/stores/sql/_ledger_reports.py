"""Questions to the sums by the hour and by the day. Rows are not read for them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    FromClause,
    RowMapping,
    Select,
    and_,
    false,
    func,
    or_,
    select,
    union_all,
)

from asgi_llm.stores._ledger_values import fit_id
from asgi_llm.stores.ledger_reports import Dimension, UsageGroup, UsageTotals
from asgi_llm.stores.sql._ledger_rows import BUCKETS, DIMENSIONS, SUMS, money
from asgi_llm.stores.sql.ledger_models import DailyUsage, HourlyUsage
from asgi_llm.types import Usage

__all__ = [
    "check_range",
    "conditions",
    "group_of",
    "groups_query",
    "kept_sums",
    "totals_of",
    "totals_query",
]

_PERIODS: Final = ("day", "hour")
_DAY: Final = datetime.timedelta(days=1)


def check_range(
    start: datetime.datetime, end: datetime.datetime, group_by: Sequence[str]
) -> tuple[datetime.datetime, datetime.datetime]:
    """The bounds in UTC.

    Raises:
        ValueError: They have no zone, are not whole hours (days, to group by day), or are in the
            wrong order; or ``group_by`` names what sums are not kept by, or something twice.
    """
    for name in group_by:
        if name not in DIMENSIONS and name not in _PERIODS:
            known = ", ".join((*DIMENSIONS, *_PERIODS))
            raise ValueError(f"group_by must be of {known}")
    if len(set(group_by)) < len(group_by) or {*_PERIODS} <= {*group_by}:
        raise ValueError("group_by must name each once, and day or hour")
    bounds = []
    for field, at in (("start", start), ("end", end)):
        if at.tzinfo is None:
            raise ValueError(f"{field} must be a time with a zone")
        at = at.astimezone(datetime.UTC)
        if at.minute or at.second or at.microsecond:
            raise ValueError(f"{field} must be a whole hour in UTC")
        if at.hour and "day" in group_by:
            raise ValueError(f"{field} must be a whole day in UTC, to group by day")
        bounds.append(at)
    if bounds[0] > bounds[1]:
        raise ValueError("start must not be behind end")
    return bounds[0], bounds[1]


def conditions(table: FromClause, where: Mapping[str, str | bool | None]) -> ColumnElement[bool]:
    """What ``where`` asks of columns that have empty text where there is nothing.

    Raises:
        ValueError: It names what sums are not kept by, or has a value of another type.
    """
    parts: list[ColumnElement[bool]] = []
    for field, value in where.items():
        if field not in DIMENSIONS:
            raise ValueError(f"where must be of {', '.join(DIMENSIONS)}")
        if isinstance(value, bool) is not (field == "cached"):
            raise ValueError(f"{field} must be {'true or false' if field == 'cached' else 'text'}")
        wanted = value if isinstance(value, bool) else fit_id(value) or ""
        parts.append(table.c[field] == wanted)
    return and_(True, *parts)


def kept_sums(
    where: Mapping[str, str | bool | None],
    start: datetime.datetime,
    end: datetime.datetime,
    group_by: Sequence[str],
) -> FromClause:
    """Sums of whole days where there are such, and of the hours before and behind them.

    Raises:
        ValueError: As ``conditions``.
    """
    hourly, daily = HourlyUsage.__table__, DailyUsage.__table__
    parts: list[Select[Any]] = []
    first, last = start, end
    if "hour" not in group_by:
        first_day = start.replace(hour=0)
        first_day += _DAY if first_day < start else datetime.timedelta(0)
        last_day = end.replace(hour=0)
        if first_day < last_day:
            first, last = first_day, last_day
            parts.append(_part(daily, where, and_(daily.c.at >= first, daily.c.at < last)))
        else:
            first = last = start
    edges = [
        and_(hourly.c.at >= since, hourly.c.at < until)
        for since, until in ((start, first), (last, end))
        if since < until
    ]
    if "hour" in group_by:
        edges = [and_(hourly.c.at >= start, hourly.c.at < end)]
    if edges or not parts:
        parts.append(_part(hourly, where, or_(*edges) if edges else false()))
    return union_all(*parts).subquery("sums")


def _part(
    table: FromClause, where: Mapping[str, str | bool | None], period: ColumnElement[bool]
) -> Select[Any]:
    names = ("at", *DIMENSIONS, *SUMS)
    return select(*(table.c[name] for name in names)).where(conditions(table, where), period)


def totals_query(sums: FromClause) -> Select[Any]:
    """One row: the sums of everything."""
    return select(*(func.sum(sums.c[name]).label(name) for name in SUMS))


def groups_query(sums: FromClause, group_by: Sequence[Dimension], max_groups: int) -> Select[Any]:
    """The dearest groups, one more than ``max_groups``."""
    by = [sums.c["at" if name in _PERIODS else name] for name in group_by]
    # In whole pico-USD: the small parts of many rows are a large one.
    cost = func.sum(sums.c.cost_micros) * 1_000_000 + func.sum(sums.c.cost_picos)
    return (
        select(
            *(part.label(f"by_{name}") for part, name in zip(by, group_by, strict=True)),
            *(func.sum(sums.c[name]).label(name) for name in SUMS),
        )
        .group_by(*by)
        .order_by(cost.desc(), *by)
        .limit(max_groups + 1)
    )


def totals_of(row: RowMapping) -> UsageTotals:
    """The sums of one row of an answer; of nothing they are zero."""

    def number(name: str) -> int:
        return int(row[name] or 0)

    return UsageTotals(
        requests=number("requests"),
        attempts=number("attempts"),
        errors=number("errors"),
        estimated=number("estimated"),
        unknown_costs=number("unknown_costs"),
        usage=Usage(**{name: number(name) for name in BUCKETS}, estimated=number("estimated") > 0),
        cost_usd=money(number("cost_micros"), number("cost_picos")),
        saved_usd=money(number("saved_micros"), number("saved_picos")),
    )


def group_of(row: RowMapping, group_by: Sequence[Dimension]) -> UsageGroup:
    """One group of an answer."""
    by = {name: row[f"by_{name}"] for name in group_by}
    return UsageGroup(
        by={name: None if value == "" else value for name, value in by.items()},
        totals=totals_of(row),
    )

"""When the periods of budgets begin and end. Times are whole microseconds of Unix time."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Final, NamedTuple

from asgi_llm.stores.budgets import BudgetRule

__all__ = ["FOREVER", "GRAINS", "SECOND", "Period", "grain_of", "period_at", "periods_around"]

SECOND: Final = 1_000_000
FOREVER: Final = 2**53 - 1
"""After every time that there will be; a double holds it exactly."""
GRAINS: Final = 720
"""Into how many parts a rolling period is told apart: an hour, for one of 30 days."""
_DAY: Final = 86400 * SECOND
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Period(NamedTuple):
    """A span of time, its end excluded."""

    start: int
    end: int


def grain_of(rule: BudgetRule) -> int:
    """Microseconds of one part of a rolling period."""
    return (rule.days or 1) * _DAY // GRAINS


def period_at(rule: BudgetRule, now: int) -> Period:
    """The period that ``now`` lies in; for ``rolling`` the part of it."""
    if rule.period == "total":
        return Period(0, FOREVER)
    if rule.period == "rolling":
        grain = grain_of(rule)
        start = now // grain * grain
        return Period(start, start + grain)
    zone = zoneinfo.ZoneInfo(rule.time_zone)
    today = (_EPOCH + datetime.timedelta(microseconds=now)).astimezone(zone).date()
    first = _first_day(rule.period, today)
    return Period(_midnight(first, zone), _midnight(_next_first(rule.period, first), zone))


_known: dict[BudgetRule, tuple[int, int, int, int]] = {}
_MOST_KNOWN: Final = 4096


def periods_around(rule: BudgetRule, now: int) -> tuple[int, int, int, int]:
    """Where the period before this one begins, this one, the next one, and the one after that."""
    if rule.period in ("total", "rolling"):
        return 0, 0, FOREVER, FOREVER
    found = _known.get(rule)
    if found is None or not found[1] <= now < found[2]:
        here = period_at(rule, now)
        before = period_at(rule, here.start - 1)
        found = (before.start, *here, period_at(rule, here.end).end)
        if len(_known) >= _MOST_KNOWN:
            _known.pop(next(iter(_known)), None)
        _known[rule] = found
    return found


def _first_day(period: str, day: datetime.date) -> datetime.date:
    if period == "week":
        return day - datetime.timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def _next_first(period: str, first: datetime.date) -> datetime.date:
    if period == "month":
        return (first + datetime.timedelta(days=31)).replace(day=1)
    return first + datetime.timedelta(days=7 if period == "week" else 1)


def _midnight(day: datetime.date, zone: datetime.tzinfo) -> int:
    """The first moment of ``day``.

    Of a midnight that is there twice the first counts; one that is skipped stands for the moment of
    the change (that is what a fold of 0 means).
    """
    moment = datetime.datetime.combine(day, datetime.time(), zone)
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1)

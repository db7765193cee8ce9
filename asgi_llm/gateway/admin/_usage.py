"""Questions to the ledger, as far as their callers may know the answers."""

from __future__ import annotations

import datetime
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, cast

from asgi_llm.errors import PermissionDeniedError
from asgi_llm.gateway.admin._grants import can_see, effective_role
from asgi_llm.gateway.admin._members import not_found
from asgi_llm.gateway.admin._reading import NO_CURSOR, Listing, is_id, unprocessable
from asgi_llm.gateway.admin._records import Caller
from asgi_llm.stores.directory import Directory, Entity, Key, Organization, Team, User
from asgi_llm.stores.ledger_reports import Dimension, LedgerReports, RowPage, UsageSummary
from asgi_llm.types import Principal

__all__ = ["UsageReports", "span_of"]

_KINDS: Final[Mapping[str, type[Entity]]] = {
    "key_id": Key,
    "user_id": User,
    "team_id": Team,
    "organization_id": Organization,
}
_DAY: Final = datetime.timedelta(days=1)
_FIRST: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NOT_WHERE: Final = frozenset(("start_date", "end_date", "group_by", "tag"))


class UsageReports:
    """The ledger on behalf of a caller: a team's admin sees the team's rows, others their own.

    Args:
        ledger: What is asked.
        directory: Who there is.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        ledger: LedgerReports,
        directory: Directory,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._clock = clock

    async def summary(self, caller: Caller, listing: Listing) -> UsageSummary:
        """Sums over a time, in all and by group.

        Raises:
            InvalidRequestError: 404: what is asked for is another's. 422: a bad time.
            PermissionDeniedError: The caller is neither a user nor a key.
        """
        asked = listing.where
        group_by = cast("Sequence[Dimension]", asked.get("group_by", ("model",)))
        start, end = span_of(asked, self._clock())
        for name, at in (("start_date", start), ("end_date", end)):
            if at.minute or at.second or at.microsecond:
                raise unprocessable(name, "expected a whole hour in UTC")
            if at.hour and "day" in group_by:
                raise unprocessable(name, "expected a whole day in UTC, to group by day")
        return await self._ledger.summary(
            start=start,
            end=end,
            where=await self._within(caller.principal, asked),
            tags=asked.get("tag", {}),
            group_by=group_by,
        )

    async def rows(self, caller: Caller, listing: Listing) -> RowPage:
        """Rows newest first, a page at a time.

        Raises:
            InvalidRequestError: 404: what is asked for is another's. 422: a bad time or cursor.
            PermissionDeniedError: The caller is neither a user nor a key.
        """
        start, end = span_of(listing.where, self._clock(), from_first=True)
        where = await self._within(caller.principal, listing.where)
        try:
            return await self._ledger.rows(
                where=where,
                tags=listing.where.get("tag", {}),
                start=start,
                end=end,
                limit=listing.limit,
                after=listing.after,
            )
        except ValueError as error:
            if listing.after is None:
                raise
            raise unprocessable("after", NO_CURSOR) from error

    async def export(self, caller: Caller, listing: Listing) -> AsyncIterator[str]:
        """All rows as lines of CSV, some at a time.

        Raises:
            InvalidRequestError: 404: what is asked for is another's. 422: a bad time.
            PermissionDeniedError: The caller is neither a user nor a key.
        """
        start, end = span_of(listing.where, self._clock(), from_first=True)
        return self._ledger.export_csv(
            where=await self._within(caller.principal, listing.where),
            tags=listing.where.get("tag", {}),
            start=start,
            end=end,
        )

    async def _within(self, principal: Principal, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The filters, with those that keep a caller to their own."""
        where = {name: value for name, value in asked.items() if name not in _NOT_WHERE}
        own = _own(principal)
        for name, kind in _KINDS.items() if own else ():
            id = where.get(name)
            if id is None or own.get(name) == id:
                continue
            if name in own or not await self._is_known(principal, own, name, id):
                raise not_found(kind, name)
        return {**where, **own}

    async def _is_known(
        self, principal: Principal, own: Mapping[str, str], name: str, id: str
    ) -> bool:
        """Whether an id is the caller's, is there for them, or stands in rows that are theirs."""
        if getattr(principal, name) == id:
            return True
        found = await self._directory.get(_KINDS[name], id) if is_id(id) else None
        if found is not None and can_see(principal, found):
            return True
        page = await self._ledger.rows(where={**own, name: id}, limit=1)
        return bool(page.rows)


def _own(principal: Principal) -> dict[str, str]:
    """The filters that keep a caller to their own; none for an admin."""
    role = effective_role(principal)
    if role == "admin":
        return {}
    if role == "team_admin" and principal.team_id is not None:
        return {"team_id": principal.team_id}
    if principal.user_id is not None:
        return {"user_id": principal.user_id}
    if principal.key_id is not None:
        return {"key_id": principal.key_id}
    raise PermissionDeniedError("This takes a user or a key.", code="role_required")


def span_of(
    asked: Mapping[str, Any], now: float, *, from_first: bool = False
) -> tuple[datetime.datetime, datetime.datetime]:
    """From when, and up to when, not included: a day at the end is included whole.

    Args:
        asked: ``start_date`` and ``end_date``, days or times; left out, this month until today.
        now: Unix time in seconds.
        from_first: Where no ``start_date`` is given, begin with the first row there is.

    Raises:
        InvalidRequestError: 422: the start is behind the end.
    """
    today = datetime.datetime.fromtimestamp(now, datetime.UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    given = asked.get("start_date")
    default = _FIRST if from_first else today.replace(day=1)
    begin = default if given is None else _moment(given)
    last = asked.get("end_date", today.date())
    end = _moment(last) + (datetime.timedelta(0) if _is_time(last) else _DAY)
    if given is None and begin > end:
        begin = end.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if begin > end:
        raise unprocessable("start_date", "it is behind end_date")
    return begin, end


def _is_time(value: datetime.date) -> bool:
    return isinstance(value, datetime.datetime)


def _moment(value: datetime.date) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC)
    return datetime.datetime.combine(value, datetime.time(), datetime.UTC)

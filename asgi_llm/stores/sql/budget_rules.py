"""Budgets that are made while a gateway runs, in SQLite or PostgreSQL, and known without asking."""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from asgi_llm._tasks import end
from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.budget_rules import Reach, StoredBudget
from asgi_llm.stores.budgets import PICO, check_budget, to_pico
from asgi_llm.stores.directory import AuditEntry, ConflictError, Page
from asgi_llm.stores.sql._budget_rule_rows import (
    RULES,
    budget_from_row,
    usable_rule,
    values_of,
    within,
)
from asgi_llm.stores.sql._database import Database, IntegrityFailure
from asgi_llm.stores.sql._paging import filtered, following, next_cursor
from asgi_llm.stores.sql._rows import audit_values, is_text, table_of
from asgi_llm.stores.sql.budget_rule_models import BudgetRulesRevision
from asgi_llm.stores.sql.models import AuditRow
from asgi_llm.types import BudgetRule, Principal

__all__ = ["StoredBudgets"]

logger = logging.getLogger(__name__)

_REVISION: Final = table_of(BudgetRulesRevision)
_AUDIT: Final = table_of(AuditRow)
_COLUMNS: Final = {"scope": "scope", "of": "owner", "tag": "tag", "period": "period"}
_CHANGEABLE: Final = frozenset(("name", "amount_usd", "hard", "alert_shares"))
_OF_CALLERS: Final = frozenset(("key", "user", "team", "organization"))


class StoredBudgets:
    """Budgets in the database of ``engine``, which stays its owner's to dispose of.

    ``rules_for`` asks nobody: all budgets are in memory, and are read again in the background when
    somebody has changed them. A database that is away changes nothing of what is known.

    Args:
        engine: As ``open_engine`` gives it, with the schema of ``create_schema``.
        fresh_seconds: After this long it is asked again whether there was a change, above 0.
        max_budgets: How many there may be, at least 1. All are in the memory of every worker:
            budgets of single keys belong to the keys.
        timeout_seconds: For one call, above 0. A write that misses it may have happened.
        clock: Seconds that only grow.

    Raises:
        ConfigurationError: A number is out of range.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        fresh_seconds: float = 2.0,
        max_budgets: int = 10_000,
        timeout_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (0 < fresh_seconds < float("inf")):
            raise ConfigurationError(
                "fresh_seconds must be a number above 0", param="fresh_seconds"
            )
        if max_budgets < 1:
            raise ConfigurationError("max_budgets must be at least 1", param="max_budgets")
        self._max_budgets = max_budgets
        self._database = Database(engine, timeout_seconds=timeout_seconds)
        self._dialect = engine.dialect.name
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._known = _Known(())
        self._revision: int | None = None
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._available = True

    # What requests ask

    @property
    def available(self) -> bool:
        """Whether the database answered when it was last asked."""
        return self._available

    def rules_for(self, principal: Principal) -> Sequence[BudgetRule]:
        """The stored budgets that a request of this caller may concern, from memory.

        Those for models and tags are among them whatever the request is. Call ``ready`` before the
        first request: until then there are none.
        """
        if self._asking is None and self._clock() - self._asked_at >= self._fresh_seconds:
            self._asking = asyncio.get_running_loop().create_task(
                self._ask(), name="refresh-budgets"
            )
        return self._known.rules_for(principal)

    async def ready(self) -> None:
        """Read the budgets, if that was never done.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        if self._revision is None:
            await self.refresh()

    async def refresh(self) -> None:
        """Read the budgets, if they were changed since.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        self._asked_at = self._clock()
        known = self._revision

        async def work(connection: AsyncConnection) -> tuple[int, list[BudgetRule] | None]:
            # The number first: what is written in between is then read twice, and never missed.
            found = (await connection.execute(select(_REVISION.c.number))).scalar()
            revision = int(found or 0)
            if revision == known:
                return revision, None
            rows = (await connection.execute(select(RULES))).mappings().all()
            return revision, [rule for row in rows if (rule := usable_rule(row)) is not None]

        try:
            revision, rules = await self._database.read(work)
        except StoreError:
            self._available = False
            raise
        self._available = True
        if rules is not None and (self._revision is None or revision >= self._revision):
            self._known, self._revision = _Known(rules), revision

    async def _ask(self) -> None:
        was_available = self._available
        try:
            await self.refresh()
        except StoreError as error:
            if was_available:
                logger.warning("budgets are used as they were last known: %s", error.message)
        finally:
            self._asking = None

    async def aclose(self) -> None:
        """End what runs in the background. It may be called again."""
        task = self._asking
        if task is not None:
            await end(task)

    # What is kept

    async def add(self, budget: StoredBudget, audit: AuditEntry) -> None:
        """Add a budget, with its audit entry.

        Raises:
            ConflictError: There is one for the same callers and period, or there are too many.
            ConfigurationError: The rule makes no sense.
            StoreError: The database did not answer in time, or with an error.
        """
        check_budget(budget.rule)
        values, entry = values_of(budget), audit_values(audit)

        async def work(connection: AsyncConnection) -> None:
            await self._count_up(connection)
            count = (await connection.execute(select(func.count()).select_from(RULES))).scalar()
            if (count or 0) >= self._max_budgets:
                raise ConflictError(f"There are {self._max_budgets} budgets already.")
            await connection.execute(insert(RULES).values(values))
            await connection.execute(insert(_AUDIT).values(entry))

        try:
            await self._database.write(work)
        except IntegrityFailure as failure:
            raise ConflictError(
                "There is a budget for the same callers and period already."
                if failure.constraint == "unique"
                else "The database refuses a value that is out of its range."
            ) from None
        self._asked_at = float("-inf")

    async def get(self, id: str, reach: Reach | None = None) -> StoredBudget | None:
        """One budget; None: there is none within ``reach`` (None: everybody's).

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        statement = filtered(select(RULES), RULES, {"id": id})
        if statement is None:
            return None
        if reach is not None:
            statement = statement.where(within(reach))

        async def work(connection: AsyncConnection) -> StoredBudget | None:
            row = (await connection.execute(statement)).mappings().first()
            return None if row is None else budget_from_row(row)

        return await self._database.read(work)

    async def list(
        self,
        *,
        where: Mapping[str, Any],
        limit: int,
        after: str | None = None,
        reach: Reach | None = None,
    ) -> Page:
        """Budgets newest first, whose ``scope``, ``of``, ``tag`` and ``period`` equal ``where``.

        Raises:
            ValueError: An argument is out of range.
            StoreError: The database did not answer in time, or with an error.
        """
        if unknown := sorted(where.keys() - _COLUMNS.keys()):
            raise ValueError(f"{unknown[0]} is none of {', '.join(_COLUMNS)}")
        wanted = {_COLUMNS[field]: value for field, value in where.items()}
        statement = filtered(select(RULES), RULES, wanted)
        if statement is None:
            return Page(items=(), next=None)
        if reach is not None:
            statement = statement.where(within(reach))
        page = following(statement, RULES.c.created_at, RULES.c.id, limit, after)

        async def work(connection: AsyncConnection) -> Page:
            rows = (await connection.execute(page)).mappings().all()
            return Page(
                items=tuple(budget_from_row(row) for row in rows[:limit]),
                next=next_cursor(rows, limit, "created_at"),
            )

        return await self._database.read(work)

    async def update(
        self, id: str, changes: Mapping[str, Any], at: datetime.datetime, audit: AuditEntry
    ) -> StoredBudget | None:
        """Set ``name``, ``amount_usd``, ``hard`` or ``alert_shares``. None: no such id.

        Raises:
            ValueError: Another field is named.
            StoreError: The database did not answer in time, or with an error.
        """
        if unknown := sorted(changes.keys() - _CHANGEABLE):
            raise ValueError(f"{unknown[0]} is none of {', '.join(sorted(_CHANGEABLE))}")
        values: dict[str, Any] = {**changes, "updated_at": at}
        if "amount_usd" in values:
            values["usd"], values["pico"] = divmod(to_pico(values.pop("amount_usd")), PICO)
        if "alert_shares" in values:
            values["alert_shares"] = [str(share) for share in values["alert_shares"]]
        entry = audit_values(audit)
        if not is_text(id):
            return None

        async def work(connection: AsyncConnection) -> StoredBudget | None:
            await self._count_up(connection)
            changed = await connection.execute(update(RULES).where(RULES.c.id == id).values(values))
            if changed.rowcount == 0:
                return None
            await connection.execute(insert(_AUDIT).values(entry))
            row = (await connection.execute(select(RULES).where(RULES.c.id == id))).mappings()
            return budget_from_row(row.one())

        found = await self._database.write(work)
        self._asked_at = float("-inf")
        return found

    async def remove(self, id: str, audit: AuditEntry) -> bool:
        """Remove a budget; False: there is none of that id.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        entry = audit_values(audit)
        if not is_text(id):
            return False

        async def work(connection: AsyncConnection) -> bool:
            await self._count_up(connection)
            gone = await connection.execute(delete(RULES).where(RULES.c.id == id))
            if gone.rowcount == 0:
                return False
            await connection.execute(insert(_AUDIT).values(entry))
            return True

        found = await self._database.write(work)
        self._asked_at = float("-inf")
        return found

    async def _count_up(self, connection: AsyncConnection) -> None:
        """Take the next revision: writers wait here, so numbers are in order of commits."""
        make = postgresql.insert if self._dialect == "postgresql" else sqlite.insert
        statement = make(_REVISION).values(id=1, number=1)
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=["id"], set_={"number": _REVISION.c.number + 1}
            )
        )


class _Known:
    """Budgets as requests look them up."""

    def __init__(self, rules: Iterable[BudgetRule]) -> None:
        common: list[BudgetRule] = []
        single: dict[tuple[str, str], tuple[BudgetRule, ...]] = {}
        for rule in rules:
            if rule.of is not None and rule.scope in _OF_CALLERS:
                place = rule.scope, rule.of
                single[place] = (*single.get(place, ()), rule)
            else:
                common.append(rule)
        self._common = tuple(common)
        self._single = single

    def rules_for(self, principal: Principal) -> tuple[BudgetRule, ...]:
        found = self._common
        if self._single:
            for scope, id in (
                ("key", principal.key_id),
                ("user", principal.user_id),
                ("team", principal.team_id),
                ("organization", principal.organization_id),
            ):
                if id is not None:
                    found += self._single.get((scope, id), ())
        return found

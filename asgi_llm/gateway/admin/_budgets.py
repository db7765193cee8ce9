"""What can be done to stored budgets, for the API and for the command line alike."""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from asgi_llm.errors import InvalidRequestError
from asgi_llm.gateway.admin._grants import effective_role
from asgi_llm.gateway.admin._money_answers import budget_fields
from asgi_llm.gateway.admin._money_bodies import CreateBudget, UpdateBudget, changes_of, rule_of
from asgi_llm.gateway.admin._reading import NO_CURSOR, Listing, is_id, unprocessable
from asgi_llm.gateway.admin._records import Caller
from asgi_llm.stores.budget_rules import BudgetRules, Reach, StoredBudget
from asgi_llm.stores.budgets import BudgetStatus, BudgetStore, demand_of
from asgi_llm.stores.directory import AuditEntry, Page
from asgi_llm.types import Principal

__all__ = ["BudgetManagement"]


class BudgetManagement:
    """Stored budgets as their callers may see and change them.

    Admins change them. Others see those that are for themselves alone: a team's admin also those of
    the team, its users and its keys.

    Args:
        budgets: Where they are kept.
        store: Where spending is kept; None: nobody can tell what is spent.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        budgets: BudgetRules,
        *,
        store: BudgetStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._budgets = budgets
        self._store = store
        self._clock = clock

    async def list(self, caller: Caller, listing: Listing) -> Page:
        """Those that this caller can see, newest first."""
        try:
            return await self._budgets.list(
                where=listing.where,
                limit=listing.limit,
                after=listing.after,
                reach=_reach(caller.principal),
            )
        except ValueError as error:
            if listing.after is None:
                raise
            raise unprocessable("after", NO_CURSOR) from error

    async def get(
        self, caller: Caller, id: str, of: str | None = None
    ) -> tuple[StoredBudget, BudgetStatus | None]:
        """One budget and how it stands.

        Args:
            caller: Who asks.
            id: The budget's.
            of: Whose budget, where each id, model or value of a tag has one of its own.

        Raises:
            InvalidRequestError: 404: there is none that this caller could see. 422: ``of`` is given
                for a budget that is one for all.
        """
        budget = await self._find(caller, id)
        rule = budget.rule
        is_one = rule.of is not None or rule.scope == "everyone"
        if of is not None and is_one:
            raise unprocessable("of", "this budget is a single one")
        if self._store is None or (of is None and not is_one):
            return budget, None
        demand = demand_of(rule, "" if of is None else of)
        [status] = await self._store.spent([demand])
        return budget, status

    async def create(self, caller: Caller, body: CreateBudget) -> StoredBudget:
        """Add a budget.

        Raises:
            InvalidRequestError: 422: a bad value.
            ConflictError: There is one for the same callers and period.
        """
        now = self._now()
        budget = StoredBudget(
            id="budget_" + secrets.token_hex(12),
            name=body.name,
            rule=rule_of(body),
            created_at=now,
            updated_at=now,
        )
        fields = budget_fields(budget)
        changes = {
            name: value
            for name, value in fields.items()
            if value not in (None, []) and name != "id"
        }
        await self._budgets.add(budget, self._entry(caller, "create", budget.id, changes))
        return budget

    async def update(self, caller: Caller, id: str, body: UpdateBudget) -> StoredBudget:
        """Set the fields that ``body`` names; what was spent stays spent.

        Raises:
            InvalidRequestError: 404: no such id. 422: a bad value.
        """
        before = await self._find(caller, id)
        changes = {
            name: value
            for name, value in changes_of(body).items()
            if value != (before.name if name == "name" else getattr(before.rule, name))
        }
        if not changes:
            return before
        shown = {
            name: value if isinstance(value, bool | str | None) else _text(value)
            for name, value in changes.items()
        }
        entry = self._entry(caller, "update", id, shown)
        updated = await self._budgets.update(id, changes, self._now(), entry)
        if updated is None:
            raise _not_found()
        return updated

    async def remove(self, caller: Caller, id: str) -> None:
        """Remove a budget.

        Raises:
            InvalidRequestError: 404: no such id.
        """
        entry = self._entry(caller, "delete", id, {})
        if not is_id(id) or not await self._budgets.remove(id, entry):
            raise _not_found()

    async def _find(self, caller: Caller, id: str) -> StoredBudget:
        found = None
        if is_id(id):
            found = await self._budgets.get(id, _reach(caller.principal))
        if found is None:
            raise _not_found()
        return found

    def _entry(
        self, caller: Caller, action: str, id: str, changes: Mapping[str, Any]
    ) -> AuditEntry:
        return AuditEntry(
            at=self._now(),
            actor=caller.actor,
            action=f"budget.{action}",
            target=f"budget:{id}",
            request_id=caller.request_id,
            changes=changes,
        )

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock(), datetime.UTC)


def _reach(principal: Principal) -> Reach | None:
    """What a caller sees; None: everything."""
    role = effective_role(principal)
    if role == "admin":
        return None
    return Reach(
        key_id=principal.key_id,
        user_id=principal.user_id,
        team_id=principal.team_id if role == "team_admin" else None,
    )


def _text(value: Any) -> Any:
    return [str(one) for one in value] if isinstance(value, tuple) else f"{value:f}"


def _not_found() -> InvalidRequestError:
    return InvalidRequestError("There is no such budget.", code="not_found", status=404)

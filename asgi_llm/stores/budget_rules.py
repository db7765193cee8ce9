"""Budgets that are made while a gateway runs: what is kept of each, and who may see it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from asgi_llm.stores.directory import AuditEntry, Page
from asgi_llm.types import BudgetRule

__all__ = ["BudgetRules", "Reach", "StoredBudget"]


class StoredBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget with what people call it."""

    id: str
    name: str | None = None
    rule: BudgetRule
    created_at: datetime.datetime
    updated_at: datetime.datetime


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """Whose budgets somebody sees who is no admin: those that are for one id, and that their own.

    None reaches nothing.
    """

    key_id: str | None = None
    user_id: str | None = None
    """The user's budgets, and those of the user's keys."""
    team_id: str | None = None
    """The team's budgets, and those of its users and keys."""


class BudgetRules(Protocol):
    """Where budgets are kept. Each write and its audit entry are one transaction.

    Every method may raise ``StoreError``; ``add`` raises ``ConflictError``.
    """

    async def add(self, budget: StoredBudget, audit: AuditEntry) -> None:
        """Add a budget; there is one at most for the same callers and period."""
        ...

    async def get(self, id: str, reach: Reach | None = None) -> StoredBudget | None:
        """One budget; None: there is none within ``reach`` (None: everybody's)."""
        ...

    async def list(
        self,
        *,
        where: Mapping[str, Any],
        limit: int,
        after: str | None = None,
        reach: Reach | None = None,
    ) -> Page:
        """Budgets newest first, whose ``scope``, ``of``, ``tag``, ``period`` equal ``where``."""
        ...

    async def update(
        self, id: str, changes: Mapping[str, Any], at: datetime.datetime, audit: AuditEntry
    ) -> StoredBudget | None:
        """Set ``name``, ``amount_usd``, ``hard`` or ``alert_shares``. None: no such id."""
        ...

    async def remove(self, id: str, audit: AuditEntry) -> bool:
        """Remove a budget. What was spent from it stays noted where spending is kept."""
        ...

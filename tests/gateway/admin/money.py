"""Rows of a ledger and budgets for the tenants of ``world``."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.stores.budget_rules import StoredBudget
from asgi_llm.stores.budgets_memory import MemoryBudgets
from asgi_llm.stores.sql.budget_rules import StoredBudgets
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.types import BudgetRule, Cost
from tests.gateway.admin.world import entry, moment
from tests.stores.ledger.rows import make_row

__all__ = ["COST", "PATIENT_SECONDS", "fill_money", "rule"]

COST = Decimal("0.25")
"""Of each row."""
PATIENT_SECONDS = 60.0
"""No deadline is a subject here, and what hangs is an error all the same."""


def rule(**fields: Any) -> BudgetRule:
    """A budget of 100 USD."""
    return BudgetRule(**{"amount_usd": Decimal(100), **fields})


async def fill_money(engine: AsyncEngine) -> dict[str, Any]:
    """Options of the admin API: a ledger with rows of both tenants, and budgets of each.

    Each user has three rows of 0.25 USD, one a day; one of them was answered by a cache.
    """
    ledger = SQLLedger(engine, timeout_seconds=PATIENT_SECONDS)
    rows = []
    for tenant in ("a", "b"):
        for part in ("boss", "member"):
            for day in range(3):
                rows.append(
                    make_row(
                        f"row_{tenant}_{part}_{day}",
                        at=moment(-day * 86_400 - (part == "boss")),
                        key_id=f"key_{tenant}_{part}",
                        user_id=f"user_{tenant}_{part}",
                        team_id=f"team_{tenant}",
                        organization_id=f"org_{tenant}",
                        model="gpt-4o" if day else "gpt-4o-mini",
                        tags={"project": "apollo" if day else "gemini"},
                        cost=Cost(amount_usd=COST),
                        cached=day == 2,
                        saved_usd=Decimal("0.5") if day == 2 else None,
                    )
                )
    await ledger.record(rows)
    budgets = StoredBudgets(engine, timeout_seconds=PATIENT_SECONDS)
    for id, fields in {
        **{f"budget_team_{one}": {"scope": "team", "of": f"team_{one}"} for one in "ab"},
        **{f"budget_org_{one}": {"scope": "organization", "of": f"org_{one}"} for one in "ab"},
        **{f"budget_user_{one}": {"scope": "user", "of": f"user_{one}_member"} for one in "ab"},
        **{f"budget_key_{one}": {"scope": "key", "of": f"key_{one}_member"} for one in "ab"},
        "budget_all": {"scope": "everyone"},
    }.items():
        at = moment(-50)
        budget = StoredBudget(id=id, rule=rule(**fields), created_at=at, updated_at=at)
        await budgets.add(budget, entry("budget.create", f"budget:{id}"))
    store = MemoryBudgets(clock=lambda: moment().timestamp())
    return {"ledger": ledger, "budgets": budgets, "budget_store": store}

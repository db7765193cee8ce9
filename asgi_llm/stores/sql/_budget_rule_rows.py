"""Stored budgets as rows and back, and which of them somebody sees."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, and_, false, or_, select

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.budget_rules import Reach, StoredBudget
from asgi_llm.stores.budgets import PICO, check_budget, demand_of, from_pico, to_pico
from asgi_llm.stores.sql._rows import table_of
from asgi_llm.stores.sql.budget_rule_models import BudgetRuleRow
from asgi_llm.stores.sql.models import KeyRow, UserRow
from asgi_llm.types import BudgetRule

__all__ = ["RULES", "budget_from_row", "usable_rule", "values_of", "within"]

logger = logging.getLogger(__name__)

RULES: Final = table_of(BudgetRuleRow)


def within(reach: Reach) -> ColumnElement[bool]:
    """What somebody sees who is no admin."""
    scope, owner = RULES.c.scope, RULES.c.owner
    keys: list[ColumnElement[bool]] = []
    users: list[ColumnElement[bool]] = []
    parts: list[ColumnElement[bool]] = []
    if reach.key_id is not None:
        keys.append(owner == reach.key_id)
    if reach.user_id is not None:
        keys.append(owner.in_(select(KeyRow.id).where(KeyRow.user_id == reach.user_id)))
        users.append(owner == reach.user_id)
    if reach.team_id is not None:
        keys.append(owner.in_(select(KeyRow.id).where(KeyRow.team_id == reach.team_id)))
        users.append(owner.in_(select(UserRow.id).where(UserRow.team_id == reach.team_id)))
        parts.append(and_(scope == "team", owner == reach.team_id))
    if keys:
        parts.append(and_(scope == "key", or_(*keys)))
    if users:
        parts.append(and_(scope == "user", or_(*users)))
    return or_(*parts) if parts else false()


def values_of(budget: StoredBudget) -> dict[str, Any]:
    """The columns of a budget."""
    rule = budget.rule
    usd, pico = divmod(to_pico(rule.amount_usd), PICO)
    return {
        "id": budget.id,
        "name": budget.name,
        "identity": demand_of(rule, "").key,
        "scope": rule.scope,
        "owner": rule.of,
        "tag": rule.tag,
        "period": rule.period,
        "days": rule.days,
        "time_zone": rule.time_zone,
        "usd": usd,
        "pico": pico,
        "hard": rule.hard,
        "alert_shares": [str(share) for share in rule.alert_shares],
        "created_at": budget.created_at,
        "updated_at": budget.updated_at,
    }


def budget_from_row(row: RowMapping) -> StoredBudget:
    """The budget that a row stands for."""
    return StoredBudget(
        id=row["id"],
        name=row["name"],
        rule=BudgetRule(
            scope=row["scope"],
            amount_usd=from_pico(row["usd"] * PICO + row["pico"]),
            period=row["period"],
            days=row["days"],
            time_zone=row["time_zone"],
            of=row["owner"],
            tag=row["tag"],
            hard=row["hard"],
            alert_shares=tuple(Decimal(share) for share in row["alert_shares"]),
        ),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def usable_rule(row: RowMapping) -> BudgetRule | None:
    """The rule of a row; None for nonsense, which would stop all requests."""
    try:
        rule = budget_from_row(row).rule
        check_budget(rule)
    except (ConfigurationError, ArithmeticError, TypeError) as error:
        logger.error("the budget %s of the database is not valid: %s", row["id"], error)
        return None
    return rule

"""Costs, rows of the ledger and budgets as JSON. Amounts are texts: every digit, no exponent."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from asgi_llm.pricing import format_usd
from asgi_llm.stores.budget_rules import StoredBudget
from asgi_llm.stores.budgets import BudgetStatus, from_pico, to_pico
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.stores.ledger_reports import UsageSummary, UsageTotals
from asgi_llm.types import Usage

__all__ = [
    "budget_document",
    "budget_fields",
    "budget_listing",
    "row_document",
    "rows_document",
    "summary_document",
]


def summary_document(summary: UsageSummary) -> dict[str, Any]:
    """Sums over a time."""
    return {
        "object": "costs.summary",
        "start": summary.start,
        "end": summary.end,
        "totals": _totals(summary.totals),
        "data": [
            {"by": dict(group.by), "totals": _totals(group.totals)} for group in summary.groups
        ],
        "truncated": summary.truncated,
    }


def _totals(totals: UsageTotals) -> dict[str, Any]:
    return {
        "requests": totals.requests,
        "attempts": totals.attempts,
        "errors": totals.errors,
        "estimated": totals.estimated,
        "unknown_costs": totals.unknown_costs,
        **_tokens(totals.usage),
        "cost_usd": format_usd(totals.cost_usd),
        "saved_usd": format_usd(totals.saved_usd),
    }


def _tokens(usage: Usage) -> dict[str, Any]:
    buckets = msgspec.structs.asdict(usage)
    del buckets["estimated"]
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "usage": buckets,
    }


def rows_document(rows: Sequence[LedgerRow], following: str | None) -> dict[str, Any]:
    """Some rows of the ledger, and the cursor behind them."""
    return {"object": "list", "data": [row_document(row) for row in rows], "next": following}


def row_document(row: LedgerRow) -> dict[str, Any]:
    """One row of the ledger."""
    document: dict[str, Any] = {"object": "usage.row", **msgspec.to_builtins(row)}
    document["saved_usd"] = None if row.saved_usd is None else format_usd(row.saved_usd)
    document["cost"]["amount_usd"] = (
        None if row.cost.amount_usd is None else format_usd(row.cost.amount_usd)
    )
    document["cost"]["parts"] = {
        name: format_usd(amount) for name, amount in row.cost.parts.items()
    }
    return document


def budget_fields(budget: StoredBudget) -> dict[str, Any]:
    """What a budget is."""
    rule = budget.rule
    return {
        "id": budget.id,
        "name": budget.name,
        "scope": rule.scope,
        "of": rule.of,
        "tag": rule.tag,
        "amount_usd": format_usd(rule.amount_usd),
        "period": rule.period,
        "days": rule.days,
        "time_zone": rule.time_zone,
        "hard": rule.hard,
        "alert_shares": [format_usd(share) for share in rule.alert_shares],
    }


def budget_document(budget: StoredBudget, status: BudgetStatus | None = None) -> dict[str, Any]:
    """A budget and, where that is known, how it stands."""
    return {
        "object": "budget",
        **budget_fields(budget),
        "created_at": budget.created_at,
        "updated_at": budget.updated_at,
        "use": None if status is None else _use(budget.rule.amount_usd, status),
    }


def _use(amount_usd: Decimal, status: BudgetStatus) -> dict[str, Any]:
    left = max(0, to_pico(amount_usd) - status.spent - status.reserved)
    ends = status.resets_at
    return {
        "spent_usd": format_usd(from_pico(status.spent)),
        "reserved_usd": format_usd(from_pico(status.reserved)),
        "remaining_usd": format_usd(from_pico(left)),
        "resets_at": None if ends is None else datetime.datetime.fromtimestamp(ends, datetime.UTC),
    }


def budget_listing(budgets: Sequence[StoredBudget], following: str | None) -> dict[str, Any]:
    """Some budgets, without how they stand, and the cursor behind them."""
    data = [budget_document(budget) for budget in budgets]
    for document in data:
        del document["use"]
    return {"object": "list", "data": data, "next": following}

"""The components of the OpenAPI document that tell of costs, usage and budgets."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from asgi_llm.gateway.admin._routes import Part
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.types import BudgetPeriod, BudgetScope, Usage

__all__ = ["MONEY_ANSWERS", "money_schemas"]

MONEY_ANSWERS: Final = {
    "summary": "CostsSummary",
    "rows": "UsageRowList",
    "create_budget": "StoredBudget",
    "list_budgets": "StoredBudgetList",
    "show_budget": "StoredBudget",
    "update_budget": "StoredBudget",
    "delete_budget": "Deleted",
}

_TEMPLATE: Final = "#/components/schemas/{name}"
_AMOUNT: Final = {"type": "string", "examples": ["12.345"], "description": "USD, exactly."}
_COUNT: Final = {"type": "integer", "minimum": 0}
_TIME: Final = {"type": "string", "format": "date-time"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}


def money_schemas(parts: Collection[Part]) -> dict[str, Any]:
    """The schemas of the answers, as far as there are routes for them."""
    schemas: dict[str, Any] = {}
    if "ledger" in parts:
        schemas |= _ledger_schemas()
    if "budgets" in parts:
        schemas |= _budget_schemas()
    return schemas


def _ledger_schemas() -> dict[str, Any]:
    _, found = msgspec.json.schema_components([LedgerRow], ref_template=_TEMPLATE)
    row = found.pop("LedgerRow")
    # The gateway's document has another Usage: the one of OpenAI's answers.
    row["properties"]["usage"] = _schema("UsageBuckets")
    found["UsageBuckets"] = found.pop("Usage")
    row["properties"] = {"object": {"const": "usage.row"}, **row["properties"]}
    buckets = [name for name in Usage.__struct_fields__ if name != "estimated"]
    counts = (
        *("requests", "attempts", "errors", "estimated", "unknown_costs"),
        *("input_tokens", "output_tokens", "total_tokens"),
    )
    totals = {
        **dict.fromkeys(counts, _COUNT),
        "usage": _object(dict.fromkeys(buckets, _COUNT)),
        "cost_usd": _AMOUNT,
        "saved_usd": {**_AMOUNT, "description": "What answers out of a cache would have cost."},
    }
    group = {"by": {"type": "object"}, "totals": _schema("UsageTotals")}
    return {
        **found,
        "UsageRow": row,
        "UsageRowList": _listing("UsageRow"),
        "UsageTotals": _object(totals),
        "CostsSummary": _object(
            {
                "object": {"const": "costs.summary"},
                "start": _TIME,
                "end": {**_TIME, "description": "Not included."},
                "totals": _schema("UsageTotals"),
                "data": {"type": "array", "items": _object(group)},
                "truncated": {
                    "type": "boolean",
                    "description": "There are more groups; the totals hold them all.",
                },
            }
        ),
    }


def _budget_schemas() -> dict[str, Any]:
    use = {
        "spent_usd": _AMOUNT,
        "reserved_usd": _AMOUNT,
        "remaining_usd": _AMOUNT,
        "resets_at": {**_TIME, "type": ["string", "null"]},
    }
    budget = {
        "object": {"const": "budget"},
        "id": {"type": "string"},
        "name": _TEXT_OR_NULL,
        "scope": msgspec.json.schema(BudgetScope),
        "of": _TEXT_OR_NULL,
        "tag": _TEXT_OR_NULL,
        "amount_usd": _AMOUNT,
        "period": msgspec.json.schema(BudgetPeriod),
        "days": {"type": ["integer", "null"]},
        "time_zone": {"type": "string"},
        "hard": {"type": "boolean"},
        "alert_shares": {"type": "array", "items": {"type": "string"}},
        "created_at": _TIME,
        "updated_at": _TIME,
    }
    shown = _object(budget)
    shown["properties"]["use"] = {
        "description": "Null where each id has a budget of its own, or nobody keeps count.",
        "anyOf": [_object(use), {"type": "null"}],
    }
    return {"StoredBudget": shown, "StoredBudgetList": _listing("StoredBudget")}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": dict(properties)}


def _listing(name: str) -> dict[str, Any]:
    return _object(
        {
            "object": {"const": "list"},
            "data": {"type": "array", "items": _schema(name)},
            "next": _TEXT_OR_NULL,
        }
    )


def _schema(name: str) -> dict[str, str]:
    return {"$ref": _TEMPLATE.format(name=name)}

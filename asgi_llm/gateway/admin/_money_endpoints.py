"""From a request about money to what is done, and to its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from asgi_llm.gateway.admin._budgets import BudgetManagement
from asgi_llm.gateway.admin._download import Download, begin_csv
from asgi_llm.gateway.admin._money_answers import (
    budget_document,
    budget_listing,
    rows_document,
    summary_document,
)
from asgi_llm.gateway.admin._money_bodies import CreateBudget, UpdateBudget
from asgi_llm.gateway.admin._requests import Act, Request
from asgi_llm.gateway.admin._routes import Operation
from asgi_llm.gateway.admin._usage import UsageReports

__all__ = ["budget_actions", "usage_actions"]


def usage_actions(reports: UsageReports) -> Mapping[str, Act]:
    """What is done for the routes of the ledger."""

    async def summary(operation: Operation, request: Request) -> Any:
        return summary_document(await reports.summary(request.caller, request.listing))

    async def rows(operation: Operation, request: Request) -> Any:
        page = await reports.rows(request.caller, request.listing)
        return rows_document(page.rows, page.next)

    async def export(operation: Operation, request: Request) -> Download:
        return await begin_csv(await reports.export(request.caller, request.listing))

    return {"summary": summary, "rows": rows, "export": export}


def budget_actions(management: BudgetManagement) -> Mapping[str, Act]:
    """What is done for the routes of budgets."""

    async def create(operation: Operation, request: Request) -> Any:
        body = cast("CreateBudget", request.body)
        return budget_document(await management.create(request.caller, body))

    async def list_budgets(operation: Operation, request: Request) -> Any:
        page = await management.list(request.caller, request.listing)
        return budget_listing(page.items, page.next)

    async def show(operation: Operation, request: Request) -> Any:
        of = request.listing.where.get("of")
        return budget_document(*await management.get(request.caller, request.id, of))

    async def update(operation: Operation, request: Request) -> Any:
        body = cast("UpdateBudget", request.body)
        return budget_document(await management.update(request.caller, request.id, body))

    async def delete(operation: Operation, request: Request) -> Any:
        await management.remove(request.caller, request.id)
        return {"object": "budget", "id": request.id, "deleted": True}

    return {
        "create_budget": create,
        "list_budgets": list_budgets,
        "show_budget": show,
        "update_budget": update,
        "delete_budget": delete,
    }

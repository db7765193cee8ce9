"""The admin API as an app of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import route_path
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.admin._budgets import BudgetManagement
from asgi_llm.gateway.admin._caches import (
    CacheManagement,
    ExactSource,
    SemanticSource,
    cache_actions,
)
from asgi_llm.gateway.admin._endpoints import Endpoint, Limits, Nowhere
from asgi_llm.gateway.admin._forgetting import Invalidate
from asgi_llm.gateway.admin._judge import ReadLimits
from asgi_llm.gateway.admin._management import Management
from asgi_llm.gateway.admin._money_endpoints import budget_actions, usage_actions
from asgi_llm.gateway.admin._requests import Act
from asgi_llm.gateway.admin._routes import ROUTES, Operation, Part
from asgi_llm.gateway.admin._usage import UsageReports
from asgi_llm.stores.budget_rules import BudgetRules
from asgi_llm.stores.budgets import BudgetStore
from asgi_llm.stores.directory import Directory
from asgi_llm.stores.ledger_reports import LedgerReports

__all__ = ["build_admin_app"]


def build_admin_app(
    directory: Directory,
    *,
    invalidate: Invalidate | None = None,
    limit_state: ReadLimits | None = None,
    members_create_keys: bool = False,
    ledger: LedgerReports | None = None,
    budgets: BudgetRules | None = None,
    budget_store: BudgetStore | None = None,
    exact_cache: ExactSource | None = None,
    semantic_cache: SemanticSource | None = None,
    max_body_bytes: int = 65_536,
    body_timeout_seconds: float = 30.0,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Organizations, teams, users, keys, the audit log, costs, budgets, caches under ``/admin``.

    Who is calling is ``state.PRINCIPAL``, which AuthMiddleware or a host sets; without it every
    path is a 401.

    Args:
        directory: Where everything is kept.
        invalidate: Awaited with the digests (32 bytes each) of the keys that a change concerns, as
            ``CachedKeys.invalidate`` is. Left out, caches find out by themselves.
        limit_state: Awaited with a caller: all limits that apply to them, those of their tier too,
            and how each stands. Left out, limits of the directory are told, without their state,
            and a team's admin may set only limits that they have themselves.
        members_create_keys: Whether members may make keys of their own.
        ledger: Answers what was used and what it cost. Left out, there are no such paths.
        budgets: Where budgets are kept that are made here, as in ``StoredBudgets``. Left out, there
            are no such paths.
        budget_store: Where spending is kept, the one of ``CostMiddleware``. Left out, nobody tells
            how a budget stands.
        exact_cache: Has the store and the counts of the exact cache. Where this and the next are
            left out, there are no paths for caches.
        semantic_cache: Has the index, the counts and the policy of the semantic cache.
        max_body_bytes: Cap on a body, at least 1.
        body_timeout_seconds: For a whole body to arrive, above 0.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: A number is out of range.
    """
    if max_body_bytes < 1:
        raise ConfigurationError("max_body_bytes must be at least 1", param="max_body_bytes")
    if not body_timeout_seconds > 0:
        raise ConfigurationError(
            "body_timeout_seconds must be above 0", param="body_timeout_seconds"
        )
    management = Management(
        directory,
        invalidate=invalidate,
        read_limits=limit_state,
        members_create_keys=members_create_keys,
        clock=clock,
    )
    limits = Limits(max_body_bytes, body_timeout_seconds)
    more: dict[str, Act] = {}
    parts: set[Part] = {"directory"}
    if ledger is not None:
        parts.add("ledger")
        more |= usage_actions(UsageReports(ledger, directory, clock=clock))
    if budgets is not None:
        parts.add("budgets")
        more |= budget_actions(BudgetManagement(budgets, store=budget_store, clock=clock))
    if exact_cache is not None or semantic_cache is not None:
        parts.add("caches")
        caches = CacheManagement(directory, exact=exact_cache, semantic=semantic_cache, clock=clock)
        more |= cache_actions(caches)
    paths: dict[str, dict[str, Operation]] = {}
    for operation in ROUTES:
        if operation.part in parts:
            paths.setdefault(operation.path, {})[operation.method] = operation
    routes = [
        Route(path, Endpoint(operations, management, limits, more))
        for path, operations in paths.items()
    ]
    app = Starlette(
        routes=[*routes, Route("/{path:path}", Nowhere())], middleware=[Middleware(_OnePath)]
    )
    # A redirect would go where the Host header says.
    app.router.redirect_slashes = False
    return app


class _OnePath:
    """Lets the router see the path that all layers decide on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {
                **cast("Mapping[str, Any]", scope),
                "path": route_path(scope),
                "root_path": "",
            }
        await self.app(scope, receive, send)

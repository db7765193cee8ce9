"""Budgets of callers' own: those of their keys' records, and those made while the gateway runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from msgspec.structs import replace
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm.errors import StoreError
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.types import BudgetRule, Principal

__all__ = ["OwnBudgets", "WhenReady"]

_MAX_KNOWN: Final = 10_000
_WAIT_SECONDS: Final = 2.0


class OwnBudgets:
    """The budgets that concern a caller beside those of the file; asks nobody.

    Args:
        storage: Where budgets are made while the gateway runs; None: nobody makes any.
        alert_shares: Of budgets that say none themselves.
        deny: Whether nothing passes while it is not known which budgets there are.
    """

    def __init__(self, storage: Any, *, alert_shares: Sequence[Decimal], deny: bool) -> None:
        self._storage = storage
        self._shares = tuple(alert_shares)
        self._deny = deny
        self._known: dict[tuple[BudgetRule, ...], tuple[BudgetRule, ...]] = {}

    def __call__(self, principal: Principal) -> tuple[BudgetRule, ...]:
        """Those of one caller.

        Raises:
            StoreError: They were never read, and that is not to be let through.
        """
        rules = principal.budgets
        if self._storage is not None:
            if self._deny and not self._storage.is_ready:
                raise StoreError("The budgets cannot be checked right now.")
            rules = (*rules, *self._storage.stored_budgets.rules_for(principal))
        if not rules:
            return ()
        found = self._known.get(rules)
        if found is None:
            found = tuple([self._with_shares(rule) for rule in rules])
            if len(self._known) >= _MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[rules] = found
        return found

    def _with_shares(self, rule: BudgetRule) -> BudgetRule:
        return rule if rule.alert_shares else replace(rule, alert_shares=self._shares)


class WhenReady:
    """A layer whose first requests wait a moment for the database that its budgets are in.

    In a host that starts nothing the first request does it. Where the database is away, requests
    wait for two seconds in all, and not each for itself.

    Args:
        app: The layer, which is closed with this one.
        is_ready: Whether there is nothing to wait for.
        prepare: Awaited otherwise; raises StoreError.
        start: Called before the first wait: begins what goes on beside requests, if it has not.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        app: CostMiddleware,
        *,
        is_ready: Callable[[], bool],
        prepare: Callable[[], Awaitable[None]],
        start: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self._is_ready = is_ready
        self._prepare = prepare
        self._start = start
        self._clock = clock
        self._until: float | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or self._is_ready():
            return self.app(scope, receive, send)
        return self._wait(self.app, scope, receive, send)

    async def _wait(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        now = self._clock()
        if self._until is None:
            self._until = now + _WAIT_SECONDS
            self._start()
        try:
            async with asyncio.timeout(max(0.0, self._until - now)):
                await self._prepare()
        except (StoreError, TimeoutError):
            # What becomes of the request is the layer's to decide.
            pass
        await app(scope, receive, send)

    async def aclose(self) -> None:
        """Close the layer."""
        await self.app.aclose()

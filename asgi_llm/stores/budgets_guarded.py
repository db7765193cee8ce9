"""A budget store that may fail without holding up those who ask it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

from asgi_llm.errors import StoreError
from asgi_llm.stores._breaker import Breaker
from asgi_llm.stores.budgets import (
    BudgetDecision,
    BudgetDemand,
    BudgetStatus,
    BudgetStore,
    BudgetUse,
    demand_of,
)
from asgi_llm.types import BudgetRule

__all__ = ["GuardedBudgets"]

T = TypeVar("T")

_RULE: Final = BudgetRule(scope="everyone", amount_usd=Decimal(0), period="total", hard=False)
_PROBE: Final = (demand_of(_RULE, "probe"),)


class GuardedBudgets:
    """Another store with a breaker: while that does not answer, every call fails at once.

    What to do then is the layer's to decide; a settlement that failed is repeated by it.

    Args:
        store: The store to ask, with a deadline of its own. It is closed with this one.
        timeout_seconds: That deadline: whoever calls this store needs none of their own.
        prepare: Awaited before each call, as long as the deadline allows; raises StoreError where
            the store cannot be asked yet.
        failure_threshold: So many failures in a row open the breaker.
        probe_seconds: How often a store that failed is tried again, above 0 and below 5.
        clock: Seconds that never go back.
        sleep: Waits between probes.

    Attributes:
        timeout_seconds: See above.
    """

    def __init__(
        self,
        store: BudgetStore,
        *,
        timeout_seconds: float,
        prepare: Callable[[], Awaitable[None]] | None = None,
        failure_threshold: int = 3,
        probe_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._prepare = prepare
        self.timeout_seconds = timeout_seconds
        self._breaker = Breaker(
            type(store).__name__,
            self._probe,
            failure_threshold=failure_threshold,
            probe_seconds=probe_seconds,
            clock=clock,
            sleep=sleep,
        )

    async def reserve(
        self,
        demands: Sequence[BudgetDemand],
        amount: int,
        *,
        lease: str,
        lease_seconds: float,
        enforce: bool = True,
    ) -> BudgetDecision:
        """Hold ``amount`` on all of ``demands``, or on none of them."""
        return await self._ask(
            lambda: self._store.reserve(
                demands, amount, lease=lease, lease_seconds=lease_seconds, enforce=enforce
            )
        )

    async def renew(
        self, demands: Sequence[BudgetDemand], *, lease: str, lease_seconds: float
    ) -> None:
        """Keep the reservation of ``lease``."""
        await self._ask(
            lambda: self._store.renew(demands, lease=lease, lease_seconds=lease_seconds)
        )

    async def settle(
        self, demands: Sequence[BudgetDemand], *, lease: str, actual: int
    ) -> tuple[BudgetUse, ...]:
        """End the reservation of ``lease`` with what the call cost."""
        return await self._ask(lambda: self._store.settle(demands, lease=lease, actual=actual))

    async def spent(self, demands: Sequence[BudgetDemand]) -> tuple[BudgetStatus, ...]:
        """How ``demands`` stand now."""
        return await self._ask(lambda: self._store.spent(demands))

    @property
    def is_open(self) -> bool:
        """Whether the store is known to be away."""
        return self._breaker.is_open

    def health(self) -> dict[str, Any]:
        """For ``/health/ready``: the breaker's state."""
        return self._breaker.health()

    async def aclose(self) -> None:
        """Stop probing, and close the store."""
        await self._breaker.aclose()
        await self._store.aclose()

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        breaker = self._breaker
        if breaker.is_open:
            breaker.watch()
            raise StoreError("the budgets do not answer")
        try:
            await self._prepared()
            answer = await ask()
        except StoreError as error:
            breaker.failed(error)
            raise
        breaker.succeeded()
        return answer

    async def _probe(self) -> None:
        """Look at a budget of the probe's own."""
        await self._prepared()
        await self._store.spent(_PROBE)

    async def _prepared(self) -> None:
        if self._prepare is None:
            return
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self._prepare()
        except TimeoutError as error:
            raise StoreError("the store of the budgets was not ready in time") from error

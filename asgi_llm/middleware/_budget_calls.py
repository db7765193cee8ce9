"""The calls of a budget store: deadline and failures, leases kept alive, settlements repeated."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from asgi_llm._asgi import go_on
from asgi_llm.errors import StoreError
from asgi_llm.middleware._cost_budgets import BudgetPlan
from asgi_llm.middleware._lease_beats import LeaseBeats
from asgi_llm.stores.budgets import BudgetDecision, BudgetDemand, BudgetStore, BudgetUse
from asgi_llm.stores.budgets_memory import MemoryBudgets

__all__ = ["BudgetCalls", "Settled"]

Settled = Callable[[BudgetPlan, Sequence[BudgetUse]], None]
"""Told of a settlement that was made later than its request ended."""

_MOST_UNSETTLED: Final = 10_000
_REPEAT_SECONDS: Final = 1.0
_LOG_EVERY_SECONDS: Final = 1.0


class _Unsettled(NamedTuple):
    plan: BudgetPlan
    actual: int


class BudgetCalls:
    """What the layer asks of its store.

    Settlements that failed are repeated by one timer for each event loop, which runs only while
    there are any.

    Args:
        store: Where budgets are kept.
        timeout_seconds: Deadline of a call, where the store has none of its own; None: none.
        lease_seconds: How long a reservation outlives a worker that dies.
        clock: Seconds, monotonic.
        logger: Where failures are logged, once a second at most.
        on_settled: Told of each settlement that took more than one try.

    Attributes:
        memory: The store, if it is the memory of this process: it never waits, and is asked by
            whoever needs it at once. What it holds cannot outlive this process: its leases never
            end.
        failures: Calls that failed or missed their deadline.
        lost: Settlements that were given up, because too many waited.
    """

    def __init__(
        self,
        store: BudgetStore,
        *,
        timeout_seconds: float | None,
        lease_seconds: float,
        clock: Callable[[], float],
        logger: logging.Logger,
        on_settled: Settled,
    ) -> None:
        self._store = store
        self._timeout = None if hasattr(store, "timeout_seconds") else timeout_seconds
        self.memory = store if type(store) is MemoryBudgets else None
        # What this process holds in its own memory cannot outlive it, and need not be renewed.
        self._lease_seconds = lease_seconds if self.memory is None else float("inf")
        self._clock = clock
        self._logger = logger
        self._on_settled = on_settled
        self._next_log = -float("inf")
        self._unsettled: OrderedDict[str, _Unsettled] = OrderedDict()
        self._leases: LeaseBeats[Sequence[BudgetDemand]] = LeaseBeats(
            self.renew, self._lease_seconds
        )
        # By the loop that will repeat them, or is at it.
        self._repeats: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None] | None] = (
            WeakKeyDictionary()
        )
        self.failures = 0
        self.lost = 0

    @property
    def unsettled(self) -> int:
        """Settlements that the store has not taken yet."""
        return len(self._unsettled)

    async def reserve(
        self, demands: Sequence[BudgetDemand], amount: int, lease: str, *, enforce: bool
    ) -> BudgetDecision:
        """Hold ``amount`` on all of ``demands``, or on none.

        Raises:
            StoreError: The store failed, or missed the deadline.
        """
        asking = self._store.reserve(
            demands,
            amount,
            lease=lease,
            lease_seconds=self._lease_seconds,
            enforce=enforce,
        )
        try:
            # A store that has the answer gives it in one step: no deadline has to be set up.
            waits_for = asking.send(None)
        except StopIteration as answer:
            decision: BudgetDecision = answer.value
            return decision
        try:
            async with asyncio.timeout(self._timeout):
                return await go_on(asking, waits_for)
        except TimeoutError as error:
            raise StoreError("The store of the budgets did not answer in time.") from error

    def hold(self, lease: str, demands: Sequence[BudgetDemand]) -> None:
        """Keep ``lease`` alive until it is settled."""
        if self.memory is None:
            self._leases.hold(lease, demands)

    def defer(self, plan: BudgetPlan, lease: str, actual: int, error: StoreError) -> None:
        """Settle later what the store has just refused to."""
        self.note(error)
        self._keep(plan, lease, actual)

    async def settle(
        self, plan: BudgetPlan, lease: str, actual: int
    ) -> tuple[BudgetUse, ...] | None:
        """End ``lease``; None: the store did not take it, and is asked again later."""
        self._leases.drop(lease)
        uses = await self._settle(plan.demands, lease, actual)
        if uses is None:
            self._keep(plan, lease, actual)
        return uses

    def _keep(self, plan: BudgetPlan, lease: str, actual: int) -> None:
        if len(self._unsettled) >= _MOST_UNSETTLED:
            self._unsettled.popitem(last=False)
            self.lost += 1
        self._unsettled[lease] = _Unsettled(plan, actual)
        self._repeat_soon()

    async def _settle(
        self, demands: Sequence[BudgetDemand], lease: str, actual: int
    ) -> tuple[BudgetUse, ...] | None:
        try:
            if self.memory is not None:
                return self.memory.settle_at_once(demands, lease, actual)
            async with asyncio.timeout(self._timeout):
                return await self._store.settle(demands, lease=lease, actual=actual)
        except (StoreError, TimeoutError) as error:
            self.note(error)
            return None

    async def repeat(self) -> bool:
        """Settle what was not settled, oldest first; whether nothing is left."""
        while self._unsettled:
            lease, one = next(iter(self._unsettled.items()))
            uses = await self._settle(one.plan.demands, lease, one.actual)
            if uses is None:
                return False
            if self._unsettled.pop(lease, None) is not None:
                self._on_settled(one.plan, uses)
        return True

    async def renew(self, lease: str, demands: Sequence[BudgetDemand]) -> bool:
        """Keep ``lease`` for its whole time from now; whether that went well."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._store.renew(demands, lease=lease, lease_seconds=self._lease_seconds)
        except (StoreError, TimeoutError) as error:
            self.note(error)
            return False
        return True

    def note(self, error: Exception) -> None:
        """Count a failure, and log it if none was logged in the last second."""
        self.failures += 1
        now = self._clock()
        if now >= self._next_log:
            self._next_log = now + _LOG_EVERY_SECONDS
            self._logger.warning(
                "the store of the budgets failed (%d times so far): %s",
                self.failures,
                error or type(error).__name__,
            )

    async def aclose(self) -> None:
        """Renew nothing any more, and settle what can be settled now."""
        self._leases.close()
        if not await self.repeat():
            self._logger.error(
                "%d calls could not be settled with their budgets", len(self._unsettled)
            )

    def _repeat_soon(self) -> None:
        loop = asyncio.get_running_loop()
        if loop not in self._repeats:
            self._repeats[loop] = None
            loop.call_later(_REPEAT_SECONDS, self._start_repeat, loop)

    def _start_repeat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._repeats[loop] = loop.create_task(self._repeat(loop))

    async def _repeat(self, loop: asyncio.AbstractEventLoop) -> None:
        done = await self.repeat()
        del self._repeats[loop]
        if not done:
            self._repeat_soon()

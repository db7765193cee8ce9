"""The calls of a budget store: deadline and failures, leases kept alive, settlements repeated."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from asgi_llm._asgi import go_on
from asgi_llm.errors import StoreError
from asgi_llm.middleware._cost_budgets import BudgetPlan
from asgi_llm.stores.budgets import BudgetDecision, BudgetDemand, BudgetStore, BudgetUse
from asgi_llm.stores.budgets_memory import MemoryBudgets

__all__ = ["BudgetCalls", "Settled"]

Settled = Callable[[BudgetPlan, Sequence[BudgetUse]], None]
"""Told of a settlement that was made later than its request ended."""

_MOST_UNSETTLED: Final = 10_000
_AT_ONCE: Final = 64
_REPEAT_SECONDS: Final = 1.0
_LOG_EVERY_SECONDS: Final = 1.0


class _Unsettled(NamedTuple):
    plan: BudgetPlan
    actual: int


class BudgetCalls:
    """What the layer asks of its store.

    Leases are renewed, and settlements that failed repeated, by one timer for each event loop,
    which runs only while there are any. A lease that ends within a third of its time is never
    renewed.

    Args:
        store: Where budgets are kept.
        timeout_seconds: Deadline of a call, where the store has none of its own; None: none.
        lease_seconds: How long a reservation outlives a worker that dies.
        clock: Seconds, monotonic.
        logger: Where failures are logged, once a second at most.
        on_settled: Told of each settlement that took more than one try.

    Attributes:
        memory: The store, if it is the memory of this process: it never waits.
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
        self._beats: WeakKeyDictionary[asyncio.AbstractEventLoop, _Beat] = WeakKeyDictionary()
        self.failures = 0
        self.lost = 0

    @property
    def unsettled(self) -> int:
        """Settlements that the store has not taken yet."""
        return len(self._unsettled)

    def reserve_at_once(self, demands: Sequence[BudgetDemand], amount: int, lease: str) -> bool:
        """``reserve`` where the store is the memory of this process, and there is room.

        If not, nothing was done, and ``reserve`` is to be asked, which says why.
        """
        memory = self.memory
        if memory is None:
            return False
        try:
            return memory.hold_at_once(demands, amount, lease, self._lease_seconds)
        except StoreError:
            return False

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
        if self.memory is not None:
            return
        beat = self._beat()
        beat.leases[lease] = demands
        beat.arm()

    def settle_at_once(
        self, plan: BudgetPlan, lease: str, actual: int
    ) -> tuple[BudgetUse, ...] | None:
        """``settle`` where the store is the memory of this process."""
        if self.memory is None:
            raise TypeError("this store may have to be waited for")
        try:
            return self.memory.settle_at_once(plan.demands, lease, actual)
        except StoreError as error:
            self.note(error)
            self._keep(plan, lease, actual)
            return None

    async def settle(
        self, plan: BudgetPlan, lease: str, actual: int
    ) -> tuple[BudgetUse, ...] | None:
        """End ``lease``; None: the store did not take it, and is asked again later."""
        beat = self._beats.get(asyncio.get_running_loop())
        if beat is not None:
            beat.leases.pop(lease, None)
        uses = await self._settle(plan.demands, lease, actual)
        if uses is None:
            self._keep(plan, lease, actual)
        return uses

    def _keep(self, plan: BudgetPlan, lease: str, actual: int) -> None:
        if len(self._unsettled) >= _MOST_UNSETTLED:
            self._unsettled.popitem(last=False)
            self.lost += 1
        self._unsettled[lease] = _Unsettled(plan, actual)
        self._beat().repeat_soon()

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
        for beat in self._beats.values():
            beat.leases.clear()
        if not await self.repeat():
            self._logger.error(
                "%d calls could not be settled with their budgets", len(self._unsettled)
            )

    def _beat(self) -> _Beat:
        loop = asyncio.get_running_loop()
        beat = self._beats.get(loop)
        if beat is None:
            beat = self._beats[loop] = _Beat(self, self._lease_seconds / 3)
        return beat


class _Beat:
    """The heartbeat of one event loop."""

    # Neither the loop nor its timers are kept: the loop is the weak key that leads here.
    __slots__ = ("_calls", "_interval", "_is_armed", "_repeats", "_seen", "_tasks", "leases")

    def __init__(self, calls: BudgetCalls, interval_seconds: float) -> None:
        self._calls = calls
        self._interval = interval_seconds
        self._is_armed = self._repeats = False
        self._seen: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.leases: dict[str, Sequence[BudgetDemand]] = {}

    def arm(self) -> None:
        """See to it that leases are renewed."""
        if not self._is_armed:
            self._is_armed = True
            loop = asyncio.get_running_loop()
            loop.call_later(self._interval, self._tick, loop)

    def repeat_soon(self) -> None:
        """See to it that settlements are made again."""
        if not self._repeats:
            self._repeats = True
            loop = asyncio.get_running_loop()
            loop.call_later(_REPEAT_SECONDS, self._start, loop, self._repeat)

    def _start(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        task = loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _repeat(self) -> None:
        done = await self._calls.repeat()
        self._repeats = False
        if not done:
            self.repeat_soon()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_armed = False
        due = [lease for lease in self._seen if lease in self.leases]
        self._seen = list(self.leases)
        if due:
            self._start(loop, partial(self._renew, due))
        elif self.leases:
            self.arm()

    async def _renew(self, due: list[str]) -> None:
        try:
            for at in range(0, len(due), _AT_ONCE):
                renewals = [
                    self._calls.renew(lease, self.leases[lease])
                    for lease in due[at : at + _AT_ONCE]
                    if lease in self.leases
                ]
                if not all(await asyncio.gather(*renewals)):
                    # A store in trouble gets the rest of the lease to come back.
                    return
        finally:
            self.arm()

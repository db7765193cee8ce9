"""Budgets in the memory of one process."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._budget_periods import GRAINS, SECOND, period_at
from asgi_llm.stores.budgets import (
    BudgetDecision,
    BudgetDemand,
    BudgetRule,
    BudgetStatus,
    BudgetUse,
)

__all__ = ["MemoryBudgets"]


_Hold = tuple[int, int, float]
"""What one request reserved of one budget: amount, start of the period, deadline."""


class _Account:
    """One budget of one owner."""

    __slots__ = ("end", "holds", "next_lapse", "parts", "reserved", "spent", "start")

    def __init__(self, rule: BudgetRule, now: int) -> None:
        self.start, self.end = period_at(rule, now)
        self.spent = self.reserved = 0
        self.holds: dict[str, _Hold] = {}
        self.next_lapse = inf  # nothing lapses before this; it may be later
        # Of a rolling period: [where a part begins, what was spent in it], oldest first.
        self.parts: deque[list[int]] | None = deque() if rule.period == "rolling" else None

    def advance(self, rule: BudgetRule, now: int) -> None:
        """Begin a new period, and let reservations lapse, where their time has come."""
        if now >= self.end:
            self.start, self.end = period_at(rule, now)
            if self.parts is None:
                # What was reserved before is paid for by the period in which it was.
                self.spent = self.reserved = 0
            else:
                horizon = self.start - GRAINS * (self.end - self.start)
                while self.parts and self.parts[0][0] < horizon:
                    self.spent -= self.parts.popleft()[1]
        if self.next_lapse <= now:
            for lease in [lease for lease, hold in self.holds.items() if hold[2] <= now]:
                amount, start, _ = self.holds.pop(lease)
                if self.parts is not None or start == self.start:
                    self.reserved -= amount
            self.next_lapse = min([hold[2] for hold in self.holds.values()], default=inf)

    def add(self, amount: int) -> None:
        """Spend ``amount``."""
        self.spent += amount
        parts = self.parts
        if parts is not None and amount:
            if parts and parts[-1][0] == self.start:
                parts[-1][1] += amount
            else:
                parts.append([self.start, amount])


class MemoryBudgets:
    """A ``BudgetStore`` for one process; all budgets of a request are decided in one step.

    It is for one event loop. What was spent is forgotten with the process.

    Args:
        clock: Unix time in seconds. Periods do not go back when it does.
        max_entries: How many budgets of owners are remembered, at least 1. Those whose period is
            over make room; where none is, a reservation that needs one more raises StoreError.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.time, max_entries: int = 100_000
    ) -> None:
        if max_entries < 1:
            raise ConfigurationError("max_entries must be at least 1", param="max_entries")
        self._clock = clock
        self._max_entries = max_entries
        self._latest = 0
        self._accounts: dict[str, _Account] = {}

    def __len__(self) -> int:
        """How many budgets of owners are remembered."""
        return len(self._accounts)

    async def reserve(
        self,
        demands: Sequence[BudgetDemand],
        amount: int,
        *,
        lease: str,
        lease_seconds: float,
        enforce: bool = True,
    ) -> BudgetDecision:
        """Hold ``amount`` on all of ``demands``, or on none of them.

        Raises:
            StoreError: ``max_entries`` budgets are in use, and this needs one more.
        """
        now = self._now()
        accounts = [self._account(demand, now) for demand in demands]
        statuses = []
        refused_by = None
        for place, (demand, account) in enumerate(zip(demands, accounts, strict=True)):
            statuses.append(_status(demand.rule, account))
            if (
                amount
                and refused_by is None
                and demand.rule.hard
                and account.spent + account.reserved + amount > demand.limit
            ):
                refused_by = place
        if refused_by is None or not enforce:
            deadline = now + lease_seconds * SECOND
            for account in accounts:
                account.holds[lease] = (amount, account.start, deadline)
                account.reserved += amount
                account.next_lapse = min(account.next_lapse, deadline)
        return BudgetDecision(refused_by is None, refused_by, tuple(statuses))

    def hold_at_once(
        self, demands: Sequence[BudgetDemand], amount: int, lease: str, lease_seconds: float = inf
    ) -> bool:
        """``reserve`` for the usual answer, without a coroutine or a decision.

        Returns:
            Whether ``amount`` is held; if not, nothing was done, and ``reserve`` says why.

        Raises:
            StoreError: As for ``reserve``.
        """
        now = self._now()
        deadline = now + lease_seconds * 1e6
        known = self._accounts
        for held, demand in enumerate(demands):
            account = known.get(demand.key)
            if account is None or now >= account.end or now >= account.next_lapse:
                try:
                    account = self._account(demand, now)
                except StoreError:
                    self._take_back(demands[:held], lease)
                    raise
            reserved = account.reserved + amount
            if account.spent + reserved > demand.limit and amount and demand.rule.hard:
                self._take_back(demands[:held], lease)
                return False
            account.holds[lease] = (amount, account.start, deadline)
            account.reserved = reserved
            if deadline < account.next_lapse:
                account.next_lapse = deadline
        return True

    def _take_back(self, demands: Sequence[BudgetDemand], lease: str) -> None:
        """Undo what the step that is under way has held."""
        for demand in demands:
            account = self._accounts[demand.key]
            account.reserved -= account.holds.pop(lease)[0]

    async def renew(
        self, demands: Sequence[BudgetDemand], *, lease: str, lease_seconds: float
    ) -> None:
        """Keep the reservation of ``lease``; one that has lapsed stays so."""
        now = self._now()
        for demand in demands:
            account = self._accounts.get(demand.key)
            if account is not None:
                account.advance(demand.rule, now)
                hold = account.holds.get(lease)
                if hold is not None:
                    account.holds[lease] = (hold[0], hold[1], now + lease_seconds * SECOND)

    async def settle(
        self, demands: Sequence[BudgetDemand], *, lease: str, actual: int
    ) -> tuple[BudgetUse, ...]:
        """End the reservation of ``lease`` with what the call cost.

        The answer is always there, so there is no need to settle a lease twice.

        Raises:
            StoreError: A budget was forgotten meanwhile, and there is no room.
        """
        return self.settle_at_once(demands, lease, actual)

    def settle_at_once(
        self, demands: Sequence[BudgetDemand], lease: str, actual: int, tells: bool = True
    ) -> tuple[BudgetUse, ...]:
        """``settle`` without a coroutine.

        Args:
            demands: As for ``settle``.
            lease: As for ``settle``.
            actual: As for ``settle``.
            tells: Whether the uses are wanted.

        Raises:
            StoreError: As for ``settle``.
        """
        now = self._now()
        known = self._accounts
        uses = []
        for demand in demands:
            account = known.get(demand.key)
            if account is None or now >= account.end or now >= account.next_lapse:
                account = self._account(demand, now)
            hold = account.holds.pop(lease, None)
            before = account.spent
            if hold is None:
                account.add(actual)
            elif account.parts is not None:
                account.reserved -= hold[0]
                account.add(actual)
            elif hold[1] == account.start:
                account.reserved -= hold[0]
                account.spent = before + actual
            if tells:
                uses.append(BudgetUse(before, account.spent))
        return tuple(uses)

    async def spent(self, demands: Sequence[BudgetDemand]) -> tuple[BudgetStatus, ...]:
        """How ``demands`` stand now."""
        now = self._now()
        return tuple([_status(demand.rule, self._known(demand, now)) for demand in demands])

    async def aclose(self) -> None:
        """Nothing is open."""

    def _now(self) -> int:
        seconds = self._clock()
        now = int(seconds * 1e6 + 0.5)
        if now > self._latest:
            self._latest = now
        return self._latest

    def _known(self, demand: BudgetDemand, now: int) -> _Account:
        account = self._accounts.get(demand.key)
        if account is None:
            return _Account(demand.rule, now)
        account.advance(demand.rule, now)
        return account

    def _account(self, demand: BudgetDemand, now: int) -> _Account:
        account = self._accounts.get(demand.key)
        if account is None:
            if len(self._accounts) >= self._max_entries:
                self._make_room(now)
            account = self._accounts[demand.key] = _Account(demand.rule, now)
        elif now >= account.end or now >= account.next_lapse:
            account.advance(demand.rule, now)
        return account

    def _make_room(self, now: int) -> None:
        """Forget budgets whose period is over, oldest first: a tenth of all at a time."""
        over = [
            (account.end, key)
            for key, account in self._accounts.items()
            if account.end <= now and not account.holds and account.parts is None
        ]
        for _, key in heapq.nsmallest(max(1, self._max_entries // 10), over):
            del self._accounts[key]
        if len(self._accounts) >= self._max_entries:
            raise StoreError(f"the store holds {self._max_entries} budgets, all of them in use")


def _status(rule: BudgetRule, account: _Account) -> BudgetStatus:
    resets_at = account.end / SECOND if rule.period not in ("rolling", "total") else None
    return BudgetStatus(account.spent, account.reserved, resets_at)

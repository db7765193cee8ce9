"""Budgets in the memory of one process."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._budget_periods import GRAINS, SECOND, period_at
from asgi_llm.stores._clock import read_clock
from asgi_llm.stores.budgets import (
    BudgetDecision,
    BudgetDemand,
    BudgetRule,
    BudgetStatus,
    BudgetUse,
)

__all__ = ["MemoryBudgets"]


# Amounts below it are numbers of C, and so is the sum of four of them. What is not small is kept
# beside, and all of it is exact.
_SMALL_BITS = 60
_SMALL: Final = 2**60


class _Hold:
    """What one request reserved of one budget."""

    __slots__ = ("amount", "deadline", "more", "start")

    amount: int
    """If that is small."""
    more: int
    """If not."""
    start: int
    """Of the period."""
    deadline: float


class _Account:
    """One budget of one owner."""

    __slots__ = (
        "demand",
        "end",
        "holds",
        "limit",
        "more",
        "more_reserved",
        "next_lapse",
        "parts",
        "reserved",
        "room",
        "rule",
        "spent",
        "start",
    )

    def __init__(self, demand: BudgetDemand, now: int) -> None:
        self.start, self.end = period_at(demand.rule, now)
        self.spent = self.reserved = 0
        # What is not small of both.
        self.more = self.more_reserved = 0
        self.holds: dict[str, _Hold] = {}
        self.next_lapse = inf  # nothing lapses before this; it may be later
        # Of a rolling period: [where a part begins, what was spent in it], oldest first.
        self.parts: deque[list[int]] | None = deque() if demand.rule.period == "rolling" else None
        self.demand, self.rule, self.limit = demand, demand.rule, demand.limit
        self._measure()

    def heed(self, demand: BudgetDemand) -> None:
        """Have the limit of ``demand`` from now on."""
        if demand.rule is not self.rule or demand.limit != self.limit:
            self.rule, self.limit = demand.rule, demand.limit
            self._measure()
        self.demand = demand

    def _measure(self) -> None:
        """Find how much of what is small has room."""
        room = self.limit - self.more - self.more_reserved
        # All that is small together is always less than that.
        most = 4 * _SMALL
        self.room = most if not self.rule.hard or room > most else max(room, -1)

    def _fold(self) -> None:
        """What has become large is no longer small."""
        self.more += self.spent
        self.more_reserved += self.reserved
        self.spent = self.reserved = 0
        self._measure()

    def total(self) -> int:
        """What was spent."""
        return self.more + self.spent

    def total_reserved(self) -> int:
        """What is reserved."""
        return self.more_reserved + self.reserved

    def has_room(self, amount: int) -> bool:
        """Whether the budget does not refuse ``amount``."""
        if not amount or not self.rule.hard:
            return True
        return self.total() + self.total_reserved() + amount <= self.limit

    def keep(self, lease: str, amount: int, deadline: float, force: bool = False) -> bool:
        """Reserve ``amount``, if there is room or if it has to be; whether there is room."""
        small = 0
        if amount < _SMALL:
            small = amount
            has_room = not small or self.spent + self.reserved + small <= self.room
        else:
            has_room = self.has_room(amount)
        if not (has_room or force):
            return False
        hold = _Hold.__new__(_Hold)
        hold.start = self.start
        hold.deadline = deadline
        hold.amount = small
        self.reserved += small
        if small or not amount:
            hold.more = 0
            if self.reserved >> _SMALL_BITS:
                self._fold()
        else:
            hold.more = amount
            self.more_reserved += amount
            self._measure()
        self.holds[lease] = hold
        if deadline < self.next_lapse:
            self.next_lapse = deadline
        return has_room

    def free(self, hold: _Hold) -> None:
        """Reserve no longer what a hold did that was taken out."""
        if hold.more or hold.amount > self.reserved:
            # It was small, and the sum was not.
            self.more_reserved -= hold.more + hold.amount
            self._measure()
        else:
            self.reserved -= hold.amount

    def settle(self, lease: str, actual: int) -> None:
        """End the reservation of ``lease`` with what its call cost."""
        hold = self.holds.pop(lease, None)
        if hold is not None and (self.parts is not None or hold.start == self.start):
            self.free(hold)
        elif hold is not None:
            # It belongs to a period that is over.
            return
        if self.parts is None and actual < _SMALL:
            small = actual
            self.spent += small
            if self.spent >> _SMALL_BITS:
                self._fold()
        else:
            self.add(actual)

    def add(self, amount: int) -> None:
        """Spend ``amount``."""
        self.more += amount
        self._measure()
        parts = self.parts
        if parts is not None and amount:
            if parts and parts[-1][0] == self.start:
                parts[-1][1] += amount
            else:
                parts.append([self.start, amount])

    def advance(self, rule: BudgetRule, now: int) -> None:
        """Begin a new period, and let reservations lapse, where their time has come."""
        if now >= self.end:
            self.start, self.end = period_at(rule, now)
            if self.parts is None:
                # What was reserved before is paid for by the period in which it was.
                self.spent = self.reserved = 0
                self.more = self.more_reserved = 0
            else:
                horizon = self.start - GRAINS * (self.end - self.start)
                while self.parts and self.parts[0][0] < horizon:
                    self.more -= self.parts.popleft()[1]
            self._measure()
        if self.next_lapse <= now:
            for lease in [lease for lease, hold in self.holds.items() if hold.deadline <= now]:
                hold = self.holds.pop(lease)
                if self.parts is not None or hold.start == self.start:
                    self.free(hold)
            self.next_lapse = min([hold.deadline for hold in self.holds.values()], default=inf)

    def is_over(self, now: int) -> bool:
        """Whether all that was spent or held counts no more."""
        for hold in self.holds.values():
            if hold.deadline > now:
                return False
        parts = self.parts
        if parts is None:
            return self.end <= now
        return not parts or parts[-1][0] + (GRAINS + 1) * (self.end - self.start) <= now


class MemoryBudgets:
    """A ``BudgetStore`` for one process; all budgets of a request are decided in one step.

    It is for one event loop. What was spent is forgotten with the process.

    Args:
        clock: Unix time in seconds. Periods do not go back when it does.
        max_entries: How many budgets of owners are remembered, at least 1. Those whose period is
            over make room, or of whose rolling period nothing counts any more; where none is, a
            reservation that needs one more raises StoreError.
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
        accounts = [self._account(demand, now, demands) for demand in demands]
        statuses = []
        refused_by = None
        for place, (demand, account) in enumerate(zip(demands, accounts, strict=True)):
            statuses.append(_status(demand.rule, account))
            if account.demand is not demand:
                account.heed(demand)
            if refused_by is None and not account.has_room(amount):
                refused_by = place
        if refused_by is None or not enforce:
            deadline = now + lease_seconds * SECOND
            for account in accounts:
                account.keep(lease, amount, deadline, True)
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
        every = tuple(demands)
        for held, demand in enumerate(every):
            account = self._find(demand, now)
            if account is None:
                try:
                    account = self._account(demand, now, every)
                except StoreError:
                    self._take_back(every[:held], lease)
                    raise
            if account.demand is not demand:
                account.heed(demand)
            if not account.keep(lease, amount, deadline):
                self._take_back(every[:held], lease)
                return False
        return True

    def _take_back(self, demands: Sequence[BudgetDemand], lease: str) -> None:
        """Undo what the step that is under way has held."""
        for demand in demands:
            account = self._accounts[demand.key]
            account.free(account.holds.pop(lease))

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
                    hold.deadline = now + lease_seconds * SECOND
                    account.next_lapse = min(account.next_lapse, hold.deadline)

    async def settle(
        self, demands: Sequence[BudgetDemand], *, lease: str, actual: int
    ) -> tuple[BudgetUse, ...]:
        """End the reservation of ``lease`` with what the call cost.

        The answer is always there, so there is no need to settle a lease twice.

        Raises:
            StoreError: A budget was forgotten meanwhile, and there is no room. Nothing was settled.
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
        # All are there before the first is changed: what raises has settled nothing.
        accounts = [self._account(demand, now, demands) for demand in demands]
        if not tells:
            for account in accounts:
                account.settle(lease, actual)
            return ()
        uses = []
        for account in accounts:
            before = account.total()
            account.settle(lease, actual)
            uses.append(BudgetUse(before, account.total()))
        return tuple(uses)

    async def spent(self, demands: Sequence[BudgetDemand]) -> tuple[BudgetStatus, ...]:
        """How ``demands`` stand now."""
        now = self._now()
        return tuple([_status(demand.rule, self._known(demand, now)) for demand in demands])

    async def aclose(self) -> None:
        """Nothing is open."""

    def _now(self) -> int:
        seconds = read_clock(self._clock)
        now = int(seconds * 1e6 + 0.5)
        if now > self._latest:
            self._latest = now
        return self._latest

    def _known(self, demand: BudgetDemand, now: int) -> _Account:
        account = self._accounts.get(demand.key)
        if account is None:
            return _Account(demand, now)
        account.advance(demand.rule, now)
        return account

    def _find(self, demand: BudgetDemand, now: int) -> _Account | None:
        """The account as it is; None: it is to be made, or brought up to date."""
        account = self._accounts.get(demand.key)
        if account is None or now >= account.end or now >= account.next_lapse:
            return None
        return account

    def _account(self, demand: BudgetDemand, now: int, demands: Sequence[BudgetDemand]) -> _Account:
        """The account of one of ``demands``, up to date."""
        account = self._accounts.get(demand.key)
        if account is None:
            if len(self._accounts) >= self._max_entries:
                self._make_room(now, demands)
            account = self._accounts[demand.key] = _Account(demand, now)
        elif now >= account.end or now >= account.next_lapse:
            account.advance(demand.rule, now)
        return account

    def _make_room(self, now: int, demands: Sequence[BudgetDemand]) -> None:
        """Forget budgets that are over, oldest first: a tenth of all at a time.

        None of ``demands``: whoever asks has some of their accounts already.
        """
        asked = {demand.key for demand in demands}
        over = [
            (account.end, key)
            for key, account in self._accounts.items()
            if account.is_over(now) and key not in asked
        ]
        for _, key in heapq.nsmallest(max(1, self._max_entries // 10), over):
            del self._accounts[key]
        if len(self._accounts) >= self._max_entries:
            raise StoreError(f"the store holds {self._max_entries} budgets, all of them in use")


def _status(rule: BudgetRule, account: _Account) -> BudgetStatus:
    resets_at = account.end / SECOND if rule.period not in ("rolling", "total") else None
    return BudgetStatus(account.total(), account.total_reserved(), resets_at)

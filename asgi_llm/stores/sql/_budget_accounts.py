"""Budgets as a transaction sees them: what is read first, decided in memory, and written last."""

from __future__ import annotations

from collections import Counter
from typing import Final

from asgi_llm.stores._budget_periods import GRAINS, SECOND, Period
from asgi_llm.stores.budgets import BudgetRule, BudgetStatus

__all__ = ["KEEP_US", "Account", "Hold"]

KEEP_US: Final = 60 * SECOND
"""How long a lease that is settled, or has lapsed, is remembered."""


class Hold:
    """What one request reserved of one budget.

    Attributes:
        start: Where the period begins in which it did.
        amount: In pico-USD.
        deadline: When it lapses, or is forgotten once it is settled.
        settled: Whether it counts no more.
        changed: Whether it has to be written.
    """

    __slots__ = ("amount", "changed", "deadline", "settled", "start")

    def __init__(
        self, start: int, amount: int = 0, deadline: int = 0, *, settled: bool = False
    ) -> None:
        self.start = start
        self.amount = amount
        self.deadline = deadline
        self.settled = settled
        self.changed = False


class Account:
    """One budget of one owner.

    Args:
        rule: The budget.
        period: The one of now.
        known_start: Where the latest period that the database knows begins.

    Attributes:
        first: Spending from here on counts.
        first_hold: Reservations from here on count.
        spent: What counts, in pico-USD.
        reserved: By calls that are under way.
        added: What this transaction spends, by the start of its period.
    """

    __slots__ = (
        "added",
        "first",
        "first_hold",
        "is_rolling",
        "known_start",
        "period",
        "reserved",
        "rule",
        "spent",
    )

    def __init__(self, rule: BudgetRule, period: Period, known_start: int) -> None:
        self.rule = rule
        self.period = period
        self.known_start = known_start
        self.is_rolling = rule.period == "rolling"
        length = period.end - period.start
        self.first = period.start - GRAINS * length if self.is_rolling else period.start
        self.first_hold = 0 if self.is_rolling else period.start
        self.spent = self.reserved = 0
        self.added: Counter[int] = Counter()

    def counts(self, start: int) -> bool:
        """Whether what was held in the period from ``start`` on counts now."""
        return self.is_rolling or start == self.period.start

    def spend(self, amount: int, start: int) -> None:
        """Add ``amount`` to the period in which its call began."""
        if self.is_rolling:
            start = self.period.start
        self.added[start] += amount
        if start == self.period.start:
            self.spent += amount

    def status(self) -> BudgetStatus:
        """How it stands."""
        has_end = self.rule.period not in ("rolling", "total")
        return BudgetStatus(
            self.spent, self.reserved, self.period.end / SECOND if has_end else None
        )

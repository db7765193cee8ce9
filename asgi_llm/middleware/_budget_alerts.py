"""Telling somebody that a share of a budget is reached."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from asgi_llm._tasks import end
from asgi_llm.middleware._cost_budgets import Concerned
from asgi_llm.pricing import format_usd
from asgi_llm.stores.budgets import BudgetPeriod, BudgetScope, BudgetUse, from_pico

__all__ = ["Alerts", "BudgetAlert", "Notify"]

_MOST_AT_ONCE: Final = 100


class BudgetAlert(msgspec.Struct, frozen=True, kw_only=True):
    """A share of a budget has been reached. For operators: it names the budget's owner."""

    scope: BudgetScope
    owner: str
    """Id of the key, user, team or organization; the model, or the tag's value; or a pattern."""
    tag: str | None
    period: BudgetPeriod
    share: Decimal
    amount_usd: Decimal
    spent_usd: Decimal
    hard: bool
    at: datetime.datetime

    @property
    def text(self) -> str:
        """One sentence."""
        name = f"{self.scope} {self.tag}={self.owner}" if self.tag else f"{self.scope} {self.owner}"
        spent = format_usd(self.spent_usd.quantize(Decimal("0.01")))
        percent = format_usd(self.share * 100)
        return (
            f"{percent} % of the budget of {name.strip()} is spent: {spent} of "
            f"{format_usd(self.amount_usd)} USD ({self.period})"
        )


Notify = Callable[[BudgetAlert], Awaitable[None]]
"""Tells somebody. What it raises is logged; the alert is then gone."""


class Alerts:
    """Logs alerts and hands them on, beside the requests that caused them.

    Args:
        notify: Who is told; None: the log alone.
        now: The time, aware.
        logger: Where alerts are logged, as warnings.

    Attributes:
        dropped: Alerts that were only logged, because too many were under way.
    """

    def __init__(
        self,
        notify: Notify | None,
        *,
        now: Callable[[], datetime.datetime],
        logger: logging.Logger,
    ) -> None:
        self._notify = notify
        self._now = now
        self._logger = logger
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0

    def check(self, concerned: Sequence[Concerned], uses: Sequence[BudgetUse]) -> None:
        """Raise the alerts that a settlement causes."""
        for one, use in zip(concerned, uses, strict=True):
            for amount, share, rule in one.alerts:
                if use.before < amount <= use.after:
                    self._raise(
                        BudgetAlert(
                            scope=rule.scope,
                            owner=one.owner,
                            tag=rule.tag,
                            period=rule.period,
                            share=share,
                            amount_usd=rule.amount_usd,
                            spent_usd=from_pico(use.after),
                            hard=rule.hard,
                            at=self._now(),
                        )
                    )

    def _raise(self, alert: BudgetAlert) -> None:
        self._logger.warning("%s", alert.text)
        if self._notify is None:
            return
        if len(self._tasks) >= _MOST_AT_ONCE:
            self.dropped += 1
            return
        task = asyncio.get_running_loop().create_task(self._tell(self._notify, alert))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, notify: Notify, alert: BudgetAlert) -> None:
        try:
            await notify(alert)
        except Exception as error:
            # Its text may hold the address of a webhook, which can be a secret of its own.
            self._logger.error("nobody was told of an alert: %s", type(error).__name__)

    async def aclose(self) -> None:
        """Give up what is under way on this loop."""
        loop = asyncio.get_running_loop()
        await end(*(task for task in self._tasks if task.get_loop() is loop))

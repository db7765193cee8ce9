"""Budgets that all processes share, kept in Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores._budget_periods import SECOND, grain_of, periods_around
from asgi_llm.stores._redis_client import connect
from asgi_llm.stores._redis_pipeline import Batch, ScriptPipeline
from asgi_llm.stores.budgets import (
    PICO,
    BudgetDecision,
    BudgetDemand,
    BudgetRule,
    BudgetStatus,
    BudgetUse,
)

__all__ = ["RedisBudgets"]

SCRIPT: Final = Path(__file__).with_name("budgets.lua")
_KEEP_US: Final = 60 * SECOND


class RedisBudgets:
    """A ``BudgetStore`` in Redis: each call is part of one script, in Redis' own time.

    All calls of a loop turn share one round trip. Which period it is, Redis decides, among those
    that are around by the clock of whoever asks; so clocks may differ by almost a period.

    What was spent is gone with what Redis loses: with its default of no append-only file, some
    seconds or minutes when it is killed. Where that is too much, keep budgets in SQL.

    Args:
        server: An address (see ``asgi_llm.stores._redis_client.connect``), or a client of
            ``redis.asyncio``: ``Redis``, one of Sentinel's ``master_for``, or ``RedisCluster``.
            A client stays open when the store is closed.
        timeout_seconds: After this a call fails with StoreError. Above 0.
        prefix: What every key begins with.
        tag: The hash tag of every key, so that all budgets of a request lie on one node of a
            Cluster.
        clock: Unix time in seconds, by which periods are looked up.
    """

    def __init__(
        self,
        server: Any,
        *,
        timeout_seconds: float = 0.05,
        prefix: str = "asgi-llm:budget",
        tag: str = "asgi-llm",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 < timeout_seconds < inf:
            raise ConfigurationError("timeout_seconds must be above 0", param="timeout_seconds")
        self.timeout_seconds = timeout_seconds
        self._owned = isinstance(server, str)
        self._client = connect(server) if isinstance(server, str) else server
        self._pipeline = ScriptPipeline(
            self._client, SCRIPT.read_text(encoding="utf-8"), timeout_seconds=timeout_seconds
        )
        self._start = f"{prefix}:{{{tag}}}:"
        self._clock = clock

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
            StoreError: Redis refused, failed, or did not answer in time. It may have reserved it
                all the same; then the reservation ends with its lease, or with ``settle``.
        """
        lease_us = int(lease_seconds * SECOND)
        reply = await self._ask("t", demands, lease, *divmod(amount, PICO), lease_us, enforce)
        admitted, place = next(reply), next(reply)
        return BudgetDecision(
            admitted == 1, None if place < 0 else place, tuple(_statuses(demands, reply))
        )

    async def renew(
        self, demands: Sequence[BudgetDemand], *, lease: str, lease_seconds: float
    ) -> None:
        """Keep the reservation of ``lease``; one that has lapsed stays so.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time.
        """
        await self._ask("r", demands, lease, int(lease_seconds * SECOND))

    async def settle(
        self, demands: Sequence[BudgetDemand], *, lease: str, actual: int
    ) -> tuple[BudgetUse, ...]:
        """End the reservation of ``lease`` with what the call cost.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time; it may be asked again.
        """
        reply = await self._ask("s", demands, lease, *divmod(actual, PICO), _KEEP_US)
        return tuple([BudgetUse(_amount(reply), _amount(reply)) for _ in demands])

    async def spent(self, demands: Sequence[BudgetDemand]) -> tuple[BudgetStatus, ...]:
        """How ``demands`` stand now.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time.
        """
        return tuple(_statuses(demands, await self._ask("q", demands)))

    async def aclose(self) -> None:
        """Close the connection, and the client if it was made here."""
        await self._pipeline.aclose()
        if self._owned:
            await self._client.aclose()

    async def _ask(
        self, name: str, demands: Sequence[BudgetDemand], *arguments: Any
    ) -> Iterator[int]:
        batch = self._pipeline.batch()
        now = round(self._clock() * SECOND)
        packed = [self._packed(batch, demand, now) for demand in demands]
        return iter(await batch.call((name, packed, *arguments)))

    def _packed(self, batch: Batch, demand: BudgetDemand, now: int) -> tuple[Any, ...]:
        """A demand as the script reads it; its keys are added to the batch."""
        key = self._start + demand.key
        rule = demand.rule
        return (
            *batch.places([key, key + ":leases"]),
            *divmod(demand.limit, PICO),
            rule.hard,
            grain_of(rule) if rule.period == "rolling" else 0,
            *periods_around(rule, now),
        )


def _amount(reply: Iterator[int]) -> int:
    return next(reply) * PICO + next(reply)


def _statuses(demands: Sequence[BudgetDemand], reply: Iterator[int]) -> Iterator[BudgetStatus]:
    for demand in demands:
        spent, reserved, end = _amount(reply), _amount(reply), next(reply)
        yield BudgetStatus(spent, reserved, _resets_at(demand.rule, end))


def _resets_at(rule: BudgetRule, end: int) -> float | None:
    return None if rule.period in ("rolling", "total") else end / SECOND

"""Limits counted by the package ``limits``, with its strategies and its storages."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Mapping, Sequence
from math import inf
from typing import Any, Literal, TypeVar

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError, LLMError, StoreError
from asgi_llm.stores.base import Decision, Demand, LimitStatus, LimitStore

__all__ = ["PackageLimits"]

T = TypeVar("T")
MILLISECOND = 0.001
Strategy = Literal["fixed-window", "moving-window", "sliding-window-counter"]

KEY_CHARACTERS = 180  # memcached allows 250, with what the package puts before
OPTIONS: dict[str, dict[str, Any]] = {
    "redis": {"implementation": "redispy"},
    "rediss": {"implementation": "redispy"},
}


class PackageLimits:
    """A ``LimitStore`` over ``limits.aio``: any of its storages, any of its strategies.

    What the package can do sets the bounds:

    - It has no leases. Demands that are held (concurrent requests, reservations of tokens) go to
      ``leases``; a store without one refuses them with ConfigurationError.
    - It decides one limit at a time. Within this process all demands of a request are tested
      first, under a lock; where another process comes in between, ``fixed-window`` gives back what
      was taken (not in Memcached), and the other strategies keep it.
    - The wait of ``moving-window`` is that for the oldest entry, so the earliest possible; its
      reset is the latest.
    - Where limits are not enforced, these two count up to the limit, not beyond it.
    - A burst cannot be had.

    Args:
        storage_uri: As the package has it: ``memory://``, ``redis://host:port``,
            ``redis+cluster://``, ``redis+sentinel://``, ``memcached://``, ``mongodb://`` ...
        strategy: ``fixed-window``, ``moving-window`` or ``sliding-window-counter``.
        leases: Where held demands are counted; closed with this store.
        options: For the storage, as the package documents them.

    Raises:
        ConfigurationError: The storage or the strategy is unknown, or they do not go together.

    Source: https://limits.readthedocs.io (5.8), "Strategies" and "Storage backends".
    """

    def __init__(
        self,
        storage_uri: str,
        *,
        strategy: Strategy = "fixed-window",
        leases: LimitStore | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._limits = require("limits", extra="limits")
        strategies = require("limits.aio.strategies", extra="limits").STRATEGIES
        if strategy not in strategies:
            raise ConfigurationError(
                f"strategy is one of {', '.join(sorted(strategies))}", param="strategy"
            )
        uri = storage_uri if storage_uri.startswith("async+") else f"async+{storage_uri}"
        scheme = uri.removeprefix("async+").partition("://")[0].partition("+")[0]
        try:
            self._storage = require("limits.storage", extra="limits").storage_from_string(
                uri, **{**OPTIONS.get(scheme, {}), **(options or {})}
            )
            self._strategy = strategies[strategy](self._storage)
        except (self._limits.errors.ConfigurationError, NotImplementedError) as error:
            raise ConfigurationError(
                f"limits cannot use {scheme}:// with {strategy}: {error}", param="storage_uri"
            ) from error
        self._name = strategy
        self._leases = leases
        self._lock = asyncio.Lock()

    async def take(
        self, demands: Sequence[Demand], *, lease: str, lease_seconds: float, enforce: bool = True
    ) -> Decision:
        """Take all of ``demands``, or none of them as far as the package can.

        Raises:
            ConfigurationError: A demand is held and there is no store of leases, or a limit has a
                burst.
            StoreError: The storage failed.
        """
        held = [demand for demand in demands if _is_held(demand)]
        plain = [demand for demand in demands if not _is_held(demand)]
        for demand in plain:
            self._check(demand)
        statuses: dict[str, LimitStatus] = {}
        admitted, reserved, taken = True, False, False
        if held:
            decision = await self._lease_store(held).take(
                held, lease=lease, lease_seconds=lease_seconds, enforce=enforce
            )
            admitted = decision.admitted
            reserved = admitted or not enforce
            statuses = dict(zip([demand.key for demand in held], decision.statuses, strict=True))
        try:
            async with self._lock:
                fits = [await self._fits(demand) for demand in plain]
                admitted = admitted and all(fits)
                if admitted or not enforce:
                    admitted = await self._hit(plain, enforce) and admitted
                for demand, fit in zip(plain, fits, strict=True):
                    statuses[demand.key] = await self._status(demand, fit)
            # Not before: whoever gets no answer does not know that there is something to settle.
            taken = admitted or not enforce
        finally:
            if reserved and not taken:
                await self._lease_store(held).settle(held, lease=lease, costs=[0] * len(held))
        return Decision(admitted, tuple([statuses[demand.key] for demand in demands]))

    async def renew(self, demands: Sequence[Demand], *, lease: str, lease_seconds: float) -> None:
        """Keep the held demands of ``lease``."""
        held = [demand for demand in demands if _is_held(demand)]
        if held:
            await self._lease_store(held).renew(held, lease=lease, lease_seconds=lease_seconds)

    async def settle(self, demands: Sequence[Demand], *, lease: str, costs: Sequence[int]) -> None:
        """End the held demands of ``lease`` with what they really cost."""
        held = [pair for pair in zip(demands, costs, strict=True) if _is_held(pair[0])]
        if held:
            ended = [demand for demand, _ in held]
            await self._lease_store(ended).settle(
                ended, lease=lease, costs=[cost for _, cost in held]
            )

    async def aclose(self) -> None:
        """Close the storage's connections, and the store of leases."""
        client: Any = getattr(getattr(self._storage, "bridge", None), "storage", None)
        if client is not None and hasattr(client, "aclose"):
            await self._ask(client.aclose())
        if self._leases is not None:
            await self._leases.aclose()

    def _lease_store(self, held: Sequence[Demand]) -> LimitStore:
        if self._leases is None:
            units = ", ".join(sorted({demand.limit.unit for demand in held}))
            raise ConfigurationError(
                f"the package limits has no leases, which limits of {units} need; "
                "give PackageLimits a store for them",
                param="leases",
            )
        return self._leases

    def _check(self, demand: Demand) -> None:
        if demand.limit.burst not in (None, demand.limit.amount):
            raise ConfigurationError(
                f"the strategy {self._name} of the package limits knows no burst", param="burst"
            )
        if demand.limit.window_seconds <= 0:
            raise ConfigurationError(
                f"a limit of {demand.limit.unit} needs a window of at least 1 second",
                param="window_seconds",
            )

    def _item(self, demand: Demand) -> tuple[Any, str]:
        limit = demand.limit
        key = demand.key
        if len(key) > KEY_CHARACTERS or not key.isascii() or any(map(str.isspace, key)):
            key = hashlib.sha256(key.encode()).hexdigest()
        item = self._limits.RateLimitItemPerSecond(
            limit.amount, limit.window_seconds, namespace="asgi-llm"
        )
        return item, key

    async def _fits(self, demand: Demand) -> bool:
        if demand.cost == 0:
            return True
        if demand.cost > demand.limit.amount:
            return False
        item, key = self._item(demand)
        return bool(await self._ask(self._strategy.test(item, key, cost=demand.cost)))

    async def _hit(self, demands: Sequence[Demand], enforce: bool) -> bool:
        """Take every demand; undo it where one could not be taken after all."""
        done: list[Demand] = []
        for demand in demands:
            if demand.cost == 0:
                continue
            item, key = self._item(demand)
            done.append(demand)
            if not await self._ask(self._strategy.hit(item, key, cost=demand.cost)) and enforce:
                await self._undo(done)
                return False
        return True

    async def _undo(self, done: Sequence[Demand]) -> None:
        if self._name != "fixed-window" or "memcached" in self._storage.STORAGE_SCHEME:
            return
        for demand in done:
            item, key = self._item(demand)
            await self._ask(
                self._storage.incr(item.key_for(key), item.get_expiry(), amount=-demand.cost)
            )

    async def _status(self, demand: Demand, fitted: bool) -> LimitStatus:
        item, key = self._item(demand)
        amount, window = demand.limit.amount, float(demand.limit.window_seconds)
        stats = await self._ask(self._strategy.get_window_stats(item, key))
        remaining = max(0, int(stats.remaining))
        next_seconds = max(MILLISECOND, stats.reset_time - time.time())
        if self._name == "fixed-window" and hasattr(self._storage, "bridge"):
            # Redis is asked for whole seconds, which are rounded.
            next_seconds = min(window, next_seconds + 0.5)
        if self._name == "fixed-window":
            whole_seconds, wait = next_seconds, next_seconds
        elif self._name == "moving-window":
            whole_seconds, wait = window, next_seconds
        else:
            whole_seconds, wait = _decay(
                await self._ask(self._storage.get_sliding_window(item.key_for(key), int(window))),
                demand,
            )
        if fitted:
            wait = 0.0
        elif demand.cost > amount:
            wait = inf
        return LimitStatus(remaining, whole_seconds if remaining < amount else 0.0, wait)

    async def _ask(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except LLMError:
            raise
        except Exception as error:  # a storage may raise whatever its driver does
            raise StoreError(f"the storage of limits failed: {type(error).__name__}") from error


def _decay(counts: tuple[int, float, int, float], demand: Demand) -> tuple[float, float]:
    """When a sliding counter is back at 0, and when the demand fits: seconds from now.

    It admits while the whole part of ``previous * rest / window + current`` plus the cost is at
    most the amount. ``rest`` is what is left of the current window; then the counts move on.
    """
    previous, _, current, current_left = counts
    window = float(demand.limit.window_seconds)
    rest = max(0.0, current_left - window) if current else counts[1]
    room = demand.limit.amount + 1 - demand.cost
    if current < room and previous:
        wait = rest - (room - current) * window / previous
    elif current:
        wait = rest + window - room * window / current
    else:
        wait = 0.0
    return rest + window if current else rest, max(0.0, wait) + MILLISECOND


def _is_held(demand: Demand) -> bool:
    return demand.held or demand.limit.unit == "concurrent_requests"

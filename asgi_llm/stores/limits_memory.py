"""Limits counted in the memory of one process."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from typing import Any

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._limit_bucket import Bucket, Slots
from asgi_llm.stores.base import Decision, Demand, LimitStatus

__all__ = ["MemoryLimits"]


class MemoryLimits:
    """A ``LimitStore`` for one process; all demands of a request are decided in one step.

    It is for one event loop: no two threads may use it at the same time. The algorithm is the
    token bucket held to its window, as in ``RedisLimits``.

    Args:
        clock: Seconds that never go back.
        max_entries: How many limits of callers are remembered, at least 1. One that is whole again
            makes room for another. Where none is, a decision that needs one more raises StoreError:
            nobody is forgotten who has taken something, and nobody passes uncounted.
        share: The part of every amount (and burst) that this process may give out, above 0 and at
            most 1: of an amount that is not 0 at least 1.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_entries: int = 100_000,
        share: float = 1.0,
    ) -> None:
        if max_entries < 1:
            raise ConfigurationError("max_entries must be at least 1", param="max_entries")
        if not 0 < share <= 1:
            raise ConfigurationError("share must be above 0 and at most 1", param="share")
        self._clock = clock
        self._max_entries = max_entries
        self._share = share
        self._buckets: dict[str, Bucket | Slots] = {}
        # (when it may be whole again, key): one row for each bucket.
        self._whole: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """How many limits of callers are remembered."""
        return len(self._buckets)

    async def take(
        self, demands: Sequence[Demand], *, lease: str, lease_seconds: float, enforce: bool = True
    ) -> Decision:
        """Take all of ``demands``, or none of them.

        Raises:
            StoreError: ``max_entries`` limits are in use, and this needs one more.
        """
        return self.decide(demands, lease, lease_seconds, enforce)

    def decide(
        self, demands: Sequence[Demand], lease: str, lease_seconds: float, enforce: bool
    ) -> Decision:
        """What ``take`` does, for who need not wait for it."""
        now = (self._clock() * 1e6 + 0.5) // 1.0
        get = self._buckets.get
        found: list[Any] = []  # Any: ``plain`` tells a Bucket
        admitted = True
        for demand in demands:
            bucket = get(demand.key)
            if bucket is None or bucket.limit is not demand.limit:
                bucket = self._adapted(bucket, demand, now, demands)
            if bucket.plain:
                if bucket.due <= now:
                    bucket.advance(now)
                if bucket.used + demand.cost > bucket.most and demand.cost:
                    admitted = False
            else:
                bucket.advance(now)
                if not bucket.affords(demand.cost):
                    admitted = False
            found.append(bucket)
        if not admitted:
            return self._refuse(demands, found, now, lease, lease_seconds, enforce)
        statuses = []
        for demand, bucket in zip(demands, found):  # noqa: B905  the keyword costs time
            cost = demand.cost
            if cost and not demand.held and bucket.plain:
                if now <= bucket.fresh_until:
                    # What ``add`` does as a rule, without the call.
                    tail = bucket.tail
                    tail.last = now
                    tail.amount += cost
                    bucket.used = used = bucket.used + cost
                else:
                    bucket.add(cost, now)
                    used = bucket.used
                statuses.append(LimitStatus(bucket.most - used, bucket.window_seconds, 0.0))
            else:
                bucket.take(demand, now, lease, now + lease_seconds * 1e6)
                statuses.append(LimitStatus(bucket.remaining(), bucket.reset(now), 0.0))
        return Decision(True, tuple(statuses))

    def _refuse(
        self,
        demands: Sequence[Demand],
        found: Sequence[Bucket | Slots],
        now: float,
        lease: str,
        lease_seconds: float,
        enforce: bool,
    ) -> Decision:
        waits = [
            bucket.wait(demand.cost, now) for demand, bucket in zip(demands, found, strict=True)
        ]
        if not enforce:
            for demand, bucket in zip(demands, found, strict=True):
                bucket.take(demand, now, lease, now + lease_seconds * 1e6)
        return Decision(
            False,
            tuple(
                LimitStatus(bucket.remaining(), bucket.reset(now), wait)
                for bucket, wait in zip(found, waits, strict=True)
            ),
        )

    async def renew(self, demands: Sequence[Demand], *, lease: str, lease_seconds: float) -> None:
        """Keep the held demands of ``lease``; one that has run out stays out."""
        now = (self._clock() * 1e6 + 0.5) // 1.0
        for demand in demands:
            bucket = self._buckets.get(demand.key)
            if bucket is not None:
                bucket.advance(now)
                bucket.renew(lease, now + lease_seconds * 1e6)

    async def settle(self, demands: Sequence[Demand], *, lease: str, costs: Sequence[int]) -> None:
        """End the held demands of ``lease`` with what they really cost.

        Raises:
            StoreError: A lease has run out, its limit was forgotten, and there is no room.
        """
        now = (self._clock() * 1e6 + 0.5) // 1.0
        for demand, cost in zip(demands, costs, strict=True):
            limit = demand.limit
            if not demand.held and limit.unit != "concurrent_requests":
                continue
            bucket = self._buckets.get(demand.key)
            if bucket is None or bucket.limit is not limit:
                bucket = self._adapted(bucket, demand, now, demands)
            bucket.advance(now)
            bucket.settle(lease, cost, now)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _adapted(
        self, bucket: Bucket | Slots | None, demand: Demand, now: float, demands: Sequence[Demand]
    ) -> Bucket | Slots:
        """The bucket of ``demand`` under its limit as it is now; a new one where there is none."""
        limit = demand.limit
        if bucket is not None and (bucket.limit.unit == limit.unit):
            if bucket.limit == limit:
                bucket.limit = limit
            else:
                bucket.advance(now)
                bucket.adapt(limit, self._share)
            return bucket
        kind = Slots if limit.unit == "concurrent_requests" else Bucket
        fresh = kind(limit, self._share, now)
        if bucket is None:
            self._make_room(now, demands)
            heapq.heappush(self._whole, (now + 1, demand.key))
        self._buckets[demand.key] = fresh
        return fresh

    def _make_room(self, now: float, demands: Sequence[Demand]) -> None:
        """Forget limits that are whole again: some in passing, as many as it takes when full."""
        buckets, rows = self._buckets, self._whole
        looks = 0
        while rows and rows[0][0] <= now:
            if len(buckets) < self._max_entries and looks >= 2:
                break
            looks += 1
            key = rows[0][1]
            bucket = buckets[key]
            bucket.advance(now)
            idle_at = bucket.idle_at(now)
            if idle_at > now or any(demand.key == key for demand in demands):
                heapq.heapreplace(rows, (max(idle_at, now + 1), key))
            else:
                heapq.heappop(rows)
                del buckets[key]
        if len(buckets) >= self._max_entries:
            raise StoreError(f"the store holds {self._max_entries} limits, all of them in use")

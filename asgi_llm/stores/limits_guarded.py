"""A limit store that may fail without taking the service with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any, Literal, TypeVar

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._breaker import Breaker
from asgi_llm.stores.base import Decision, Demand, LimitStatus, LimitStore
from asgi_llm.types import Limit

__all__ = ["GuardedLimits"]

T = TypeVar("T")

MAX_LOCAL_LEASES = 100_000
EARLY = 0.9
PROBE = Demand("probe", Limit(unit="requests", amount=1_000_000, window_seconds=1), 1, False)


class GuardedLimits:
    """Another store with a deadline, a breaker and a policy for the time that it is away.

    Only ``take`` can fail, and only with ``deny``. A settlement or a renewal that the store does
    not take is counted and given up: the reservation ends with its lease.

    Args:
        store: The store to ask. It is closed with this one.
        on_store_error: What decides while the store fails: ``allow`` admits and counts nothing,
            ``deny`` raises StoreError, ``share`` asks the store ``share``.
        share: Decides in the store's place, as a rule ``MemoryLimits(share=1 / workers)``.
        timeout_seconds: After this an operation has failed. Above 0. A store with a deadline of
            its own that is no longer (``RedisLimits``) keeps that, which is cheaper.
        failure_threshold: So many failures in a row, timeouts included, open the breaker.
        probe_seconds: How often a store that failed is tried again, above 0 and below 5.
        clock: Seconds that never go back.
        sleep: Waits between probes.

    Attributes:
        timeout_seconds: The deadline: whoever calls this store needs none of their own.
    """

    def __init__(
        self,
        store: LimitStore,
        *,
        on_store_error: Literal["allow", "deny", "share"] = "allow",
        share: LimitStore | None = None,
        timeout_seconds: float = 0.05,
        failure_threshold: int = 3,
        probe_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if on_store_error not in ("allow", "deny", "share"):
            raise ConfigurationError(
                "on_store_error is allow, deny or share", param="on_store_error"
            )
        if (share is not None) != (on_store_error == "share"):
            raise ConfigurationError(
                "share is the store that on_store_error='share' asks", param="share"
            )
        if not 0 < timeout_seconds < inf:
            raise ConfigurationError("timeout_seconds must be above 0", param="timeout_seconds")
        self._store = store
        self._policy = on_store_error
        self._share = share
        self.timeout_seconds = timeout_seconds
        self._keeps_time = getattr(store, "timeout_seconds", inf) <= timeout_seconds
        # Leases that the share holds, oldest first.
        self._local: dict[str, None] = {}
        self._without_store = 0
        self._breaker = Breaker(
            type(store).__name__,
            self._probe,
            failure_threshold=failure_threshold,
            probe_seconds=probe_seconds,
            clock=clock,
            sleep=sleep,
        )

    async def take(
        self, demands: Sequence[Demand], *, lease: str, lease_seconds: float, enforce: bool = True
    ) -> Decision:
        """Take all of ``demands``, or none of them.

        Raises:
            StoreError: The store fails, and the policy is ``deny``.
        """
        breaker = self._breaker
        if breaker.is_open:
            breaker.watch()
            cause = None
        else:
            taking = self._store.take(
                demands, lease=lease, lease_seconds=lease_seconds, enforce=enforce
            )
            try:
                decision = await (taking if self._keeps_time else self._in_time(taking))
            except StoreError as error:
                breaker.failed(error)
                cause = error
            else:
                breaker.succeeded()
                return decision
        self._without_store += 1
        if self._policy == "deny":
            raise StoreError("the limits cannot be checked just now") from cause
        if self._share is None:
            return Decision(True, tuple([_unknown(demand) for demand in demands]))
        decision = await self._share.take(
            demands, lease=lease, lease_seconds=lease_seconds, enforce=enforce
        )
        if decision.admitted or not enforce:
            self._note(lease)
        return decision

    async def renew(self, demands: Sequence[Demand], *, lease: str, lease_seconds: float) -> None:
        """Keep the held demands of ``lease`` where they are held."""
        if self._share is not None and lease in self._local:
            await self._share.renew(demands, lease=lease, lease_seconds=lease_seconds)
        else:
            await self._try(
                lambda: self._store.renew(demands, lease=lease, lease_seconds=lease_seconds)
            )

    async def settle(self, demands: Sequence[Demand], *, lease: str, costs: Sequence[int]) -> None:
        """End the held demands of ``lease`` where they are held."""
        if self._share is not None and lease in self._local:
            del self._local[lease]
            await self._share.settle(demands, lease=lease, costs=costs)
        else:
            await self._try(lambda: self._store.settle(demands, lease=lease, costs=costs))

    def health(self) -> dict[str, Any]:
        """For ``/health/ready``: the breaker's state, and how often the policy decided."""
        return {
            **self._breaker.health(),
            "on_store_error": self._policy,
            "decided_without_store": self._without_store,
        }

    async def aclose(self) -> None:
        """Stop probing, and close both stores."""
        await self._breaker.aclose()
        await self._store.aclose()
        if self._share is not None:
            await self._share.aclose()

    def _note(self, lease: str) -> None:
        self._local[lease] = None
        if len(self._local) > MAX_LOCAL_LEASES:
            del self._local[next(iter(self._local))]

    async def _in_time(self, operation: Awaitable[T]) -> T:
        if self._keeps_time:
            return await operation
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await operation
        except TimeoutError as error:
            raise StoreError(
                f"the store did not answer within {self.timeout_seconds} seconds"
            ) from error
        except asyncio.CancelledError as error:
            # A caller with a deadline of its own, as long as ours, may be the first to give up.
            if loop.time() - began >= EARLY * self.timeout_seconds:
                self._breaker.failed(error)
            raise

    async def _try(self, operation: Callable[[], Awaitable[None]]) -> None:
        """Do what nothing depends on, unless the store is known to be away."""
        if self._breaker.is_open:
            self._breaker.watch()
            return
        try:
            await self._in_time(operation())
        except StoreError as error:
            self._breaker.failed(error)
        else:
            self._breaker.succeeded()

    async def _probe(self) -> None:
        """Take something of a limit of the probe's own: that needs the store to write."""
        await self._in_time(self._store.take((PROBE,), lease="probe", lease_seconds=1.0))


def _unknown(demand: Demand) -> LimitStatus:
    """The status of a limit that nobody can look at: as if this were its first request."""
    return LimitStatus(max(0, demand.limit.amount - demand.cost), 0.0, 0.0)

"""The calls of a limit store: their deadline and their failures, and the leases kept alive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from asgi_llm._asgi import go_on
from asgi_llm._tasks import finish
from asgi_llm.errors import StoreError
from asgi_llm.middleware._lease_beats import LeaseBeats
from asgi_llm.stores.base import Decision, Demand, LimitStore
from asgi_llm.stores.limits_memory import MemoryLimits

__all__ = ["LimitCalls"]

_LOG_EVERY_SECONDS: Final = 1.0


class LimitCalls:
    """What the layer asks of its store.

    Args:
        store: Where limits are counted.
        timeout_seconds: Deadline of a call, where the store has none of its own.
        lease_seconds: How long a reservation outlives a worker that dies.
        clock: Seconds, monotonic.
        logger: Where failures are logged, once a second at most.

    Attributes:
        hold: Keeps a lease alive until ``settle``, given it and what it is on.
        failures: Calls that failed or missed their deadline.
    """

    def __init__(
        self,
        store: LimitStore,
        *,
        timeout_seconds: float | None,
        lease_seconds: float,
        clock: Callable[[], float],
        logger: logging.Logger,
    ) -> None:
        self._store = store
        self._timeout = None if hasattr(store, "timeout_seconds") else timeout_seconds
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._logger = logger
        self._next_log = -float("inf")
        # It answers without ever waiting, so that nothing can come in between.
        self._memory = store if type(store) is MemoryLimits else None
        self._answers_at_once = self._memory is not None
        self._leases: LeaseBeats[Sequence[Demand]] = LeaseBeats(self._renew, lease_seconds)
        # Called for each request: nothing stands in between.
        self.hold = self._leases.hold
        self.failures = 0

    def take_at_once(
        self, demands: Sequence[Demand], lease: str, *, enforce: bool
    ) -> Decision | None:
        """``take`` without a coroutine, where the store never waits; None: it may.

        Raises:
            StoreError: The store failed.
        """
        memory = self._memory
        if memory is None:
            return None
        return memory.decide(demands, lease, self._lease_seconds, enforce)

    def take(
        self, demands: Sequence[Demand], lease: str, *, enforce: bool
    ) -> Coroutine[Any, Any, Decision]:
        """Take all of ``demands``, or none. What is held is kept alive until ``settle``.

        Raises:
            StoreError: When it is awaited: the store failed, or missed the deadline.
        """
        taking = self._store.take(
            demands, lease=lease, lease_seconds=self._lease_seconds, enforce=enforce
        )
        # One that keeps a deadline of its own needs no step in between.
        return taking if self._timeout is None else self._in_time(taking, self._timeout)

    async def _in_time(self, taking: Coroutine[Any, Any, Decision], seconds: float) -> Decision:
        try:
            # A store that has the answer gives it in one step: no deadline has to be set up.
            waits_for = taking.send(None)
        except StopIteration as answer:
            decision: Decision = answer.value
            return decision
        try:
            async with asyncio.timeout(seconds):
                return await go_on(taking, waits_for)
        except TimeoutError as error:
            raise StoreError("The store of the limits did not answer in time.") from error

    async def settle(self, demands: Sequence[Demand], lease: str, costs: Sequence[int]) -> None:
        """End ``lease``. Never raises for the store, and is not left undone by a cancellation."""
        self._leases.drop(lease)
        ending = self._settle(demands, lease, costs)
        if self._answers_at_once:
            await ending
            return
        # The task ends by its deadline, and until then the request waits for it.
        await finish(ending)

    async def _settle(self, demands: Sequence[Demand], lease: str, costs: Sequence[int]) -> None:
        await self._bounded(lambda: self._store.settle(demands, lease=lease, costs=costs))

    async def _renew(self, lease: str, demands: Sequence[Demand]) -> bool:
        return await self._bounded(
            lambda: self._store.renew(demands, lease=lease, lease_seconds=self._lease_seconds)
        )

    async def _bounded(self, call: Callable[[], Awaitable[None]]) -> bool:
        """Whether ``call`` went well. What did not is noted."""
        try:
            if self._answers_at_once:
                await call()
            else:
                async with asyncio.timeout(self._timeout):
                    await call()
        except (StoreError, TimeoutError) as error:
            self.note(error)
            return False
        return True

    def note(self, error: Exception) -> None:
        """Count a failure, and log it if none was logged in the last second."""
        self.failures += 1
        if self.may_log():
            self._logger.warning(
                "the store of the limits failed (%d times so far): %s",
                self.failures,
                error or type(error).__name__,
            )

    def may_log(self) -> bool:
        """Whether nothing was logged in the last second."""
        now = self._clock()
        if now < self._next_log:
            return False
        self._next_log = now + _LOG_EVERY_SECONDS
        return True

    def close(self) -> None:
        """Renew nothing any more."""
        self._leases.close()

"""The calls of a limit store: their deadline and their failures, and the leases kept alive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from asgi_llm._asgi import go_on
from asgi_llm._tasks import finish
from asgi_llm.errors import StoreError
from asgi_llm.stores.base import Decision, Demand, LimitStore
from asgi_llm.stores.limits_memory import MemoryLimits

__all__ = ["LimitCalls"]

_RENEWED_AT_ONCE: Final = 64
_LOG_EVERY_SECONDS: Final = 1.0


class LimitCalls:
    """What the layer asks of its store.

    Leases that are held are renewed by one timer for each event loop, which runs only while there
    are any. A third of the lease passes between two beats, and a lease that has not lived to see
    two of them has no need to be renewed: most requests cost the store nothing here.

    Args:
        store: Where limits are counted.
        timeout_seconds: Deadline of a call, where the store has none of its own.
        lease_seconds: How long a reservation outlives a worker that dies.
        clock: Seconds, monotonic.
        logger: Where failures are logged, once a second at most.

    Attributes:
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
        self._beats: WeakKeyDictionary[asyncio.AbstractEventLoop, _Beat] = WeakKeyDictionary()
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

    def hold(self, lease: str, demands: Sequence[Demand]) -> None:
        """Keep ``lease`` alive until it is settled."""
        loop = asyncio.get_running_loop()
        beat = self._beats.get(loop)
        if beat is None:
            beat = self._beats[loop] = _Beat(self._renew, self._lease_seconds / 3)
        beat.leases[lease] = demands
        if not beat.armed:
            beat.arm(loop)

    async def settle(self, demands: Sequence[Demand], lease: str, costs: Sequence[int]) -> None:
        """End ``lease``. Never raises for the store, and is not left undone by a cancellation."""
        loop = asyncio.get_running_loop()
        beat = self._beats.get(loop)
        if beat is not None:
            beat.leases.pop(lease, None)
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
        for beat in self._beats.values():
            beat.leases.clear()


class _Beat:
    """The heartbeat of the leases of one event loop."""

    # Neither the loop nor its timer is kept: the loop is the weak key that leads here.
    __slots__ = ("_interval", "_renew", "_seen", "_task", "armed", "leases")

    def __init__(
        self, renew: Callable[[str, Sequence[Demand]], Awaitable[bool]], interval_seconds: float
    ) -> None:
        self._renew = renew
        self._interval = interval_seconds
        self._seen: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self.leases: dict[str, Sequence[Demand]] = {}
        self.armed = False

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self.armed = True
        loop.call_later(self._interval, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        due = [lease for lease in self._seen if lease in self.leases]
        self._seen = list(self.leases)
        if due:
            self._task = loop.create_task(self._beat(due, loop))
        elif self.leases:
            self.arm(loop)
        else:
            self.armed = False

    async def _beat(self, due: list[str], loop: asyncio.AbstractEventLoop) -> None:
        try:
            for at in range(0, len(due), _RENEWED_AT_ONCE):
                batch = due[at : at + _RENEWED_AT_ONCE]
                renewals = [
                    self._renew(lease, self.leases[lease])
                    for lease in batch
                    if lease in self.leases
                ]
                if not all(await asyncio.gather(*renewals)):
                    # A store in trouble gets the rest of the lease to come back.
                    return
        finally:
            self._task = None
            self.arm(loop)

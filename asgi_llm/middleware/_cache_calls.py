"""The calls of a cache's store: their deadline and their failures, and the leases kept alive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from asgi_llm._asgi import go_on
from asgi_llm._tasks import finish
from asgi_llm.errors import StoreError
from asgi_llm.stores.cache import CacheStore, Claim, Found, StoredAnswer
from asgi_llm.stores.cache_memory import MemoryCache

__all__ = ["CacheCalls"]

T = TypeVar("T")

_LOG_EVERY_SECONDS: Final = 1.0
_RENEWED_AT_ONCE: Final = 64


class CacheCalls:
    """What a cache asks of its store.

    A store that fails is a store that has nothing: with ``deny`` alone that is told.

    Args:
        store: Where answers are kept.
        timeout_seconds: Deadline of a call, where the store has none of its own.
        lease_seconds: How long the right to make an answer outlives a process that dies.
        deny: Whether a look-up that fails raises StoreError.
        clock: Seconds, monotonic.
        logger: Where failures are logged, once a second at most.

    Attributes:
        memory: The store, where it answers without ever waiting; None: it may wait.
        failures: Calls that failed or missed their deadline.
    """

    def __init__(
        self,
        store: CacheStore,
        *,
        timeout_seconds: float | None,
        lease_seconds: float,
        deny: bool,
        clock: Callable[[], float],
        logger: logging.Logger,
    ) -> None:
        self._store = store
        self._timeout = None if hasattr(store, "timeout_seconds") else timeout_seconds
        self._lease_seconds = lease_seconds
        self._deny = deny
        self._clock = clock
        self._logger = logger
        self._next_log = -float("inf")
        self._beats: WeakKeyDictionary[asyncio.AbstractEventLoop, _Beat] = WeakKeyDictionary()
        self.memory = store if type(store) is MemoryCache else None
        self.failures = 0

    async def claim(self, key: bytes, owner: str, *, max_age_seconds: float | None) -> Claim:
        """The answer of ``key``, or the right to make it; that too where the store fails.

        Raises:
            StoreError: The store failed, and that is to be told.
        """
        try:
            return await self._bounded(
                self._store.claim(
                    key,
                    owner=owner,
                    lease_seconds=self._lease_seconds,
                    max_age_seconds=max_age_seconds,
                )
            )
        except StoreError:
            if self._deny:
                raise
            return Claim(leased=True)

    async def get(self, keys: Sequence[bytes]) -> list[Found | None]:
        """The answers of ``keys``; none where the store fails.

        Raises:
            StoreError: The store failed, and that is to be told.
        """
        try:
            return await self._bounded(self._store.get(keys))
        except StoreError:
            if self._deny:
                raise
            return [None] * len(keys)

    async def set(
        self, entries: Sequence[tuple[bytes, StoredAnswer]], owner: str | None = None
    ) -> None:
        """Keep answers. Never raises for the store, and is not left undone by a cancellation."""
        if owner is not None:
            self._drop(owner)
        await self._finished(self._store.set(entries, owner=owner))

    async def release(self, key: bytes, owner: str) -> None:
        """Give a right back. Never raises for the store, nor is left undone."""
        self._drop(owner)
        await self._finished(self._store.release(key, owner=owner))

    def hold(self, key: bytes, owner: str) -> None:
        """Keep the right to make an answer alive until ``set`` or ``release``."""
        loop = asyncio.get_running_loop()
        beat = self._beats.get(loop)
        if beat is None:
            beat = self._beats[loop] = _Beat(self._renew, self._lease_seconds / 3)
        beat.leases[owner] = key
        if not beat.armed:
            beat.arm(loop)

    def close(self) -> None:
        """Renew nothing any more."""
        for beat in self._beats.values():
            beat.leases.clear()

    def _drop(self, owner: str) -> None:
        beat = self._beats.get(asyncio.get_running_loop())
        if beat is not None:
            beat.leases.pop(owner, None)

    async def _renew(self, owner: str, key: bytes) -> bool:
        try:
            await self._bounded(
                self._store.renew(key, owner=owner, lease_seconds=self._lease_seconds)
            )
        except StoreError:
            return False
        return True

    async def _bounded(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            # A store that has the answer gives it in one step: no deadline has to be set up.
            waits_for = call.send(None)
        except StopIteration as answer:
            value: T = answer.value
            return value
        except StoreError as error:
            self._note(error)
            raise
        try:
            async with asyncio.timeout(self._timeout):
                return await go_on(call, waits_for)
        except TimeoutError as error:
            late = StoreError("The store of the cache did not answer in time.")
            self._note(late)
            raise late from error
        except StoreError as error:
            self._note(error)
            raise

    async def _finished(self, call: Coroutine[Any, Any, None]) -> None:
        """Await ``call`` to its end, which its deadline sets, however often hosts cancel."""
        await finish(self._quiet(call))

    async def _quiet(self, call: Coroutine[Any, Any, None]) -> None:
        try:
            await self._bounded(call)
        except StoreError:
            # Counted and logged; what could not be kept is asked for again.
            return

    def _note(self, error: StoreError) -> None:
        """Count a failure, and log it if none was logged in the last second."""
        self.failures += 1
        now = self._clock()
        if now >= self._next_log:
            self._next_log = now + _LOG_EVERY_SECONDS
            self._logger.warning(
                "the store of the cache failed (%d times so far): %s", self.failures, error.message
            )


class _Beat:
    """The heartbeat of the leases of one event loop."""

    # Neither the loop nor its timer is kept: the loop is the weak key that leads here.
    __slots__ = ("_interval", "_renew", "_seen", "_task", "armed", "leases")

    def __init__(
        self, renew: Callable[[str, bytes], Awaitable[bool]], interval_seconds: float
    ) -> None:
        self._renew = renew
        self._interval = interval_seconds
        self._seen: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self.leases: dict[str, bytes] = {}
        self.armed = False

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self.armed = True
        loop.call_later(self._interval, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        due = [owner for owner in self._seen if owner in self.leases]
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
                renewals = [
                    self._renew(owner, self.leases[owner])
                    for owner in due[at : at + _RENEWED_AT_ONCE]
                    if owner in self.leases
                ]
                if not all(await asyncio.gather(*renewals)):
                    # A store in trouble gets the rest of the lease to come back.
                    return
        finally:
            self._task = None
            self.arm(loop)

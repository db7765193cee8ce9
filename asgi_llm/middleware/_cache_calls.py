"""The calls of a cache's store: their deadline and their failures, and the leases kept alive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from asgi_llm._asgi import go_on
from asgi_llm._tasks import finish
from asgi_llm.errors import StoreError
from asgi_llm.middleware._lease_beats import LeaseBeats
from asgi_llm.stores.cache import CacheStore, Claim, Found, StoredAnswer
from asgi_llm.stores.cache_memory import MemoryCache

__all__ = ["CacheCalls"]

T = TypeVar("T")

_LOG_EVERY_SECONDS: Final = 1.0


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
        self._leases: LeaseBeats[bytes] = LeaseBeats(self._renew, lease_seconds)
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
        except (StoreError, asyncio.CancelledError) as error:
            if isinstance(error, StoreError) and not self._deny:
                return Claim(leased=True)
            # The right may have been given all the same, to nobody who would use it.
            await self.release(key, owner)
            raise

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
            self._leases.drop(owner)
        await self._finished(self._store.set(entries, owner=owner))

    async def release(self, key: bytes, owner: str) -> None:
        """Give a right back. Never raises for the store, nor is left undone."""
        self._leases.drop(owner)
        await self._finished(self._store.release(key, owner=owner))

    def hold(self, key: bytes, owner: str) -> None:
        """Keep the right to make an answer alive until ``set`` or ``release``."""
        self._leases.hold(owner, key)

    def close(self) -> None:
        """Renew nothing any more."""
        self._leases.close()

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

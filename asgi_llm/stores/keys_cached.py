"""Keys kept in the process: the first level of the cache, and what stands in for a lost store."""

from __future__ import annotations

import asyncio
import enum
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, runtime_checkable

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._key_guard import RETRY_SECONDS, KeyGuard
from asgi_llm.stores.base import KeyRecord, KeyStore

__all__ = ["MAX_FRESH_SECONDS", "CachedKeys", "SharedKeys"]

MAX_FRESH_SECONDS: Final = 5.0
"""A revoked key stops within this time, on every worker, whatever else fails to be told."""


@runtime_checkable
class SharedKeys(Protocol):
    """A key store that is itself a cache, and tells when a key is to be forgotten.

    It bounds its own waiting for the store behind it.
    """

    async def find_aged(self, digest: bytes) -> tuple[KeyRecord | None, float]:
        """The record, and the seconds since it was read where it is kept for good.

        Raises:
            StoreError: It is not known whether there is such a key.
        """
        ...

    def on_forget(self, forget: Callable[[bytes], None]) -> None:
        """Call ``forget`` with each digest that is invalidated anywhere."""
        ...

    async def invalidate(self, digests: Sequence[bytes]) -> None:
        """Make all caches forget the keys.

        Raises:
            StoreError: Those of other processes were not told.
        """
        ...


class _Entry:
    __slots__ = ("check_at", "read_at", "record")

    def __init__(self, record: KeyRecord, read_at: float, check_at: float) -> None:
        self.record = record
        self.read_at = read_at
        self.check_at = check_at


class _Outcome(enum.Enum):
    ABANDONED = enum.auto()
    """Who looked the key up left before there was an answer."""


class CachedKeys:
    """Remembers what a key store said of a digest, also while that store is away.

    A key is looked up once for all who ask at the same time. What is not known is kept apart from
    what is, so that a flood of made-up keys pushes no good one out. One instance serves one event
    loop at a time.

    Memory: a known key takes at most 1.75 KiB (with the short names and the few limits that keys
    have), an unknown one 0.75 KiB: 42 MiB with the defaults when both are full.

    Args:
        store: Who knows.
        fresh_seconds: How long an answer holds, above 0 and at most 5.
        stale_seconds: The age up to which a known key goes on while the store is away, at least 0.
            A key that is not known, or older, then gets a StoreError: never "no such key".
        max_entries: Known keys, at least 1; those that were not used for longest go first.
        max_unknown: Unknown ones, at least 1.
        timeout_seconds: Deadline of one look-up in a store that does not bound itself, above 0.
        clock: Seconds, monotonic.

    Raises:
        ConfigurationError: A number out of range.
    """

    def __init__(
        self,
        store: KeyStore | SharedKeys,
        *,
        fresh_seconds: float = 4.0,
        stale_seconds: float = 600.0,
        max_entries: int = 20_000,
        max_unknown: int = 10_000,
        timeout_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < fresh_seconds <= MAX_FRESH_SECONDS:
            raise ConfigurationError(
                f"fresh_seconds must be above 0 and at most {MAX_FRESH_SECONDS:g}",
                param="fresh_seconds",
            )
        if not 0 <= stale_seconds < math.inf:
            raise ConfigurationError("stale_seconds must be at least 0", param="stale_seconds")
        for option, value in (("max_entries", max_entries), ("max_unknown", max_unknown)):
            if value < 1:
                raise ConfigurationError(f"{option} must be at least 1", param=option)
        self._fresh = fresh_seconds
        self._stale = max(stale_seconds, fresh_seconds)
        self._max_entries = max_entries
        self._max_unknown = max_unknown
        self._clock = clock
        guard = KeyGuard("the key store", timeout_seconds=timeout_seconds, clock=clock)
        self._shared: SharedKeys | None = None
        self._ask: Callable[[bytes], Awaitable[tuple[KeyRecord | None, float]]]
        if isinstance(store, SharedKeys):
            self._shared = store
            self._ask = store.find_aged
            store.on_forget(self.forget)
        else:
            self._ask = _guarded(store, guard)
        # In the order in which they were read; one in use is read again every few seconds.
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._loading: dict[bytes, asyncio.Future[KeyRecord | StoreError | _Outcome | None]] = {}
        self._well = True
        self.stale_uses = 0
        """How often a look-up was answered out of what was kept, for want of the store."""

    @property
    def available(self) -> bool:
        """Whether the store answered when it was last asked; for a readiness check."""
        return self._well

    def __len__(self) -> int:
        return len(self._entries) + len(self._unknown)

    def peek(self, digest: bytes) -> KeyRecord | None:
        """The record of a key that needs no look-up now; None: ask ``find``."""
        entry = self._entries.get(digest)
        if entry is not None and self._clock() < entry.check_at:
            return entry.record
        return None

    async def find(self, digest: bytes) -> KeyRecord | None:
        """The record of a key; None: no such key.

        Raises:
            StoreError: It is not known whether there is such a key.
        """
        while True:
            now = self._clock()
            entry = self._entries.get(digest)
            if entry is not None and now < entry.check_at:
                return entry.record
            if now < self._unknown.get(digest, -math.inf):
                return None
            loading = self._loading.get(digest)
            if loading is None:
                return await self._load(digest, now)
            # Shielded: one who stops waiting must not stop the others.
            outcome = await asyncio.shield(loading)
            if isinstance(outcome, StoreError):
                raise StoreError(
                    outcome.message, retry_after_seconds=outcome.retry_after_seconds
                ) from outcome
            if not isinstance(outcome, _Outcome):
                return outcome

    def forget(self, digest: bytes) -> None:
        """Look the key up when it is next asked for, and not use what is being read now."""
        self._entries.pop(digest, None)
        self._unknown.pop(digest, None)
        self._loading.pop(digest, None)

    async def invalidate(self, digests: Sequence[bytes]) -> None:
        """Forget keys that were changed, here and wherever the store can tell of it.

        Who is not told finds out within ``fresh_seconds``.

        Raises:
            StoreError: The store could not tell the others.
        """
        for digest in digests:
            self.forget(digest)
        if self._shared is not None:
            await self._shared.invalidate(digests)

    async def _load(self, digest: bytes, now: float) -> KeyRecord | None:
        loading: asyncio.Future[KeyRecord | StoreError | _Outcome | None]
        loading = asyncio.get_running_loop().create_future()
        self._loading[digest] = loading
        outcome: KeyRecord | StoreError | _Outcome | None = _Outcome.ABANDONED
        try:
            try:
                record, age = await self._ask(digest)
            except StoreError as error:
                self._well = False
                record = self._use_stale(digest, error)
            else:
                self._well = age < self._fresh
                if self._loading.get(digest) is loading:
                    self._keep(digest, record, now - age)
            outcome = record
            return record
        except StoreError as error:
            outcome = error
            raise
        finally:
            if self._loading.get(digest) is loading:
                del self._loading[digest]
            loading.set_result(outcome)

    def _keep(self, digest: bytes, record: KeyRecord | None, read_at: float) -> None:
        check_at = read_at + self._fresh
        now = self._clock()
        if record is None:
            self._entries.pop(digest, None)
            self._unknown[digest] = check_at
            self._unknown.move_to_end(digest)
            if len(self._unknown) > self._max_unknown:
                self._unknown.popitem(last=False)
            return
        if check_at <= now:
            # A shared cache gives what is so old only while the store behind it is away.
            check_at = min(now + RETRY_SECONDS, read_at + self._stale)
        self._unknown.pop(digest, None)
        self._entries[digest] = _Entry(record, read_at, check_at)
        self._entries.move_to_end(digest)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def _use_stale(self, digest: bytes, error: StoreError) -> KeyRecord:
        entry = self._entries.get(digest)
        now = self._clock()
        if entry is None or now >= entry.read_at + self._stale:
            raise error
        entry.check_at = min(now + RETRY_SECONDS, entry.read_at + self._stale)
        self.stale_uses += 1
        return entry.record


def _guarded(
    store: KeyStore, guard: KeyGuard
) -> Callable[[bytes], Awaitable[tuple[KeyRecord | None, float]]]:
    """Look-ups in a store that does not bound itself; what it says is new."""

    async def ask(digest: bytes) -> tuple[KeyRecord | None, float]:
        return await guard.ask(lambda: store.find(digest)), 0.0

    return ask

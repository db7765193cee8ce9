"""Answers kept in the memory of one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores._kept_answer import KeptAnswer, answer_size, keep_answer
from asgi_llm.stores._recent import RecentTable
from asgi_llm.stores.cache import CacheStatistics, Claim, Found, Selection, StoredAnswer

__all__ = ["MemoryCache", "answer_size"]

MIB: Final = 1024 * 1024

_PURGED_AT_ONCE: Final = 4096


class MemoryCache:
    """A ``CacheStore`` for one process, bounded in bytes: the least recently used go first.

    It is for one event loop: no two threads may use it at the same time. An answer that has run
    out goes when it is asked for, when it has become the least recently used, or with ``purge``.

    Args:
        max_bytes: What all entries take together, keys and tables included, above 0. An answer of
            more than an eighth of it is not kept.
        clock: Seconds that never go back.

    Raises:
        ConfigurationError: ``max_bytes`` is out of range.
    """

    def __init__(
        self, *, max_bytes: int = 256 * MIB, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not max_bytes > 0:
            raise ConfigurationError(
                f"max_bytes must be above 0, not {max_bytes!r}", param="max_bytes"
            )
        self._max_bytes = max_bytes
        self._most_of_one = max_bytes // 8
        self._clock = clock
        self._kept = RecentTable()
        self._bytes = 0
        # The least recently used does not run out before this.
        self._checked_until = -inf
        # When something was found last.
        self._now = -inf
        self._hits = self._misses = self._writes = self._evictions = 0

    def __len__(self) -> int:
        """How many answers are kept, those that have run out and were not met since included."""
        return len(self._kept)

    def look(self, key: bytes) -> Found | None:
        """What ``get`` does for one key, for who need not wait for it."""
        kept = self.find(key)
        if kept is None:
            return None
        return Found(kept.answer, max(0.0, self._now - kept.made_at))

    def find(self, key: bytes) -> KeptAnswer | None:
        """What ``look`` gives, as it is kept; ``age`` then tells how old it is."""
        kept = self._kept.get(key)
        if kept is not None:
            now = self._now = self._clock()
            if now < kept.gone_at:
                self._kept.use(key, kept)
                self._checked_until = -inf
                self._hits += 1
                return kept
            self._drop(key)
        self._misses += 1
        return None

    def age(self, kept: KeptAnswer) -> float:
        """How old what has just been found is, in seconds, at least 0."""
        return max(0.0, self._now - kept.made_at)

    def put(
        self,
        key: bytes,
        answer: StoredAnswer,
        age_seconds: float = 0.0,
        keep_seconds: float = inf,
    ) -> None:
        """What ``set`` does for one key, for who need not wait for it.

        Args:
            key: Of the answer.
            answer: To be kept.
            age_seconds: How old it is already.
            keep_seconds: The most that it is kept from now on.
        """
        self.keep(key, keep_answer(answer), age_seconds, keep_seconds)

    def keep(
        self, key: bytes, kept: KeptAnswer, age_seconds: float = 0.0, keep_seconds: float = inf
    ) -> None:
        """What ``put`` does, with an answer as it is kept here. It is the store's from then on."""
        all_kept = self._kept
        if all_kept.get(key) is not None:
            self._drop(key)
        if kept.size > self._most_of_one:
            return
        now = self._clock()
        if now >= self._checked_until:
            self._drop_oldest(now)
        if age_seconds or keep_seconds < kept.keep_seconds:
            kept.made_at = now - age_seconds
            kept.gone_at = min(kept.made_at + kept.keep_seconds, now + keep_seconds)
        else:
            kept.made_at = now
            kept.gone_at = now + kept.keep_seconds
        all_kept.add(key, kept)
        self._writes += 1
        self._bytes = total = self._bytes + kept.size
        if total > self._max_bytes:
            self._make_room()

    async def get(self, keys: Sequence[bytes]) -> list[Found | None]:
        """The answers of ``keys`` in their order, stale ones too; None: there is none."""
        return [self.look(key) for key in keys]

    async def claim(
        self,
        key: bytes,
        *,
        owner: str,
        lease_seconds: float,
        max_age_seconds: float | None = None,
    ) -> Claim:
        """The answer of ``key``. The right to make it is never refused: nobody else has part."""
        return Claim(self.look(key), leased=True)

    async def renew(self, key: bytes, *, owner: str, lease_seconds: float) -> None:
        """Nothing has to be renewed."""

    async def release(self, key: bytes, *, owner: str) -> None:
        """Nothing was taken."""

    async def set(
        self,
        entries: Sequence[tuple[bytes, StoredAnswer]],
        *,
        owner: str | None = None,
        age_seconds: float = 0.0,
    ) -> None:
        """Keep answers, in the place of what was there."""
        for key, answer in entries:
            self.put(key, answer, age_seconds)

    async def delete(self, keys: Sequence[bytes]) -> int:
        """Forget the answers of ``keys``; how many there were."""
        # A key that is named twice is there once.
        there = [key for key in dict.fromkeys(keys) if self._kept.get(key) is not None]
        for key in there:
            self._drop(key)
        return len(there)

    async def purge(self, selection: Selection) -> int:
        """Forget the answers that are meant; how many there were."""
        now = self._clock()
        purged = 0
        for place, key in enumerate(self._kept.in_order()):
            if place % _PURGED_AT_ONCE == _PURGED_AT_ONCE - 1:
                # Other requests go on in between.
                await asyncio.sleep(0)
            kept = self._kept.get(key)
            if kept is None:
                continue
            if now >= kept.gone_at:
                self._drop(key)
            elif selection.fits(kept.answer, now - kept.made_at):
                self._drop(key)
                purged += 1
        return purged

    async def statistics(self) -> CacheStatistics:
        """How the store is doing."""
        return CacheStatistics(
            entries=len(self._kept),
            bytes=self._bytes,
            hits=self._hits,
            misses=self._misses,
            writes=self._writes,
            evictions=self._evictions,
        )

    async def aclose(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._bytes = 0
        self._checked_until = -inf

    def _drop(self, key: bytes) -> None:
        kept = self._kept.remove(key)
        self._bytes -= kept.size
        self._checked_until = -inf

    def _drop_oldest(self, now: float) -> None:
        """Let go of the least recently used, if it has run out."""
        oldest = self._kept.oldest()
        if oldest is None:
            return
        kept = self._kept.get(oldest)
        if kept is None or now >= kept.gone_at:
            self._drop(oldest)
        else:
            self._checked_until = kept.gone_at

    def _make_room(self) -> None:
        """Let go of the least recently used until all fit."""
        while self._bytes > self._max_bytes:
            oldest = self._kept.oldest()
            if oldest is None:
                return
            self._drop(oldest)
            self._evictions += 1

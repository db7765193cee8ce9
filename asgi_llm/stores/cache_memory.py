"""Answers kept in the memory of one process."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.cache import (
    JSON_HEADERS,
    CacheStatistics,
    Claim,
    Found,
    Selection,
    StoredAnswer,
)
from asgi_llm.types import Usage

__all__ = ["KeptAnswer", "MemoryCache", "answer_size", "entry_size", "keep_answer"]

MIB: Final = 1024 * 1024

# What an answer takes besides its texts: the objects themselves and their heads, a key of 32 bytes,
# a place in an ordered dictionary and its hash table (twice, while that grows). Measured, and
# rounded up.
_ENTRY_BYTES: Final = 1000
_PAIR_BYTES: Final = 132
_PURGED_AT_ONCE: Final = 4096
# Of a character in memory, at most.
_WIDE: Final = 4


class KeptAnswer:
    """An answer as it is kept here: what a ``StoredAnswer`` has, and since when and how long.

    Attributes:
        made_at: When, by the store's clock.
        gone_at: When it runs out.
        size: ``answer_size`` of it.
        may_be_stored: Of an answer that is not in a store yet. False: it may be handed to those who
            asked the same at the same time, and no later.
    """

    # Filled by whoever makes one: compiled, a call of the class would take longer than all of that.
    __slots__ = (
        "_answer",
        "body",
        "fresh_seconds",
        "gone_at",
        "headers",
        "is_stream",
        "keep_seconds",
        "made_at",
        "may_be_stored",
        "model",
        "namespace",
        "operation",
        "provider",
        "response_model",
        "scope",
        "size",
        "tells_usage",
        "usage",
        "written_by",
    )

    _answer: StoredAnswer | None
    body: bytes
    fresh_seconds: float
    gone_at: float
    headers: tuple[tuple[bytes, bytes], ...]
    is_stream: bool
    keep_seconds: float
    made_at: float
    may_be_stored: bool
    model: str
    namespace: str
    operation: str
    provider: str | None
    response_model: str | None
    scope: str
    size: int
    tells_usage: bool
    usage: Usage | None
    written_by: str | None

    @property
    def answer(self) -> StoredAnswer:
        """It as all stores have it."""
        if self._answer is None:
            self._answer = StoredAnswer(
                body=self.body,
                operation=self.operation,
                scope=self.scope,
                model=self.model,
                fresh_seconds=self.fresh_seconds,
                keep_seconds=self.keep_seconds,
                is_stream=self.is_stream,
                tells_usage=self.tells_usage,
                headers=self.headers,
                namespace=self.namespace,
                written_by=self.written_by,
                provider=self.provider,
                response_model=self.response_model,
                usage=self.usage,
            )
        return self._answer


def keep_answer(answer: StoredAnswer) -> KeptAnswer:
    """``answer`` as it is kept here."""
    kept = KeptAnswer.__new__(KeptAnswer)
    kept._answer = answer
    kept.body = answer.body
    kept.operation = answer.operation
    kept.scope = answer.scope
    kept.model = answer.model
    kept.fresh_seconds = answer.fresh_seconds
    kept.keep_seconds = answer.keep_seconds
    kept.is_stream = answer.is_stream
    kept.tells_usage = answer.tells_usage
    kept.headers = answer.headers
    kept.namespace = answer.namespace
    kept.written_by = answer.written_by
    kept.provider = answer.provider
    kept.response_model = answer.response_model
    kept.usage = answer.usage
    kept.size = answer_size(answer)
    kept.may_be_stored = True
    return kept


def answer_size(answer: StoredAnswer) -> int:
    """What an answer takes in memory, in bytes, with its place in a table. Rather too much."""
    return entry_size(
        answer.body,
        answer.headers,
        answer.scope,
        answer.model,
        answer.namespace,
        answer.written_by,
        answer.provider,
        answer.response_model,
    )


def entry_size(
    body: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
    scope: str,
    model: str,
    namespace: str,
    written_by: str | None,
    provider: str | None,
    response_model: str | None,
) -> int:
    """``answer_size`` of an answer of these parts, as ``StoredAnswer`` has them."""
    letters = len(scope) + len(model) + len(namespace)
    if written_by is not None:
        letters += len(written_by)
    if provider is not None:
        letters += len(provider)
    if response_model is not None:
        letters += len(response_model)
    total = _ENTRY_BYTES + len(body) + _WIDE * letters
    if headers is not JSON_HEADERS:
        for name, value in headers:
            total += _PAIR_BYTES + len(name) + len(value)
    return total


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
        self._kept: OrderedDict[bytes, KeptAnswer] = OrderedDict()
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
        kept: KeptAnswer | None = self._kept.get(key)
        if kept is not None:
            now = self._now = self._clock()
            if now < kept.gone_at:
                self._kept.move_to_end(key)
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
        if key in all_kept:
            self._drop(key)
        if kept.size > self._most_of_one:
            return
        now = self._clock()
        if now >= self._checked_until:
            self._drop_oldest(now)
        kept.made_at = now - age_seconds
        kept.gone_at = min(kept.made_at + kept.keep_seconds, now + keep_seconds)
        all_kept[key] = kept
        self._writes += 1
        self._bytes += kept.size
        if self._bytes > self._max_bytes:
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
        there = [key for key in keys if key in self._kept]
        for key in there:
            self._drop(key)
        return len(there)

    async def purge(self, selection: Selection) -> int:
        """Forget the answers that are meant; how many there were."""
        now = self._clock()
        purged = 0
        for place, key in enumerate(list(self._kept)):
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
        kept: KeptAnswer = self._kept.pop(key)
        self._bytes -= kept.size
        self._checked_until = -inf

    def _drop_oldest(self, now: float) -> None:
        """Let go of the least recently used, if it has run out."""
        for oldest in self._kept:
            kept: KeptAnswer = self._kept[oldest]
            if now >= kept.gone_at:
                self._drop(oldest)
            else:
                self._checked_until = kept.gone_at
            break

    def _make_room(self) -> None:
        """Let go of the least recently used until all fit."""
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))
            self._evictions += 1

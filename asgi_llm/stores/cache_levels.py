"""Two stores as one: a near one in the process before a far one that all share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.cache import (
    CacheStatistics,
    CacheStore,
    Claim,
    Found,
    Selection,
    StoredAnswer,
)
from asgi_llm.stores.cache_memory import MemoryCache

__all__ = ["CacheLevels"]

_DEFAULT_NEAR_SECONDS: Final = 10.0


class CacheLevels:
    """A ``CacheStore`` in memory before another one.

    What is found further away is kept near for a few seconds, with the age that it has: the levels
    do not add up. For so long one process may still serve what another has purged or replaced.

    Where the far store fails, what is near is served, and the failure of everything else is the
    caller's to deal with.

    Args:
        near: The store of this process. It is closed with this one.
        far: The store of all. It is closed with this one.
        near_seconds: How long an answer is kept near, above 0.

    Raises:
        ConfigurationError: ``near_seconds`` is out of range.
    """

    def __init__(
        self, near: MemoryCache, far: CacheStore, *, near_seconds: float = _DEFAULT_NEAR_SECONDS
    ) -> None:
        if not near_seconds > 0:
            raise ConfigurationError("near_seconds must be above 0", param="near_seconds")
        self._near = near
        self._far = far
        self._near_seconds = near_seconds
        timeout_seconds = getattr(far, "timeout_seconds", None)
        if timeout_seconds is not None:
            self.timeout_seconds: float = timeout_seconds

    def look(self, key: bytes) -> Found | None:
        """What is near, for who need not wait for it."""
        return self._near.look(key)

    async def get(self, keys: Sequence[bytes]) -> list[Found | None]:
        """The answers of ``keys`` in their order; None: there is none.

        Raises:
            StoreError: Not all of them are near, and the far store failed.
        """
        found = [self._near.look(key) for key in keys]
        missing = [at for at, one in enumerate(found) if one is None]
        if missing:
            further = await self._far.get([keys[at] for at in missing])
            for at, one in zip(missing, further, strict=True):
                found[at] = one
                if one is not None:
                    self._keep_near(keys[at], one)
        return found

    async def claim(
        self,
        key: bytes,
        *,
        owner: str,
        lease_seconds: float,
        max_age_seconds: float | None = None,
    ) -> Claim:
        """The answer of ``key`` and, where there is none or an old one, the right to make it.

        Raises:
            StoreError: It is not near, and the far store failed.
        """
        near = self._near.look(key)
        if near is not None:
            oldest = near.answer.fresh_seconds
            if max_age_seconds is not None:
                oldest = min(oldest, max_age_seconds)
            if near.age_seconds <= oldest:
                return Claim(near)
        claim = await self._far.claim(
            key, owner=owner, lease_seconds=lease_seconds, max_age_seconds=max_age_seconds
        )
        if claim.found is not None:
            self._keep_near(key, claim.found)
        return claim

    async def renew(self, key: bytes, *, owner: str, lease_seconds: float) -> None:
        """Keep the right to make the answer."""
        await self._far.renew(key, owner=owner, lease_seconds=lease_seconds)

    async def release(self, key: bytes, *, owner: str) -> None:
        """Give the right back."""
        await self._far.release(key, owner=owner)

    async def set(
        self,
        entries: Sequence[tuple[bytes, StoredAnswer]],
        *,
        owner: str | None = None,
        age_seconds: float = 0.0,
    ) -> None:
        """Keep answers on both levels.

        Raises:
            StoreError: The far store failed; they are kept near.
        """
        for key, answer in entries:
            self._keep_near(key, Found(answer, age_seconds))
        await self._far.set(entries, owner=owner, age_seconds=age_seconds)

    async def delete(self, keys: Sequence[bytes]) -> int:
        """Forget the answers of ``keys``; how many the far store had."""
        await self._near.delete(keys)
        return await self._far.delete(keys)

    async def purge(self, selection: Selection) -> int:
        """Forget the answers that are meant; how many the far store had."""
        await self._near.purge(selection)
        return await self._far.purge(selection)

    async def statistics(self) -> CacheStatistics:
        """How the far store is doing, with the hits of both: a miss near is an ask further away."""
        near = await self._near.statistics()
        far = await self._far.statistics()
        return msgspec.structs.replace(far, hits=near.hits + far.hits)

    def health(self) -> dict[str, Any]:
        """For ``/health/ready``: the health of the far store."""
        health = getattr(self._far, "health", None)
        return {} if health is None else health()

    async def aclose(self) -> None:
        """Close both stores."""
        await self._near.aclose()
        await self._far.aclose()

    def _keep_near(self, key: bytes, found: Found) -> None:
        self._near.put(key, found.answer, found.age_seconds, self._near_seconds)

"""Telling caches of keys that mean something else now."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from asgi_llm._traceback import describe
from asgi_llm.errors import StoreError
from asgi_llm.stores.directory import Directory, Entity, Key, Organization, Team, User

__all__ = ["Forgetting", "Invalidate"]

logger = logging.getLogger(__name__)

Invalidate = Callable[[Sequence[bytes]], Awaitable[object]]
"""Makes all caches forget the keys of these digests."""

_REFERENCES: Final[Mapping[type[Entity], str]] = {
    Organization: "organization_id",
    Team: "team_id",
    User: "user_id",
}
_KEYS_AT_ONCE: Final = 200


class Forgetting:
    """Calls ``invalidate`` with the digests that a change concerns.

    The change is made by then, and a new key is told only once. So a store that fails here stops
    nothing: the caches find out by themselves, and the log says that they have to.
    """

    def __init__(self, directory: Directory, invalidate: Invalidate | None) -> None:
        self._directory = directory
        self._invalidate = invalidate

    async def digests(self, digests: Sequence[bytes]) -> None:
        """Forget these."""
        if self._invalidate is None or not digests:
            return
        try:
            await self._invalidate(digests)
        except StoreError as error:
            _warn(error)

    async def key(self, id: str) -> None:
        """Forget all credentials of a key."""
        if self._invalidate is None:
            return
        try:
            digests = await self._directory.digests(id)
        except StoreError as error:
            _warn(error)
        else:
            await self.digests(digests)

    async def keys_of(self, kind: type[Entity], id: str) -> None:
        """Forget all keys of an organization, a team or a user."""
        if self._invalidate is None:
            return
        after: str | None = None
        try:
            while True:
                page = await self._directory.list(
                    Key, where={_REFERENCES[kind]: id}, limit=_KEYS_AT_ONCE, after=after
                )
                found = [await self._directory.digests(key.id) for key in page.items]
                await self.digests([digest for digests in found for digest in digests])
                after = page.next
                if after is None:
                    return
        except StoreError as error:
            _warn(error)


def _warn(error: StoreError) -> None:
    logger.warning("caches were not told of a changed key:\n%s", describe(error))

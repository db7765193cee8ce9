"""Several key stores, asked one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from asgi_llm.stores.base import KeyRecord, KeyStore

__all__ = ["ChainedKeys", "WarmKeys"]


class WarmKeys(KeyStore, Protocol):
    """A key store that knows some of its keys without waiting."""

    def peek(self, digest: bytes) -> KeyRecord | None:
        """The record of a key that needs no look-up now; None: ask ``find``."""
        ...


class ChainedKeys:
    """The first store that knows a key has the word on it, also if it says that the key has ended.

    Args:
        stores: In the order in which they are asked. One that fails, fails the look-up: the key
            may be its own, and what a later store says of it does not count.
    """

    def __init__(self, stores: Sequence[WarmKeys]) -> None:
        self._stores = tuple(stores)

    def peek(self, digest: bytes) -> KeyRecord | None:
        """The record of a key that needs no look-up now.

        A later store's record counts here although an earlier one was not asked: it was when the
        record was found.
        """
        for store in self._stores:
            record = store.peek(digest)
            if record is not None:
                return record
        return None

    async def find(self, digest: bytes) -> KeyRecord | None:
        """The record of a key; None: no store has it.

        Raises:
            StoreError: A store that may have it cannot say.
        """
        for store in self._stores:
            record = await store.find(digest)
            if record is not None:
                return record
        return None

"""Answers by their keys, in the order in which they were used last."""

from __future__ import annotations

from collections import OrderedDict

from asgi_llm.stores._kept_answer import KeptAnswer

__all__ = ["RecentTable"]


class RecentTable:
    """A table of answers. An answer is in one table at most, under one key."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: OrderedDict[bytes, KeptAnswer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: bytes) -> KeptAnswer | None:
        """The one under ``key``. That does not count as a use."""
        return self._by_key.get(key)

    def use(self, key: bytes, kept: KeptAnswer) -> None:
        """From now on ``kept``, which is there under ``key``, is the one that was used last."""
        if self._by_key.get(key) is not kept:
            raise KeyError(key)
        self._by_key.move_to_end(key)

    def add(self, key: bytes, kept: KeptAnswer) -> None:
        """Put ``kept`` under ``key``, where none is. It is the one that was used last.

        Raises:
            ValueError: There is one.
        """
        if key in self._by_key:
            raise ValueError("it is there already")
        self._by_key[key] = kept

    def remove(self, key: bytes) -> KeptAnswer:
        """Take the one under ``key`` out.

        Raises:
            KeyError: There is none.
        """
        return self._by_key.pop(key)

    def oldest(self) -> bytes | None:
        """The key of the one whose last use is longest ago; None: there is none."""
        return next(iter(self._by_key), None)

    def keys(self) -> list[bytes]:
        """All keys, that of the one whose last use is longest ago first."""
        return list(self._by_key)

    def clear(self) -> None:
        """Take all out."""
        self._by_key.clear()

"""Answers by their keys, in the order in which they were used last."""

from __future__ import annotations

from collections import OrderedDict

from asgi_llm.stores._kept_answer import KeptAnswer

__all__ = ["RecentTable"]


class RecentTable(OrderedDict[bytes, KeptAnswer]):
    """A table of answers. An answer is in one table at most, under one key.

    Used are ``len``, ``get``, which does not count as a use, ``clear``, and what is here.
    """

    __slots__ = ()

    def use(self, key: bytes, kept: KeptAnswer) -> None:
        """From now on ``kept``, which is there under ``key``, is the one that was used last.

        Raises:
            KeyError: It is not.
        """
        if self.get(key) is not kept:
            raise KeyError(key)
        self.move_to_end(key)

    def add(self, key: bytes, kept: KeptAnswer) -> None:
        """Put ``kept`` under ``key``, where none is. It is the one that was used last.

        Raises:
            ValueError: There is one.
        """
        if key in self:
            raise ValueError("it is there already")
        self[key] = kept

    def remove(self, key: bytes) -> KeptAnswer:
        """Take the one under ``key`` out.

        Raises:
            KeyError: There is none.
        """
        return self.pop(key)

    def oldest(self) -> bytes | None:
        """The key of the one whose last use is longest ago; None: there is none."""
        return next(iter(self), None)

    def in_order(self) -> list[bytes]:
        """All keys, that of the one whose last use is longest ago first."""
        return list(self)

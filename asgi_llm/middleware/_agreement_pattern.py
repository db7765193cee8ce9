"""Regular expressions that are compiled when they are first used: importing a layer is cheap."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property

__all__ = ["Pattern"]


class Pattern:
    """A regular expression.

    Args:
        source: In the syntax of ``re``.
        flags: As ``re.compile`` takes them.
    """

    def __init__(self, source: str, flags: re.RegexFlag = re.NOFLAG) -> None:
        self._source = source
        self._flags = flags

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The expression, compiled."""
        return re.compile(self._source, self._flags)

    def match(self, text: str, start: int = 0) -> re.Match[str] | None:
        """The match at ``start``."""
        return self.compiled.match(text, start)

    def fullmatch(self, text: str) -> re.Match[str] | None:
        """The match of all of ``text``."""
        return self.compiled.fullmatch(text)

    def search(self, text: str, start: int = 0, end: int | None = None) -> re.Match[str] | None:
        """The first match between ``start`` and ``end``."""
        return self.compiled.search(text, start, len(text) if end is None else end)

    def find(self, text: str) -> Iterator[re.Match[str]]:
        """All matches, in order."""
        return self.compiled.finditer(text)

    def sub(self, new: str | Callable[[re.Match[str]], str], text: str) -> str:
        """``text`` with ``new`` in the place of each match."""
        return self.compiled.sub(new, text)

"""What the words and digits around a match say about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from asgi_llm._optional import require
from asgi_llm.guards.patterns import Candidate, Confirm

__all__ = ["REACH", "Words", "either_score", "is_part_of_longer_number"]

REACH: Final = 48
"""Bytes in front of a number in which a word may tell what it is."""
_BEHIND: Final = 20
_DIGITS: Final = b"0123456789"
_JOINTS: Final = b" .,-/:"


class Words:
    """Words that tell what a number beside them is.

    Args:
        words: Each may be the beginning of a longer word.
    """

    __slots__ = ("_search",)

    def __init__(self, words: Iterable[str]) -> None:
        re2 = require("re2", extra="guards")
        options = re2.Options()
        options.never_capture = True
        options.case_sensitive = False
        known = "|".join(re2.escape(word) for word in words)
        self._search: Any = re2.compile(rf"(?:^|[^\pL\pN])(?:{known})", options).search

    def near(self, candidate: Candidate) -> bool:
        """Whether one of them begins in front of the match or behind it."""
        data = candidate.data
        start, end = candidate.start, candidate.end
        return (
            self._search(data[max(0, start - REACH) : start]) is not None
            or self._search(data[end : end + _BEHIND]) is not None
        )


def is_part_of_longer_number(candidate: Candidate) -> bool:
    """Whether more digits of the same number or list of numbers stand beside the match."""
    data, start, end = candidate.data, candidate.start, candidate.end
    return (start >= 2 and data[start - 1] in _JOINTS and data[start - 2] in _DIGITS) or (
        end + 1 < len(data) and data[end] in _JOINTS and data[end + 1] in _DIGITS
    )


def either_score(check: Confirm, words: Words, *, alone: float, named: float = 1.0) -> Confirm:
    """A check whose score is ``named`` with one of ``words`` near, else ``alone``."""

    def confirm(candidate: Candidate) -> float:
        if check(candidate) <= 0:
            return 0.0
        if words.near(candidate):
            return named
        return 0.0 if is_part_of_longer_number(candidate) else alone

    return confirm

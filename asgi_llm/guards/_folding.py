"""Digits, spaces and dashes of all scripts as those of ASCII, one character for one.

What is checked may come in full-width or Arabic digits, with no-break spaces and long dashes. Each
of these becomes the one character of ASCII that means the same, so that offsets stay what they are.
"""

from __future__ import annotations

from functools import cache
from typing import Final

__all__ = ["fold", "foldable"]

# Zeros of all decimal digits, each followed by its nine others. Source: Unicode 15.0, Nd.
_ZEROS: Final = (
    "660 6f0 7c0 966 9e6 a66 ae6 b66 be6 c66 ce6 d66 de6 e50 ed0 f20 1040 1090 17e0 1810 1946 19d0 "
    "1a80 1a90 1b50 1bb0 1c40 1c50 a620 a8d0 a900 a9d0 a9f0 aa50 abf0 ff10 104a0 10d30 11066 110f0 "
    "11136 111d0 112f0 11450 114d0 11650 116c0 11730 118e0 11950 11c50 11d50 11da0 16a60 16ac0 "
    "16b50 1d7ce 1d7d8 1d7e2 1d7ec 1d7f6 1e140 1e2f0 1e950 1fbf0"
)
_SPACES: Final = (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)
_DASHES: Final = (*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63)
_FULL_WIDTH: Final = range(0xFF01, 0xFF5F)


@cache
def _table() -> dict[int, str]:
    table = dict.fromkeys(_SPACES, " ") | dict.fromkeys(_DASHES, "-")
    table |= {code: chr(code - 0xFEE0) for code in _FULL_WIDTH}
    for zero in _ZEROS.split():
        table |= {int(zero, 16) + digit: str(digit) for digit in range(10)}
    return table


def _class(codes: list[int]) -> str:
    """An RE2 class of ``codes``, neighbours joined."""
    ranges: list[list[int]] = []
    for code in sorted(codes):
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in ranges) + "]"


@cache
def foldable() -> str:
    """RE2 pattern of one character that ``fold`` changes."""
    return _class(list(_table()))


def fold(text: str) -> str:
    """``text``, as long as it was, with the characters that ``foldable`` tells of replaced."""
    return text.translate(_table())

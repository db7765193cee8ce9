"""Whether a text is random enough to be a key, and not a placeholder, a name or a sentence."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Final

__all__ = ["entropy", "is_placeholder", "is_random"]

_PLACEHOLDERS: Final = (
    *("example", "xxxx", "your", "placeholder", "changeme", "change_me", "change-me", "redacted"),
    *("dummy", "sample", "insert", "replace", "0000000", "1234567890", "fake", "todo", "****"),
    *("abcdefgh", "deadbeef", "my_", "my-", "test_key", "test-key", "......", "lorem", "hidden"),
)
_ENOUGH_BITS: Final = 3.6
_LONGEST_PREFIX: Final = 6
"""Letters of a prefix that may still be there, as in ``dapi`` and 32 hexadecimal digits."""
_HEX: Final = frozenset("0123456789abcdef")


def entropy(text: str) -> float:
    """Bits a character of ``text``, by how often each one comes."""
    size = len(text)
    return -sum(n / size * math.log2(n / size) for n in Counter(text).values())


def is_placeholder(text: str) -> bool:
    """Whether ``text`` stands for a value that is not there."""
    lower = text.lower()
    if any(word in lower for word in _PLACEHOLDERS):
        return True
    steps = sum(ord(two) - ord(one) in (0, 1) for one, two in pairwise(text))
    return steps * 2 > len(text)


def is_random(text: str) -> bool:
    """Whether ``text`` has the entropy of as many characters drawn at random, or nearly so.

    Random text of n characters out of an alphabet of a has about log2(min(n, a)) bits a character,
    less a little for the repetitions that chance brings. Words have that as well, but seldom digits
    or capitals among them.
    """
    if is_placeholder(text):
        return False
    for start in range(_LONGEST_PREFIX):
        if _HEX.issuperset(text[start:].lower()):
            return _is_even(text[start:], 16)
    kinds = any(map(str.isdigit, text)) + any(map(str.isupper, text)) + any(map(str.islower, text))
    return kinds >= 2 and _is_even(text, 62)


def _is_even(text: str, alphabet: int) -> bool:
    least = min(_ENOUGH_BITS, 0.78 * math.log2(min(len(text), alphabet))) if text else 0.0
    return len(text) > 1 and entropy(text) >= least

"""Whether a key that somebody brings along could be guessed."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from asgi_llm.gateway.admin._reading import unprocessable

__all__ = ["MIN_BITS", "MIN_LENGTH", "check_key"]

MIN_LENGTH: Final = 20
MIN_BITS: Final = 64
_MOST: Final = 512
_REPEAT: Final = 4


def check_key(key: str) -> None:
    """Refuse a key that is too short, too regular, or cannot stand in a header.

    What its characters could carry, at most, has to be 64 bits: their Shannon entropy, with
    characters that only go on counting (``abc``, ``321``, ``aaa``) and repetitions of what came
    before left out. No such rule can tell that a key is random; it tells that some are not.

    Raises:
        InvalidRequestError: 422. The key is not repeated.
    """
    problem = _problem(key)
    if problem is not None:
        raise unprocessable("key", problem, "weak_key")


def _problem(key: str) -> str | None:
    if not all("!" <= character <= "~" for character in key):
        return "expected visible ASCII characters, without spaces"
    if not MIN_LENGTH <= len(key) <= _MOST:
        return f"expected {MIN_LENGTH} to {_MOST} characters"
    if key.startswith("eyJ") and key.count(".") == 2:
        return "a web token is not a key"
    if _bits(key) < MIN_BITS:
        return "it is too regular to be a key; a good one is random"
    return None


def _bits(key: str) -> float:
    seen: set[str] = set()
    new: list[str] = []
    for at, character in enumerate(key):
        tail = key[max(0, at - _REPEAT + 1) : at + 1].lower()
        counting = (
            at >= 2
            and ord(key[at]) - ord(key[at - 1]) == ord(key[at - 1]) - ord(key[at - 2])
            and abs(ord(key[at]) - ord(key[at - 1])) <= 1
        )
        if tail not in seen and not counting:
            new.append(character)
        if len(tail) == _REPEAT:
            seen.add(tail)
    total = len(new)
    counts = Counter(new).values()
    return sum(count * math.log2(total / count) for count in counts)

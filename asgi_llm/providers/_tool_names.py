"""Names and ids that a provider takes, for those that clients use, and back."""

from __future__ import annotations

import hashlib
import re

__all__ = ["ToolNames", "safe_id"]

_OUTSIDE = re.compile(r"[^A-Za-z0-9_-]")
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ToolNames:
    """The tools of one request under names that the provider takes.

    A name that it takes stays as it is, so that for most requests nothing has to be put back.

    Args:
        max_length: Of a name there, in characters, at least 16.
        outside: What a name there may not hold.
    """

    __slots__ = ("_given", "_max_length", "_outside", "_taken")

    def __init__(self, max_length: int = 64, outside: re.Pattern[str] = _OUTSIDE) -> None:
        self._max_length = max_length
        self._outside = outside
        self._taken: dict[str, str] = {}
        self._given: dict[str, str] = {}

    def there(self, name: str) -> str:
        """What the provider is to call the tool ``name``."""
        known = self._taken.get(name)
        if known is not None:
            return known
        safe = name
        if len(name) > self._max_length or not name or self._outside.search(name):
            # A digest of the whole name keeps apart what is alike in its first characters.
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            safe = f"{self._outside.sub('_', name)[: self._max_length - 9]}_{digest}"
            self._given[safe] = name
        self._taken[name] = safe
        return safe

    def here(self, name: str) -> str:
        """What the client calls the tool that the provider calls ``name``."""
        return self._given.get(name, name)


def safe_id(call_id: str) -> str:
    """A call's id in the characters that every provider takes: the same for the same id."""
    if _SAFE_ID.fullmatch(call_id):
        return call_id
    digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"call_{digest[:32]}"

"""Names that may become values of a label: a closed set, so that no client can make a series."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["NONE", "OTHER", "ClosedNames", "Learned", "status_label"]

NONE: Final = "none"
"""The value of a label where there is nothing to name."""
OTHER: Final = "other"
"""The value of a label for all that is outside of its set."""

_MAX_LENGTH: Final = 256
_SANE: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:/@|+=-]{{0,{_MAX_LENGTH - 1}}}")


class Learned:
    """The names that layers over the same figures have learned so far; none is ever forgotten."""

    __slots__ = ("guards", "models", "providers", "users")

    def __init__(self) -> None:
        self.models: set[str] = set()
        self.providers: set[str] = set()
        self.guards: set[str] = set()
        self.users: set[str] = set()


class ClosedNames:
    """A set of names that grows to a bound and no further.

    Args:
        names: Known from the start; they count for nothing.
        learned: Further ones, which grows.
        max_learned: How many they may become, at least 0.
    """

    __slots__ = ("_given", "_learned", "_max")

    def __init__(self, names: Iterable[str], learned: set[str], *, max_learned: int) -> None:
        self._given = frozenset(names)
        self._learned = learned
        self._max = max_learned

    def label(self, name: str | None) -> str:
        """The value for ``name``: itself if it is known."""
        if name is None:
            return NONE
        if len(name) <= _MAX_LENGTH and (name in self._given or name in self._learned):
            return name
        return OTHER

    def learn(self, name: str | None) -> str:
        """The value for a name that somebody vouches for: itself, while there is room."""
        label = self.label(name)
        if (
            label != OTHER
            or name is None
            or name in (NONE, OTHER)
            or len(self._learned) >= self._max
            or _SANE.fullmatch(name) is None
        ):
            return label
        self._learned.add(name)
        return name


_USUAL: Final = {
    code: str(code)
    for code in (
        *(200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308),
        *(400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 422, 424, 429, 451, 499),
        *(500, 501, 502, 503, 504, 529),
    )
}


def status_label(status: int) -> str:
    """The status if it is a usual one, else its class, as in ``4xx``."""
    usual = _USUAL.get(status)
    if usual is not None:
        return usual
    return f"{status // 100}xx" if 100 <= status < 600 else OTHER

"""What the place of a text adds: whose it is, and what the system texts forbid."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from asgi_llm.guards._injection_features import stem_and_class, to_words
from asgi_llm.guards.base import GuardContext

__all__ = ["MOST_OF_PLACE", "weight_of_place"]

_KNOWN_SYSTEMS: Final = 64
_TOOL: Final = 0.1
_LIMITED: Final = 0.12
_ORDERED: Final = 0.18
_TOUCHED: Final = 0.18
_MOST_TOUCHED: Final = 2
_LEAST_LETTERS: Final = 4

MOST_OF_PLACE: Final = _TOOL + _LIMITED + _ORDERED + _MOST_TOUCHED * _TOUCHED
"""The most that a place adds to a margin."""

_LIMITS: Final = frozenset({"neg", "limits", "hide"})
_ONLY: Final = frozenset(
    {
        "only", "solely", "exclusively", "strictly", "must",
        "under", "always", "nur", "ausschließlich", "seulement",
        "uniquement", "solo", "solamente", "únicamente", "soltanto",
        "somente", "apenas", "только", "confidential", "secret",
        "internal",
    }
)  # fmt: skip
_ORDERS: Final = frozenset({"drop", "tell", "orders", "system", "data", "authority", "mode", "act"})


class _System(NamedTuple):
    """What a system text forbids.

    Attributes:
        is_limited: Whether it forbids anything, or allows some things alone.
        guarded: The stems of what it says about that.
    """

    is_limited: bool
    guarded: frozenset[str]


@lru_cache(maxsize=_KNOWN_SYSTEMS)
def _read(system: str) -> _System:
    guarded: set[str] = set()
    for sentence in system.replace("!", ".").replace("\n", ".").replace(";", ".").split(". "):
        words = to_words(sentence.encode("utf-8", "surrogatepass"))
        known = [stem_and_class(word) for word in words]
        if any(group in _LIMITS for _, group in known) or any(
            word.strip(b".").decode("utf-8", "ignore") in _ONLY for word in words
        ):
            guarded.update(
                stem
                for stem, group in known
                if len(stem) >= _LEAST_LETTERS and group not in ("you", "neg", "user", "machine")
            )
    return _System(bool(guarded), frozenset(guarded))


def weight_of_place(context: GuardContext | None, words: list[bytes]) -> float:
    """What is added to the margins of a text of these words."""
    if context is None:
        return 0.0
    weight = _TOOL if context.role == "tool" else 0.0
    systems = [_read(text) for text in context.system]
    if not any(one.is_limited for one in systems):
        return weight
    known = {stem_and_class(word) for word in words}
    guarded = frozenset[str]().union(*(one.guarded for one in systems))
    touched = len({stem for stem, _ in known} & guarded)
    weight += _LIMITED + min(touched, _MOST_TOUCHED) * _TOUCHED
    if any(group in _ORDERS for _, group in known):
        weight += _ORDERED
    return weight

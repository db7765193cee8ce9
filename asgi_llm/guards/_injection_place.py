"""Where a text stands: whose it is, and what of it the system texts guard."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from asgi_llm.guards._injection_features import stem_and_class, to_words
from asgi_llm.guards.base import GuardContext

__all__ = ["MOST_EXTRA", "MOST_TOUCHED", "NOWHERE", "Place", "place_of"]

MOST_EXTRA: Final = 0.1
MOST_TOUCHED: Final = 3
_KNOWN_SYSTEMS: Final = 64
_LEAST_LETTERS: Final = 4
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
_SAYS_NOTHING: Final = frozenset({"you", "neg", "user", "machine", "all", "now"})
_COMMON: Final = frozenset(
    {
        "about", "always", "answer", "anythi", "else", "everyt", "follow", "from", "give", "have",
        "instru", "mentio", "must", "never", "only", "questi", "reveal", "talk", "tell", "text",
        "that", "these", "they", "this", "user", "what", "with", "write", "your",
    }
)  # fmt: skip


class Place(NamedTuple):
    """Where a text stands.

    Attributes:
        extra: What is added to the margin of an injection, up to ``MOST_EXTRA``.
        touched: How many words of the text the system texts guard, up to ``MOST_TOUCHED``.
        is_guided: Whether a system text sets limits.
    """

    extra: float
    touched: int
    is_guided: bool


NOWHERE: Final = Place(extra=0.0, touched=0, is_guided=False)
"""A user's text, without a system text."""


@lru_cache(maxsize=_KNOWN_SYSTEMS)
def _guarded_by(system: str) -> frozenset[str]:
    """The stems of what a system text forbids, or allows alone."""
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
                if len(stem) >= _LEAST_LETTERS and group not in _SAYS_NOTHING
            )
    return frozenset(guarded - _COMMON)


def place_of(context: GuardContext | None, words: list[bytes]) -> Place:
    """Where a text of these words stands."""
    if context is None:
        return NOWHERE
    extra = MOST_EXTRA if context.role == "tool" else 0.0
    guarded = frozenset[str]().union(*map(_guarded_by, context.system))
    if not guarded:
        return Place(extra=extra, touched=0, is_guided=False)
    touched = {stem_and_class(word)[0] for word in words} & guarded
    return Place(extra=extra, touched=min(len(touched), MOST_TOUCHED), is_guided=True)

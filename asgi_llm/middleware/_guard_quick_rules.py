"""The rules of all guards in one pass over plain text, in most of which nothing is found."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Final

from asgi_llm._optional import require
from asgi_llm.guards._pattern_set import to_match
from asgi_llm.guards.patterns import PatternGuard
from asgi_llm.middleware._guard_views import RUN

__all__ = ["DISGUISED", "QuickRules"]

_MEMORY_BYTES: Final = 64 * 1024 * 1024
DISGUISED: Final = rf"[A-Za-z0-9+/_-]{{{RUN}}}|%[0-9A-Fa-f]{{2}}|\\|&#"
"""What a text looks like that may mean something else than it says."""
_LOUD: Final = r"\x01\x02look\x02\x01"


class QuickRules:
    """Tells of ASCII text that no rule can find anything in it, whichever part of it is a text.

    Args:
        guards: Whose rules.
        near: Characters on each side of a border between texts that a finding can span.

    Attributes:
        works: False where rules depend on where a text begins or ends, or are too many.
        is_for_pieces: Whether the rules are all that is looked for in pieces of streams.
        guards: As given.
        places: For each rule the place of its guard among these.
        near: As given.
        owners: For each rule the number of its guard; -1: it has none.
        match: The numbers of the rules that are in a text; behind the last one that of disguises.
    """

    __slots__ = ("guards", "is_for_pieces", "match", "near", "owners", "places", "works")

    def __init__(self, guards: Sequence[PatternGuard], near: int) -> None:
        self.guards = tuple(guards)
        re2 = require("re2", extra="guards")
        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        options.log_errors = False
        rules: Any = re2.Set.SearchSet(options)
        # What stands behind them is for pieces of streams alone.
        owned = [
            (number, one)
            for number, guard in enumerate(guards)
            for one in guard.triggers[: len(guard.rules)]
        ]
        self.owners = self.places = [number for number, _ in owned]
        # What only looks for the start of something at the end of a piece is not among them.
        self.is_for_pieces = all(len(one.triggers) <= len(one.rules) for one in guards)
        patterns = [one for _, one in owned]
        for pattern in (*patterns, DISGUISED, _LOUD):
            # Texts are looked at as lines of one, so that their ends are ends of lines.
            rules.Add(f"(?m:{pattern})")
        rules.Compile()
        self.match = to_match(rules)
        self.near = near
        # A Set that has no room for its automaton matches nothing, without a word.
        self.works = bool(self.match(b"\x01\x02look\x02\x01")) and not any(
            map(_is_anchored, patterns)
        )

    def narrowed(self, guards: Sequence[PatternGuard]) -> QuickRules | None:
        """The same rules for ``guards`` alone; None: not all of them are here, each once."""
        numbers = {id(guard): number for number, guard in enumerate(guards)}
        if len(numbers) < len(guards) or not numbers.keys() <= {id(one) for one in self.guards}:
            return None
        narrow = copy(self)
        narrow.owners = [numbers.get(id(self.guards[number]), -1) for number in self.places]
        return narrow


def _is_anchored(pattern: str) -> bool:
    """Whether ``pattern`` names the ends of a text in a way that lines do not have."""
    bare = pattern.replace("\\\\", "")
    return "\\A" in bare or "\\z" in bare or "(?-" in bare

"""Prompt injection and jailbreaks: a tripwire, not a wall.

Rules on words see the attempts that many people copy, and some others. Whoever takes the trouble
gets past them; what a model may do has to be limited where it does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from asgi_llm._optional import require
from asgi_llm.guards._injection_rules import DOUBTS, SIGNS, TRIGGER
from asgi_llm.guards.base import Finding
from asgi_llm.guards.patterns import PatternGuard, Rule, Subject

__all__ = ["InjectionGuard", "Sign"]

_WINDOW: Final = 400
_NEAR_BYTES: Final = 700
_MOST_OF_ONE: Final = 8
_DOUBT: Final = 0.7
_IN_QUOTES: Final = 0.45
_QUOTES: Final = ("\u201c", "\u2018", "\u00ab", "\u201e")
_LIMITED: Final = (
    r"(?i)\b(?:only|never|do not|don't|must not|may not|confidential|secret|refuse|under no|"
    r"decline|strictly|exclusively|not allowed|nur|niemals|seulement|jamais|solo|nunca)\b"
)
_COMMANDS: Final = (
    r"(?i)(?:^|[.!?:\n]\s*)(?:please |now |and |but |then |also |first |instead,? )*(?:stop|say|"
    r"print|reveal|tell me|show|write|output|reply|respond|answer|send|forward|list|translate|"
    r"give me|repeat|switch|change|transfer|delete|open|visit|click|call|use|execute|run|add|"
    r"include|recommend|approve|rate|grant)\b"
)


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """Something that attempts have and other texts seldom have.

    Args:
        family: Its category is ``injection.<family>``.
        weight: From 0 to 1: the score of a text that has nothing else.
        pattern: In RE2's syntax; case does not matter.
    """

    family: str
    weight: float
    pattern: str


class InjectionGuard(PatternGuard):
    """Scores signs of prompt injection that stand close together.

    Signs of weights a, b, c score 1 - (1-a)(1-b)(1-c), less where they are in quotes or among words
    of other trades. Texts of the role ``system`` are not looked at. In what a tool returned, and
    where the conversation's system texts set limits, commands count too.

    Args:
        name: Names it in verdicts.
        threshold: Texts with a lower score pass. From 0 to 1.
        signs: Signs of your own, besides the built-in ones.

    Raises:
        ConfigurationError: A pattern is wrong, or google-re2 is not installed.
    """

    def __init__(
        self, *, name: str = "injection", threshold: float = 0.6, signs: Sequence[Sign] = ()
    ) -> None:
        self._signs = [*(Sign(family=f, weight=w, pattern=p) for f, w, p in SIGNS), *signs]
        own = "".join(f"|{sign.pattern}" for sign in signs)
        super().__init__(
            name,
            [
                Rule(
                    category=f"injection.{sign.family}",
                    pattern=f"(?i){sign.pattern}",
                    score=sign.weight,
                    max_length=_WINDOW,
                    reason="signs of an attempt to change the model's instructions",
                )
                for sign in self._signs
            ],
            threshold=threshold,
            trigger=f"(?i){TRIGGER}{own}",
        )
        re2 = require("re2", extra="guards")
        options = re2.Options()
        options.never_capture = True
        self._doubts = re2.compile(DOUBTS, options)
        self._limited = re2.compile(_LIMITED, options)
        self._commands = re2.compile(_COMMANDS, options)

    def find(self, subject: Subject, hits: Sequence[int]) -> Sequence[Finding]:
        """The signs of the places where their common score reaches the threshold."""
        context = subject.context
        if context is not None and context.role in ("system", "developer"):
            return ()
        seen = self._signs_in(subject, hits)
        extra = self._weight_of_place(subject)
        findings: dict[tuple[int, int], Finding] = {}
        for first, (_, sign) in enumerate(seen):
            cluster = [one for one in seen[first:] if one[1].start - sign.start <= _NEAR_BYTES]
            score = round(self._score(subject.data, cluster, extra), 3)
            if score < self.threshold:
                continue
            for _, one in cluster:
                known = findings.get((one.start, one.end))
                if known is None or known.score < score:
                    findings[one.start, one.end] = msgspec.structs.replace(one, score=score)
        return subject.in_characters(list(findings.values()))

    def _signs_in(self, subject: Subject, hits: Sequence[int]) -> list[tuple[int, Finding]]:
        """The numbers of the signs and where they stand, in order, a few of each."""
        seen: list[tuple[int, Finding]] = []
        for number in hits:
            found: list[Finding] = []
            self._patterns[number].find(subject, found, most=_MOST_OF_ONE)
            seen += [(number, sign) for sign in found]
        return sorted(seen, key=lambda one: one[1].start)

    def _weight_of_place(self, subject: Subject) -> float:
        """How much a command weighs where it should not be given."""
        context = subject.context
        if context is None:
            return 0.0
        is_limited = any(self._limited.search(text) is not None for text in context.system)
        if not (is_limited or context.role == "tool"):
            return 0.0
        if self._commands.search(subject.data) is None:
            return 0.3 if context.role == "tool" else 0.1
        return 0.45 if is_limited and context.role == "tool" else 0.4

    def _score(self, data: bytes, cluster: Sequence[tuple[int, Finding]], extra: float) -> float:
        weights: dict[int, float] = {}
        for number, sign in cluster:
            weight = sign.score
            if _is_quoted(data, sign.start, sign.end):
                weight *= _IN_QUOTES
            # The same sign again adds half of what is left to add.
            known = weights.get(number)
            weights[number] = weight if known is None else known + (1 - known) * weight / 2
        rest = 1.0 - extra
        for weight in weights.values():
            rest *= 1.0 - weight
        around = data[max(0, cluster[0][1].start - 200) : cluster[-1][1].end + 200]
        doubt = _DOUBT if self._doubts.search(around) is not None else 1.0
        return (1.0 - rest) * doubt


def _is_quoted(data: bytes, start: int, end: int) -> bool:
    before = data[max(0, start - 48) : start].decode("utf-8", "replace")
    after = data[end : end + 96].decode("utf-8", "replace")
    if before.endswith("'") and "'" in after:
        return True
    return any(before.count(quote) % 2 == 1 for quote in ('"', "`")) or (
        any(quote in before for quote in _QUOTES)
        and any(quote in after for quote in ("\u201d", "\u2019", "\u00bb", "\u201c"))
    )

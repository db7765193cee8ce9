"""Prompt injection and jailbreaks: a tripwire, not a wall.

A linear model of wordings sees the attempts that many people copy, and many others. Whoever takes
the trouble gets past it; what a model may do has to be limited where it does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, prod
from operator import attrgetter
from typing import Final

import msgspec

from asgi_llm.guards._injection_data import DATA_SIGNS
from asgi_llm.guards._injection_features import to_words
from asgi_llm.guards._injection_model import Stretch, load_model
from asgi_llm.guards._injection_override import OVERRIDE_SIGNS
from asgi_llm.guards._injection_persona import PERSONA_SIGNS
from asgi_llm.guards._injection_place import place_of
from asgi_llm.guards._injection_scan import IS_COMPILED, Ceiling
from asgi_llm.guards.base import Finding
from asgi_llm.guards.patterns import PatternGuard, Rule, Subject

__all__ = ["InjectionGuard", "Sign"]

_WINDOW: Final = 400
_MOST_OF_ONE: Final = 64
_REASON: Final = "signs of an attempt to change the model's instructions"
_STEEPNESS: Final = 3.0
_ODDS_AT_THRESHOLD: Final = 0.6 / 0.4
_FURTHEST: Final = 200
_NEVER: Final = 50.0
_SURE: Final = 10.0
_HALF_A_STEP: Final = 0.0005
_MARGIN: Final = attrgetter("margin")


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
    """Scores how a text is worded, stretch by stretch, with a linear model.

    The signs in a stretch that reaches the threshold are the findings; where it has none, all of it
    is. Texts of the role ``system`` are not looked at. In what a tool returned, and where the text
    is about what the conversation's system texts forbid, less is needed.

    Args:
        name: Names it in verdicts.
        threshold: Texts with a lower score pass. From 0 to 1.
        signs: Signs of your own. With weights a and b, a stretch that the model scores p scores
            1 - (1-p)(1-a)(1-b).

    Raises:
        ConfigurationError: A pattern is wrong, or google-re2 is not installed.
    """

    def __init__(
        self, *, name: str = "injection", threshold: float = 0.6, signs: Sequence[Sign] = ()
    ) -> None:
        self._model = load_model()
        known = (*OVERRIDE_SIGNS, *PERSONA_SIGNS, *DATA_SIGNS)
        self._first_own = len(known)
        self._own = bool(signs)
        # Scores with signs of one's own are rounded.
        self._least = threshold - _HALF_A_STEP if signs else threshold
        # Margins below it need no second thought.
        self._low = _to_margin(self._least) - _HALF_A_STEP
        self._highest_in = self._model.highest_in
        own = "".join(f"|{sign.pattern}" for sign in signs)
        super().__init__(
            name,
            [
                Rule(
                    category=f"injection.{family}",
                    pattern=f"(?i){pattern}",
                    score=weight,
                    max_length=_WINDOW,
                    reason=_REASON,
                )
                for family, weight, pattern in [
                    *((family, 1.0, pattern) for family, pattern in known),
                    *((sign.family, sign.weight, sign.pattern) for sign in signs),
                ]
            ],
            threshold=threshold,
            trigger=f"(?i){self._model.trigger}{own}",
        )
        is_own = type(self).is_false_alarm is not InjectionGuard.is_false_alarm
        if IS_COMPILED and not signs and not is_own:
            self.ceiling = Ceiling(self._model.scan, self._low)

    def is_false_alarm(self, data: bytes) -> bool:
        """Whether no stretch of a text can reach the threshold, wherever it stands."""
        if self._own and not super().is_false_alarm(data):
            return False
        highest = self._highest_in(data)
        return highest < self._low or _to_score(highest) < self._least

    def find_triggered(self, subject: Subject, triggers: Sequence[int]) -> Sequence[Finding]:
        """What is found in a text in which a trigger is."""
        context = subject.context
        if context is not None and context.role in ("system", "developer"):
            return ()
        if not self._own and self.is_false_alarm(subject.data):
            return ()
        words = to_words(subject.data)
        stretches = self._model.stretches(words, place_of(context, words))
        if not self._own and _to_score(max(stretches, key=_MARGIN).margin) < self.threshold:
            return ()
        scored = [(one, _to_score(one.margin)) for one in stretches]
        return self._findings(subject, words, scored)

    def _findings(
        self, subject: Subject, words: list[bytes], scored: Sequence[tuple[Stretch, float]]
    ) -> Sequence[Finding]:
        """The signs in stretches that reach the threshold; the stretch itself where it has none."""
        signs = self._signs_in(subject)
        earliest, latest = _offsets(subject.data, words)
        findings: dict[tuple[int, int], Finding] = {}
        for stretch, alone in scored:
            start = earliest[stretch.first] if stretch.first else 0
            end = latest[stretch.last]
            inside = [(number, one) for number, one in signs if start <= one.start < end]
            score = round(1.0 - (1.0 - alone) * self._rest(inside), 3)
            if score < self.threshold:
                continue
            whole = Finding(start=start, end=end, category="injection.wording", reason=_REASON)
            for one in [sign for _, sign in inside] or [whole]:
                known = findings.get((one.start, one.end))
                if known is None or known.score < score:
                    findings[one.start, one.end] = msgspec.structs.replace(one, score=score)
        return subject.in_characters(list(findings.values()))

    def _signs_in(self, subject: Subject) -> list[tuple[int, Finding]]:
        """The numbers of the signs and where they stand, a few of each."""
        every = self._every
        seen: list[tuple[int, Finding]] = []
        for number in sorted(every.match(subject.data)) if every is not None else ():
            if number < len(self._patterns):
                found: list[Finding] = []
                self._patterns[number].find(subject, found, most=_MOST_OF_ONE)
                seen += [(number, sign) for sign in found]
        return seen

    def _rest(self, inside: Sequence[tuple[int, Finding]]) -> float:
        """What the signs of one's own leave of the doubt; each counts once."""
        own = {number: sign.score for number, sign in inside if number >= self._first_own}
        return prod(1.0 - weight for weight in own.values())


def _to_margin(score: float) -> float:
    """About the margin that has a score."""
    if not 0 < score < 1:
        return -_NEVER if score <= 0 else _SURE
    return log(score / (1.0 - score) / _ODDS_AT_THRESHOLD) / _STEEPNESS


def _to_score(margin: float) -> float:
    return 1.0 / (1.0 + exp(_STEEPNESS * min(-margin, _NEVER)) / _ODDS_AT_THRESHOLD)


def _small_letters(data: bytes) -> bytes:
    """A text with small letters, except for those that have another number of bytes."""
    small = []
    for char in data.decode("utf-8", "surrogatepass"):
        lower = char.lower().encode("utf-8", "surrogatepass")
        as_is = char.encode("utf-8", "surrogatepass")
        small.append(lower if len(lower) == len(as_is) else as_is)
    return b"".join(small)


def _offsets(data: bytes, words: Sequence[bytes]) -> tuple[list[int], list[int]]:
    """Where each word begins in a text, at the earliest and at the latest; and the text's end.

    Words that were read out of a disguise do not stand there as they are: where one is, the found
    ones on both sides of it say.
    """
    lower = data.lower() if data.isascii() else _small_letters(data)
    earliest: list[int] = []
    last = at = 0
    places: list[int] = []
    for word in words:
        found = lower.find(word, at, at + len(word) + _FURTHEST)
        if found >= 0:
            last, at = found, found + len(word)
        earliest.append(last)
        places.append(found)
    latest: list[int] = []
    last = len(data)
    for found in reversed(places):
        last = found if found >= 0 else last
        latest.append(last)
    latest.reverse()
    return [*earliest, len(data)], [*latest, len(data)]

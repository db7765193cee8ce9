"""Guards that are made of patterns, and one pass over a text for all of them.

The patterns of all guards are one RE2 Set: a text in which nothing is found costs some 2 us a KB.
A guard of many rules puts only its trigger there, a pattern that every finding has: an automaton of
all rules of all guards would have more states than can be kept. Where a trigger hits, the guard's
own Set tells which rules do, and each of those looks again with its pattern and its exact check
(check digits, entropy, the words around).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.guards._folding import fold, foldable
from asgi_llm.guards._injection_scan import Ceiling
from asgi_llm.guards._pattern_set import PatternSet
from asgi_llm.guards._rules import Candidate, CompiledRule, Confirm, Rule, Subject
from asgi_llm.guards.base import Finding, GuardContext, GuardCost

__all__ = [
    "SHORTEST_RUN",
    "Candidate",
    "Confirm",
    "PatternGuard",
    "Rule",
    "Scanner",
    "Subject",
    "ends_with_gap",
    "scan_together",
]

SHORTEST_RUN: Final = 32
"""Characters without a space that may be the start of something longer."""
_NOTHING: Final[tuple[Finding, ...]] = ()


def ends_with_gap(text: str) -> bool:
    """Whether there is a space among the last characters, or they are few."""
    tail = text[-SHORTEST_RUN:]
    return len(tail) < SHORTEST_RUN or " " in tail or "\n" in tail


class PatternGuard:
    """Finds what its rules look for. Runs on the event loop, in time linear in the text.

    Args:
        name: Names it in verdicts.
        rules: What to look for.
        threshold: Findings with a lower score are left out. From 0 to 1.
        unfinished: RE2 pattern of what, at the end of a piece of a stream, may become a finding
            longer than the window. It is told as an open finding until more has come. Beside a
            trigger, it is looked for where the last 32 characters have no space.
        trigger: RE2 pattern that is in every text in which a rule finds something, and in few
            others. Worth its while from some twenty rules on. Default: the rules themselves.
        silent_on_plain_words: The trigger is in no text of which ``is_plain_words`` is true.

    Attributes:
        silent_on_plain_words: As given.
        ceiling: Says of some texts, in less time, what ``is_false_alarm`` says; None: of none.

    Raises:
        ConfigurationError: A rule is wrong, there is none, or google-re2 is not installed.
    """

    cost: ClassVar[GuardCost] = "inline"

    def __init__(
        self,
        name: str,
        rules: Sequence[Rule],
        *,
        threshold: float = 0.5,
        unfinished: str | None = None,
        trigger: str | None = None,
        silent_on_plain_words: bool = False,
    ) -> None:
        if not name:
            raise ConfigurationError("name must not be empty", param="name")
        if not rules:
            raise ConfigurationError(f"{name}: there is no rule", param="rules")
        if not 0 <= threshold <= 1:
            raise ConfigurationError("threshold must be from 0 to 1", param="threshold")
        re2 = require("re2", extra="guards")
        self.name = name
        self.rules = tuple(rules)
        self.threshold = threshold
        self.window: int | None = max(rule.max_length for rule in rules)
        self._patterns = [CompiledRule(re2, rule) for rule in rules]
        if unfinished is not None:
            rule = Rule(
                category=f"{name}.unfinished", pattern=rf"(?:{unfinished})\z", open_ended=True
            )
            self._patterns.append(CompiledRule(re2, rule))
        self.waits = unfinished is not None and trigger is not None
        patterns = [pattern.rule.pattern for pattern in self._patterns]
        self.triggers: tuple[str, ...] = tuple(patterns) if trigger is None else (trigger,)
        self._every = None if trigger is None else PatternSet(re2, patterns)
        self._scanner: Scanner | None = None
        self.ceiling: Ceiling | None = None
        self.silent_on_plain_words = silent_on_plain_words

    def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """What is found in ``text``."""
        if self._scanner is None:
            self._scanner = Scanner((self,))
        return self._scanner.scan(text, is_final=context.is_final, context=context)[0]

    def is_false_alarm(self, data: bytes) -> bool:
        """Whether none of the rules can find anything in a text in which a trigger is.

        Only where a trigger stands for the rules can that be told without asking them.
        """
        return self._every is not None and not self._every.match(data)

    def find_triggered(self, subject: Subject, triggers: Sequence[int]) -> Sequence[Finding]:
        """What the rules find in a text in which the triggers at ``triggers`` are."""
        hits = triggers if self._every is None else self._every.match(subject.data)
        known = sorted(hit for hit in hits if hit < len(self._patterns))
        return self.find(subject, known) if known else _NOTHING

    def find(self, subject: Subject, hits: Sequence[int]) -> Sequence[Finding]:
        """What the rules at ``hits`` find, in the order of ``start``."""
        found: list[Finding] = []
        for hit in hits:
            if hit < len(self.rules) or not subject.is_final:
                self._patterns[hit].find(subject, found)
        threshold = self.threshold
        kept = [finding for finding in found if finding.score >= threshold]
        return subject.in_characters(kept) if kept else _NOTHING


class Scanner:
    """Looks through a text once, for all rules of several guards.

    Args:
        guards: Whose findings are wanted.
    """

    def __init__(self, guards: Sequence[PatternGuard]) -> None:
        self._places = [
            (number, index)
            for number, guard in enumerate(guards)
            for index in range(len(guard.triggers))
        ]
        patterns = [trigger for guard in guards for trigger in guard.triggers]
        self._fold = len(patterns)
        self._match = PatternSet(require("re2", extra="guards"), [*patterns, foldable()]).match
        self._guards = tuple(guards)
        self._waiting = [number for number, guard in enumerate(guards) if guard.waits]
        self._nothing: tuple[Sequence[Finding], ...] = (_NOTHING,) * len(guards)

    def scan(
        self, text: str, *, is_final: bool = True, context: GuardContext | None = None
    ) -> Sequence[Sequence[Finding]]:
        """The findings of each guard in ``text``, in the order in which the guards were given.

        Args:
            text: What to look through.
            is_final: False for a piece of a stream.
            context: Where the text stands, for guards that want to know.
        """
        try:
            data = text.encode()
        except UnicodeEncodeError:
            data = text.encode("utf-8", "surrogatepass")
        hits = self._match(data)
        # What has no end yet has no space: few pieces end so.
        may_go_on = not is_final and bool(self._waiting) and not ends_with_gap(text)
        if not hits and not may_go_on:
            return self._nothing
        return self._resolve(text, data, hits, may_go_on, is_final, context)

    def _resolve(
        self,
        text: str,
        data: bytes,
        hits: Sequence[int],
        may_go_on: bool,
        is_final: bool,
        context: GuardContext | None,
    ) -> Sequence[Sequence[Finding]]:
        if self._fold in hits:
            text = fold(text)
            data = text.encode("utf-8", "surrogatepass")
            hits = self._match(data)
        by_guard: dict[int, list[int]] = {}
        for hit in sorted(hits):
            if hit < len(self._places):
                number, index = self._places[hit]
                by_guard.setdefault(number, []).append(index)
        if may_go_on:
            for number in self._waiting:
                by_guard.setdefault(number, [])
        if not by_guard:
            return self._nothing
        subject = Subject(text, data, is_final=is_final, context=context)
        found = list(self._nothing)
        for number, indices in by_guard.items():
            found[number] = self._guards[number].find_triggered(subject, indices)
        return found


def scan_together(guards: Sequence[PatternGuard]) -> Scanner:
    """One pass for all rules of ``guards``.

    Raises:
        ConfigurationError: There are more rules than one automaton has room for.
    """
    return Scanner(guards)

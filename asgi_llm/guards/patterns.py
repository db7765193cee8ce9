"""Guards that are made of patterns, and one pass over a text for all of them.

The patterns of all guards are one RE2 Set: a text in which nothing is found costs some 2 us a KB.
A guard of many rules puts only its trigger there, a pattern that every finding has: an automaton of
all rules of all guards would have more states than can be kept. Where a trigger hits, the guard's
own Set tells which rules do, and each of those looks again with its pattern and its exact check
(check digits, entropy, the words around).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, cast

import msgspec

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.guards._folding import FOLDABLE, fold
from asgi_llm.guards.base import Finding, GuardContext, GuardCost

__all__ = [
    "Candidate",
    "Confirm",
    "PatternGuard",
    "Rule",
    "Scanner",
    "Subject",
    "ends_with_gap",
    "scan_together",
    "to_match",
]

_SET_MEMORY_BYTES: Final = 32 * 1024 * 1024
_LOUD: Final = r"\x{1}\x{2}scan\x{2}\x{1}"
_SHORTEST_RUN: Final = 32
_NOTHING: Final[tuple[Finding, ...]] = ()


class Candidate:
    """A match of a rule's pattern, and what stands around it. A check may narrow it.

    Attributes:
        data: The whole text as UTF-8.
        start: Offset of its first byte in the text as UTF-8.
        end: Offset behind its last byte.
    """

    __slots__ = ("data", "end", "start")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self.data = data
        self.start = start
        self.end = end

    @property
    def value(self) -> str:
        """The match."""
        return self.data[self.start : self.end].decode("utf-8", "replace")

    def before(self, count: int) -> str:
        """At most ``count`` bytes in front of the match, as text in lower case."""
        return self.data[max(0, self.start - count) : self.start].decode("utf-8", "replace").lower()

    def after(self, count: int) -> str:
        """At most ``count`` bytes behind the match, as text in lower case."""
        return self.data[self.end : self.end + count].decode("utf-8", "replace").lower()

    def narrow(self, start: int, end: int) -> None:
        """Keep the bytes from ``start`` to ``end`` of the match alone, counted from its first."""
        self.start, self.end = self.start + start, self.start + end


Confirm = Callable[[Candidate], float]
"""How sure it is that a match is what its rule looks for, from 0 (it is not) to 1."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to look for.

    Args:
        category: Dotted words from the general to the special, such as ``pii.email``.
        pattern: In RE2's syntax. A group named ``value`` is the finding; else all of the match is.
        confirm: Judges each match. Default: each is a finding, with ``score``.
        score: From 0 to 1, above 0, where ``confirm`` does not tell.
        max_length: The most characters that a match has, with what ``confirm`` looks at around it.
        reason: Why it is a finding, in a few words.
        open_ended: A match that reaches the end of a piece of a stream may go on in the next one,
            longer than ``max_length``: its finding is told as ``is_open``.
    """

    category: str
    pattern: str
    confirm: Confirm | None = None
    score: float = 1.0
    max_length: int = 128
    reason: str = ""
    open_ended: bool = False


class Subject:
    """A text that is scanned: in UTF-8, with ASCII's digits, spaces and dashes for all others."""

    __slots__ = ("_text", "context", "data", "is_final")

    def __init__(
        self, text: str, data: bytes, *, is_final: bool, context: GuardContext | None
    ) -> None:
        self._text = text
        self.data = data
        self.is_final = is_final
        self.context = context

    def in_characters(self, findings: list[Finding]) -> list[Finding]:
        """``findings`` with offsets of bytes as such with offsets of characters, in their order."""
        findings.sort(key=lambda found: (found.start, found.end))
        if len(self.data) == len(self._text):
            return findings
        offsets = {0: 0}
        last = 0
        for offset in sorted({edge for found in findings for edge in (found.start, found.end)}):
            # Bytes of a character that follow its first one have the form 10xxxxxx.
            piece = self.data[last:offset]
            offsets[offset] = offsets[last] + len(piece.decode("utf-8", "surrogatepass"))
            last = offset
        return [
            msgspec.structs.replace(found, start=offsets[found.start], end=offsets[found.end])
            for found in findings
        ]


class _Pattern:
    """A rule whose pattern is compiled."""

    __slots__ = ("_finditer", "_group", "rule")

    def __init__(self, re2: Any, rule: Rule) -> None:
        if not rule.category or not 0 < rule.score <= 1 or rule.max_length < 1:
            raise ConfigurationError(
                f"a rule needs a category, a score from 0 to 1 and a max_length: {rule.category}",
                param="rules",
            )
        options = re2.Options()
        options.log_errors = False
        # Without captures RE2 needs its fastest engine alone.
        options.never_capture = "(?P<value>" not in rule.pattern
        try:
            compiled = re2.compile(rule.pattern, options)
        except re2.error as error:
            problem = error.args[0] if error.args else "it is not valid"
            if isinstance(problem, bytes):
                problem = problem.decode("utf-8", "replace")
            raise ConfigurationError(
                f"{rule.category}: the pattern is refused: {problem}", param="pattern"
            ) from error
        if compiled.search("") is not None:
            raise ConfigurationError(
                f"{rule.category}: the pattern matches the empty text", param="pattern"
            )
        self.rule = rule
        self._finditer = compiled.finditer
        self._group = compiled.groupindex.get("value", 0)

    def find(self, subject: Subject, into: list[Finding], *, most: int | None = None) -> None:
        """Add what is found to ``into``, at most so many findings."""
        room = None if most is None else len(into) + most
        data, rule = subject.data, self.rule
        confirm, group = rule.confirm, self._group
        position = 0
        while position < len(data):
            again = None
            for match in self._finditer(data, position):
                if len(into) == room:
                    return
                start, end = match.span(group)
                score = rule.score
                if start < 0:
                    continue
                if confirm is not None:
                    candidate = Candidate(data, start, end)
                    score = confirm(candidate)
                    if score <= 0:
                        again = _inside(data, start, end)
                        if again is not None:
                            break
                        continue
                    start, end = candidate.start, candidate.end
                is_open = rule.open_ended and not subject.is_final and end == len(data)
                into.append(
                    Finding(
                        start=start,
                        end=end,
                        category=rule.category,
                        score=score,
                        reason=rule.reason,
                        is_open=is_open,
                    )
                )
                if end < match.end():
                    again = end
                    break
            if again is None:
                return
            position = again


def ends_with_gap(text: str) -> bool:
    """Whether there is a space among the last characters, or they are few."""
    tail = text[-_SHORTEST_RUN:]
    return len(tail) < _SHORTEST_RUN or " " in tail or "\n" in tail


Match = Callable[[bytes], Sequence[int]]
"""The numbers of the patterns that are in a text as UTF-8."""


def to_match(patterns: Any) -> Match:
    """How a compiled ``re2.Set`` is asked."""
    # The Set inside it tells the same, and takes half the time for a short text.
    inner = getattr(patterns, "_set", None)
    if inner is not None:
        return cast("Match", inner.Match)
    return lambda data: patterns.Match(data) or ()


class _Set:
    """Tells which of many patterns are in a text, and one more that nobody uses, in one pass.

    Attributes:
        match: How it is asked.
    """

    __slots__ = ("match",)

    def __init__(self, re2: Any, patterns: Sequence[str]) -> None:
        options = re2.Options()
        options.max_mem = _SET_MEMORY_BYTES
        options.never_capture = True
        options.log_errors = False
        every = re2.Set.SearchSet(options)
        try:
            for pattern in patterns:
                every.Add(pattern)
            loud = every.Add(_LOUD)
            every.Compile()
        except re2.error as error:
            raise ConfigurationError(
                "there are too many rules for one pass, or too long ones", param="rules"
            ) from error
        self.match = to_match(every)
        # A Set that has no room for its automaton matches nothing, without a word.
        if loud not in self.match(b"\x01\x02scan\x02\x01"):
            raise ConfigurationError("there are too many rules for one pass", param="rules")


def _inside(data: bytes, start: int, end: int) -> int | None:
    """Where inside a match that was not confirmed another one may begin: behind a separator."""
    for offset in range(start + 1, end):
        if data[offset] in b" -./,:;|\n\t" and offset + 1 < end:
            return offset + 1
    return None


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
        self._patterns = [_Pattern(re2, rule) for rule in rules]
        if unfinished is not None:
            rule = Rule(
                category=f"{name}.unfinished", pattern=rf"(?:{unfinished})\z", open_ended=True
            )
            self._patterns.append(_Pattern(re2, rule))
        self.waits = unfinished is not None and trigger is not None
        patterns = [pattern.rule.pattern for pattern in self._patterns]
        self.triggers: tuple[str, ...] = tuple(patterns) if trigger is None else (trigger,)
        self._every = None if trigger is None else _Set(re2, patterns)
        self._scanner: Scanner | None = None

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
        self._match = _Set(require("re2", extra="guards"), [*patterns, FOLDABLE]).match
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

"""Rules of patterns, compiled, and what each of them finds in a text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Finding, GuardContext

__all__ = ["Candidate", "CompiledRule", "Confirm", "Rule", "Subject"]


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


class CompiledRule:
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


def _inside(data: bytes, start: int, end: int) -> int | None:
    """Where inside a match that was not confirmed another one may begin: behind a separator."""
    for offset in range(start + 1, end):
        if data[offset] in b" -./,:;|\n\t" and offset + 1 < end:
            return offset + 1
    return None

"""Guards of your own words: lists, topics and regular expressions, all in linear time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Final

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Finding, GuardContext, GuardCost
from asgi_llm.guards.patterns import PatternGuard, Rule

__all__ = ["RegexGuard", "TopicsGuard", "WordsGuard"]

_MAX_PATTERN: Final = 4096
_MAX_LENGTH: Final = 10_000


class RegexGuard(PatternGuard):
    """Finds what regular expressions match.

    Args:
        patterns: Category to pattern, in RE2's syntax, which has no look-around and no references
            back, and takes time linear in the text whatever it is. A group named ``value`` is the
            finding; else all of the match is.
        name: Names it in verdicts.
        max_length: The most characters that a match has, 1 to 10000: so much of a stream is held
            back. A longer match is found in whole texts, and may be missed in streams.

    Raises:
        ConfigurationError: A pattern is wrong or matches the empty text, or google-re2 is not
            installed.
    """

    def __init__(
        self, patterns: Mapping[str, str], *, name: str = "regex", max_length: int = 128
    ) -> None:
        if not 1 <= max_length <= _MAX_LENGTH:
            raise ConfigurationError(
                f"max_length must be from 1 to {_MAX_LENGTH}", param="max_length"
            )
        if too_long := [one for one, text in patterns.items() if len(text) > _MAX_PATTERN]:
            raise ConfigurationError(
                f"{too_long[0]}: a pattern may have {_MAX_PATTERN} characters", param="patterns"
            )
        super().__init__(
            name,
            [
                Rule(
                    category=category,
                    pattern=pattern,
                    max_length=max_length,
                    reason="a regular expression matches",
                )
                for category, pattern in patterns.items()
            ],
        )


class WordsGuard:
    """Finds words and phrases of a list, whole words only, whatever the case.

    One pass by Aho and Corasick's automaton, however long the list is.

    Args:
        words: Each may have spaces, which stand for one space.
        name: Names it in verdicts.
        category: Of its findings.

    Raises:
        ConfigurationError: There is no word, one is empty, or pyahocorasick is not installed.
    """

    cost: ClassVar[GuardCost] = "inline"

    def __init__(
        self, words: Collection[str], *, name: str = "words", category: str = "words"
    ) -> None:
        if not words or isinstance(words, str) or not all(word.strip() for word in words):
            raise ConfigurationError("words must be a list of words", param="words")
        ahocorasick = require("ahocorasick", extra="guards")
        self.name = name
        self.window: int | None = max(map(len, words)) + 2
        self._category = category
        self._automaton: Any = ahocorasick.Automaton()
        for word in words:
            folded = _folded(word)
            self._automaton.add_word(folded, len(folded))
        self._automaton.make_automaton()

    def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """The words of the list in ``text``."""
        folded = _folded(text)
        found = []
        for last, size in self._automaton.iter(folded):
            start, end = last - size + 1, last + 1
            if start and folded[start - 1].isalnum() and folded[start].isalnum():
                continue
            if end < len(folded) and folded[end].isalnum() and folded[last].isalnum():
                continue
            found.append(
                Finding(start=start, end=end, category=self._category, reason="a word of the list")
            )
        return sorted(found, key=lambda finding: (finding.start, finding.end))


def _folded(text: str) -> str:
    """``text`` in lower case, with as many characters as it has."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(one.lower() if len(one.lower()) == 1 else one for one in text)


class TopicsGuard:
    """Finds texts about a topic, by how many of its words they hold.

    The finding is about the whole text.

    Args:
        topics: Topic to its words.
        least: How many different words of a topic a text needs, at least 1.
        name: Names it in verdicts.

    Raises:
        ConfigurationError: There is no topic, ``least`` is more than a topic has words, or
            pyahocorasick is not installed.
    """

    cost: ClassVar[GuardCost] = "inline"
    window: ClassVar[int | None] = None

    def __init__(
        self, topics: Mapping[str, Collection[str]], *, least: int = 2, name: str = "topics"
    ) -> None:
        if not topics:
            raise ConfigurationError("topics must not be empty", param="topics")
        if least < 1 or any(len(set(words)) < least for words in topics.values()):
            raise ConfigurationError(
                "least must be at least 1, and at most the number of words of each topic",
                param="least",
            )
        self.name = name
        self._least = least
        self._guards = [
            (topic, WordsGuard(words, name=topic, category=f"topic.{topic}"))
            for topic, words in topics.items()
        ]

    def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """The topics of ``text``."""
        found = []
        for topic, guard in self._guards:
            words = {text[one.start : one.end].lower() for one in guard.check(text, context)}
            if len(words) >= self._least:
                score = min(1.0, 0.4 + 0.2 * len(words))
                found.append(
                    Finding(
                        start=0,
                        end=0,
                        category=f"topic.{topic}",
                        score=score,
                        reason=f"{len(words)} words of the topic",
                    )
                )
        return found

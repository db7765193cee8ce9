"""Answers that give away the system prompt, or a canary that was put into it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Finding, GuardContext, GuardCost
from asgi_llm.guards.patterns import PatternGuard, Rule

__all__ = ["CanaryGuard", "SystemLeakGuard"]

_SHORTEST_CANARY: Final = 8


class CanaryGuard(PatternGuard):
    """Finds texts that were put where no answer may take them from.

    Case makes no difference, nor do marks and spaces between the letters, so that spelling a canary
    out does not hide it.

    Args:
        canaries: Each has at least 8 letters and digits.
        name: Names it in verdicts.

    Raises:
        ConfigurationError: There is none, one is too short, or google-re2 is not installed.
    """

    def __init__(self, canaries: Collection[str], *, name: str = "canary") -> None:
        letters = [] if isinstance(canaries, str) else [_letters(one) for one in canaries]
        if not letters:
            raise ConfigurationError("canaries must be a list of texts", param="canaries")
        if min(map(len, letters)) < _SHORTEST_CANARY:
            raise ConfigurationError(
                f"a canary needs at least {_SHORTEST_CANARY} letters and digits", param="canaries"
            )
        super().__init__(
            name,
            [
                Rule(
                    category="leak.canary",
                    pattern="(?i)" + r"[^\pL\pN]{0,3}".join(map(_literal, one)),
                    max_length=4 * len(one),
                    reason="a canary",
                )
                for one in letters
            ],
        )


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _literal(letter: str) -> str:
    return rf"\x{{{ord(letter):x}}}"


class SystemLeakGuard:
    """Finds parts of the conversation's system texts in an answer, word for word.

    Args:
        least_words: How many words in a row have to be the same, at least 4.
        name: Names it in verdicts.

    Raises:
        ConfigurationError: ``least_words`` is below 4.
    """

    cost: ClassVar[GuardCost] = "inline"

    def __init__(self, *, least_words: int = 12, name: str = "system_leak") -> None:
        if least_words < 4:
            raise ConfigurationError("least_words must be at least 4", param="least_words")
        self.name = name
        self.window: int | None = least_words * 16
        self._least = least_words
        self._last: tuple[Sequence[str], frozenset[tuple[str, ...]], Sequence[str]] = (
            (),
            frozenset(),
            (),
        )

    def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """Where ``text`` repeats ``context.system``, each part as long as it goes."""
        least = self._least
        if not context.system:
            return ()
        words = _words(text)
        if len(words) < least and context.is_final:
            return ()
        known, systems = self._known(context.system)
        spans: list[list[int]] = []
        for at in range(len(words) - least + 1):
            if tuple(word for word, _, _ in words[at : at + least]) in known:
                start, end = words[at][1], words[at + least - 1][2]
                if spans and start <= spans[-1][1]:
                    spans[-1][1] = end
                else:
                    spans.append([start, end])
        begun = None if context.is_final else self._begun(text, words, systems)
        if begun is not None and not any(start <= begun < end for start, end in spans):
            spans.append([begun, len(text)])
        return [
            Finding(
                start=start,
                end=end,
                category="leak.system_prompt",
                reason=f"{least} words or more of the system prompt",
                is_open=start == begun,
            )
            for start, end in spans
        ]

    def _begun(
        self, text: str, words: Sequence[tuple[str, int, int]], systems: Sequence[str]
    ) -> int | None:
        """Where the last words begin to repeat a system text; None: the window holds them."""
        # The last word may be a part of one.
        for count in range(min(self._least, len(words)), 0, -1):
            start = words[-count][1]
            if len(text) - start <= (self.window or 0):
                break
            said = " " + " ".join([word for word, _, _ in words[-count:]])
            if any(said in system for system in systems):
                return start
        return None

    def _known(self, systems: Sequence[str]) -> tuple[frozenset[tuple[str, ...]], Sequence[str]]:
        """All runs of words of the system texts, and these texts as such words.

        The last ones are kept, for the next piece.
        """
        last, known, said = self._last
        if last != systems:
            least = self._least
            words = [[word for word, _, _ in _words(system)] for system in systems]
            known = frozenset(
                tuple(one[at : at + least]) for one in words for at in range(len(one) - least + 1)
            )
            said = ["".join([f" {word}" for word in one]) for one in words]
            self._last = systems, known, said
        return known, said


def _words(text: str) -> list[tuple[str, int, int]]:
    """The words of ``text`` in lower case without marks, and where each one stands."""
    found = []
    at = 0
    for part in text.split():
        start = text.index(part, at)
        at = start + len(part)
        word = "".join(filter(str.isalnum, part)).lower()
        if word:
            found.append((word, start, at))
    return found

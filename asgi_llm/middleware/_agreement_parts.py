"""What a text is taken apart into, for comparing it with another."""

from __future__ import annotations

import enum
from decimal import Decimal

import msgspec

from asgi_llm.middleware._agreement_questions import Question

__all__ = ["Grade", "Quantity", "Reading", "Token"]


class Quantity(msgspec.Struct, frozen=True, gc=False):
    """A number and what it counts."""

    value: Decimal
    unit: str | None
    """None where none is named, or it is no unit that is known."""


class Grade(enum.IntEnum):
    """How much a word says."""

    GENERIC = 0
    """Nothing: it may stand in either text."""
    LIGHT = 1
    """Little: it may stand in one of the texts only, if nothing stands for it in the other."""
    STRONG = 2


class Token(msgspec.Struct, frozen=True, gc=False):
    """A word that says something."""

    word: str
    """The one that stands for all that say the same."""
    grade: Grade
    after: str
    """The small word before it, such as ``to`` or ``from``; empty where there is none."""
    adjacent: bool
    """Whether nothing stands between it and the word before."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A text, taken apart."""

    language: str | None
    question: Question
    quantities: tuple[Quantity, ...]
    units: frozenset[str]
    """Those that stand by themselves, as in "length in miles"."""
    asked_units: frozenset[str]
    """Those of them that only say what is asked for, as in "how many minutes"."""
    dates: frozenset[str]
    date_ends: frozenset[str]
    """Those of them up to which it goes, as in "from Monday to Friday"."""
    quoted: tuple[str, ...]
    identifiers: frozenset[str]
    names: tuple[str, ...]
    """Words with a capital letter inside a sentence, in order, as they are compared."""
    persons: frozenset[str]
    """Whom pronouns stand for: ``first``, ``he`` and ``she``."""
    negations: int
    negated: frozenset[str]
    """The words right behind a negation, where it is plain that it goes with them."""
    tokens: tuple[Token, ...]
    symbols: tuple[str, ...]
    """Operators between numbers or names, and what else is neither a word nor a mark."""
    ending: str
    """The emoji behind all the rest."""
    plain: tuple[str, ...]
    """Every word, where none of them says much: what is left to compare then."""

    @property
    def words(self) -> frozenset[str]:
        """The words that say something."""
        return frozenset([token.word for token in self.tokens])

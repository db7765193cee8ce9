"""Whether two texts ask for the same, as far as words can tell.

An embedding is blind to what matters most in a question: "Reset my password" and "Do not reset my
password" are nearer to each other than most paraphrases are. So a candidate has to agree with the
new text in each of the points below, in any of which a person would call the stored answer wrong.

All of it is pure and makes no call. The words are English; of other languages the numbers, quoted
texts, identifiers and names are compared, and all other words must be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final, Literal

from asgi_llm.middleware._agreement_order import is_turned_round
from asgi_llm.middleware._agreement_parts import Grade, Quantity, Reading
from asgi_llm.middleware._agreement_questions import may_ask_the_same
from asgi_llm.middleware._agreement_reading import read
from asgi_llm.middleware._agreement_synonyms import ANTONYMS

__all__ = ["GUARDS", "Disagreement", "GuardName", "Reading", "disagreement", "read"]

GuardName = Literal[
    "language",
    "quoted",
    "identifiers",
    "numbers",
    "units",
    "dates",
    "negation",
    "opposites",
    "names",
    "direction",
    "question",
    "wording",
]

Disagreement = tuple[GuardName, str]
"""Which guard refuses, and why in a few words; these never hold any of the texts."""

_MOST_LIGHT: Final = 2


def _language(new: Reading, old: Reading) -> str | None:
    if new.language is not None and old.language is not None and new.language != old.language:
        return f"{new.language} and {old.language}"
    return None


def _quoted(new: Reading, old: Reading) -> str | None:
    if new.quoted != old.quoted:
        return "another quoted text"
    return None


def _identifiers(new: Reading, old: Reading) -> str | None:
    if new.identifiers == old.identifiers:
        return None
    # One that the other text writes as a plain word is no difference.
    extra = _plain(new.identifiers, old) | _plain(old.identifiers, new)
    return "another name of code, file or place" if extra else None


def _plain(identifiers: Iterable[str], other: Reading) -> set[str]:
    return set(identifiers) - other.identifiers - other.words


def _numbers(new: Reading, old: Reading) -> str | None:
    ours, theirs = new.quantities, old.quantities
    if sorted(one.value for one in ours) != sorted(one.value for one in theirs):
        return "another number"
    if new.symbols != old.symbols:
        return "another operation"
    for unit in {one.unit for one in ours}:
        row = [one.value for one in ours if one.unit == unit]
        other = [one.value for one in theirs if one.unit == unit]
        if len(row) > 1 and row != other and sorted(row) == sorted(other):
            return "numbers in another order"
    return None


def _units(new: Reading, old: Reading) -> str | None:
    ours, theirs = _by_value(new.quantities), _by_value(old.quantities)
    if ours != theirs:
        for value, units in ours.items():
            others = theirs.get(value, frozenset())
            if units == others:
                continue
            if (units and others) or not (units | others) <= (new.units | old.units):
                return "another unit"
    named_ours = new.units | _all_units(new.quantities)
    named_theirs = old.units | _all_units(old.quantities)
    if named_ours == named_theirs:
        return None
    # "How many minutes" is "how long"; it is not "how many hours".
    if named_ours - named_theirs and named_theirs - named_ours:
        return "another unit"
    if (named_ours - named_theirs) <= new.asked_units | _TIMES and (
        named_theirs - named_ours
    ) <= old.asked_units | _TIMES:
        return None
    return "a unit in one only"


_TIMES: Final = frozenset(("day", "year", "month", "hour", "week"))
"""Units that are words like others, too: "the year", "an hour ago"."""


def _by_value(quantities: Sequence[Quantity]) -> dict[Decimal, frozenset[str]]:
    units: dict[Decimal, frozenset[str]] = {}
    for one in quantities:
        named = frozenset(() if one.unit is None else (one.unit,))
        units[one.value] = units.get(one.value, frozenset()) | named
    return units


def _all_units(quantities: Sequence[Quantity]) -> frozenset[str]:
    return frozenset([one.unit for one in quantities if one.unit is not None])


def _dates(new: Reading, old: Reading) -> str | None:
    if new.dates != old.dates:
        return "another date"
    if new.date_ends and old.date_ends and new.date_ends != old.date_ends:
        return "dates turned round"
    return None


def _negation(new: Reading, old: Reading) -> str | None:
    if new.negations != old.negations:
        return "negated in one"
    ours, theirs = new.negated - old.negated, old.negated - new.negated
    if ours & old.words and theirs & new.words:
        return "another word negated"
    return None


def _opposites(new: Reading, old: Reading) -> str | None:
    ours, theirs = new.words, old.words
    for word in ours - theirs:
        for opposite in ANTONYMS.get(word, ()):
            if opposite in theirs and opposite not in ours:
                return "an opposite"
    return None


def _names(new: Reading, old: Reading) -> str | None:
    if set(new.names) - old.words - old.dates or set(old.names) - new.words - new.dates:
        return "another name"
    if new.persons and old.persons and new.persons - _FIRST != old.persons - _FIRST:
        return "another person"
    return None


_FIRST: Final = frozenset(("first",))


def _direction(new: Reading, old: Reading) -> str | None:
    return "turned round" if is_turned_round(new, old) else None


def _question(new: Reading, old: Reading) -> str | None:
    ours, theirs = new.question, old.question
    if not may_ask_the_same(ours.aim, theirs.aim):
        return f"{ours.aim} and {theirs.aim}"
    if ours.modality != theirs.modality and (
        ours.aim == "yes_or_no" or {ours.modality, theirs.modality} == {"ability", "duty"}
    ):
        return "another mood"
    if ours.tense is not None and theirs.tense is not None and ours.tense != theirs.tense:
        return f"{ours.tense} and {theirs.tense}"
    return None


def _wording(new: Reading, old: Reading) -> str | None:
    ours, theirs = new.words, old.words
    if new.ending and old.ending and new.ending != old.ending:
        return "another emoji"
    if new.plain != old.plain and not (new.quantities or old.quantities):
        return "too few words to tell"
    if ours == theirs:
        return None
    grades = {token.word: token.grade for token in (*new.tokens, *old.tokens)}
    more = sorted([grades[word] for word in ours - theirs], reverse=True)
    fewer = sorted([grades[word] for word in theirs - ours], reverse=True)
    heaviest = max((*more, *fewer))
    if heaviest is Grade.STRONG:
        return "other words" if more and fewer else "words in one only"
    light = more.count(Grade.LIGHT), fewer.count(Grade.LIGHT)
    if all(light):
        return "other words"
    return "words in one only" if sum(light) > _MOST_LIGHT else None


GUARDS: Final[dict[GuardName, Callable[[Reading, Reading], str | None]]] = {
    "language": _language,
    "quoted": _quoted,
    "identifiers": _identifiers,
    "numbers": _numbers,
    "units": _units,
    "dates": _dates,
    "negation": _negation,
    "opposites": _opposites,
    "names": _names,
    "direction": _direction,
    "question": _question,
    "wording": _wording,
}
"""Every guard by its name, in the order in which they are asked."""


def disagreement(
    new: Reading, old: Reading, guards: Iterable[GuardName] = tuple(GUARDS)
) -> Disagreement | None:
    """The first guard that refuses to take one text for the other; None: they agree.

    Args:
        new: The text of the request.
        old: The text that a stored answer was given to.
        guards: Which guards are asked.
    """
    for name in guards:
        reason = GUARDS[name](new, old)
        if reason is not None:
            return name, reason
    return None

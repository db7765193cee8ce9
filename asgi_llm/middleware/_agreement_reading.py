"""What a text says, taken apart for comparing it with another: see ``_agreement``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from asgi_llm.middleware._agreement_language import detect_language
from asgi_llm.middleware._agreement_parts import Grade, Quantity, Reading, Token
from asgi_llm.middleware._agreement_pattern import Pattern
from asgi_llm.middleware._agreement_questions import read_question
from asgi_llm.middleware._agreement_split import (
    expand,
    is_particle,
    split,
    without_ending,
    without_pleasantries,
)
from asgi_llm.middleware._agreement_stem import word_list, word_set
from asgi_llm.middleware._agreement_synonyms import CANONICAL, same_word
from asgi_llm.middleware._agreement_units import (
    DATE_WORDS,
    NUMBER_WORDS,
    ORDINALS,
    RELATIVE_DATES,
    UNITS,
    read_number,
    roman,
)
from asgi_llm.middleware._agreement_words import (
    AUXILIARIES,
    FRAME,
    GENERIC,
    LIGHT,
    NEGATIONS,
    PERSONS,
)

__all__ = ["read"]


_CODE_BLOCK: Final = Pattern(r"```.*?```|~~~.*?~~~", re.DOTALL)
_QUOTED: Final = Pattern(
    r"`([^`\n]+)`|\"([^\"\n]+)\"|“([^“”\n]+)”|„([^„“”\n]+)[“”]|«([^«»\n]+)»|「([^「」\n]+)」"
    r"|(?<!\w)'([^'\n]+)'(?!\w)|(?<!\w)\u2018([^\u2018\u2019\n]+)\u2019(?!\w)"
)
# What begins in the midst of a run is found from the begin of that run, or not at all: to look from
# each of its places would take the square of its length.
_IDENTIFIER: Final = Pattern(
    r"https?://[^\s,;\"'<>)\]]+"
    r"|(?<![\w.+-])[\w.+-]++@[\w-]+\.[\w.-]+"
    r"|(?<![\w/])(?:~|\.{1,2})?/[\w.@%+-]+(?:/[\w.@%+-]+)*/?"
    r"|(?<![\w-])--?[A-Za-z][\w-]*"
    r"|#\d+"
    r"|\b[A-Za-z]\+\+|\b[A-Za-z]#|(?<!\w)\.(?:NET|net)\b"
    r"|\b(?<!/)\w+(?:/\w[\w.]*)+\.\w+\b"
    r"|\b[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)+(?:\(\))?"
    r"|\b\d+(?:\.\d+){2,}\b"
    r"|\b[a-z][a-z0-9]*(?:[A-Z][a-z0-9]+)+\b"
    r"|\b\w*_\w+\b"
    r"|\b(?<!\w-)(?=(?:[^\WA-Za-z]+-)*+[^\WA-Za-z]*+[A-Za-z])(?=(?:[^\W\d]+-)*+[^\W\d]*+\d)"
    r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)+\b"
    r"|\b(?=\w*[A-Za-z])(?=\w*\d)\w+\b"
    r"|\b[A-Z]{4,}\b"
)
_ORDINAL: Final = Pattern(r"(?<!\d)\d+(?:st|nd|rd|th)")
_NUMBER_UNIT: Final = Pattern(r"(\d+(?:\.\d+)?)([A-Za-z°%]+)\Z")
_AGED: Final = Pattern(r"\b(\w+)-(\w+)-olds?\b", re.IGNORECASE)
_HYPHEN: Final = Pattern(r"(?<=[^\W\d_])-(?=[^\W\d_])|(?<=\d)-(?=[a-z]{2})")
_SPACES: Final = Pattern(r"\s+")
_RELATIONS: Final = word_set("to from into onto than with over by for in on of at about between")
_ENDS: Final = frozenset(".!?:\n")
_SYMBOLS: Final = frozenset("+*/^=<>±\u00d7÷\u2212-")
_CURRENCIES: Final = frozenset("$€£¥₹")


def read(text: str) -> Reading:
    """Take ``text`` apart. Some 100 microseconds for a question of one line."""
    kept: list[str] = []
    quoted: list[str] = []
    identifiers: set[str] = set()

    def keep(what: str) -> str:
        kept.append(what)
        return f" \ue000{len(kept) - 1}\ue001 "

    def keep_quoted(match: re.Match[str]) -> str:
        inner = next((group for group in match.groups() if group is not None), match.group())
        if match.group()[0] in "`~":
            # Of code every character counts.
            said = inner if match.lastindex else inner[3:-3].strip("\n")
        else:
            said = _SPACES.sub(" ", inner).strip().rstrip(".,!?")
        quoted.append(said)
        return keep(f'"{said}')

    def keep_identifier(match: re.Match[str]) -> str:
        found = match.group().rstrip(".")
        # -d is not -D.
        lower = found if found[0] == "-" else found.lower()
        if lower in UNITS:
            return UNITS[lower]
        if read_number(lower) is not None:
            return lower
        if (amount := _NUMBER_UNIT.match(found)) and amount[2].lower() in UNITS:
            return f"{amount[1]} {amount[2]}"
        if _ORDINAL.fullmatch(found):
            return found[:-2]
        if found.isalpha() and (lower in CANONICAL or found.isupper()):
            return found  # an abbreviation is a name
        if lower in CANONICAL:
            return keep(CANONICAL[lower])
        identifiers.add(lower)
        return keep(lower)

    rest, ending = without_ending(text)
    rest = without_pleasantries(rest).replace("\ue000", " ").replace("\ue001", " ")
    rest = _CODE_BLOCK.sub(keep_quoted, rest)
    rest = _QUOTED.sub(keep_quoted, rest)
    rest = _AGED.sub(r"\1 \2 old", rest)
    rest = _IDENTIFIER.sub(keep_identifier, rest)
    rest = _HYPHEN.sub(" ", rest)
    raw = expand(split(rest))
    lowered = [word.lower() for word in raw]
    question = read_question([word for word in lowered if word in _MARKS or not _is_symbol(word)])
    taker = _Taker(raw, lowered, kept, asks_duration=question.aim == "duration")
    return Reading(
        language=detect_language(text, lowered),
        question=question,
        quantities=tuple(taker.quantities),
        units=frozenset(taker.units),
        asked_units=frozenset(taker.asked_units),
        dates=frozenset(taker.dates),
        date_ends=frozenset(taker.date_ends),
        quoted=tuple(sorted(quoted)),
        identifiers=frozenset(identifiers),
        names=tuple(taker.names),
        persons=frozenset(taker.persons),
        negations=taker.negations,
        negated=frozenset(taker.negated),
        tokens=tuple(taker.tokens),
        symbols=tuple(taker.symbols),
        ending=ending,
        plain=_plain(lowered, taker.tokens),
    )


def _plain(lowered: Sequence[str], tokens: Sequence[Token]) -> tuple[str, ...]:
    if any([token.grade is Grade.STRONG for token in tokens]):
        return ()
    return tuple([word for word in lowered if word not in _MARKS])


def _is_symbol(word: str) -> bool:
    """Whether a word or mark of ``split`` is neither."""
    first = word[0]
    if first.isalnum() or first == "\ue000":
        return False
    return word in _SYMBOLS or (word.lower() not in UNITS and not (first == "-" and len(word) > 1))


class _Taker:
    """Goes through the words of one text once."""

    def __init__(
        self,
        raw: Sequence[str],
        lowered: Sequence[str],
        kept: Sequence[str],
        *,
        asks_duration: bool,
    ) -> None:
        self.quantities: list[Quantity] = []
        self.units: set[str] = set()
        self.asked_units: set[str] = set()
        self.dates: set[str] = set()
        self.date_ends: set[str] = set()
        self.persons: set[str] = set()
        self.negated: set[str] = set()
        self.names: list[str] = []
        self.tokens: list[Token] = []
        self.symbols: list[str] = []
        self.negations = 0
        self._raw = raw
        self._lowered = lowered
        self._kept = kept
        self._asks_duration = asks_duration
        self._relation = ""
        self._adjacent = False
        self._begins = True
        self._negates = False
        at = 0
        while at < len(raw):
            at = self._take(at)

    def _take(self, at: int) -> int:
        """Take what begins at ``at``; where the next begins."""
        word, lower = self._raw[at], self._lowered[at]
        if word in _MARKS:
            self._begins = self._begins or word in _ENDS
            self._adjacent = self._negates = False
            return at + 1
        if _is_symbol(word):
            self.symbols.append(word)
            return at + 1
        begins, self._begins = self._begins, False
        if word[0] == "\ue000":
            self._add(self._kept[int(word[1:-1])], Grade.STRONG)
            return at + 1
        value = self._number(at)
        if value is not None:
            if self._relation == "over":
                self.symbols.append("over")  # "over 500" is not "of 500"
            return self._quantity(value, at)
        if word in _CURRENCIES:
            following = read_number(self._lowered[at + 1]) if at + 1 < len(self._raw) else None
            if following is not None:
                self._adjacent = False
                self.quantities.append(Quantity(following, UNITS[word]))
                return at + 2
        self._word(at, word, lower, begins=begins)
        return at + 1

    def _number(self, at: int) -> Decimal | None:
        word, lower = self._raw[at], self._lowered[at]
        if word[0].isdigit() or (word[0] == "-" and len(word) > 1):
            return read_number(lower)
        value = NUMBER_WORDS.get(lower)
        if value is not None:
            return value
        if lower in ORDINALS:
            before = self._lowered[at - 1] if at else ""
            is_unit = lower == "second" and before in ("a", "per", "one", "each", "every")
            return None if is_unit else ORDINALS[lower]
        return roman(word) if at else None

    def _quantity(self, value: Decimal, at: int) -> int:
        lowered = self._lowered
        at += 1
        while at < len(lowered) and lowered[at] in _FURTHER_NUMBERS:
            further = NUMBER_WORDS[lowered[at]]
            # "thirty five" adds up, "two hundred" multiplies.
            value = value * further if further >= 100 else value + further
            at += 1
        unit: str | None = None
        if at < len(lowered):
            kind = lowered[at]
            if kind in _KINDS_OF_UNIT and at + 1 < len(lowered) and lowered[at + 1] in UNITS:
                unit = UNITS[lowered[at + 1]]
                unit = f"{kind}{unit}"
                at += 2
            elif kind in UNITS:
                unit = UNITS[kind]
                at += 1
        self._adjacent = False
        self.quantities.append(Quantity(value.normalize(), unit))
        return at

    def _word(self, at: int, word: str, lower: str, *, begins: bool) -> None:
        if lower in NEGATIONS:
            self.negations += 1
            self._negates = not self._is_inverted(at)
            self._relation, self._adjacent = "", False
        elif lower in DATE_WORDS and (word[0].isupper() or len(lower) > 3):
            self._date(at, DATE_WORDS[lower])
        elif lower == "may" and word[0].isupper() and not begins:
            self._date(at, "may")
        elif lower in RELATIVE_DATES:
            self.dates.add(lower)
        elif lower in _PARTICLES and at and is_particle(self._raw, at):
            self._add(lower, Grade.LIGHT)
        elif lower in _RELATIONS:
            self._relation, self._adjacent = lower, False
        elif lower in FRAME and not (lower in _LETTERS and not begins and self._is_letter(at)):
            self._adjacent = False
            if lower in PERSONS:
                self.persons.add(PERSONS[lower])
        else:
            self._meaning(at, word, lower, begins=begins)

    def _meaning(self, at: int, word: str, lower: str, *, begins: bool) -> None:
        unit = UNITS.get(lower) if len(lower) > 2 or lower in _SHORT_UNITS else None
        if unit is not None and unit not in _EVERYDAY:
            self.units.add(unit)
            if at and self._lowered[at - 1] in ("many", "what", "which"):
                self.asked_units.add(unit)
            # Whether units agree is judged apart.
            self._add(unit, Grade.GENERIC)
            return
        # Of an abbreviation the last letter is no ending.
        meaning = same_word(lower) if not (word.isupper() and len(word) > 1) else lower
        meaning = CANONICAL.get(meaning, meaning)
        grade = Grade.STRONG
        is_asked = lower == "long" and at and self._lowered[at - 1] == "how"
        if is_asked or meaning in _GENERIC or (begins and meaning in _ORDERS):
            grade = Grade.GENERIC
        elif meaning in _LIGHT:
            grade = Grade.LIGHT
            if self._asks_duration and meaning in _TAKES_TIME:
                grade = Grade.GENERIC
        if grade is Grade.STRONG and word[0].isupper() and not begins:
            self.names.append(meaning)
        self._add(meaning, grade)

    def _date(self, at: int, date: str) -> None:
        self.dates.add(date)
        before = self._lowered[at - 1] if at else ""
        if before in _UP_TO or (before == "and" and at > 2 and self._lowered[at - 3] == "between"):
            self.date_ends.add(date)

    def _is_inverted(self, at: int) -> bool:
        """Whether a subject follows the negation, as in "why does not my car start"."""
        lowered = self._lowered
        return (at > 0 and lowered[at - 1] in AUXILIARIES) and (
            at == 1 or lowered[at - 2] in _ASKING or lowered[at - 2] in _MARKS
        )

    def _is_letter(self, at: int) -> bool:
        """Whether a word of one letter is a name, as in "plan A", and no article."""
        raw = self._raw
        before, behind = raw[at - 1], raw[at + 1] if at + 1 < len(raw) else ""
        return raw[at].isupper() and (
            before.islower() or (not before.isupper() and not behind[:1].isupper())
        )

    def _add(self, word: str, grade: Grade) -> None:
        self.tokens.append(Token(word, grade, self._relation, self._adjacent))
        if self._negates:
            self.negated.add(word)
            self._negates = False
        self._relation, self._adjacent = "", True


_SHORT_UNITS: Final = word_set("km cm mm kg mg ml lb oz gb mb tb kb")
_GENERIC: Final = frozenset(map(same_word, GENERIC))
_LIGHT: Final = frozenset(map(same_word, LIGHT))
_ORDERS: Final = frozenset(
    map(same_word, word_list("name find suggest recommend calculate convert"))
)
_TAKES_TIME: Final = frozenset(map(same_word, word_list("take need require last")))
_PARTICLES: Final = word_set("in out on off up down over under")
_FURTHER_NUMBERS: Final = frozenset(NUMBER_WORDS) - {
    *("twice", "double", "triple", "thrice", "half", "quarter"),
}
_KINDS_OF_UNIT: Final = word_set("square cubic nautical light fluid")
_MARKS: Final = frozenset(".!?:\n,;")
_UP_TO: Final = word_set("to until till through thru -")
_ASKING: Final = word_set("why how what when where")
_LETTERS: Final = frozenset("ast")
_EVERYDAY: Final = word_set("page word line row person bar step second cup bit pound yard yen")
"""Words that are units behind a number only."""

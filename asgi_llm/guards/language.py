"""The language of a text, told by its scripts and its commonest words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Finding, GuardContext, GuardCost

__all__ = ["LanguageGuard", "guess_language"]

_WORDS: Final = {
    "en": "the of and to in is you that it for was on are with as this have be at or not what "
    "how please can your from me my do about would",
    "de": "der die das und ist nicht ich zu den mit sich auf für ein eine dem von wie bitte kann "
    "sie wir auch es im nach bei aus oder",
    "fr": "le la les des et est une un pour que dans vous je pas sur avec qui ce il sont du au "
    "ne comment plus mais nous",
    "es": "el la los las de que y en un una es por con para no se del lo como está más pero mi "
    "qué cómo puede quiero",
    "it": "il lo la gli di che e un una è per con non si del della come sono più ma mi ho anche "
    "questo cosa posso nel",
    "pt": "o a os as de que e em um uma é por com para não se do da como mais mas está você eu "
    "meu minha isso ao",
    "nl": "de het een en van is dat niet ik je op te voor met zijn aan er hoe wat kan ook maar "
    "bij naar om uit mijn",
    "pl": "w i na nie się jest do to z że jak o co tak ale po czy dla od jestem proszę może",
    "sv": "och att det i en som är på för med inte jag av till den har ett om kan hur vad",
    "tr": "bir ve bu için de ne da ile mi çok var ben nas\u0131l olarak daha gibi ama lütfen",
}
_SETS: Final = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_SCRIPTS: Final = (
    ("ru", 0x0400, 0x0530),
    ("el", 0x0370, 0x0400),
    ("he", 0x0590, 0x0600),
    ("ar", 0x0600, 0x0780),
    ("hi", 0x0900, 0x0980),
    ("th", 0x0E00, 0x0E80),
    ("ja", 0x3040, 0x3100),
    ("ko", 0xAC00, 0xD7B0),
    ("zh", 0x4E00, 0xA000),
)
KNOWN: Final = frozenset(_SETS) | {language for language, _, _ in _SCRIPTS}
_READ: Final = 4000
_FEWEST_WORDS: Final = 6


def guess_language(text: str) -> tuple[str | None, float]:
    """The two letters of the language of the first 4000 characters, and how sure that is.

    None where the text is too short, or too much like code or numbers, to tell.
    """
    text = text[:_READ]
    letters = sum(map(str.isalpha, text))
    if letters < 4:
        return None, 0.0
    if not text.isascii():
        counts = dict.fromkeys((language for language, _, _ in _SCRIPTS), 0)
        for one in text:
            code = ord(one)
            if code >= 0x370:
                for language, first, last in _SCRIPTS:
                    if first <= code < last:
                        counts[language] += 1
        if counts["ja"] and counts["ja"] * 4 > counts["zh"]:
            counts["ja"] += counts.pop("zh")
        best = max(counts, key=counts.__getitem__)
        if counts[best] * 2 > letters:
            return best, counts[best] / letters
    words = ["".join(filter(str.isalpha, word)) for word in text.lower().split()]
    words = [word for word in words if word]
    if len(words) < _FEWEST_WORDS:
        return None, 0.0
    hits = {language: sum(word in known for word in words) for language, known in _SETS.items()}
    first, second = sorted(hits.values())[-1], sorted(hits.values())[-2]
    if first < 3 or first == second or first * 10 < len(words):
        return None, 0.0
    return max(hits, key=hits.__getitem__), min(1.0, 0.5 + (first - second) / len(words))


class LanguageGuard:
    """Finds texts in a language that is not allowed. The finding is about the whole text.

    A text whose language cannot be told passes.

    Args:
        allowed: Two letters of each, of ar, de, el, en, es, fr, he, hi, it, ja, ko, nl, pl, pt, ru,
            sv, th, tr and zh.
        threshold: How sure it has to be, from 0 to 1.
        name: Names it in verdicts.

    Raises:
        ConfigurationError: A language is unknown, or there is none.
    """

    cost: ClassVar[GuardCost] = "inline"
    window: ClassVar[int | None] = None

    def __init__(
        self, allowed: Collection[str], *, threshold: float = 0.55, name: str = "language"
    ) -> None:
        if not allowed or isinstance(allowed, str) or not KNOWN.issuperset(allowed):
            raise ConfigurationError(
                f"allowed must be some of {', '.join(sorted(KNOWN))}", param="allowed"
            )
        if not 0 <= threshold <= 1:
            raise ConfigurationError("threshold must be from 0 to 1", param="threshold")
        self.name = name
        self._allowed = frozenset(allowed)
        self._threshold = threshold

    def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """Whether ``text`` is in another language."""
        language, score = guess_language(text)
        if language is None or language in self._allowed or score < self._threshold:
            return ()
        return (
            Finding(
                start=0,
                end=0,
                category=f"language.{language}",
                score=round(score, 3),
                reason="a language that is not allowed",
            ),
        )

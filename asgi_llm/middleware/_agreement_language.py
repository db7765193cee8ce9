"""Which language a text is in, told cheaply, and only where it is plain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from asgi_llm.middleware._agreement_pattern import Pattern

__all__ = ["detect_language"]

_SCRIPTS: Final = (
    ("ja", Pattern(r"[\u3040-\u30ff]")),
    ("ko", Pattern(r"[\uac00-\ud7af\u1100-\u11ff]")),
    ("zh", Pattern(r"[\u3400-\u9fff]")),
    ("cyrillic", Pattern(r"[\u0400-\u04ff]")),
    ("el", Pattern(r"[\u0370-\u03ff]")),
    ("ar", Pattern(r"[\u0600-\u06ff]")),
    ("he", Pattern(r"[\u0590-\u05ff]")),
    ("hi", Pattern(r"[\u0900-\u097f]")),
    ("th", Pattern(r"[\u0e00-\u0e7f]")),
)

_WORDS: Final = {
    "en": "the of and is are do does how what why when where who which can my to for with should "
    "would please tell me you your write explain give this that it there between from in on "
    "an as a am be by no so we he she they i at or if not have has was were will about into "
    "than",
    "de": "der die das und ist sind wie was warum wann wo wer welche kann ich mein meine zu für "
    "mit nicht ein eine einen den dem des von auf im bitte mir wird erkläre schreibe gibt es",
    "fr": "le la les et est sont comment que quoi pourquoi quand où qui quelle quel puis je mon ma "
    "mes pour avec pas un une des du de dans sur vous écris moi ce cette il au aux",
    "es": "el la los las y es son cómo qué por cuándo dónde quién cuál puedo yo mi mis para con no "
    "un una de del en sobre escribe explica me este esta hay se al",
    "it": "il lo la gli le e è sono come che cosa perché quando dove chi quale posso io mio mia "
    "per con non un una di del della nel su scrivi spiega mi questo questa al",
    "pt": "o a os as e é são como que porque quando onde quem qual posso eu meu minha para com "
    "não um uma de do da dos no na em sobre escreva explique me este esta há ao",
    "nl": "de het een en is zijn hoe wat waarom wanneer waar wie welke kan ik mijn voor met niet "
    "van op in dat dit er aan schrijf leg uit",
}
_BY_WORD: Final = {language: frozenset(words.split()) for language, words in _WORDS.items()}


def detect_language(text: str, lowered: Sequence[str]) -> str | None:
    """The language as a code, or the script's name; None where nothing tells.

    Args:
        text: The text.
        lowered: Its words in lower case.
    """
    if not text.isascii():
        for language, script in _SCRIPTS:
            if sum(1 for _ in script.find(text)) * 4 > len(text):
                return language
    counts = {
        language: sum(word in words for word in lowered) for language, words in _BY_WORD.items()
    }
    best = max(counts, key=lambda language: counts[language])
    rest = sorted(counts.values())[-2]
    return best if counts[best] >= 2 and counts[best] > rest else None

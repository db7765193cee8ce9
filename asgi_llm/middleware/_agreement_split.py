"""A text as words: pleasantries taken off, contractions and phrases written out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from asgi_llm.middleware._agreement_pattern import Pattern
from asgi_llm.middleware._agreement_stem import word_set
from asgi_llm.middleware._agreement_synonyms import PHRASE_LENGTH, PHRASES

__all__ = ["expand", "is_particle", "split", "without_ending", "without_pleasantries"]

_TOKEN: Final = Pattern(
    r"\ue000\d+\ue001|[$€£¥₹°]\s?(?:C|F)?"
    # A minus that belongs to the number behind it.
    r"|(?P<sign>(?<![\w)\]}])[-\u2212\u2013](?=[$€£¥₹]?\.?\d))"
    r"|\d[\d,_\u2019]*\d(?:\.\d+)?(?:(?:k|m|bn)\b)?|\d+(?:[.,]\d+)?(?:(?:k|m|bn)\b)?"
    r"|(?<![\w.])\.\d+(?:(?:k|m|bn)\b)?|%"
    r"|[^\W\d_]+(?:[\u2019'][^\W\d_]+)?|!=|[+*/^=<>±\u00d7÷\u2212]"
    r"|(?P<minus>(?<=\d)\s?[-\u2013]\s?(?=\.?\d)|(?<=\))\s?-\s?(?=[\w(])"
    r"|(?<=\b[A-Za-z]\s)-(?=\s(?:\d|\(|[A-Za-z]\b)))"
    r"|(?P<and>(?<=[a-z]\s)&(?=\s[A-Z][a-z]))"
    # Marks that are what is asked about: "!x", "5! in", "the ?? operator".
    r"|(?P<told>(?<![\w.?!])!(?=\w)|(?<=[\d)])!(?=\s*[^\s!A-Z])"
    r"|(?:(?<=\bdoes )|(?<=\bthe )|(?<=\bof )|(?<=\bbetween )|(?<=\band )|(?<=\bor ))"
    r"[.!?:,;]+(?=\s+\w))"
    r"|[.!?:\n,;]|[^\w\s]|_"
)
_READ_AS: Final = {"minus": "-", "and": "and"}
_SILENT: Final = frozenset("'\"`\u00b4-")
"""ASCII that says nothing between words, and an accent that is typed for an apostrophe."""
_TELLING: Final = frozenset("‰§\u2032\u2033\uff03\uff05\uff06\uff0a\uff0f\uff20\uff3c")
"""What Unicode calls punctuation, and is as much of a symbol as ``%``."""
_OPERATORS: Final = frozenset((*"+*/^=<>±\u00d7÷\u2212-", "!="))
_BRACKETS: Final = frozenset("()")
# Flat and sharp are among them in Unicode, and are no emoji.
_EMOJI: Final = Pattern(
    r"[\u2600-\u266c\u2670-\u27bf\u2b00-\u2bff\ufe0f\u200d\u20e3\U0001f000-\U0001faff]"
)
_CJK: Final = Pattern(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
_GREETING: Final = Pattern(
    r"\s*(?:(?:hi|hello|hey|greetings|good (?:morning|afternoon|evening|day))(?: there| all| team"
    r"| everyone| folks)?(?=[\s,.!:;-])|(?:please help(?: me)?"
    r"|(?:(?:one more|a|another) )?(?:quick )?question|i have a (?:quick )?question"
    r"|just curious|excuse me)(?=[,.!:;-])|sorry to (?:ask|bother(?: you)?)"
    r"|i (?:was|am) (?:just )?wondering(?: if you could tell me)?|i would like to know"
    r"|(?:can|could|would) you (?:please )?tell me(?=[:,]))[\s,.!:;-]*(?:but\b\s*)?",
    re.IGNORECASE,
)
_THANKS: Final = Pattern(
    r"[\s,.!;-]*\b(?:thanks|thank you|thx|cheers|please|(?:kind |best )?regards|much appreciated"
    r"|any help (?:is|would be) (?:welcome|appreciated|great)|i would like to know)"
    r"(?: a lot| so much| very much| in advance| again)*[\s.!]*\Z",
    re.IGNORECASE,
)
_CONTRACTIONS: Final = {
    "can't": "can not",
    "cannot": "can not",
    "won't": "will not",
    "shan't": "shall not",
    "ain't": "is not",
    "what's": "what is",
    "who's": "who is",
    "where's": "where is",
    "how's": "how is",
    "when's": "when is",
    "why's": "why is",
    "that's": "that is",
    "there's": "there is",
    "it's": "it is",
    "i'm": "i am",
    "let's": "let us",
}
_PARTED: Final = word_set("turn switch shut turned switched")
_PHRASE_STARTS: Final = _PARTED | {phrase[0] for phrase in PHRASES}
_BEHIND_PARTICLES: Final = word_set(
    ". ? ! : ; , of at during in when while before after for and or without on from with to "
    "automatically again"
)


def without_pleasantries(text: str) -> str:
    """``text`` without its greeting and its thanks, unless it is nothing else."""
    start, end = 0, len(text)
    while greeting := _GREETING.match(text, start):
        start = greeting.end()
    # Only the end of a long text is looked at.
    while thanks := _THANKS.search(text, max(start, end - 120), end):
        end = thanks.start()
    rest = text[start:end]
    return rest if rest.strip(" .,!?") else text


def without_ending(text: str) -> tuple[str, str]:
    """``text`` without the emoji at its end, and these; all of it where it is nothing else."""
    if text.isascii():
        return text, ""
    at = end = len(text)
    ending = ""
    while at and ((is_emoji := _EMOJI.match(text, at - 1)) or text[at - 1] in " \n.!?"):
        at -= 1
        if is_emoji:
            ending, end = text[at] + ending, at
    return (text[:end], ending) if at else (text, "")


def split(text: str) -> list[str]:
    """The words, numbers, marks and symbols of ``text``, in order.

    Quotation marks, dashes and other ornaments are left out, and brackets where there is no
    operator. A minus goes with its number, as in ``-5``; a mark that is no punctuation has a
    ``¬`` before it.
    """
    words: list[str] = []
    sign = ""
    for match in _TOKEN.find(text.replace("\u2019", "'")):
        word = match.group().strip(" ")
        if match.lastgroup == "sign":
            sign = "-"
            continue
        if match.lastgroup is not None:
            words.append(_READ_AS.get(match.lastgroup, f"\u00ac{word}"))
            continue
        if len(word) == 1 and not word.isalnum() and _is_ornament(word):
            continue
        if word[0] == "." and len(word) > 1:
            word = f"0{word}"
        if sign and word[0].isdigit():
            word, sign = sign + word, ""
        lower = word.lower()
        if lower in _CONTRACTIONS:
            words.extend(_with_case(word, _CONTRACTIONS[lower].split()))
        elif lower.endswith("n't"):
            words.extend(_with_case(word, [lower[:-3], "not"]))
        elif "'" in word and word.rpartition("'")[2].lower() in ("s", "re", "ve", "ll", "d", "m"):
            words.append(word.rpartition("'")[0])
        elif _CJK.search(word):
            words.extend(word)
        else:
            words.append(word)
    if _OPERATORS.isdisjoint(words):
        return [word for word in words if word not in _BRACKETS]
    return words


def _is_ornament(mark: str) -> bool:
    if mark.isascii():
        return mark in _SILENT
    return mark in _SILENT or (mark not in _TELLING and unicodedata.category(mark)[0] in "PC")


def _with_case(word: str, parts: Sequence[str]) -> Iterable[str]:
    yield parts[0].capitalize() if word[0].isupper() else parts[0]
    yield from parts[1:]


def expand(raw: list[str]) -> list[str]:
    """Put one word in the place of phrases that mean it, as "turn the heating off"."""
    words: list[str] = []
    at = 0
    while at < len(raw):
        length = 1
        if raw[at].lower() in _PHRASE_STARTS:
            for length in range(min(PHRASE_LENGTH, len(raw) - at), 1, -1):
                meant = PHRASES.get(tuple([word.lower() for word in raw[at : at + length]]))
                if meant is not None:
                    words.extend(_with_case(raw[at], meant) if not words else meant)
                    break
            else:
                length = _expand_parted(raw, at, words)
        else:
            words.append(raw[at])
        at += length
    return words


def _expand_parted(raw: list[str], at: int, words: list[str]) -> int:
    """Take a verb whose other half stands behind its object; how many words were read."""
    if raw[at].lower() in _PARTED:
        for ahead in range(at + 2, min(at + 6, len(raw))):
            half = raw[ahead].lower()
            if half in ("on", "off") and is_particle(raw, ahead):
                words.append("enable" if half == "on" else "disable")
                words.extend(raw[at + 1 : ahead])
                return ahead + 1 - at
    words.append(raw[at])
    return 1


def is_particle(raw: Sequence[str], at: int) -> bool:
    """Whether a small word goes with the verb before it, and not with what follows."""
    return at + 1 == len(raw) or raw[at + 1] == "\n" or raw[at + 1].lower() in _BEHIND_PARTICLES

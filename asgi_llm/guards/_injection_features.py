"""What a text has that tells attempts from other texts, word by word.

Words by their beginnings, pairs of neighbours, classes of words, in quotes and outside, and classes
that follow one another within a few words. One pass, linear in the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from asgi_llm.guards._injection_words import class_of, stem_of

__all__ = [
    "MOST_BEFORE",
    "QUESTION",
    "QUOTE",
    "REACH",
    "SENTENCE",
    "features_of",
    "prepare",
    "stem_and_class",
    "to_token",
    "to_words",
]

_KNOWN_WORDS: Final = 16_384
REACH: Final = 6
MOST_BEFORE: Final = 4
QUOTE: Final = b"qqt"
SENTENCE: Final = b"qqs"
QUESTION: Final = b"qqq"
_ENDS: Final = (
    (b" '", b" qqt "), (b"' ", b" qqt "), (b"'.", b" qqt "), (b"':", b" qqt "),
    (b". ", b" qqs "), (b"\n", b" qqs "), (b"!", b" qqs "), (b"?", b" qqq "), (b'"', b" qqt "),
)  # fmt: skip
_LETTERS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.@$" + bytes(range(128, 256)))
_TO_WORDS: Final = bytes(
    code + 32 if 65 <= code <= 90 else code if code in _LETTERS else 32 for code in range(256)
)
_MARKS: Final = str.maketrans(
    dict.fromkeys("\u2019\u2018", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d", ' " ')
    | dict.fromkeys("\u2014\u2013\u2026\u00bf\u00a1\u3002\uff0c\u3001\uff1a\uff1b\uff01\u00a0", " ")
    | {"\uff1f": "?"}
)
# First bytes of the characters that ``_apart`` is about, and of a few others.
_LEADS_APART: Final = bytes(range(0xE3, 0xEE))
_FROM_LEET: Final = bytes.maketrans(b"013457@$", b"oieastas")


@lru_cache(maxsize=_KNOWN_WORDS)
def stem_and_class(token: bytes) -> tuple[str, str]:
    """The stem and the class of a token; digits within a word are read as letters."""
    word = token.strip(b".-_@$") or token
    group = class_of(word)
    if not group and not word.isalpha() and not word.isdigit():
        plain = word.translate(_FROM_LEET)
        group = class_of(plain)
        word = plain if group else word
    return stem_of(word).decode("utf-8", "ignore"), group


def to_words(data: bytes) -> list[bytes]:
    """The words of a text as UTF-8, in lower case; quotes and ends of sentences are words too."""
    if not data.isascii():
        data = prepare(data)
    for mark, word in _ENDS:
        if mark in data:
            data = data.replace(mark, word)
    return data.translate(_TO_WORDS, b"'").split()


def to_token(data: bytes) -> bytes:
    """One word, as ``to_words`` gives it."""
    return data.translate(_TO_WORDS, b"'")


def prepare(data: bytes) -> bytes:
    """A text as UTF-8 with ASCII's quotes, and with spaces in scripts that have none."""
    text = data.decode("utf-8", "ignore").lower().translate(_MARKS)
    data = text.encode()
    if len(data.translate(None, _LEADS_APART)) < len(data):
        return "".join(_apart(text)).encode()
    return data


def _apart(text: str) -> Iterator[str]:
    """Scripts without spaces as pairs of characters."""
    last = ""
    for char in text:
        if "\u3040" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7a3":
            if last:
                yield f" {last}{char} "
            last = char
        else:
            last = ""
            yield char


def features_of(words: Sequence[bytes]) -> Iterator[str]:
    """The features of a text, some of them more than once."""
    recent: list[tuple[int, str]] = []
    before = "^"
    is_quoted = False
    for place, token in enumerate(words):
        name, group = stem_and_class(token)
        yield name
        yield f"{before} {name}"
        before = name
        if token == QUOTE:
            is_quoted = not is_quoted
        if group:
            yield f"<{group}>"
            if is_quoted:
                yield f'"{group}"'
            for at, other in recent:
                if place - at <= REACH:
                    yield f"{other}>{group}"
            recent.append((place, group))
            if len(recent) > MOST_BEFORE:
                del recent[0]

"""Texts of plain words, in which no personal data and no secrets can be, told without rules.

Most texts are words and punctuation. One look that is shorter than any rule's tells so; what it
does not tell is for the rules to say.
"""

from __future__ import annotations

import re
from typing import Final

from asgi_llm.guards._plain_stems import STEMS

__all__ = ["READS_WORDS", "is_plain_words"]

READS_WORDS: Final = False
"""Whether to ask is worth its while: compiled it takes a third of the time of the rules."""

_MOST_DIGITS: Final = 5
_DIGITS: Final = b"0123456789"
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STEM: Final = re.compile("|".join(STEMS).encode())
_ODD: Final = re.compile(
    rb"[A-Za-z0-9-]{16}|[A-Z]{9}|[A-Za-z][0-9]|[0-9][A-Za-z]|\.[A-Za-z0-9]|[:-][^ \n]"
)


def is_plain_words(data: bytes) -> bool:
    """Whether a text is ASCII letters, few digits, and punctuation where sentences have it.

    True means that:

    - there are only letters, digits, spaces, ends of lines, and ``. , : ; ! ? ' " ( ) -``;
    - no word has any of ``STEMS`` in it, whatever the case of its letters;
    - no 16 letters, digits and hyphens follow each other, and no 9 capital letters;
    - there are 5 digits at most, and no letter stands next to one;
    - no letter or digit follows a full stop, and nothing but a space or the end of a line a colon
      or a hyphen.

    Nothing is promised of False.
    """
    rest = data.translate(None, _LETTERS + b" \n.,:;!?'\"()-")
    return (
        len(rest) <= _MOST_DIGITS
        and not rest.translate(None, _DIGITS)
        and _ODD.search(data) is None
        and _STEM.search(data.lower()) is None
    )

# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The words of a text as the numbers by which ``WordScan`` knows them, without making the words.

A word of up to sixteen bytes is two numbers, which a small table knows.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["Room", "WordReader"]

_SETS: Final = 4096
_WAYS: Final = 4
_KNOWN: Final = 4
_TO_SET: Final = 52
_BITS: Final = 128
_ALL: Final = (1 << 64) - 1
_ODD: Final = 0x9E3779B97F4A7C15
_OTHER_ODD: Final = 0xC2B2AE3D27D4EB4F
_FEW_SUMS: Final = 4096

_SPACE: Final = 32
_SINGLE: Final = 39
_DOT: Final = 46
_COLON: Final = 58

# What a byte is: nothing, one of these, or a letter.
_A_DOT: Final = 1
_A_SINGLE: Final = 2
_AN_END: Final = 3
_A_DOUBLE: Final = 4
_A_QUESTION: Final = 5
_LETTERS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_@$" + bytes(range(128, 256)))
_MARKS: Final = {
    _DOT: _A_DOT, _SINGLE: _A_SINGLE, 10: _AN_END, 33: _AN_END, 34: _A_DOUBLE, 63: _A_QUESTION,
}  # fmt: skip
# Each letter as a small one; of what ends a word, or may do so, what it is.
_CODES: Final = bytes(
    code + 32 if 65 <= code <= 90 else code if code in _LETTERS else _MARKS.get(code, 0)
    for code in range(256)
)


class Room:
    """Where the words of a text are put, and the sums up to each."""

    __slots__ = ("sums", "words")

    def __init__(self, size: int) -> None:
        self.words = array("i", (0,)) * size
        self.sums = array("q", (0,)) * _FEW_SUMS


class WordReader:
    """Reads words, and keeps what it was told of the last ones.

    Args:
        resolve: The number of a word.
        marks: The numbers of a quote, an end of a sentence, and a question.
    """

    __slots__ = ("_known", "_question", "_quote", "_resolve", "_sentence")

    def __init__(self, resolve: Callable[[bytes], int], marks: Sequence[int]) -> None:
        self._resolve = resolve
        self._quote, self._sentence, self._question = marks
        # The words that came before: sets of a few each, the last one first. Of each word two
        # numbers, and what is known of it.
        self._known = array("Q", bytes(8 * _SETS * _WAYS * _KNOWN))

    def read(self, data: bytes, start: int, stop: int, room: Room) -> int:
        """Put the numbers of all words of a part into ``room``; how many there are."""
        text, codes = data, _CODES
        count = shift = low = high = begin = end = 0
        at = start
        while at < stop:
            code = codes[text[at]]
            if code > _A_QUESTION:
                if not shift:
                    begin = at
                if shift < 64:
                    letters = low
                    while True:
                        letters |= code << shift
                        shift += 8
                        at += 1
                        if at == stop or shift == 64:
                            break
                        code = codes[text[at]]
                        if code <= _A_QUESTION:
                            break
                    low = letters
                    if not code:
                        # As most words end, and as most are found.
                        slot = (((low * _ODD) & _ALL) >> _TO_SET) * (_WAYS * _KNOWN)
                        if self._known[slot] == low and self._known[slot + 1] == high == 0:
                            room.words[count] = self._known[slot + 2]
                        else:
                            room.words[count] = self._find(low, high, data, begin, at, shift)
                        count += 1
                        at += 1
                        shift = low = high = 0
                    continue
                if shift < _BITS:
                    high |= code << (shift - 64)
                shift += 8
                at += 1
                continue
            end = at
            at += 1
            mark = -1
            if code:
                if code == _A_DOT:
                    following = text[at] if at < stop else 0
                    if following == _SPACE or (
                        following == _SINGLE and self._is_mark(text, start, at, stop)
                    ):
                        mark = self._sentence
                    else:
                        code = _DOT
                        if not shift:
                            begin = end
                        if shift < 64:
                            low |= code << shift
                        elif shift < _BITS:
                            high |= code << (shift - 64)
                        shift += 8
                        continue
                elif code == _A_SINGLE:
                    if not self._is_mark(text, start, end, stop):
                        continue
                    mark = self._quote
                    if at < stop and text[at] == _DOT and (end == start or text[end - 1] != _SPACE):
                        at += 1
                elif code == _AN_END:
                    mark = self._sentence
                elif code == _A_DOUBLE:
                    mark = self._quote
                else:
                    mark = self._question
            if shift:
                room.words[count] = self._find(low, high, data, begin, end, shift)
                count += 1
                shift = low = high = 0
            if mark >= 0:
                room.words[count] = mark
                count += 1
        if shift:
            room.words[count] = self._find(low, high, data, begin, stop, shift)
            count += 1
        return count

    def _is_mark(self, text: bytes, start: int, at: int, stop: int) -> bool:
        """Whether a single quote opens or closes something, and is no part of a word."""
        if at > start and text[at - 1] == _SPACE:
            return True
        following = text[at + 1] if at + 1 < stop else 0
        return following in (_SPACE, _DOT, _COLON)

    def _find(self, low: int, high: int, data: bytes, begin: int, end: int, bits: int) -> int:
        """The numbers of a word, which is within ``data``."""
        if bits > _BITS:
            return self._resolve_in(data, begin, end)
        mixed = ((low ^ ((high * _OTHER_ODD) & _ALL)) * _ODD) & _ALL
        first = (mixed >> _TO_SET) * (_WAYS * _KNOWN)
        behind = first + _WAYS * _KNOWN
        slot = first
        while slot < behind:
            if self._known[slot] == low and self._known[slot + 1] == high:
                info = self._known[slot + 2]
                if slot > first:
                    # What is used stays.
                    for place in range(3):
                        self._known[slot + place] = self._known[first + place]
                    self._known[first] = low
                    self._known[first + 1] = high
                    self._known[first + 2] = info
                return info
            slot += _KNOWN
        info = self._resolve_in(data, begin, end)
        slot = behind - 1
        while slot >= first + _KNOWN:
            self._known[slot] = self._known[slot - _KNOWN]
            slot -= 1
        self._known[first] = low
        self._known[first + 1] = high
        self._known[first + 2] = info
        return info

    def _resolve_in(self, data: bytes, begin: int, end: int) -> int:
        return self._resolve(data[begin:end])

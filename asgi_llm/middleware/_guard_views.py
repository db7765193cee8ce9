r"""What a text says once its disguise is off, with the way back to the text itself.

A view is the text with look-alike, invisible and combining characters folded, with its escapes
(percent, ``\u0041``, ``&#65;``) resolved, or what one of its runs of base64 says. Guards look at
each, and what they find is mapped back to what has to be hidden.
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from itertools import accumulate
from typing import Final, Protocol

from asgi_llm.middleware._guard_alike import fold

__all__ = ["RUN", "View", "is_plain", "read_views", "token_start", "unescape"]

MAX_DEPTH: Final = 3
"""Disguises over one another that are taken off."""
MAX_GROWTH: Final = 4
"""All views of a text have at most so many times its length once folded, and 4 KiB more."""
RUN: Final = 16
"""A run of base64 has at least so many characters."""

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_MARKED: Final = bytes(97 if byte in _BASE64 else 32 for byte in range(256))
_LONG: Final = b"a" * RUN
_RUN: Final = re.compile(
    r"[A-Za-z0-9+/_-]{%d,}(?:\r?\n[A-Za-z0-9+/_-]{4,})*={0,2}" % RUN  # noqa: UP031  braces
)
_ESCAPE: Final = re.compile(
    r"(?P<percent>(?:%[0-9A-Fa-f]{2})+)"
    r"|(?P<unicode>(?:\\u[0-9A-Fa-f]{4})+)"
    r"|\\x(?P<hex>[0-9A-Fa-f]{2})"
    r"|\\(?P<short>[\"\\/bfnrt])"
    r"|&\#(?:[xX](?P<entity>[0-9A-Fa-f]{1,6})|(?P<number>[0-9]{1,7}));?"
)
_JSON_ESCAPE: Final = re.compile(r"(?P<unicode>(?:\\u[0-9A-Fa-f]{4})+)|\\(?P<short>[\"\\/bfnrt])")
_SHORT: Final = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
_MAX_TOKEN: Final = 16 * 1024
_IN_TOKEN: Final = _BASE64.decode() + "=%\\&#;"


def is_plain(text: str) -> bool:
    """Whether there is nothing in ``text`` that a view could show otherwise."""
    if not text.isascii() or "%" in text or "\\" in text or "&#" in text:
        return False
    return _LONG not in text.encode().translate(_MARKED)


class View(Protocol):
    """A way to read a text.

    Attributes:
        text: What it says.
        run: Where in the text itself the run of base64 stands that says it; None: it says all.
    """

    text: str
    run: tuple[int, int] | None

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Where in the text itself stands what is from ``start`` to ``end`` here."""
        ...


class _Itself:
    __slots__ = ("run", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.run: tuple[int, int] | None = None

    def origin(self, start: int, end: int) -> tuple[int, int]:
        return start, end


class _Folded:
    """Look-alikes as what they look like, and nothing that cannot be seen."""

    __slots__ = ("_ends", "_of", "run", "text")

    def __init__(self, of: View, text: str) -> None:
        self._of = of
        self._ends: list[int] | None = None
        self.run = of.run
        self.text = text

    def origin(self, start: int, end: int) -> tuple[int, int]:
        if self._ends is None:
            self._ends = list(accumulate(len(fold(one)) for one in self._of.text))
        first = bisect_right(self._ends, start)
        last = bisect_right(self._ends, end - 1) + 1 if end > start else first
        return self._of.origin(min(first, len(self._ends)), min(last, len(self._ends)))


class _Unescaped:
    """Escapes as the characters that they stand for."""

    __slots__ = ("_begins", "_of", "_pieces", "run", "text")

    def __init__(self, of: View, text: str, pieces: list[tuple[int, int, int, int]]) -> None:
        self._of = of
        self._pieces = pieces
        self._begins = [piece[0] for piece in pieces]
        self.run = of.run
        self.text = text

    def origin(self, start: int, end: int) -> tuple[int, int]:
        begin = self._place(start, after=False)
        if end <= start:
            return self._of.origin(begin, begin)
        return self._of.origin(begin, self._place(end - 1, after=True))

    def _place(self, at: int, *, after: bool) -> int:
        number = bisect_right(self._begins, at) - 1
        if number < 0:
            return at + after
        _, behind, origin, origin_behind = self._pieces[number]
        if at < behind:
            return origin_behind if after else origin
        return at - behind + origin_behind + after


class _Decoded:
    """What a run of base64 says. All of it is hidden for any part."""

    __slots__ = ("_whole", "run", "text")

    def __init__(self, of: View, start: int, end: int, text: str) -> None:
        self._whole = of.origin(start, end)
        self.run: tuple[int, int] | None = of.run or self._whole
        self.text = text

    def origin(self, start: int, end: int) -> tuple[int, int]:
        return self._whole


def read_views(text: str, *, is_json: bool = False) -> list[View]:
    """Every view of ``text``, the text itself first.

    Args:
        text: What was sent.
        is_json: Whether it is JSON: its escapes are then read first, and the text as it is written
            is no view, since a letter of an escape is no letter.
    """
    itself = _Itself(text)
    room = [MAX_GROWTH * len(text) + 4096]
    if is_json and "\\" in text:
        view = _resolve(itself, _JSON_ESCAPE)
        if view is not None:
            found: list[View] = [view]
            _read(view, found, room, MAX_DEPTH)
            return found
    found = [itself]
    _read(itself, found, room, MAX_DEPTH)
    return found


def _read(view: View, found: list[View], room: list[int], depth: int) -> None:
    if not view.text.isascii():
        folded = fold(view.text)
        if folded != view.text:
            # What folding adds is no reason to leave a view out.
            room[0] += MAX_GROWTH * max(0, len(folded) - len(view.text))
            view = _Folded(view, folded)
            if not _admit(view, found, room):
                return
    if depth == 0 or is_plain(view.text):
        return
    resolved = _resolve(view, _ESCAPE)
    if resolved is not None and _admit(resolved, found, room):
        _read(resolved, found, room, depth - 1)
    text = view.text
    if _LONG in text.encode("latin-1", "replace").translate(_MARKED):
        for run in _RUN.finditer(text):
            said = _decoded(run.group())
            if said is None:
                continue
            decoded = _Decoded(view, run.start(), run.end(), said)
            if not _admit(decoded, found, room):
                return
            _read(decoded, found, room, depth - 1)


def _admit(view: View, found: list[View], room: list[int]) -> bool:
    if len(view.text) > room[0]:
        return False
    room[0] -= len(view.text)
    found.append(view)
    return True


def _resolve(view: View, escape: re.Pattern[str]) -> View | None:
    text = view.text
    out: list[str] = []
    pieces: list[tuple[int, int, int, int]] = []
    last = length = 0
    for match in escape.finditer(text):
        start, end = match.span()
        if start > last:
            out.append(text[last:start])
            length += start - last
        last = end
        for said, width in _characters(match):
            out.append(said)
            pieces.append((length, length + len(said), start, start + width))
            length += len(said)
            start += width
    if not pieces:
        return None
    out.append(text[last:])
    return _Unescaped(view, "".join(out), pieces)


def _characters(match: re.Match[str]) -> list[tuple[str, int]]:
    """What an escape stands for, character by character where it can be told, with the widths."""
    kind = match.lastgroup
    said = match.group(kind or 0)
    width = match.end() - match.start()
    if kind == "percent":
        data = bytes.fromhex(said.replace("%", ""))
        if data.isascii():
            return [(chr(byte), 3) for byte in data]
        return [(data.decode("utf-8", "replace"), width)]
    if kind == "unicode":
        data = bytes.fromhex(said.replace("\\u", ""))
        text = data.decode("utf-16-be", "replace")
        if len(text) * 2 == len(data):
            return [(one, 6) for one in text]
        return [(text, width)]
    if kind == "short":
        return [(_SHORT[said], width)]
    code = int(said, 10 if kind == "number" else 16)
    is_one = code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
    return [(chr(code) if is_one else "\ufffd", width)]


def _decoded(run: str) -> str | None:
    """What a run of base64 says; None where it is none, or says no text."""
    packed = run.replace("\r", "").replace("\n", "").rstrip("=")
    packed = packed.replace("-", "+").replace("_", "/")
    # A last character alone holds less than a byte.
    packed = packed[: len(packed) - (len(packed) % 4 == 1)]
    # Most of what looks like base64 is an id or a picture, and shows it at once.
    if not _is_text(_bytes(packed[:64])):
        return None
    data = _bytes(packed)
    return data.decode("utf-8", "replace") if _is_text(data) else None


def _bytes(packed: str) -> bytes:
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _is_text(data: bytes) -> bool:
    """Whether most of ``data`` can be read."""
    text = data.decode("utf-8", "replace")
    odd = sum(1 for one in text[:4096] if one == "\ufffd" or (one < " " and one not in "\t\r\n"))
    return bool(text) and odd * 10 <= len(text[:4096])


def unescape(text: str) -> str:
    """A piece of a JSON string as the characters that it stands for."""
    view = _resolve(_Itself(text), _JSON_ESCAPE) if "\\" in text else None
    return text if view is None else view.text


def token_start(text: str, at: int) -> int:
    """``at``, or the start of the run of base64 or the escape that goes on there."""
    least = max(0, at - _MAX_TOKEN)
    place = least + len(text[least:at].rstrip(_IN_TOKEN))
    return place if place > least or least == 0 else at

"""What stands in for what was redacted, and the way back, for as long as one request lives."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

__all__ = ["Placeholders", "Vault"]

Placeholders = Literal["numbered", "digest"]

_LIKE_OURS: Final = re.compile(r"<[A-Z][A-Z0-9_]{0,39}_[0-9a-z]{1,16}>")
_ESCAPED: Final = re.compile(
    r"(?:<|\\u003[cC])([A-Z][A-Z0-9_]{0,39}_[0-9a-z]{1,16})(?:>|\\u003[eE])"
)
_NO_WORD: Final = re.compile(r"[^A-Z0-9]+")
_LONGEST_LABEL: Final = 40
_OPENING: Final = ("<", "\\u003c", "\\u003C")
_CLOSING: Final = {"<": ">", "\\u003c": "\\u003e", "\\u003C": "\\u003E"}
_DIGITS: Final = 10


class _Book:
    """What a vault remembers.

    Attributes:
        by_digest: The placeholders by the digests of their values.
        kept: The originals by their placeholders.
        taken: Placeholders that mean something already.
        counts: The last number of each label.
        longest: Characters of the longest placeholder that is to be restored.
    """

    __slots__ = ("by_digest", "counts", "kept", "longest", "taken")

    def __init__(self) -> None:
        self.by_digest: dict[bytes, str] = {}
        self.counts: dict[str, int] = {}
        self.kept: dict[str, str] = {}
        self.taken: set[str] = set()
        self.longest = 0


class Vault:
    """The placeholders of one request.

    The same value has the same placeholder. Values are known by a keyed digest alone, unless they
    are to be restored.

    Args:
        key: Of the digests.
        style: ``numbered`` is ``<EMAIL_1>``, in the order of the conversation; ``digest`` is
            ``<EMAIL_4f0c2a9b1e>``, the same in every request under the same key.
        keeps: Whether what the request held is to be restored in its answer.
    """

    __slots__ = ("_book", "_keeps", "_key", "_style")

    def __init__(self, key: bytes, style: Placeholders, *, keeps: bool) -> None:
        self._key = key
        self._style = style
        self._keeps = keeps
        # Most requests need none.
        self._book: _Book | None = None

    def __repr__(self) -> str:
        return f"<Vault of {len(self._book.by_digest) if self._book else 0} placeholders>"

    @property
    def restores(self) -> bool:
        """Whether there is anything to restore."""
        return self._book is not None and bool(self._book.kept)

    def avoid(self, texts: Iterable[str]) -> None:
        """Take no placeholder that stands in ``texts`` already."""
        taken = self._open().taken
        for text in texts:
            if "<" in text:
                taken.update(_LIKE_OURS.findall(text))
            if "\\u003" in text:
                # In arguments they may stand as JSON escapes them.
                taken.update(f"<{name}>" for name in _ESCAPED.findall(text))

    def _open(self) -> _Book:
        if self._book is None:
            self._book = _Book()
        return self._book

    def hide(self, value: str, category: str, *, keep: bool) -> str:
        """The placeholder for ``value``.

        Args:
            value: What is redacted.
            category: Its last word becomes the label.
            keep: Whether it came with the request.
        """
        digest = self.digest(value)
        book = self._open()
        placeholder = book.by_digest.get(digest)
        if placeholder is None:
            label = _NO_WORD.sub("_", category.rpartition(".")[2].upper()).strip("_")
            if not label[:1].isalpha():
                label = "TEXT"
            placeholder = self._free(book, label[:_LONGEST_LABEL].rstrip("_"), digest)
            book.by_digest[digest] = placeholder
        if keep and self._keeps and placeholder not in book.kept:
            book.kept[placeholder] = value
            book.longest = max(book.longest, len(placeholder))
        return placeholder

    def digest(self, value: str) -> bytes:
        """A keyed digest of ``value``, of 16 bytes."""
        data = value.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, data, hashlib.sha256)[:16]

    def _free(self, book: _Book, label: str, digest: bytes) -> str:
        number = book.counts.get(label, 0)
        while True:
            number += 1
            name = str(number)
            if self._style == "digest":
                name = digest.hex()[:_DIGITS] + ("" if number == 1 else str(number))
            placeholder = f"<{label}_{name}>"
            if placeholder not in book.taken:
                break
        if self._style == "numbered":
            book.counts[label] = number
        book.taken.add(placeholder)
        return placeholder

    def find(self, text: str, *, is_json: bool) -> list[tuple[int, int, str]]:
        """The placeholders in ``text`` that are to be restored: start, end, and the original."""
        found: list[tuple[int, int, str]] = []
        book = self._book
        if book is None:
            return found
        for opening in _OPENING if is_json else _OPENING[:1]:
            closing = _CLOSING[opening]
            at = text.find(opening)
            while at >= 0:
                inside = at + len(opening)
                close = text.find(closing, inside, inside + book.longest + len(closing))
                value = book.kept.get(f"<{text[inside:close]}>") if close > 0 else None
                if value is not None:
                    end = close + len(closing)
                    found.append((at, end, escaped(value) if is_json else value))
                    inside = end
                at = text.find(opening, inside)
        if len(found) > 1:
            found.sort()
        return found

    def tail(self, text: str, *, is_json: bool) -> int:
        """Where at the end of ``text`` a placeholder may have begun; else its length."""
        book = self._book
        if book is None or not book.kept:
            return len(text)
        least = max(0, len(text) - book.longest - 2 * len(_OPENING[1]))
        at = text.find("<", least)
        while at >= 0:
            if any(one.startswith(text[at:]) for one in book.kept):
                return at
            at = text.find("<", at + 1)
        if is_json:
            at = text.find("\\", least)
            while at >= 0:
                rest = text[at:].lower()
                for one in book.kept:
                    if _escaped_placeholder(one).startswith(rest):
                        return at
                at = text.find("\\", at + 1)
        return len(text)


def _escaped_placeholder(placeholder: str) -> str:
    return f"\\u003c{placeholder[1:-1]}\\u003e".lower()


def escaped(value: str) -> str:
    """``value`` as it stands inside a JSON string."""
    try:
        return msgspec.json.encode(value)[1:-1].decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(value.encode("utf-8", "replace").decode())[1:-1].decode()

"""What a text becomes: placeholders in, originals back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from asgi_llm.middleware._guard_vault import Vault
from asgi_llm.middleware._guard_views import unescape

__all__ = ["Edit", "Quotes", "Span", "apply_edits", "plan_edits"]


class Span(NamedTuple):
    """A part of a text that has to go.

    Attributes:
        start: Offset of its first character.
        end: Offset behind its last one.
        category: What it is.
        value: What it is a part of, where that began in another text: only its first part gets a
            placeholder, and the others, with an empty ``value``, nothing. None: it is all there is.
    """

    start: int
    end: int
    category: str
    value: str | None = None


class Edit(NamedTuple):
    """A part of a text and what stands in its place."""

    start: int
    end: int
    new: str


def plan_edits(
    text: str,
    spans: Iterable[Span],
    vault: Vault,
    *,
    is_json: bool,
    keep: bool,
    restore: bool,
    inside: bool = False,
    escaped: bool = False,
) -> list[Edit]:
    """What to change in ``text``, in order and without overlaps.

    Spans that overlap become one, under the name of the one that began first.

    Args:
        text: As it came.
        spans: What has to go.
        vault: The placeholders.
        is_json: Whether it is JSON.
        keep: Whether what goes may be restored later.
        restore: Whether placeholders outside of the spans become the originals.
        inside: Whether JSON begins inside a string.
        escaped: Whether a backslash stands in front of it that means its first character.
    """
    edits: list[Edit] = []
    quotes = Quotes(text, inside=inside, escaped=escaped) if is_json else None
    for group in _merged(spans):
        start, end = group[0].start, max(span.end for span in group)
        lead = next((span for span in group if span.value is not None), None)
        if lead is None:
            value = unescape(text[start:end]) if is_json else text[start:end]
            new = vault.hide(value, group[0].category, keep=keep)
        elif lead.value:
            new = vault.hide(lead.value, lead.category, keep=keep)
        else:
            new = ""
        if quotes is not None and new and not quotes.inside(start):
            new = f'"{new}"'
        edits.append(Edit(start, end, new))
    if restore and vault.restores:
        ends = [edit.end for edit in edits]
        back: list[Edit] = []
        for start, end, value in vault.find(text, is_json=is_json):
            at = bisect_right(ends, start)
            if at == len(edits) or edits[at].start >= end:
                back.append(Edit(start, end, value))
        edits = sorted(edits + back) if back else edits
    return edits


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """``text`` with ``edits`` made."""
    out: list[str] = []
    last = 0
    for start, end, new in edits:
        out += (text[last:start], new)
        last = end
    out.append(text[last:])
    return "".join(out)


def _merged(spans: Iterable[Span]) -> list[list[Span]]:
    groups: list[list[Span]] = []
    reach = -1
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        if groups and span.start < reach:
            groups[-1].append(span)
        else:
            groups.append([span])
        reach = max(reach, span.end)
    return groups


class Quotes:
    """Whether a place of some JSON is inside a string, for places in their order.

    Args:
        text: The JSON, or a part of it.
        inside: Whether it begins inside a string.
        escaped: Whether a backslash stands in front of it that means its first character.
    """

    __slots__ = ("_escaped", "_inside", "_next", "_text")

    def __init__(self, text: str, *, inside: bool, escaped: bool = False) -> None:
        self._text = text
        self._inside = inside
        self._escaped = escaped
        self._next = text.find('"')

    def inside(self, at: int) -> bool:
        """Whether there is a string around ``at``, which is not before the last one asked for."""
        text = self._text
        while 0 <= self._next < at:
            place = self._next
            slashes = 0
            while self._inside and place > slashes and text[place - 1 - slashes] == "\\":
                slashes += 1
            if slashes == place and self._escaped:
                slashes += 1
            if slashes % 2 == 0:
                self._inside = not self._inside
            self._next = text.find('"', place + 1)
        return self._inside

    def escapes(self) -> bool:
        """Whether the text ends with a backslash that means what comes behind it."""
        text = self._text
        slashes = len(text) - len(text.rstrip("\\"))
        if slashes == len(text) and self._escaped:
            slashes += 1
        return self.inside(len(text)) and slashes % 2 == 1

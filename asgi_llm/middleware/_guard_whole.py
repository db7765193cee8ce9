"""The texts of a whole document, a request or an answer, checked together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from asgi_llm.errors import StoreError
from asgi_llm.middleware._guard_checks import (
    LARGE,
    Asked,
    Hit,
    Notes,
    Place,
    look,
    look_slowly,
    together,
    unjudged,
)
from asgi_llm.middleware._guard_edits import Span, apply_edits, plan_edits
from asgi_llm.middleware._guard_panel import Panel
from asgi_llm.middleware._guard_quick import NEAR_BORDER, chains_among
from asgi_llm.middleware._guard_rail import Rail
from asgi_llm.middleware._guard_texts import Text, path_text
from asgi_llm.middleware._guard_threads import Threads
from asgi_llm.middleware._guard_vault import Vault
from asgi_llm.middleware._guard_views import View

__all__ = [
    "Found",
    "chains_of",
    "check_in_thread",
    "check_inline",
    "check_slowly",
    "first_block",
    "is_large",
    "note",
    "rewrite",
]

Direction = Literal["input", "output"]

_JOINED_KINDS: Final = frozenset(("text", "json", "data"))


class Found(NamedTuple):
    """A hit, and the parts of texts that it is about.

    Attributes:
        hit: What was found.
        parts: Number of the text, start and end there.
    """

    hit: Hit
    parts: tuple[tuple[int, int, int], ...]


def check_inline(
    texts: Sequence[Text],
    panel: Panel,
    direction: Direction,
    asked: Asked,
    *,
    plain: bool = False,
) -> list[Found]:
    """What the inline guards find in each text, and across the borders of a request's texts.

    Args:
        texts: Of a request or an answer.
        panel: The guards.
        direction: Which of the two it is.
        asked: What the request is.
        plain: Whether it is known that no text is in disguise.
    """
    found: list[Found] = []
    views = () if plain else None
    quick = panel.look if plain else None
    for number, text in enumerate(texts):
        if quick is not None and not quick.concerns(text.text, text.role):
            continue
        place = Place(direction, text.role, path_text(text.path), text.kind == "json")
        for hit in look(panel, text.text, place, asked, views=views):
            found.append(Found(hit, (_part(number, hit, text.text),)))
    if direction == "input":
        for chain in chains_of(texts):
            more = _across(texts, chain, panel, asked, found, views)
            found += [*more, *_behind(texts, chain, panel, asked, [*found, *more])]
    return found


async def check_in_thread(
    texts: Sequence[Text], panel: Panel, direction: Direction, asked: Asked, threads: Threads
) -> list[Found]:
    """The same for texts that are large, for which the loop does not wait."""
    try:
        return await threads.run(lambda: check_inline(texts, panel, direction, asked))
    except StoreError:
        return [Found(hit, ()) for hit in unjudged(panel)]


def _part(number: int, hit: Hit, text: str) -> tuple[int, int, int]:
    return (number, hit.start, hit.end) if hit.start < hit.end else (number, 0, len(text))


def chains_of(texts: Sequence[Text]) -> Sequence[Sequence[int]]:
    """The orders in which texts may be read as one: all of them, and those of each role."""
    numbers = [number for number, text in enumerate(texts) if text.kind in _JOINED_KINDS]
    return chains_among(numbers, [text.role for text in texts])


def _across(
    texts: Sequence[Text],
    chain: Sequence[int],
    panel: Panel,
    asked: Asked,
    known: Sequence[Found],
    views: Sequence[View] | None,
) -> list[Found]:
    """What stands partly in one text and partly in the next ones."""
    joined = Joined(texts, chain, near=NEAR_BORDER)
    places = _places(known)
    found: list[Found] = []
    roles = {texts[number].role for number in chain}
    place = Place("input", roles.pop() if len(roles) == 1 else "", "")
    if (
        views is not None
        and panel.look is not None
        and not panel.look.concerns(joined.text, place.role)
    ):
        return found
    for hit in look(panel, joined.text, place, asked, windowed=True, views=views):
        if hit.start >= hit.end:
            continue
        parts = joined.parts(hit.start, hit.end)
        # What stands whole in one text does not go on in the text before it.
        if len(parts) > 1 and not any(_is_part(hit, part, places) for part in parts):
            found.append(Found(hit, parts))
    return found


def _behind(
    texts: Sequence[Text],
    chain: Sequence[int],
    panel: Panel,
    asked: Asked,
    known: Sequence[Found],
) -> list[Found]:
    """What goes on behind the border that it was known up to, as the lines of a key do."""
    roles = {texts[number].role for number in chain}
    place = Place("input", roles.pop() if len(roles) == 1 else "", "")
    ends: set[tuple[int, int, str, str]] = set()
    cuts: set[tuple[int, int, str, str]] = set()
    for hit, parts in known:
        if hit.start >= hit.end:
            continue
        (first, start, _), (number, _, end) = parts[0], parts[-1]
        if len(parts) > 1:
            if end == NEAR_BORDER:
                cuts.add((first, start, hit.rail.name, hit.category))
        elif end == len(texts[number].text):
            ends.add((first, start, hit.rail.name, hit.category))
    found: list[Found] = []
    # What goes on behind the end of a line is no accident of two texts.
    for begun, between in ((ends, "\n"), (cuts, "")):
        if not begun:
            continue
        joined = Joined(texts, chain, between=between)
        for hit in look(panel, joined.text, place, asked, windowed=True):
            parts = joined.parts(hit.start, hit.end)
            if len(parts) < 2 or (*parts[0][:2], hit.rail.name, hit.category) not in begun:
                continue
            if begun is cuts or _is_open(hit, texts[parts[0][0]], parts[0][1], panel, asked):
                found += [Found(hit, (part,)) for part in parts[1:]]
    return found


def _is_open(hit: Hit, text: Text, start: int, panel: Panel, asked: Asked) -> bool:
    """Whether what stands in ``text`` from ``start`` on may go on behind it."""
    place = Place("input", text.role, "", is_final=False)
    return any(
        one.is_open and one.start == 0 and one.rail is hit.rail
        for one in look(panel, text.text[start:], place, asked, windowed=True)
    )


_Places = Mapping[tuple[int, str, str], Sequence[tuple[int, int]]]


def _places(known: Iterable[Found]) -> _Places:
    """Where each guard has found something of each category, by the text."""
    places: dict[tuple[int, str, str], list[tuple[int, int]]] = {}
    for hit, parts in known:
        for number, start, end in parts:
            places.setdefault((number, hit.rail.name, hit.category), []).append((start, end))
    return places


def _is_part(hit: Hit, part: tuple[int, int, int], places: _Places) -> bool:
    number, first, last = part
    near = places.get((number, hit.rail.name, hit.category), ())
    # What stands next to a border is the first or the last one.
    return any(start < last and first < end for start, end in (*near[:1], *near[-1:]))


async def check_slowly(
    texts: Sequence[Text],
    rails: Sequence[Rail],
    direction: Direction,
    asked: Asked,
    threads: Threads,
) -> list[Found]:
    """What the guards find that run in threads or wait for somebody, who are asked once a role."""
    by_role: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        by_role.setdefault(text.role, []).append(number)
    checks = [
        _check_role(texts, numbers, rails, Place(direction, role, "messages"), asked, threads)
        for role, numbers in by_role.items()
    ]
    return [one for found in await together(checks) for one in found]


async def _check_role(
    texts: Sequence[Text],
    numbers: Sequence[int],
    rails: Sequence[Rail],
    place: Place,
    asked: Asked,
    threads: Threads,
) -> list[Found]:
    joined = Joined(texts, numbers, between="\n")
    if len(numbers) == 1:
        only = texts[numbers[0]]
        place = place._replace(path=path_text(only.path), is_json=only.kind == "json")
    found: list[Found] = []
    for hit in await look_slowly(rails, joined.text, place, asked, threads):
        start, end = (hit.start, hit.end) if hit.start < hit.end else (0, len(joined.text))
        found.append(Found(hit, joined.parts(start, end)))
    return found


class Joined:
    """Several texts as one.

    Args:
        texts: All of them.
        numbers: Which ones, in their order.
        between: Stands between two of them.
        near: Of long texts only so much is taken at each end; None is all.

    Attributes:
        text: The whole.
    """

    __slots__ = ("_begins", "_pieces", "text")

    def __init__(
        self,
        texts: Sequence[Text],
        numbers: Iterable[int],
        *,
        between: str = "",
        near: int | None = None,
    ) -> None:
        out: list[str] = []
        self._begins: list[int] = []
        # Where a piece begins in the whole, which text it is of, where it stands there, how long.
        self._pieces: list[tuple[int, int, int, int]] = []
        length = 0
        for number in numbers:
            text = texts[number].text
            pieces = [(0, text)]
            if near is not None and len(text) > 2 * near:
                pieces = [(0, text[:near]), (len(text) - near, text[-near:])]
            for place, (offset, piece) in enumerate(pieces):
                if out and (between or place):
                    out.append(between or "\n")
                    length += 1
                self._begins.append(length)
                self._pieces.append((length, number, offset, len(piece)))
                out.append(piece)
                length += len(piece)
        self.text = "".join(out)

    def parts(self, start: int, end: int) -> tuple[tuple[int, int, int], ...]:
        """Where in the texts stands what is from ``start`` to ``end`` of the whole."""
        found: list[tuple[int, int, int]] = []
        for at in range(max(0, bisect_right(self._begins, start) - 1), len(self._pieces)):
            begin, number, offset, length = self._pieces[at]
            if begin >= end:
                break
            first, last = max(start, begin), min(end, begin + length)
            if first < last:
                part = (number, offset + first - begin, offset + last - begin)
                if found and found[-1][0] == number:
                    # What is left out between the ends of a text is a part of it as well.
                    part = (number, found.pop()[1], part[2])
                found.append(part)
        return tuple(found)


def is_large(texts: Iterable[Text]) -> bool:
    """Whether the loop should not wait for the check of ``texts``."""
    return sum(len(text.text) for text in texts) > LARGE


def note(found: Iterable[Found], texts: Sequence[Text], notes: Notes, direction: Direction) -> None:
    """Write down what was found, and where."""
    for one in found:
        path = path_text(texts[one.parts[0][0]].path) if one.parts else ""
        value = ""
        if one.hit.start < one.hit.end:
            value = "".join([texts[number].text[start:end] for number, start, end in one.parts])
        notes.add(one.hit, direction, path, value)


def first_block(found: Iterable[Found]) -> Found | None:
    """The first finding that lets nothing pass."""
    return next((one for one in found if one.hit.blocks), None)


def rewrite(
    found: Iterable[Found], texts: Sequence[Text], vault: Vault, *, keep: bool, restore: bool
) -> list[tuple[Text, str]]:
    """The texts that change, and what they become.

    Args:
        found: What was found.
        texts: All texts.
        vault: The placeholders.
        keep: Whether what goes may be restored in the answer.
        restore: Whether placeholders become the originals.
    """
    spans: dict[int, list[Span]] = {}
    for hit, parts in found:
        if not hit.redacts or not parts:
            continue
        if len(parts) == 1:
            number, start, end = parts[0]
            spans.setdefault(number, []).append(Span(start, end, hit.category))
            continue
        value = "".join([texts[number].text[start:end] for number, start, end in parts])
        for place, (number, start, end) in enumerate(parts):
            span = Span(start, end, hit.category, "" if place else value)
            spans.setdefault(number, []).append(span)
    if spans:
        vault.avoid(text.text for text in texts)
    changes: list[tuple[Text, str]] = []
    numbers = range(len(texts)) if restore and vault.restores else sorted(spans)
    for number in numbers:
        text = texts[number]
        edits = plan_edits(
            text.text,
            spans.get(number, ()),
            vault,
            is_json=text.kind == "json",
            keep=keep,
            restore=restore,
        )
        if edits:
            changes.append((text, apply_edits(text.text, edits)))
    return changes

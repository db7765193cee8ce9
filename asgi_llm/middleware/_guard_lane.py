"""One text of a stream as it grows: what has been checked may go, the rest waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from asgi_llm.errors import StoreError
from asgi_llm.middleware._guard_checks import (
    LARGE,
    Hit,
    Place,
    look,
    look_slowly,
    unjudged,
)
from asgi_llm.middleware._guard_edits import Edit, Quotes, Span, plan_edits
from asgi_llm.middleware._guard_guarding import Blocked, Guarding, LaneKey
from asgi_llm.middleware._guard_pieces import Piece, split_piece
from asgi_llm.middleware._guard_texts import Path, path_text
from asgi_llm.middleware._guard_views import View, is_plain, read_views, token_start

__all__ = ["ARGUMENTS", "WORTH_SPLITTING", "Lane", "path_of"]

_NEVER: Final = 1 << 62
_FIRST_STEP: Final = 16
_SEEN_AGAIN: Final = 4096
WORTH_SPLITTING: Final = 128
ARGUMENTS: Final = frozenset(("arguments", "partial_json"))
"""Fields whose text is JSON."""


class Lane:
    """One text of one choice.

    Args:
        guarding: What it shares with the others.
        key: Its own among them.
        path: As in errors and verdicts.
        is_json: Whether it is JSON inside strings.

    Attributes:
        due: With so many characters waiting it is time to look at them.
        own: Its key alone, for the pieces that carry nothing else.
        parts: The pieces that wait for it: where it stands in each, and how much of it.
        text: What waits.
    """

    __slots__ = (
        "_context",
        "_escaped",
        "_guarding",
        "_inside",
        "_place",
        "_sealed",
        "due",
        "own",
        "parts",
        "text",
    )

    def __init__(self, guarding: Guarding, key: LaneKey, path: str, *, is_json: bool) -> None:
        self.own = (key,)
        self._guarding = guarding
        self._place = Place("output", "assistant", path, is_json, is_final=False)
        self._context = ""
        self._inside = self._escaped = False
        self._sealed = False
        self.parts: deque[tuple[Piece, Path, int]] = deque()
        self.text = ""
        self.due = 1
        if guarding.panel.acts:
            # The first look comes soon, for the client that waits for the first word.
            self.due = _NEVER if guarding.hold is None else guarding.hold + _FIRST_STEP

    def add(self, piece: Piece, path: Path, text: str) -> None:
        """A piece of the text has come."""
        self.text += text
        self.parts.append((piece, path, len(text)))
        piece.waits += 1

    def seen(self) -> str:
        """What waits, with what guards may want to see again of what has gone."""
        return self._context + self.text

    def follow(self, gone: str) -> None:
        """Go on behind a piece, if any, that has gone without waiting here. Nothing waits."""
        if gone:
            self._remember(gone)
            self._sealed = True

    async def advance(self, queue: deque[Piece], *, final: bool = False) -> None:
        """Look at what waits, and clear what can no longer be part of a finding.

        Args:
            queue: Where the pieces wait; one that is split becomes two there.
            final: Whether the text ends here.

        Raises:
            Blocked: Nothing more may pass. What stands before the finding has been cleared.
        """
        guarding = self._guarding
        limit = len(self.text)
        if not limit:
            self._sealed = self._sealed or final
            return
        if guarding.is_fast and not final and self._go_fast():
            return
        spans: list[Span] = []
        block: Hit | None = None
        if guarding.panel.acts and (final or guarding.hold is not None):
            limit, spans, block = await self._judge(final)
        if guarding.restores and (block is not None or not final):
            limit = guarding.vault.tail(self.text[:limit], is_json=self._place.is_json)
        self._clear(limit, spans, queue, final=final and block is None)
        if block is not None:
            raise Blocked(block, self._place.path)
        self._sealed = self._sealed or final
        if guarding.panel.acts and guarding.hold is not None:
            # What waits longer than it should is looked at less and less often.
            over = len(self.text) - guarding.hold
            self.due = len(self.text) + max(guarding.step, over // 2)

    def _go_fast(self) -> bool:
        """Clear what a scanner alone finds nothing in, which is what most texts are."""
        guarding = self._guarding
        if not self.is_clean(""):
            return False
        limit = len(self.text) - guarding.far
        cut = self.let_go(limit)
        self._keep(cut)
        if limit - cut >= WORTH_SPLITTING:
            # A long event is cut in two the other way.
            return False
        self.due = len(self.text) + guarding.step
        return True

    def is_clean(self, more: str) -> bool:
        """Whether a scanner alone can tell that nothing is in what waits, with ``more`` behind."""
        guarding = self._guarding
        buffer = f"{self._context}{self.text}{more}"
        if guarding.look is not None and guarding.look.passes(buffer):
            return True
        return is_plain(buffer) and not any(
            guarding.scan(buffer, is_final=False, context=guarding.context)
        )

    def let_go(self, limit: int) -> int:
        """Clear the pieces that end before ``limit``; gives where the last of them ends."""
        cut = 0
        parts = self.parts
        while parts and cut + parts[0][2] <= limit:
            piece, _, length = parts.popleft()
            cut += length
            piece.waits -= 1
        return cut

    def go_on(self, cut: int, more: str, passed: int) -> None:
        """Remember what has gone: ``cut`` characters that waited, then ``passed`` of ``more``.

        All of ``more`` is behind what waits, with none of its pieces.
        """
        left = len(more) - passed
        if passed:
            self.text += more[:passed]
        self._keep(cut + passed)
        self.due = len(self.text) + left + self._guarding.step

    async def _judge(self, final: bool) -> tuple[int, list[Span], Hit | None]:
        """How far the text may go, what has to go out of it, and what stops it there."""
        guarding = self._guarding
        buffer, base = self._context + self.text, len(self._context)
        place = self._place._replace(is_final=final)
        if len(buffer) > LARGE:
            try:
                views, hits = await guarding.threads.run(lambda: self._look(buffer, place))
            except StoreError:
                views, hits = (), unjudged(guarding.panel)
        else:
            views, hits = self._look(buffer, place)
        if guarding.panel.slow:
            hits += await look_slowly(
                guarding.panel.slow, buffer, place, guarding.asked, guarding.threads
            )
        reach = len(buffer) if final else self._horizon(buffer, views)
        found: list[Hit] = []
        for hit in hits:
            if hit.start >= hit.end:
                if not self._is_about_all(hit, base, len(buffer)):
                    continue
            elif hit.start < base and not (self._sealed and hit.end > base):
                # It has been judged with what came before, or is an accident of the cut.
                continue
            found.append(hit)
        reach = _settled(found, reach, final=final)
        block: Hit | None = None
        spans: list[Span] = []
        for hit in sorted(found, key=lambda one: one.start):
            if hit.end > reach or (hit.is_open and not final):
                continue
            if hit.blocks or hit.start < base:
                block = hit
                reach = max(base, hit.start)
                guarding.notes.add(hit, "output", place.path, buffer[hit.start : hit.end])
                break
            guarding.notes.add(hit, "output", place.path, buffer[hit.start : hit.end])
            if hit.redacts:
                spans.append(Span(hit.start - base, hit.end - base, hit.category))
        spans = [span for span in spans if span.end <= reach - base]
        return max(0, reach - base), spans, block

    def _look(self, buffer: str, place: Place) -> tuple[Sequence[View], list[Hit]]:
        views: Sequence[View] = ()
        if not is_plain(buffer):
            views = read_views(buffer, is_json=place.is_json)
        guarding = self._guarding
        return views, look(guarding.panel, buffer, place, guarding.asked, views=views)

    def _is_about_all(self, hit: Hit, base: int, length: int) -> bool:
        """Whether a hit about the text as a whole hides all of it, which it then covers."""
        if hit.blocks or (hit.redacts and (base or not length)):
            # Where something has gone already, it cannot be hidden any more.
            raise self._blocked(hit)
        if hit.redacts:
            hit.end = length
            return True
        self._guarding.notes.add(hit, "output", self._place.path)
        return False

    def _blocked(self, hit: Hit) -> Blocked:
        self._guarding.notes.add(hit, "output", self._place.path)
        return Blocked(hit, self._place.path)

    def _horizon(self, buffer: str, views: Sequence[View]) -> int:
        """Up to where everything is known that can be found there."""
        hold = self._guarding.hold or 0
        length = len(buffer)
        if not views:
            return length - hold
        horizon = length
        for view in views:
            if view.run is not None:
                if view.run[1] >= length:
                    horizon = min(horizon, view.run[0])
                continue
            ahead = len(view.text) - hold
            horizon = min(horizon, view.origin(ahead, ahead + 1)[0] if ahead > 0 else 0)
        return token_start(buffer, min(horizon, length - hold)) if horizon > 0 else 0

    def _clear(self, limit: int, spans: list[Span], queue: deque[Piece], *, final: bool) -> None:
        """Let the pieces go that end before ``limit``, with their part of the changes."""
        guarding, is_json = self._guarding, self._place.is_json
        edits: Sequence[Edit] = ()
        if spans or guarding.restores:
            edits = plan_edits(
                self.text[:limit],
                spans,
                guarding.vault,
                is_json=is_json,
                keep=False,
                restore=guarding.restores,
                inside=self._inside,
                escaped=self._escaped,
            )
        if spans:
            guarding.notes.changed = True
        cut = self._cut(limit, edits)
        if not final and limit - cut >= WORTH_SPLITTING:
            cut = self._split(cut, limit, edits, queue)
        if not cut and not (final and self.parts):
            return
        at, number = 0, 0
        parts = self.parts
        while parts and at + parts[0][2] <= cut:
            piece, path, length = parts.popleft()
            if number < len(edits) and edits[number].start < at + length:
                new, number = _part(self.text, at, at + length, edits, number)
                piece.change(path, new)
            at += length
            piece.waits -= 1
        self._keep(cut)

    def _cut(self, limit: int, edits: Sequence[Edit]) -> int:
        """The last border between pieces up to ``limit`` that no change crosses."""
        borders = [0]
        for _, _, length in self.parts:
            if borders[-1] + length > limit:
                break
            borders.append(borders[-1] + length)
        place = len(borders) - 1
        for edit in reversed(edits):
            while borders[place] > edit.start and borders[place] < edit.end:
                place -= 1
        return borders[place]

    def _split(self, cut: int, limit: int, edits: Sequence[Edit], queue: deque[Piece]) -> int:
        """Cut a long piece in two at ``limit``; gives where what goes ends now."""
        for edit in reversed(edits):
            if edit.start < limit < edit.end:
                limit = edit.start
        at = number = 0
        while number < len(self.parts) and at < cut:
            at += self.parts[number][2]
            number += 1
        if number == len(self.parts):
            return cut
        piece, path, length = self.parts[number]
        if limit - cut < WORTH_SPLITTING or piece.waits != 1 or path[0] != "choices":
            return cut
        if type(path[-1]) is int:
            # The rest of a list would not be known for one.
            return cut
        if limit - cut >= length:
            # What ends behind it changes together with it.
            return cut
        if any(edit.start < cut < edit.end for edit in edits):
            return cut
        first, second = split_piece(piece, path, limit - cut)
        first.waits = second.waits = 1
        first.lanes = second.lanes = piece.lanes
        rest_path: Path = ("choices", 0, *_first_items(path[2:]))
        place = queue.index(piece)
        queue[place] = first
        queue.insert(place + 1, second)
        self.parts[number] = (first, path, limit - cut)
        self.parts.insert(number + 1, (second, rest_path, length - (limit - cut)))
        return limit

    def _keep(self, cut: int) -> None:
        """Remember of what goes as much as guards may want to see again."""
        gone = self.text[:cut]
        if self._place.is_json:
            quotes = Quotes(gone, inside=self._inside, escaped=self._escaped)
            self._inside, self._escaped = quotes.inside(cut), quotes.escapes()
        if cut:
            self._remember(gone)
        self.text = self.text[cut:]

    def _remember(self, gone: str) -> None:
        hold = self._guarding.hold
        # A guard that wants whole texts sees the end of what it has let go.
        hold = _SEEN_AGAIN if hold is None else hold
        if hold:
            seen = self._context + gone
            self._context = seen[token_start(seen, max(0, len(seen) - hold)) :]


def _settled(found: Sequence[Hit], reach: int, *, final: bool) -> int:
    """Up to where no finding is cut that may still grow, or that another one overlaps."""
    if final:
        return reach
    moved = True
    while moved:
        moved = False
        for hit in found:
            if hit.start < reach and (hit.end > reach or hit.is_open):
                reach = hit.start
                moved = True
    return reach


def _part(text: str, start: int, end: int, edits: Sequence[Edit], number: int) -> tuple[str, int]:
    """What becomes of ``text`` from ``start`` to ``end``, and the edit that comes next."""
    out: list[str] = []
    at = start
    while number < len(edits) and edits[number].start < end:
        edit = edits[number]
        if edit.start >= start:
            out += (text[at : edit.start], edit.new)
        at = max(at, min(edit.end, end))
        if edit.end > end:
            break
        number += 1
    out.append(text[at:end])
    return "".join(out), number


def _first_items(path: Path) -> tuple[Any, ...]:
    return tuple([0 if isinstance(step, int) else step for step in path])


def path_of(key: LaneKey) -> str:
    """Where a text stands, as in errors and verdicts."""
    if type(key[0]) is int:
        return path_text(("choices", key[0], *key[1:]))
    return path_text(tuple([step for step in key if type(step) is int or type(step) is str]))

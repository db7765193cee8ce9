"""Texts of a stream that come whole, as the name of a tool does: they are checked at once."""

from __future__ import annotations

from collections.abc import Iterable

from asgi_llm.middleware._guard_checks import Hit, Place, look, look_slowly
from asgi_llm.middleware._guard_edits import Span, apply_edits, plan_edits
from asgi_llm.middleware._guard_guarding import Blocked, Guarding
from asgi_llm.middleware._guard_pieces import Piece
from asgi_llm.middleware._guard_texts import Text, path_text

__all__ = ["ask_now", "change_now"]


async def ask_now(guarding: Guarding, text: Text) -> None:
    """Ask the guards about a text that run in threads or wait for somebody.

    Raises:
        Blocked: Nothing more may pass.
    """
    if guarding.panel.slow:
        place = _place_of(text)
        hits = await look_slowly(
            guarding.panel.slow, text.text, place, guarding.asked, guarding.threads
        )
        _judge(guarding, text, hits, may_change=False)


def change_now(guarding: Guarding, piece: Piece, text: Text, *, may_change: bool = True) -> None:
    """Ask the guards that run on the loop, and change the text's piece as they say.

    Raises:
        Blocked: Nothing more may pass.
    """
    place = _place_of(text)
    hits = look(guarding.panel, text.text, place, guarding.asked) if guarding.panel.acts else []
    spans = _judge(guarding, text, hits, may_change=may_change)
    if not spans and not guarding.restores:
        return
    edits = plan_edits(
        text.text,
        spans,
        guarding.vault,
        is_json=place.is_json,
        keep=False,
        restore=guarding.restores and may_change,
    )
    if edits and text.kind in ("text", "json"):
        piece.change(text.path, apply_edits(text.text, edits))


def _place_of(text: Text) -> Place:
    return Place("output", "assistant", path_text(text.path), text.kind == "json")


def _judge(guarding: Guarding, text: Text, hits: Iterable[Hit], *, may_change: bool) -> list[Span]:
    spans: list[Span] = []
    path = path_text(text.path)
    for hit in hits:
        guarding.notes.add(hit, "output", path, text.text[hit.start : hit.end])
        if hit.blocks or (hit.redacts and not (may_change and text.kind in ("text", "json"))):
            raise Blocked(hit, path)
        if hit.redacts:
            whole = hit.start >= hit.end
            end = len(text.text) if whole else hit.end
            spans.append(Span(hit.start, end, hit.category))
            guarding.notes.changed = True
    return spans

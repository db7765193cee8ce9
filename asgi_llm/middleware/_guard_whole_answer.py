"""What becomes of an answer that has come whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from asgi_llm import _json
from asgi_llm.middleware._guard_checks import Asked, Place, to_context
from asgi_llm.middleware._guard_echoes import without_echoes
from asgi_llm.middleware._guard_guarding import Blocked
from asgi_llm.middleware._guard_panel import Panel
from asgi_llm.middleware._guard_shared import Guarded
from asgi_llm.middleware._guard_texts import Text, path_text, read_texts, with_texts
from asgi_llm.middleware._guard_threads import Threads
from asgi_llm.middleware._guard_whole import (
    Found,
    check_in_thread,
    check_inline,
    check_slowly,
    first_block,
    is_large,
    note,
    rewrite,
)
from asgi_llm.types import Document

__all__ = ["judge_answer"]

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


async def judge_answer(data: bytes, guarded: Guarded, *, may_repair: bool = True) -> bytes:
    """What to send for a whole answer; ``data`` itself where nothing in it changes.

    Args:
        data: The answer.
        guarded: What it shares with the request.
        may_repair: Whether a guard may put right what it blocks.

    Raises:
        Blocked: Nothing is to be sent.
    """
    if not data:
        return data
    document: Document | None = None
    try:
        parsed = _json.decode_unchecked(data)
    except _UNREADABLE:
        parsed = None
    if type(parsed) is dict:
        document = parsed
        texts = read_texts(document, role="assistant", is_answer=True)
    else:
        texts = [Text(("body",), "assistant", data.decode("utf-8", "replace"))]
    found = await _check(texts, guarded.panel, guarded.asked, guarded.settings.threads)
    block = first_block(found)
    if block is not None and may_repair and block.hit.rail.repairer and document is not None:
        repaired = _repaired(block, texts, guarded)
        if repaired is not None:
            note([block], texts, guarded.notes, "output")
            guarded.notes.changed = True
            return await judge_answer(
                _json.encode(with_texts(document, [repaired])), guarded, may_repair=False
            )
    note(found, texts, guarded.notes, "output")
    if block is not None:
        raise Blocked(block.hit, path_text(texts[block.parts[0][0]].path) if block.parts else "")
    changes = rewrite(found, texts, guarded.vault, keep=False, restore=True)
    if not changes:
        return data
    if any(one.hit.redacts for one in found):
        guarded.notes.changed = True
    if document is None:
        return changes[0][1].encode("utf-8", "replace")
    changed = with_texts(document, changes)
    return _json.encode(without_echoes(changed, [text.path for text, _ in changes]))


def _repaired(block: Found, texts: Sequence[Text], guarded: Guarded) -> tuple[Text, str] | None:
    text = texts[block.parts[0][0]] if block.parts else None
    if text is None:
        return None
    guard = block.hit.rail.repairer
    if guard is None:
        return None
    place = Place("output", text.role, path_text(text.path), text.kind == "json")
    new = guard.repair(text.text, to_context(place, guarded.asked))
    return None if new is None else (text, new)


async def _check(
    texts: Sequence[Text], panel: Panel, asked: Asked, threads: Threads
) -> list[Found]:
    """What the guards find in an answer."""
    if not texts or not panel.rails:
        return []
    if is_large(texts):
        found = await check_in_thread(texts, panel, "output", asked, threads)
    else:
        found = check_inline(texts, panel, "output", asked)
    if panel.slow:
        found += await check_slowly(texts, panel.slow, "output", asked, threads)
    return found

"""What others are told of what the guards did: layers, clients, and clients that are refused."""

from __future__ import annotations

from typing import Final

from asgi_llm.errors import ContentFilterError, LLMError
from asgi_llm.middleware._guard_checks import Hit, Notes
from asgi_llm.state import UNCACHEABLE, VERDICTS, State

__all__ = ["publish", "refusal", "verdict_header"]

_MOST_TOLD: Final = 16


def publish(state: State, notes: Notes) -> None:
    """Tell the other layers what was found."""
    if notes.verdicts:
        state.set(VERDICTS, notes.verdicts)
    if notes.changed:
        state.set(UNCACHEABLE, "guardrail")


def refusal(hit: Hit, path: str, *, is_request: bool) -> LLMError:
    """What a client is told of a block: which guard and what for, and nothing of the text."""
    what = "request" if is_request else "answer"
    return ContentFilterError(
        f"The {what} was blocked by the guard {hit.rail.name!r} ({hit.category}).",
        param=path or None,
    )


def verdict_header(notes: Notes) -> bytes:
    """The header's value: what was done for which category, each once, in the order it came."""
    told = {
        f"{verdict.category}={verdict.action}": None
        for verdict in notes.verdicts
        if verdict.enforced
    }
    return ", ".join(list(told)[:_MOST_TOLD]).encode("ascii", "replace")

"""The text of an answer of the shape that most have, as the bytes that it came in."""

from __future__ import annotations

from asgi_llm.middleware._guard_simple import read_simple_answer

__all__ = ["content_of"]


def content_of(data: bytes) -> bytes | None:
    """The text of what ``read_simple_answer`` reads, as UTF-8; None: it reads nothing."""
    text = read_simple_answer(data)
    return None if text is None else text.encode()

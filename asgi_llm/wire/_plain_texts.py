"""How long the texts of a plain chat are. A source for C, which does the same, lies beside it."""

from __future__ import annotations

from typing import Any

__all__ = ["measure_texts"]


def measure_texts(messages: Any) -> int:
    """Letters of messages that are but a role and a plain text in ASCII each; else -1."""
    if type(messages) is not list:
        return -1
    size = 0
    for message in messages:
        if type(message) is not dict:
            return -1
        text = message.get("content")
        if type(text) is not str or len(message) > 2 or not text.isascii():
            return -1
        size += len(text)
    return size

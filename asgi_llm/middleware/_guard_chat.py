"""Requests of the shape that most have, walked in few steps; all others are walked whole."""

from __future__ import annotations

from typing import Any, Final

from asgi_llm.middleware._guard_texts import LEAST_LONG_NUMBER, LONGEST_WORD, SHORT_ROLE, Text
from asgi_llm.types import Document

__all__ = ["list_simple_texts", "read_simple_request"]

_WORD_FIELDS: Final = frozenset(("model", "service_tier", "reasoning_effort"))
_NUMBER_FIELDS: Final = frozenset(
    (
        "temperature", "max_tokens", "max_completion_tokens", "stream", "top_p", "n", "seed",
        "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "store",
    )
)  # fmt: skip
_STREAM_OPTIONS: Final = frozenset(("include_usage",))
_LONGEST_WORD: Final = LONGEST_WORD
_LEAST_LONG: Final = LEAST_LONG_NUMBER
_MOST_NEGATIVE: Final = -LEAST_LONG_NUMBER
_SHORT_ROLE: Final = SHORT_ROLE


def read_simple_request(document: Document) -> tuple[list[str], list[str]] | None:
    """The texts of a chat that is no more than its messages, and their roles; None: it is more.

    They are those that ``read_texts`` gives.
    """
    messages: Any = None
    for key, value in document.items():
        if type(value) is str:
            word = value
            if key not in _WORD_FIELDS or len(word) > _LONGEST_WORD:
                return None
        elif key == "messages":
            if type(value) is not list:
                return None
            messages = value
        elif key in _NUMBER_FIELDS:
            if not _is_setting(value):
                return None
        elif key == "stream_options":
            if type(value) is not dict or not value.keys() <= _STREAM_OPTIONS:
                return None
            if type(value.get("include_usage", False)) is not bool:
                return None
        elif value is not None or key not in _WORD_FIELDS:
            return None
    if messages is None:
        return None
    texts: list[str] = []
    roles: list[str] = []
    for one in messages:
        if type(one) is not dict or len(one) != 2:
            return None
        message = one
        said, written = message.get("role"), message.get("content")
        if type(said) is not str or type(written) is not str:
            return None
        role, text = said, written
        if len(role) > _LONGEST_WORD:
            return None
        if text:
            if text[0] == "d" and text.startswith("data:"):
                return None
            texts.append(text)
            roles.append(_SHORT_ROLE.get(role, role))
    return texts, roles


def _is_setting(value: object) -> bool:
    """Whether a value holds no text, and is no long number, which may be one."""
    if type(value) is int:
        return _MOST_NEGATIVE < value < _LEAST_LONG
    return value is None or type(value) is float or type(value) is bool


def list_simple_texts(document: Document) -> list[Text]:
    """The same texts, each with its place, of a document that ``read_simple_request`` has read."""
    texts: list[Text] = []
    for number, one in enumerate(document["messages"]):
        if one["content"]:
            role = SHORT_ROLE.get(one["role"], one["role"])
            texts.append(Text(("messages", number, "content"), role, one["content"]))
    return texts

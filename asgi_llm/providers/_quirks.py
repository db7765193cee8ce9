"""Where endpoints that speak the OpenAI format depart from it: names, meanings, and rewrites.

A quirk belongs to an endpoint (a row of ``compatible``) or to one deployment (`Deployment.quirks`).
Those that rewrite a request are functions in `_REWRITES`; those about answers are read where
answers are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.types import Document

__all__ = [
    "DONE_OPTIONAL",
    "FINISH_REASON_OPTIONAL",
    "QUIRKS",
    "THINK_TAGS",
    "apply_quirks",
    "check_quirks",
]

DONE_OPTIONAL: Final = "done_optional"
FINISH_REASON_OPTIONAL: Final = "finish_reason_optional"
THINK_TAGS: Final = "think_tags"

QUIRKS: Final[Mapping[str, str]] = {
    "max_tokens_only": "Takes max_tokens and not max_completion_tokens, which is renamed.",
    "max_completion_tokens_only": "Takes max_completion_tokens and not max_tokens, which is "
    "renamed (OpenAI's reasoning models).",
    "no_stream_options": "Refuses stream_options, which is left out; usage comes unasked.",
    "developer_as_system": "Knows no developer role, which becomes system.",
    "text_as_string": "Wants the content of a message as a string: an array that holds only text "
    "parts is joined.",
    "seed_as_random_seed": "Calls seed random_seed.",
    "short_tool_ids": "Takes only tool call ids of nine letters and digits: others are replaced by "
    "a hash, the same for a call and its result.",
    DONE_OPTIONAL: "Ends a stream without [DONE], on a connection that may end without framing; "
    "the last finish reason finishes it.",
    FINISH_REASON_OPTIONAL: "May leave out the finish reason; [DONE] alone finishes a stream.",
    THINK_TAGS: "Writes thoughts into the text, between `<think>` and `</think>` at its beginning; "
    "they become reasoning_content.",
}
"""Every quirk that there is, with its meaning."""


def check_quirks(quirks: Iterable[str]) -> frozenset[str]:
    """The quirks as a set.

    Raises:
        ConfigurationError: One of them does not exist.
    """
    names = frozenset(quirks)
    if unknown := sorted(names - QUIRKS.keys()):
        raise ConfigurationError(
            f"unknown quirk {unknown[0]!r}; known are {', '.join(sorted(QUIRKS))}", param="quirks"
        )
    return names


def apply_quirks(document: Document, quirks: frozenset[str]) -> Document:
    """``document`` as an endpoint with ``quirks`` takes it. What is not changed is shared."""
    sent = dict(document)
    for name, rewrite in _REWRITES.items():
        if name in quirks:
            rewrite(sent)
    return sent


def _rename(old: str, new: str) -> Callable[[Document], None]:
    def rename(sent: Document) -> None:
        if old in sent:
            value = sent.pop(old)
            # What the client gave under the right name wins.
            sent.setdefault(new, value)

    return rename


def _drop_stream_options(sent: Document) -> None:
    sent.pop("stream_options", None)


def _edit_messages(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Document], None]:
    """A rewrite of each message; ``edit`` returns the message itself where nothing changes."""

    def rewrite(sent: Document) -> None:
        messages = sent.get("messages")
        if isinstance(messages, list):
            sent["messages"] = [edit(m) if isinstance(m, dict) else m for m in messages]

    return rewrite


def _as_system(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "role": "system"} if message.get("role") == "developer" else message


def _as_string(message: dict[str, Any]) -> dict[str, Any]:
    parts = message.get("content")
    if not isinstance(parts, list) or not parts:
        return message
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        for part in parts
    ]
    if not all(isinstance(text, str) for text in texts):
        return message
    return {**message, "content": "".join(str(text) for text in texts)}


_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")


def _short_id(value: Any) -> Any:
    if not isinstance(value, str) or _SHORT_ID.fullmatch(value):
        return value
    return hashlib.sha256(value.encode()).hexdigest()[:9]


def _with_short_ids(message: dict[str, Any]) -> dict[str, Any]:
    if "tool_call_id" in message:
        message = {**message, "tool_call_id": _short_id(message["tool_call_id"])}
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        renamed = [
            {**call, "id": _short_id(call["id"])}
            if isinstance(call, dict) and "id" in call
            else call
            for call in calls
        ]
        message = {**message, "tool_calls": renamed}
    return message


_REWRITES: Final[Mapping[str, Callable[[Document], None]]] = {
    "max_tokens_only": _rename("max_completion_tokens", "max_tokens"),
    "max_completion_tokens_only": _rename("max_tokens", "max_completion_tokens"),
    "no_stream_options": _drop_stream_options,
    "developer_as_system": _edit_messages(_as_system),
    "text_as_string": _edit_messages(_as_string),
    "seed_as_random_seed": _rename("seed", "random_seed"),
    "short_tool_ids": _edit_messages(_with_short_ids),
}

"""What of a request is compared by meaning, and what has to be equal."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm.middleware._cache_request import CacheRequest, canonical
from asgi_llm.types import Document

__all__ = ["TURN_BORDER", "Prompt", "read_prompt"]

TURN_BORDER: Final = "\x1e"
"""Between the turns of a prompt where several are compared."""

_TEXT_PARTS: Final = frozenset(("text", "input_text"))
_TOOL_ROLES: Final = frozenset(("tool", "function"))


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """A request, parted."""

    turns: tuple[str, ...]
    """What is compared by meaning: the last user turn, before it earlier ones where those are
    compared, too."""
    rest: bytes
    """All else that shapes the answer, in one encoding."""

    @property
    def text(self) -> str:
        """The turns as one text, as they are kept."""
        return TURN_BORDER.join(self.turns)


def read_prompt(
    request: CacheRequest, *, turns: int, max_temperature: float, max_characters: int
) -> Prompt | None:
    """Part a request; None: it is not one whose answer another wording could share.

    That is: images and other media, tools in play, a temperature above the limit, a last turn that
    is not the user's, and a text that is empty or too long.

    Args:
        request: A chat completion or a completion.
        turns: How many user turns are compared by meaning, from the last. What assistants said in
            between is left out; all other messages have to be equal.
        max_temperature: Of the request; one that says nothing is within it.
        max_characters: Of all turns together.
    """
    document = request.document
    temperature = document.get("temperature")
    if temperature is not None and (
        type(temperature) not in (int, float) or temperature > max_temperature
    ):
        return None
    if request.operation == "text_completion":
        text = document.get("prompt")
        if type(text) is not str:
            return None
        rest = {name: value for name, value in document.items() if name != "prompt"}
        return _bounded((text,), rest, max_characters)
    if request.operation != "chat" or _has_tools(document) or _has_sound(document):
        return None
    messages = document.get("messages")
    if type(messages) is not list or not messages:
        return None
    return _of_chat(document, messages, turns, max_characters)


def _of_chat(
    document: Document, messages: list[Any], turns: int, max_characters: int
) -> Prompt | None:
    said: list[str] = []
    equal: list[Any] = []
    for at in range(len(messages) - 1, -1, -1):
        message = messages[at]
        if type(message) is not dict or message.get("tool_calls") or message.get("function_call"):
            return None
        role = message.get("role")
        if role in _TOOL_ROLES or type(role) is not str:
            return None
        text = _text(message.get("content"))
        if text is None or (not said and role != "user"):
            return None
        if role == "user" and len(said) < turns:
            said.append(text)
            # What else a message says, such as a name, has to be equal.
            equal.append({name: value for name, value in message.items() if name != "content"})
        elif role != "assistant" or len(said) >= turns:
            equal.append(message)
    return _bounded(tuple(reversed(said)), {**document, "messages": equal}, max_characters)


def _bounded(turns: tuple[str, ...], rest: dict[str, Any], max_characters: int) -> Prompt | None:
    if not turns[-1].strip() or sum(map(len, turns)) > max_characters:
        return None
    if any([TURN_BORDER in turn for turn in turns]):
        return None
    return Prompt(turns, canonical(rest))


def _text(content: Any) -> str | None:
    """The text of a message; None: it has parts that are no text."""
    if type(content) is str:
        return content
    if type(content) is not list:
        return None
    texts: list[str] = []
    for part in content:
        if type(part) is not dict or part.get("type") not in _TEXT_PARTS:
            return None
        text = part.get("text")
        if type(text) is not str or len(part) > 2:
            return None
        texts.append(text)
    return "\n".join(texts)


def _has_tools(document: Document) -> bool:
    if document.get("functions") or document.get("web_search_options") is not None:
        return True
    return bool(document.get("tools")) and document.get("tool_choice") != "none"


def _has_sound(document: Document) -> bool:
    modalities = document.get("modalities")
    return document.get("audio") is not None or (modalities is not None and modalities != ["text"])

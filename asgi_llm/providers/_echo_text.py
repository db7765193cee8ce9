"""What the echo provider says: texts, tool calls, and how it counts tokens."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._echo_schema import instance
from asgi_llm.providers._tool_choice import allowed_names, chosen_name
from asgi_llm.types import Document

__all__ = [
    "MAX_CHARACTERS",
    "Said",
    "count",
    "limited",
    "pieces",
    "prompt_tokens",
    "respond",
    "text_of",
]

MAX_CHARACTERS: Final = 64 * 1024

# A token here is up to 16 characters of one word, with the blanks before it.
_PIECE = re.compile(r"\s*\S{1,16}|\s+")
_CALL = re.compile(r"call\s+([A-Za-z0-9_.-]{1,64})\s*(\{.*\})?\s*", re.DOTALL)
_MESSAGE_TOKENS: Final = 4
_PART_TOKENS: Final = 85


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One choice: text, or calls of tools as (name, arguments)."""

    text: str | None
    calls: tuple[tuple[str, str], ...] = ()
    finish_reason: str = "stop"


def pieces(text: str) -> list[str]:
    """``text`` in tokens; joined they are the text again."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """Tokens of ``text``; beyond its first 64 Ki characters one is taken for four characters."""
    rest = len(text) - MAX_CHARACTERS
    if rest <= 0:
        return len(pieces(text))
    return len(pieces(text[:MAX_CHARACTERS])) + math.ceil(rest / 4)


def text_of(content: Any) -> str:
    """A message's content as text; what is no text is named in brackets, as in ``[image_url]``."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(
        str(part.get("text", "")) if part.get("type") == "text" else f"[{part.get('type')}]"
        for part in content
    )


def prompt_tokens(document: Document) -> int:
    """Tokens of a chat request: its texts, 4 a message, 85 a part that is no text, its tools."""
    total = 0
    for message in document.get("messages") or ():
        content = message.get("content")
        total += _MESSAGE_TOKENS
        if isinstance(content, list):
            texts = [part for part in content if part.get("type") == "text"]
            total += sum(count(str(part.get("text", ""))) for part in texts)
            total += _PART_TOKENS * (len(content) - len(texts))
        else:
            total += count(text_of(content))
        for call in message.get("tool_calls") or ():
            total += count(str((call.get("function") or {}).get("arguments", "")))
    if tools := document.get("tools"):
        total += count(_dump(tools))
    return total


def respond(document: Document) -> Said:
    """The answer to a chat request, before stop sequences and limits.

    Raises:
        InvalidRequestError: A tool is named that is not there, or a schema asks for too much.
    """
    messages = document.get("messages") or []
    last = messages[-1] if messages else {}
    text = _reply(messages)
    calls = _calls(document, last, text)
    if calls:
        if document.get("parallel_tool_calls") is False:
            calls = calls[:1]
        return Said(text=None, calls=tuple(calls), finish_reason="tool_calls")
    wanted = document.get("response_format") or {}
    if wanted.get("type") == "json_object":
        text = text if _is_object(text) else _dump({"echo": text})
    elif wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema")
        text = _dump(_instance(schema, "response_format.json_schema.schema"))
    return Said(text=text)


def limited(said: Said, document: Document) -> Said:
    """``said`` up to the first stop sequence, within the limit on tokens and 64 Ki characters."""
    text = said.text
    if text is None:
        return said
    stops = document.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop:
            text = text.partition(stop)[0]
    limit = document.get("max_completion_tokens") or document.get("max_tokens")
    tokens = pieces(text[:MAX_CHARACTERS])
    if isinstance(limit, int) and len(tokens) > limit:
        return Said(text="".join(tokens[:limit]), finish_reason="length")
    if len(text) > MAX_CHARACTERS:
        return Said(text=text[:MAX_CHARACTERS], finish_reason="length")
    return Said(text=text)


def _reply(messages: list[Document]) -> str:
    """The results of the tools since the last user message, or else that message."""
    results: list[str] = []
    for message in reversed(messages):
        role = message.get("role")
        if role in ("tool", "function"):
            results.append(text_of(message.get("content")))
        elif role == "user":
            return "\n".join(reversed(results)) if results else text_of(message.get("content"))
    return "\n".join(reversed(results))


def _calls(document: Document, last: Document, text: str) -> list[tuple[str, str]]:
    choice = document.get("tool_choice") or "auto"
    tools = {
        tool["function"]["name"]: tool["function"]
        for tool in document.get("tools") or ()
        if tool.get("type") == "function"
    }
    if isinstance(choice, dict) and (names := allowed_names(choice, "tool_choice")) is not None:
        tools = {name: tool for name, tool in tools.items() if name in names}
        choice = choice["allowed_tools"].get("mode") or "auto"
    if isinstance(choice, dict):
        name = chosen_name(choice, "tool_choice")
        if name not in tools:
            raise InvalidRequestError(
                f"There is no function {name!r} among the tools.", param="tool_choice"
            )
        return [_call(name, tools[name], None)]
    if choice == "none" or not tools:
        return []
    asked = _asked(text, tools) if last.get("role") == "user" else []
    if not asked and choice == "required":
        name = next(iter(tools))
        asked = [_call(name, tools[name], None)]
    return asked


def _asked(text: str, tools: dict[str, Document]) -> list[tuple[str, str]]:
    """The calls of a user who writes ``call NAME`` or ``call NAME {...}``, one a line."""
    calls = []
    for line in text.splitlines():
        found = _CALL.fullmatch(line)
        if found is None or found[1] not in tools:
            return []
        calls.append(_call(found[1], tools[found[1]], found[2]))
    return calls


def _call(name: str, tool: Document, arguments: str | None) -> tuple[str, str]:
    if arguments is not None and _is_object(arguments):
        return name, arguments
    parameters = tool.get("parameters") or {"type": "object", "properties": {}}
    return name, _dump(_instance(parameters, "tools"))


def _instance(schema: Any, param: str) -> Any:
    try:
        return instance(schema)
    except ValueError as error:
        raise InvalidRequestError(
            f"No instance of the schema can be made: {error}.", param=param
        ) from error


def _is_object(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


def _dump(value: Any) -> str:
    return msgspec.json.encode(value).decode()

"""Where the text is in a document of the wire, and how it is put back changed.

A document is walked whole: what is not known to be something else is text, so that a field which
nobody has heard of hides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from asgi_llm.middleware._guard_data import CARRIERS, as_data_url, is_binary, text_of_data_url
from asgi_llm.types import Document

__all__ = [
    "LEAST_LONG_NUMBER",
    "LONGEST_WORD",
    "SHORT_ROLE",
    "STRUCTURE",
    "Path",
    "Text",
    "is_structure",
    "path_text",
    "read_texts",
    "system_texts",
    "with_texts",
]

TextKind = Literal["text", "json", "key", "number", "data"]
Path = tuple[str | int, ...]


class Text(msgspec.Struct, gc=False):
    """A text of a document.

    Attributes:
        path: The keys and indexes that lead to it.
        role: Whose it is.
        text: What it says; of a data URL, what is in that.
        kind: ``json`` is JSON inside a string, ``key`` the name of a field, ``number`` a long
            integer, ``data`` what a data URL holds.
    """

    path: Path
    role: str
    text: str
    kind: TextKind = "text"


STRUCTURE: Final = frozenset(
    (
        "model", "type", "role", "object", "id", "tool_call_id", "finish_reason", "format",
        "detail", "service_tier", "system_fingerprint", "reasoning_effort", "encoding_format",
        "verbosity", "file_id", "voice", "size", "quality", "style", "background", "tool_choice",
        "call_id", "item_id", "obfuscation", "signature", "encrypted_content", "thought_signature",
        "native_finish_reason", "stop_reason", "provider", "effort", "mode", "status",
    )
)  # fmt: skip
"""Fields that hold a word of the API, or an id."""

SHORT_ROLE: Final = {"developer": "system", "function": "tool"}
_OF_SYSTEM: Final = frozenset(("system", "instructions"))
_OF_USER: Final = frozenset(("prompt", "input", "suffix", "query", "documents"))
_SEALED: Final = frozenset(("signature", "encrypted_content", "thought_signature", "obfuscation"))
LONGEST_WORD: Final = 64
_LONGEST_PLAIN_KEY: Final = 16
_LONG_KEYS: Final = frozenset(
    (
        "additionalProperties", "allowed_tools", "completion_tokens", "completion_tokens_details",
        "encrypted_content", "frequency_penalty", "include_obfuscation", "max_completion_tokens",
        "parallel_tool_calls", "patternProperties", "presence_penalty", "prompt_cache_retention",
        "prompt_tokens_details", "reasoning_content", "reasoning_details", "safety_identifier",
        "system_fingerprint", "thought_signature", "unevaluatedProperties", "web_search_options",
    )
)  # fmt: skip
LEAST_LONG_NUMBER: Final = 10**9
_HOLDERS: Final = frozenset(
    (
        "action", "annotations", "audio", "cache_control", "choices", "content", "content_block",
        "custom", "custom_tool_call", "data", "delta", "error", "file", "format", "function",
        "function_call", "image_url", "images", "input", "input_audio", "item", "json_schema",
        "message", "messages", "output", "outputs", "part", "prediction", "prompt", "reasoning",
        "reasoning_details", "response", "response_format", "source", "summary", "system", "text",
        "thinking", "tool_calls", "tool_choice", "tools", "usage",
    )
)  # fmt: skip
"""Fields in which the API has others; what is not in these alone is somebody's own."""
_SCHEMA_WORDS: Final = frozenset(
    (
        "string", "object", "array", "number", "integer", "boolean", "null", "date", "date-time",
        "email", "time", "uri", "uuid",
    )
)  # fmt: skip
_WORD: Final = re.compile(r"(?=[^A-Za-z]*[A-Za-z])[\w./:+=-]+", re.ASCII)


def read_texts(document: Document, *, role: str = "", is_answer: bool = False) -> list[Text]:
    """Every text of ``document``, in its order, but for the tokens of an answer's ``logprobs``.

    Args:
        document: A request, or an answer.
        role: Whose texts are those for which nothing else is said.
        is_answer: Whether it is an answer, or an event of one.
    """
    found: list[Text] = []
    left_out = "logprobs" if is_answer else ""
    for key, value in document.items():
        kind = type(value)
        if kind is str:
            if key not in STRUCTURE or len(value) > LONGEST_WORD:
                _read_string(found, (key,), _role_of(key, role), key, value)
        elif kind is list or kind is dict:
            if key != left_out:
                _read(found, (key,), _role_of(key, role), value, left_out, key in _HOLDERS)
        elif kind is int and not -LEAST_LONG_NUMBER < value < LEAST_LONG_NUMBER:
            found.append(Text((key,), role, str(value), "number"))
        if not (len(key) <= _LONGEST_PLAIN_KEY and key.isidentifier()) and key not in _LONG_KEYS:
            found.append(Text((key,), role, key, "key"))
    return found


def _role_of(key: str, role: str) -> str:
    if key in _OF_SYSTEM:
        return "system"
    return "user" if key in _OF_USER and not role else role


def _read(
    found: list[Text], path: Path, role: str, value: Any, left_out: str, is_api: bool
) -> None:
    if type(value) is list:
        name = path[-1] if is_api and path[-1] in CARRIERS else ""
        for index, one in enumerate(value):
            kind = type(one)
            if kind is dict or kind is list:
                _read(found, (*path, index), role, one, left_out, is_api)
            elif kind is str:
                _read_string(found, (*path, index), role, name, one)
            elif kind is int and not -LEAST_LONG_NUMBER < one < LEAST_LONG_NUMBER:
                found.append(Text((*path, index), role, str(one), "number"))
        return
    said = value.get("role")
    if type(said) is str:
        role = SHORT_ROLE.get(said, said)
        if len(value) == 2 and len(said) <= LONGEST_WORD:
            # Most messages are no more than this.
            one = value.get("content")
            if type(one) is str:
                _read_string(found, (*path, "content"), role, "content", one)
                return
    for key, one in value.items():
        kind = type(one)
        if kind is str:
            if key not in STRUCTURE or not _is_word(key, one, is_api):
                _read_string(found, (*path, key), role, key if is_api else "", one)
        elif kind is dict or kind is list:
            if key != left_out:
                # The input of a call is the model's own; other inputs are lists.
                is_held = is_api and key in _HOLDERS and not (kind is dict and key == "input")
                _read(found, (*path, key), role, one, left_out, is_held)
        elif kind is int and not -LEAST_LONG_NUMBER < one < LEAST_LONG_NUMBER:
            found.append(Text((*path, key), role, str(one), "number"))
        if not (len(key) <= _LONGEST_PLAIN_KEY and key.isidentifier()) and key not in _LONG_KEYS:
            found.append(Text((*path, key), role, key, "key"))


def _is_word(key: str, value: str, is_api: bool) -> bool:
    if not is_api:
        return value in _SCHEMA_WORDS
    if len(value) > LONGEST_WORD and key not in _SEALED:
        return False
    return _WORD.fullmatch(value) is not None


def _read_string(found: list[Text], path: Path, role: str, key: str, value: str) -> None:
    if not value:
        return
    if path[-1] == "arguments":
        found.append(Text(path, role, value, "json"))
        return
    if key in CARRIERS and is_binary(value):
        return
    said = text_of_data_url(value) if value.startswith("data:") else None
    found.append(Text(path, role, value) if said is None else Text(path, role, said, "data"))


def with_texts(document: Document, changes: Iterable[tuple[Text, Any]]) -> Document:
    """``document`` with other texts in their places; what is not changed is shared with it."""
    root: Document = dict(document)
    copies: dict[Path, Any] = {(): root}
    keys: list[tuple[Path, str]] = []
    for text, new in changes:
        holder = _copied(copies, text.path[:-1])
        last = text.path[-1]
        if text.kind == "key":
            keys.append((text.path, new))
        elif text.kind == "data":
            holder[last] = as_data_url(holder[last], new)
        else:
            holder[last] = new
    # Names change last and from within, since they are part of the paths of what they hold.
    for path, new in sorted(keys, key=lambda change: -len(change[0])):
        holder = _copied(copies, path[:-1])
        items = [(new if key == path[-1] else key, value) for key, value in holder.items()]
        holder.clear()
        holder.update(items)
    return root


def _copied(copies: dict[Path, Any], path: Path) -> Any:
    """The container at ``path``, in a copy of its own."""
    if path in copies:
        return copies[path]
    holder = _copied(copies, path[:-1])
    inner = holder[path[-1]]
    copy = dict(inner) if isinstance(inner, dict) else list(inner)
    holder[path[-1]] = copy
    copies[path] = copy
    return copy


def path_text(path: Path) -> str:
    """A path as it is written in errors, such as ``messages[2].content``.

    Names of fields that may hold somebody's text are written as ``*``.
    """
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step}]"
        else:
            step = step if is_plain_key(step) else "*"
            out += f".{step}" if out else step
    return out


def is_plain_key(key: str) -> bool:
    """Whether the name of a field is too short, or too well known, to hold a text."""
    return (len(key) <= _LONGEST_PLAIN_KEY and key.isidentifier()) or key in _LONG_KEYS


def system_texts(texts: Iterable[Text]) -> tuple[str, ...]:
    """The texts of those who set the rules."""
    return tuple([text.text for text in texts if text.role == "system" and text.kind == "text"])


def is_structure(path: Path, value: str) -> bool:
    """Whether a field holds a word of the API, or an id, and no text."""
    key = path[-1]
    if key not in STRUCTURE or type(key) is not str:
        return False
    is_api = all(type(step) is int or (step in _HOLDERS and step != "input") for step in path[:-1])
    return _is_word(key, value, is_api)

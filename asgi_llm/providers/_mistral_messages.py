"""The conversation of a chat as Mistral takes it: messages, calls and their results.

Source: Mistral AI API reference, "Chat", and the types of its Python SDK 3.7; November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._mistral_content import (
    ShortIds,
    cannot,
    content_of,
    report_rest,
    thought,
    unsupported_tool,
)
from asgi_llm.providers._part_reading import told_thoughts
from asgi_llm.types import Document

__all__ = ["OWN_BLOCK", "build_messages"]

OWN_BLOCK: Final = "mistral"
"""Marks thinking blocks of Mistral's: no other provider's signature may be sent to it."""


def build_messages(given: list[dict[str, Any]], losses: Losses) -> list[Document]:
    """The conversation, message by message, in its own order.

    Raises:
        InvalidRequestError: A call has no result, or a result no call, or a part cannot be told.
    """
    ids = ShortIds()
    messages: list[Document] = []
    waiting: dict[str, tuple[str, str]] = {}  # calls without a result: name, path
    for index, message in enumerate(given):
        role = message["role"]
        if role != "tool" and role != "function" and waiting:
            raise _unanswered(waiting)
        if (
            (role == "user" or role == "system")
            and len(message) == 2
            and isinstance(message["content"], str)
        ):
            messages.append(message)
            continue
        path = f"messages[{index}]"
        if role == "assistant":
            told = _assistant(message, path, ids, waiting, losses)
            if told is None:
                continue
            messages.append(told)
        elif role == "tool" or role == "function":
            messages.append(_result(message, path, ids, waiting, losses))
        else:
            report_rest(message, ("role", "content"), path, losses)
            content = content_of(message["content"], f"{path}.content", losses)
            if role == "developer":
                role = "system"
            if role == "system":
                _only_text(content, f"{path}.content")
            if content != []:
                messages.append({"role": role, "content": content})
    if waiting:
        raise _unanswered(waiting)
    if not messages:
        raise InvalidRequestError(
            "messages: they hold nothing", param="messages", code="invalid_value"
        )
    last = messages[-1]
    if last["role"] == "assistant" and "prefix" not in last:
        # Without it the message would be an error. It says what OpenAI-like servers do anyhow.
        last["prefix"] = True
    return messages


def _only_text(content: Any, path: str) -> None:
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if part["type"] not in ("text", "thinking"):
            raise cannot(f"{path}[{index}]", part["type"], "instructions can only be text here")


def _unanswered(waiting: Mapping[str, tuple[str, str]]) -> InvalidRequestError:
    call_id, (_, path) = next(iter(waiting.items()))
    return InvalidRequestError(
        f"{path}: the call {call_id!r} has no result; a message with the role 'tool' and this "
        "tool_call_id has to follow it",
        param=path,
        code="missing_tool_result",
    )


_OF_ASSISTANT: Final = (
    "content",
    "function_call",
    "prefix",
    "reasoning_content",
    "refusal",
    "role",
    "thinking_blocks",
    "tool_calls",
)


def _assistant(
    message: dict[str, Any],
    path: str,
    ids: ShortIds,
    waiting: dict[str, tuple[str, str]],
    losses: Losses,
) -> Document | None:
    """The message, or None where it says nothing, which Mistral refuses."""
    report_rest(message, _OF_ASSISTANT, path, losses)
    content = message.get("content")
    if content is not None:
        content = content_of(content, f"{path}.content", losses)
    before = _thoughts(message, path, losses)
    refusal = message.get("refusal")
    after: list[Document] = []
    if refusal:
        losses.add(f"{path}.refusal", "it is told as text")
        after.append({"type": "text", "text": refusal})
    if before or after:
        if isinstance(content, str):
            content = [{"type": "text", "text": content}] if content else []
        content = [*before, *(content or ()), *after]
    calls = _calls(message, path, ids, waiting, losses)
    if not content and not calls:
        return None
    told: Document = {"role": "assistant", "content": content or ""}
    if calls:
        told["tool_calls"] = calls
    if message.get("prefix") is not None:
        told["prefix"] = message["prefix"]
    return told


def _thoughts(message: dict[str, Any], path: str, losses: Losses) -> list[Document]:
    blocks = message.get("thinking_blocks")
    if not blocks:
        thoughts = told_thoughts(message, path)
        return [thought(thoughts)] if thoughts else []
    found: list[Document] = []
    for index, block in enumerate(blocks if isinstance(blocks, list) else (blocks,)):
        text = block.get("thinking") if isinstance(block, dict) else None
        signature = block.get("signature") if isinstance(block, dict) else None
        if not isinstance(text, str) or (signature and block.get("provider") != OWN_BLOCK):
            losses.add(f"{path}.thinking_blocks[{index}]", "it is another provider's")
            continue
        found.append(thought(text, signature))
    return found


def _calls(
    message: dict[str, Any],
    path: str,
    ids: ShortIds,
    waiting: dict[str, tuple[str, str]],
    losses: Losses,
) -> list[Document]:
    calls: list[Document] = []
    for index, call in enumerate(message.get("tool_calls") or ()):
        where = f"{path}.tool_calls[{index}]"
        if "function" not in call:
            raise unsupported_tool(f"{where}.type", call.get("type"))
        report_rest(call, ("function", "id", "index", "type"), where, losses)
        calls.append(_call(call["id"], call["function"], ids))
        waiting[call["id"]] = call["function"]["name"], where
    if legacy := message.get("function_call"):
        # Of the message, since one function may be called again and again.
        call_id = "function_call_" + path.removeprefix("messages[").rstrip("]")
        calls.append(_call(call_id, legacy, ids))
        waiting[call_id] = legacy["name"], f"{path}.function_call"
    return calls


def _call(call_id: str, function: dict[str, Any], ids: ShortIds) -> Document:
    told = {"name": function["name"], "arguments": function["arguments"] or "{}"}
    return {"id": ids.short(call_id), "type": "function", "function": told}


def _result(
    message: dict[str, Any],
    path: str,
    ids: ShortIds,
    waiting: dict[str, tuple[str, str]],
    losses: Losses,
) -> Document:
    if message["role"] == "function":
        call_id = next((i for i, (name, _) in waiting.items() if name == message["name"]), None)
        field = f"{path}.name"
    else:
        call_id, field = message["tool_call_id"], f"{path}.tool_call_id"
    if call_id is None or call_id not in waiting:
        raise InvalidRequestError(
            f"{field}: no call of the message before has this "
            + ("name" if field.endswith("name") else f"id, {call_id!r}"),
            param=field,
            code="unknown_tool_call",
        )
    name, _ = waiting.pop(call_id)
    report_rest(message, ("content", "is_error", "name", "role", "tool_call_id"), path, losses)
    content = content_of(message.get("content") or "", f"{path}.content", losses)
    if message.get("is_error"):
        content = (
            f"Error: {content}"
            if isinstance(content, str)
            else [{"type": "text", "text": "Error:"}, *content]
        )
    return {"role": "tool", "tool_call_id": ids.short(call_id), "name": name, "content": content}

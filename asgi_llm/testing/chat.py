"""Documents of the OpenAI chat API for scripted replies, with usage wherever providers put it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.testing.replies import HeaderItems, Reply, json_reply

__all__ = ["UsagePlace", "chat_answer", "chat_events", "error_answer", "tokens_of", "usage_of"]

UsagePlace = Literal["final", "finish", "every", "middle", "none"]

ToolCalls = Sequence[tuple[str, dict[str, Any] | str]]
"""Name and arguments of each call; text is taken as the arguments' JSON, valid or not."""

_CREATED = 1_700_000_000
_PROMPT_TOKENS = 9


def tokens_of(text: str) -> list[str]:
    """The tokens of this kit: words, each with the space before it. They join to ``text``."""
    return re.findall(r"\s*\S+|\s+$", text)


def usage_of(prompt_tokens: int, completion_tokens: int, **details: Any) -> dict[str, Any]:
    """A ``usage`` object that adds up."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        **details,
    }


def chat_answer(
    text: str | None = "Hello there.",
    *,
    model: str = "test-model",
    usage: dict[str, Any] | Literal["count"] | None = "count",
    tool_calls: ToolCalls = (),
    finish_reason: str | None = None,
    n: int = 1,
    id: str = "chatcmpl-test",
) -> dict[str, Any]:
    """A whole chat completion.

    Args:
        text: The content of every choice.
        model: The model that claims to answer.
        usage: ``"count"`` counts words as tokens and takes 9 for the prompt; None leaves it out.
        tool_calls: Calls that every choice makes.
        finish_reason: None is ``tool_calls`` where there are some, else ``stop``.
        n: Number of choices, at least 1.
        id: The completion's id.
    """
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if tool_calls:
        message["content"] = text or None
        message["tool_calls"] = [
            _call(index, name, _arguments(arguments))
            for index, (name, arguments) in enumerate(tool_calls)
        ]
    answer = {
        "id": id,
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [
            {
                "index": index,
                "message": message,
                "logprobs": None,
                "finish_reason": _finish(finish_reason, tool_calls),
            }
            for index in range(_at_least_one(n))
        ],
    }
    if usage == "count":
        answer["usage"] = usage_of(_PROMPT_TOKENS, n * len(_parts(text, tool_calls)))
    elif usage is not None:
        answer["usage"] = usage
    return answer


def chat_events(
    text: str | Sequence[str] | None = "Hello there.",
    *,
    model: str = "test-model",
    usage: dict[str, Any] | Literal["count"] = "count",
    usage_in: UsagePlace = "final",
    tool_calls: ToolCalls = (),
    finish_reason: str | None = None,
    n: int = 1,
    id: str = "chatcmpl-test",
) -> list[dict[str, Any]]:
    """The events of a chat stream, for ``sse_reply``: one token an event, choices in turn.

    Args:
        text: The content of every choice, cut into words; or the pieces themselves.
        model: The model that claims to answer.
        usage: ``"count"`` counts the pieces, and takes 9 tokens for the prompt.
        usage_in: ``final`` is OpenAI's place, an event of its own without choices; ``finish`` the
            last event with a choice; ``every`` all events, counting up; ``middle`` one event half
            way and no other; ``none`` leaves it out.
        tool_calls: Calls that every choice makes, their arguments cut into two events each.
        finish_reason: None is ``tool_calls`` where there are some, else ``stop``.
        n: Number of choices, at least 1.
        id: The completion's id.
    """
    if usage_in not in ("final", "finish", "every", "middle", "none"):
        raise ConfigurationError("usage_in must be final, finish, every, middle or none")
    choices = range(_at_least_one(n))
    parts = _parts(text, tool_calls)
    deltas: list[tuple[int, dict[str, Any], str | None]] = [
        (index, {"role": "assistant", "content": ""}, None) for index in choices
    ]
    deltas += [(index, part, None) for part in parts for index in choices]
    deltas += [(index, {}, _finish(finish_reason, tool_calls)) for index in choices]
    events: list[dict[str, Any]] = [
        {
            "id": id,
            "object": "chat.completion.chunk",
            "created": _CREATED,
            "model": model,
            "choices": [
                {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
            ],
        }
        for index, delta, reason in deltas
    ]
    counted = usage_of(_PROMPT_TOKENS, n * len(parts))
    total = counted if usage == "count" else usage
    if usage_in == "final":
        for event in events:
            event["usage"] = None
        events.append({**events[-1], "choices": [], "usage": total})
    elif usage_in == "finish":
        events[-1]["usage"] = total
    elif usage_in == "middle":
        events[len(events) // 2]["usage"] = total
    elif usage_in == "every":
        for place, event in enumerate(events):
            so_far = min(max(0, place + 1 - n), n * len(parts))
            event["usage"] = usage_of(_PROMPT_TOKENS, so_far)
        events[-1]["usage"] = total
    return events


def error_answer(
    status: int,
    message: str = "The upstream failed.",
    *,
    type: str | None = None,
    code: str | None = None,
    param: str | None = None,
    headers: HeaderItems = (),
) -> Reply:
    """A reply with OpenAI's error object, at any status: 200 is an error that claims success.

    Args:
        status: HTTP status.
        message: The error's text.
        type: None is what OpenAI sends with such a status.
        code: The error's code.
        param: The field that it is about.
        headers: Such as ``retry-after``.
    """
    kind = type or ("invalid_request_error" if 400 <= status < 500 else "server_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json_reply({"error": error}, status, headers)


def _at_least_one(n: int) -> int:
    if n < 1:
        raise ConfigurationError("n must be at least 1", param="n")
    return n


def _finish(reason: str | None, tool_calls: ToolCalls) -> str:
    return reason or ("tool_calls" if tool_calls else "stop")


def _arguments(arguments: dict[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _call(index: int, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{index + 1}", "type": "function", "function": function}


def _parts(text: str | Sequence[str] | None, tool_calls: ToolCalls) -> list[dict[str, Any]]:
    """The deltas of one choice that carry a token each."""
    pieces = tokens_of(text) if isinstance(text, str) else list(text or ())
    parts: list[dict[str, Any]] = [{"content": piece} for piece in pieces]
    for index, (name, given) in enumerate(tool_calls):
        arguments = _arguments(given)
        half = len(arguments) // 2 or 1
        first = {"index": index, **_call(index, name, arguments[:half])}
        parts.append({"tool_calls": [first]})
        if arguments[half:]:
            rest = {"index": index, "function": {"arguments": arguments[half:]}}
            parts.append({"tool_calls": [rest]})
    return parts

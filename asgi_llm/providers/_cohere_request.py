"""A chat request in the words of Cohere's v2 API.

Source: Cohere API reference v2, "Chat", November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._conversation import (
    ChatRequest,
    Function,
    Image,
    JSONFormat,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._tool_names import ToolNames
from asgi_llm.types import Document

__all__ = ["build_chat"]

MAX_STOP_SEQUENCES: Final = 5
_LARGEST_K: Final = 500
_SMALLEST_P: Final = 0.01
_LARGEST_P: Final = 0.99

_PASSED: Final = ("citation_options", "documents", "k", "p", "priority", "safety_mode")
"""Fields of Cohere's own that a client may send, passed as they are."""

_OUTSIDE_OF_NAMES: Final = re.compile(r"^[0-9]|[^A-Za-z0-9_]")

_EFFORTS: Final[Mapping[str, Document]] = {
    "none": {"type": "disabled"},
    "minimal": {"type": "enabled", "token_budget": 1024},
    "low": {"type": "enabled", "token_budget": 2048},
    "medium": {"type": "enabled", "token_budget": 8192},
    "high": {"type": "enabled"},
    "xhigh": {"type": "enabled"},
    "max": {"type": "enabled"},
}


def build_chat(request: ChatRequest, model: str) -> tuple[Document, ToolNames]:
    """The body of ``POST /v2/chat``, and the names under which the tools go there.

    Raises:
        InvalidRequestError: The request holds what Cohere cannot be told, or nothing at all.
    """
    losses = request.losses
    names = ToolNames(outside=_OUTSIDE_OF_NAMES)
    messages = _messages(request, names)
    if not messages:
        raise InvalidRequestError(
            "messages: they hold nothing but blank text", param="messages", code="invalid_value"
        )
    body: Document = {"model": model, "messages": messages, "stream": request.stream}
    _put_tools(body, request, names)
    _put(body, "max_tokens", request.max_tokens())
    if stop := request.stop():
        if len(stop) > MAX_STOP_SEQUENCES:
            losses.add("stop", f"only the first {MAX_STOP_SEQUENCES} sequences count")
        body["stop_sequences"] = stop[:MAX_STOP_SEQUENCES]
    _put(body, "temperature", request.take("temperature"))
    seed = request.take("seed")
    if seed is not None and seed < 0:
        losses.add("seed", "it has to be at least 0")
    else:
        _put(body, "seed", seed)
    for name in ("frequency_penalty", "presence_penalty"):
        _put(body, name, _within(name, request.take(name), 0, 1, losses))
    _put(body, "p", _within("top_p", request.take("top_p"), _SMALLEST_P, _LARGEST_P, losses))
    top_k = request.take("top_k")
    _put(body, "k", 0 if top_k == -1 else _within("top_k", top_k, 0, _LARGEST_K, losses))
    for name in _PASSED:
        _put(body, name, request.take(name))
    if request.take("logprobs"):
        body["logprobs"] = True
        if request.take("top_logprobs"):
            losses.add("top_logprobs")
    _put(body, "response_format", _format(request.json_format(), losses))
    _put(body, "thinking", _thinking(request))
    return body, names


def _put(target: Document, name: str, value: Any) -> None:
    if value is not None:
        target[name] = value


def _within(name: str, value: Any, least: float, most: float, losses: Losses) -> Any:
    """``value``, or the end of the range that it is beyond."""
    if value is None or least <= value <= most:
        return value
    nearest = least if value < least else most
    losses.add(name, f"it becomes {nearest}")
    return nearest


def _format(wanted: JSONFormat | None, losses: Losses) -> Document | None:
    if wanted is None:
        return None
    if wanted.description is not None:
        losses.add(f"{wanted.path}.description")
    told: Document = {"type": "json_object"}
    _put(told, "json_schema", wanted.schema)
    return told


def _thinking(request: ChatRequest) -> Document | None:
    """Cohere's own field, else the effort."""
    thinking, effort = request.take("thinking"), request.take("reasoning_effort")
    if thinking is not None:
        if not isinstance(thinking, dict) or thinking.get("type") not in ("enabled", "disabled"):
            raise InvalidRequestError(
                'thinking: expected an object with the type "enabled" or "disabled"',
                param="thinking",
                code="invalid_value",
            )
        if effort is not None:
            request.losses.add("reasoning_effort", "thinking says more")
        told: Document = {"type": thinking["type"]}
        budget = thinking.get("token_budget")
        # The name that Anthropic has for the same.
        _put(told, "token_budget", thinking.get("budget_tokens") if budget is None else budget)
        return told
    if effort is None:
        return None
    if effort not in _EFFORTS:
        raise InvalidRequestError(
            f"reasoning_effort: got {effort!r}, expected one of {', '.join(_EFFORTS)}",
            param="reasoning_effort",
            code="invalid_value",
        )
    return _EFFORTS[effort]


# Tools


def _put_tools(body: Document, request: ChatRequest, names: ToolNames) -> None:
    functions, choice = request.functions(), request.tool_choice()
    if choice is not None and choice.names:
        # A named tool is the only one that is offered, so that a forced call can only be to it.
        functions = _chosen(functions, choice)
    strict = request.take("strict_tools")
    if not functions:
        return
    losses = request.losses
    body["tools"] = [_tool(function, names, losses) for function in functions]
    if choice is not None and choice.mode != "auto":
        body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    asked = [function for function in functions if function.strict]
    if strict is None and asked:
        strict = len(asked) == len(functions)
        if not strict:
            losses.add(f"{asked[0].path}.strict", "it is for all tools or none")
    if strict:
        body["strict_tools"] = True


def _chosen(functions: list[Function], choice: ToolChoice) -> list[Function]:
    found = [function for function in functions if function.name in choice.names]
    if not found:
        raise InvalidRequestError(
            f"{choice.path}: there is no tool {choice.names[0]!r}",
            param=choice.path,
            code="invalid_value",
        )
    return found


def _tool(function: Function, names: ToolNames, losses: Losses) -> Document:
    if function.cache_control is not None:
        losses.add(f"{function.path}.cache_control")
    told: Document = {"name": names.there(function.name)}
    _put(told, "description", function.description)
    told["parameters"] = function.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": told}


# Messages


def _messages(request: ChatRequest, names: ToolNames) -> list[Document]:
    losses = request.losses
    messages: list[Document] = []
    if request.system:
        for text in request.system:
            _report_marker(text, losses)
        texts = [{"type": "text", "text": part.text} for part in request.system]
        messages.append({"role": "system", "content": _simplest(texts)})
    for turn in request.turns:
        if turn.role == "assistant":
            messages += _assistant(turn, names, losses)
        else:
            messages += _user(turn, losses)
    return messages


def _simplest(content: list[Document]) -> Any:
    """A single text as a string."""
    if len(content) == 1 and content[0]["type"] == "text":
        return content[0]["text"]
    return content


def _report_marker(part: Part, losses: Losses) -> None:
    if part.cache_control is not None:
        losses.add(f"{part.path}.cache_control")


def _assistant(turn: Turn, names: ToolNames, losses: Losses) -> list[Document]:
    """One message, or none where nothing is left of it."""
    content: list[Document] = []
    thoughts: list[str] = []
    calls: list[Document] = []
    for part in turn.parts:
        _report_marker(part, losses)
        if isinstance(part, Text):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Refusal):
            losses.add(part.path, "it is told as text")
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, ToolCall):
            if part.extra is not None:
                losses.add(f"{part.path}.extra_content")
            function = {"name": names.there(part.name), "arguments": part.arguments}
            calls.append({"id": part.id, "type": "function", "function": function})
        elif isinstance(part, Thinking) and part.signature is None:
            thoughts.append(part.text)
        elif isinstance(part, Thinking | RedactedThinking):
            losses.add(part.path, "signed thoughts are another provider's")
        else:
            raise _cannot(part, "an assistant's message is text here")
    message: Document = {"role": "assistant"}
    if thoughts and calls:
        # What a model thinks before it calls is its plan here, of models that reason or do not.
        message["tool_plan"] = "".join(thoughts)
    elif thoughts:
        content.insert(0, {"type": "thinking", "thinking": "".join(thoughts)})
    if content:
        message["content"] = _simplest(content)
    if calls:
        message["tool_calls"] = calls
    return [message] if len(message) > 1 else []


def _user(turn: Turn, losses: Losses) -> list[Document]:
    """Tool results first, each a message, then what the user says."""
    messages: list[Document] = []
    said: list[Document] = []
    for part in turn.parts:
        _report_marker(part, losses)
        if isinstance(part, ToolResult):
            messages.append(_result(part, said, losses))
        elif isinstance(part, Text):
            said.append({"type": "text", "text": part.text})
        else:
            said.append(_image(part))
    if said:
        messages.append({"role": "user", "content": _simplest(said)})
    return messages


def _result(result: ToolResult, lifted: list[Document], losses: Losses) -> Document:
    texts: list[str] = []
    for part in result.parts:
        _report_marker(part, losses)
        if isinstance(part, Text):
            texts.append(part.text)
            continue
        losses.add(part.path, "it is moved to the user's message that follows")
        words = f"An image from the result of the tool {result.name}, call {result.id}:"
        lifted += ({"type": "text", "text": words}, _image(part))
        texts.append("(An image, which the next message of the user shows.)")
    if result.is_error:
        texts.insert(0, "Error:")
    content = [{"type": "text", "text": text} for text in texts] or [{"type": "text", "text": ""}]
    return {"role": "tool", "tool_call_id": result.id, "content": _simplest(content)}


def _image(part: Part) -> Document:
    if not isinstance(part, Image):
        raise _cannot(part, "Cohere takes text and images")
    url = part.url
    if url is None:
        url = f"data:{part.media_type or 'image/jpeg'};base64,{part.data}"
    told: Document = {"url": url}
    _put(told, "detail", part.detail)
    return {"type": "image_url", "image_url": told}


def _cannot(part: Part, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{part.path}: this part cannot be carried to this provider: {why}",
        param=part.path,
        code="unsupported_content_part",
    )

"""An OpenAI chat as Mistral takes it.

The two formats are nearly one, but Mistral refuses every field that it does not know, so what goes
out is named here, field by field. Messages stay where they are; what needs no change is shared with
the document.

Source: Mistral AI API reference, "Chat", and the types of its Python SDK 3.7; November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._mistral_content import put, report_rest, unsupported_tool
from asgi_llm.providers._mistral_messages import build_messages
from asgi_llm.providers._tool_choice import allowed_names, chosen_name
from asgi_llm.types import Document

__all__ = ["build_chat"]

MAX_TEMPERATURE: Final = 1.5

_PASSED: Final = frozenset(
    (
        "frequency_penalty",
        "guardrails",
        "logprobs",
        "metadata",
        "min_tokens",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_logprobs",
        "prompt_mode",
        "random_seed",
        "reasoning_effort",
        "repetition_penalty",
        "safe_prompt",
        "stop",
        "stream",
        "top_logprobs",
        "top_p",
        "top_prompt_logprobs",
    )
)
_SETTLED: Final = frozenset(
    (
        "asgi_llm",
        "function_call",
        "functions",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "prediction",
        "response_format",
        "seed",
        "service_tier",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
    )
)
_ASKS_NOTHING: Final[Mapping[str, Any]] = {"store": False}
_SERVICE_TIERS: Final[Mapping[str, str]] = {
    "auto": "auto",
    "default": "standard_only",
    "standard_only": "standard_only",
}
_NATIVE_TOOLS: Final = frozenset(("connector", "document_library", "image_generation"))
_ANY_OBJECT: Final[Document] = {"type": "object", "properties": {}}


def build_chat(document: Document, model: str, losses: Losses) -> Document:
    """The body of ``POST /v1/chat/completions``.

    Args:
        document: A valid chat.
        model: Mistral's name of the model.
        losses: Where everything goes that Mistral cannot be told.

    Raises:
        InvalidRequestError: It holds what Mistral cannot be told and what cannot be left out.
    """
    body: Document = {"model": model, "messages": build_messages(document["messages"], losses)}
    for name, value in document.items():
        if value is None or name in _SETTLED:
            continue
        if name in _PASSED:
            body[name] = value
        elif name not in _ASKS_NOTHING or value != _ASKS_NOTHING[name]:
            losses.add(name)
    given = document.get
    limit = given("max_completion_tokens")
    put(body, "max_tokens", given("max_tokens") if limit is None else limit)
    seed = given("seed")
    if seed is not None:
        body.setdefault("random_seed", seed)
    temperature = given("temperature")
    if temperature is not None:
        if temperature > MAX_TEMPERATURE:
            losses.add("temperature", f"it becomes {MAX_TEMPERATURE}")
        body["temperature"] = min(temperature, MAX_TEMPERATURE)
    if given("top_k") != -1:
        put(body, "top_k", given("top_k"))
    tier = given("service_tier")
    if tier is not None and tier in _SERVICE_TIERS:
        body["service_tier"] = _SERVICE_TIERS[tier]
    elif tier is not None:
        losses.add("service_tier")
    if wanted := given("response_format"):
        body["response_format"] = _format(wanted)
    if prediction := given("prediction"):
        content = prediction["content"]
        if not isinstance(content, str):
            content = "".join(part.get("text") or "" for part in content)
        body["prediction"] = {"type": "content", "content": content}
    _put_tools(body, document, losses)
    return body


def _format(wanted: dict[str, Any]) -> Document:
    kind = wanted["type"]
    described = wanted.get("json_schema") or {}
    schema = described.get("schema") or wanted.get("schema")
    if kind not in ("text", "json_object", "json_schema"):
        raise InvalidRequestError(
            f"response_format.type: the format {kind!r} cannot be carried to this provider",
            param="response_format.type",
            code="invalid_value",
        )
    if kind == "text" or (kind == "json_object" and not schema):
        return {"type": kind}
    told: Document = {"name": described.get("name") or "response", "schema": schema or _ANY_OBJECT}
    put(told, "description", described.get("description"))
    put(told, "strict", described.get("strict"))
    return {"type": "json_schema", "json_schema": told}


# Tools


def _put_tools(body: Document, document: Document, losses: Losses) -> None:
    tools = [
        _tool(tool, f"tools[{index}]", losses)
        for index, tool in enumerate(document.get("tools") or ())
    ]
    for index, function in enumerate(document.get("functions") or ()):
        path = f"functions[{index}]"
        tools.append({"type": "function", "function": _function(function, path, losses)})
    choice, path = document.get("tool_choice"), "tool_choice"
    if choice is None:
        choice, path = document.get("function_call"), "function_call"
        if isinstance(choice, dict):
            choice = {"type": "function", "function": {"name": choice["name"]}}
    if isinstance(choice, dict) and (names := allowed_names(choice, path)) is not None:
        tools = _allowed(tools, names, path)
        choice = "any" if choice["allowed_tools"].get("mode") == "required" else "auto"
    if tools:
        body["tools"] = tools
    if isinstance(choice, dict):
        body["tool_choice"] = {
            "type": "function",
            "function": {"name": chosen_name(choice, path)},
        }
    elif choice is not None:
        body["tool_choice"] = "any" if choice == "required" else choice


def _allowed(tools: list[Document], names: tuple[str, ...], path: str) -> list[Document]:
    """Only the tools that may be called; more cannot be said of the others."""
    chosen = [tool for tool in tools if (tool.get("function") or {}).get("name") in names]
    if not chosen:
        raise InvalidRequestError(
            f"{path}: none of the allowed tools is there", param=path, code="invalid_value"
        )
    return chosen


def _tool(tool: dict[str, Any], path: str, losses: Losses) -> Document:
    kind = tool.get("type", "function")
    if kind in _NATIVE_TOOLS:
        return tool
    if kind != "function":
        raise unsupported_tool(f"{path}.type", kind)
    report_rest(tool, ("type", "function"), path, losses)
    return {"type": "function", "function": _function(tool["function"], f"{path}.function", losses)}


def _function(function: dict[str, Any], path: str, losses: Losses) -> Document:
    report_rest(function, ("name", "description", "parameters", "strict"), path, losses)
    told: Document = {"name": function["name"]}
    put(told, "description", function.get("description"))
    told["parameters"] = function.get("parameters") or _ANY_OBJECT
    put(told, "strict", function.get("strict"))
    return told

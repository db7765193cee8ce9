"""A chat in the words of Bedrock's Converse.

Source: Amazon Bedrock API reference, "Converse"; Bedrock User Guide, "Get validated JSON results
from models", "Extended thinking"; November 2026.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm.providers._anthropic_request import Memo, StructuredOutput
from asgi_llm.providers._anthropic_schema import held_schema
from asgi_llm.providers._bedrock_content import cache_point, message_list, system_list
from asgi_llm.providers._bedrock_models import BedrockTraits, bedrock_traits
from asgi_llm.providers._bedrock_options import OPTION_FIELDS, tell_options
from asgi_llm.providers._conversation import ChatRequest, Function, JSONFormat, ToolCall
from asgi_llm.providers._tool_names import ToolNames
from asgi_llm.types import Document

__all__ = ["converse_body"]

_PASSED: Final = {
    "additionalModelResponseFieldPaths": "additional_model_response_field_paths",
    "guardrailConfig": "guardrail_config",
    "performanceConfig": "performance_config",
    "promptVariables": "prompt_variables",
    "requestMetadata": "request_metadata",
}
"""Fields of Bedrock's own that a client may send, under either name, passed as they are."""

_ANY_PASSED: Final = frozenset((*_PASSED, *_PASSED.values()))
_TOOL_FIELDS: Final = frozenset(("tools", "functions", "tool_choice", "function_call"))
_TIER_FIELDS: Final = frozenset(("service_tier", "serviceTier"))
_TIERS: Final = frozenset(("default", "flex", "priority", "reserved"))
_SYSTEM_TOOL: Final = "systemTool"
_JSON_TOOL: Final = "json_response"


def converse_body(
    request: ChatRequest, model: str, *, structured_output: StructuredOutput = "auto"
) -> tuple[Document, Memo]:
    """The body of ``POST /model/{model}/converse``, and of ``converse-stream``.

    Args:
        request: What is asked.
        model: As Bedrock calls it.
        structured_output: How a JSON Schema is asked for: ``native``, with a forced ``tool``, or
            ``auto``, which is native unless the model or the schema does not go with that.

    Raises:
        InvalidRequestError: The chat holds what Bedrock cannot be told.
    """
    memo = Memo(ToolNames(64))
    traits = bedrock_traits(model)
    body: Document = {"messages": message_list(request, memo.names)}
    system = system_list(request)
    may_call = False
    called = _called(request)
    if called or request.has_any(_TOOL_FIELDS):
        may_call = _tools(request, body, memo, traits, called)
    thinks = False
    if request.has_any(OPTION_FIELDS):
        thinks = tell_options(request, body, traits)
    if (wanted := request.json_format()) is not None:
        if wanted.schema is None:
            system.append({"text": "Answer with one JSON object and nothing else."})
            request.losses.add(f"{wanted.path}.type", "asked for in words")
        else:
            how = structured_output
            if how == "auto" and not traits.has_schemas:
                how = "tool"
            _format(request, body, wanted, memo, how, may_call=may_call, thinks=thinks)
    if system:
        body["system"] = system
    if request.has_any(_ANY_PASSED):
        for name, other in _PASSED.items():
            value, same = request.take(name), request.take(other)
            if value is None:
                value = same
            if value is not None:
                body[name] = value
    if request.has_any(_TIER_FIELDS):
        _tier(request, body)
    return body, memo


def _tier(request: ChatRequest, body: Document) -> None:
    tier, own = request.take("service_tier"), request.take("serviceTier")
    if own is not None:
        body["serviceTier"] = own
    elif tier in _TIERS:
        body["serviceTier"] = {"type": tier}
    elif tier not in (None, "auto"):
        request.losses.add("service_tier")


# Tools


def _tools(
    request: ChatRequest, body: Document, memo: Memo, traits: BedrockTraits, called: list[str]
) -> bool:
    """Declare the tools; whether one of the client's may be called."""
    functions = request.functions(native=_is_system_tool)
    choice = request.tool_choice()
    mode = "auto" if choice is None else choice.mode
    if choice is not None and choice.names and mode != "named":
        functions = [one for one in functions if one.name in choice.names]
    if mode == "none" and not called:
        # Without a word for it: what is not offered cannot be called.
        return False
    tools: list[Document] = []
    for function in functions:
        tools.append(_tool(request, function, memo.names, traits))
        if function.cache_control:
            tools.append(cache_point(function.cache_control, function.path, request.losses))
    tools += [{_SYSTEM_TOOL: tool[_SYSTEM_TOOL]} for tool in request.native_tools]
    may_call = bool(tools) and mode != "none"
    if choice is not None and mode == "none":
        request.losses.add(choice.path, "the tools stay, as calls in the conversation need them")
    if not tools:
        if choice is not None and mode in ("required", "named"):
            request.losses.add(choice.path, "there are no tools")
        # Calls in the history are refused where no tools are declared.
        tools = [_recalled(memo.names.there(name)) for name in called]
    if not tools:
        return False
    config: Document = {"tools": tools}
    if may_call and mode == "required":
        config["toolChoice"] = {"any": {}}
    elif may_call and choice is not None and mode == "named":
        config["toolChoice"] = {"tool": {"name": memo.names.there(choice.names[0])}}
    body["toolConfig"] = config
    return may_call


def _is_system_tool(tool: dict[str, Any]) -> bool:
    """Whether a tool is one that Bedrock runs itself, in its own words."""
    return tool.get("type") == _SYSTEM_TOOL and isinstance(tool.get(_SYSTEM_TOOL), dict)


def _called(request: ChatRequest) -> list[str]:
    """Names of the tools that were called, each once and as the client has them."""
    found: dict[str, None] = {}
    for turn in request.turns:
        if turn.role == "assistant":
            for part in turn.parts:
                if type(part) is ToolCall:
                    found[part.name] = None
    return list(found)


def _tool(
    request: ChatRequest, function: Function, names: ToolNames, traits: BedrockTraits
) -> Document:
    schema = function.parameters or {"type": "object", "properties": {}}
    if schema.get("type") != "object":
        schema = {**schema, "type": "object"}
    strict = False
    if function.strict:
        held = held_schema(schema)
        strict = traits.has_schemas and not held.is_open and not held.is_looser
        if strict:
            schema = held.schema
        else:
            request.losses.add(f"{function.path}.strict", "the model cannot be held to it")
    spec: Document = {"name": names.there(function.name), "inputSchema": {"json": schema}}
    if function.description:
        spec["description"] = function.description
    if strict:
        spec["strict"] = True
    return {"toolSpec": spec}


def _recalled(name: str) -> Document:
    """A tool of which nothing is known but that it was called."""
    return {"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}}


# The answer's format


def _format(
    request: ChatRequest,
    body: Document,
    wanted: JSONFormat,
    memo: Memo,
    how: StructuredOutput,
    *,
    may_call: bool,
    thinks: bool,
) -> None:
    """Ask for an answer that follows a schema."""
    if "textFormat" in body.get("outputConfig", {}):
        request.losses.add("response_format", "outputConfig says more")
        return
    held = held_schema(wanted.schema or {})
    if how == "tool" or (how == "auto" and held.is_open):
        _force_format(request, body, wanted, memo, may_call=may_call, thinks=thinks)
        return
    if held.is_open or held.is_looser:
        request.losses.add(f"{wanted.path}.schema", "the model is not held to all of it")
    described: Document = {
        "name": wanted.name,
        "schema": msgspec.json.encode(held.schema).decode(),
    }
    if wanted.description:
        described["description"] = wanted.description
    format_ = {"type": "json_schema", "structure": {"jsonSchema": described}}
    body.setdefault("outputConfig", {})["textFormat"] = format_


def _force_format(
    request: ChatRequest,
    body: Document,
    wanted: JSONFormat,
    memo: Memo,
    *,
    may_call: bool,
    thinks: bool,
) -> None:
    """Have the answer given as a call of a tool whose arguments follow the format."""
    config = body.setdefault("toolConfig", {"tools": []})
    tools = config["tools"]
    name = _JSON_TOOL
    while any(tool.get("toolSpec", {}).get("name") == name for tool in tools):
        name += "_"
    memo.json_tool = name
    schema = wanted.schema or {}
    if schema.get("type") != "object":
        schema = {**schema, "type": "object"}
    spec = {
        "name": name,
        "description": wanted.description or "Give the answer by calling this tool.",
        "inputSchema": {"json": schema},
    }
    tools.append({"toolSpec": spec})
    if thinks:
        # A forced call does not go together with thinking.
        request.losses.add(wanted.path, "asked for, not forced, as thinking is on")
        config.pop("toolChoice", None)
    elif len(tools) > 1 and not may_call:
        config["toolChoice"] = {"tool": {"name": name}}
    elif "tool" not in config.get("toolChoice", {}):
        # More models know this word than the one for a single tool.
        config["toolChoice"] = {"any": {}}

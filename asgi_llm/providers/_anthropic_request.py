"""A chat in the words of Anthropic's Messages API.

Source: Anthropic API reference, "Create a Message", "Structured outputs", "Prompt caching";
November 2026.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal

import msgspec

from asgi_llm.providers._anthropic_content import message_list, text_block
from asgi_llm.providers._anthropic_models import ModelTraits, model_traits
from asgi_llm.providers._anthropic_schema import held_schema
from asgi_llm.providers._anthropic_thinking import THINKING_FIELDS, tell_thinking, thinks
from asgi_llm.providers._conversation import ChatRequest, Function, JSONFormat, field_groups
from asgi_llm.providers._tool_names import ToolNames
from asgi_llm.types import Document

__all__ = ["Memo", "StructuredOutput", "is_native_tool", "message_body", "tell_sampling"]

StructuredOutput = Literal["auto", "native", "tool"]

_SAME_FAMILY: Final = (
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "mcp_servers",
    "speed",
    "top_k",
)
"""Fields of Anthropic's own that a client may send, passed as they are."""

_OWN_TOOL_FIELDS: Final = frozenset(
    ("allowed_callers", "defer_loading", "eager_input_streaming", "input_examples")
)
"""Fields of Anthropic's own that a client may send beside a tool's ``function``."""
# What is to be told together; a request is looked through once for all of it.
_FAMILY, _STOP, _SAMPLING, _TOOLS, _THINKING, _IDENTITY = (1 << n for n in range(6))
_GROUPS: Final = field_groups(
    {
        _FAMILY: _SAME_FAMILY,
        _STOP: ("stop",),
        _SAMPLING: ("temperature", "top_p", "top_k"),
        _TOOLS: ("tools", "functions", "tool_choice", "function_call", "parallel_tool_calls"),
        _THINKING: THINKING_FIELDS,
        _IDENTITY: ("metadata", "safety_identifier", "user", "service_tier"),
    }
)

_JSON_TOOL: Final = "json_response"


class Memo(msgspec.Struct, gc=False):
    """What has to be known of a request to read its answer.

    Attributes:
        names: The tools' names.
        json_tool: A tool that stands for the answer's format: what it is called with is the answer.
    """

    names: ToolNames
    json_tool: str | None = None


def message_body(
    request: ChatRequest,
    model: str,
    *,
    default_max_tokens: int | None = None,
    structured_output: StructuredOutput = "auto",
) -> tuple[Document, Memo]:
    """The body of ``POST /v1/messages``.

    Args:
        request: What is asked.
        model: As Anthropic calls it.
        default_max_tokens: Cap on an answer whose client sets none; None: as the model's name says.
        structured_output: How a JSON Schema is asked for: ``native``, with a forced ``tool``, or
            ``auto``, which is native unless the model or the schema does not go with that.

    Raises:
        InvalidRequestError: The chat holds what Claude cannot be told.
    """
    memo = Memo(ToolNames(128))
    traits = model_traits(model)
    cap = request.max_tokens()
    body: Document = {"model": model}
    body["max_tokens"] = cap or default_max_tokens or traits.default_max_tokens
    system = [text_block(text) for text in request.system]
    body["messages"] = message_list(request, memo.names)
    groups = request.groups(_GROUPS)
    if groups & _FAMILY:
        for name in _SAME_FAMILY:
            if (value := request.take(name)) is not None:
                body[name] = value
    if groups & _STOP:
        _stop(request, body)
    if groups & _SAMPLING:
        tell_sampling(request, body, traits)
    if groups & _TOOLS:
        _tools(request, body, memo, traits)
    config: Document = {}
    if groups & _THINKING:
        tell_thinking(request, body, config, traits, has_cap=cap is not None)
    if (wanted := request.json_format()) is not None:
        if wanted.schema is None:
            system.append({"type": "text", "text": "Answer with one JSON object and nothing else."})
            request.losses.add(f"{wanted.path}.type", "asked for in words")
        else:
            how = structured_output
            if how == "auto" and not traits.has_schemas:
                how = "tool"
            _format(request, body, config, wanted, memo, how)
    if config:
        body["output_config"] = config
    if system:
        plain = len(system) == 1 and len(system[0]) == 2
        body["system"] = system[0]["text"] if plain else system
    if groups & _IDENTITY:
        _identity(request, body)
    if request.stream:
        body["stream"] = True
    return body, memo


def _stop(request: ChatRequest, body: Document) -> None:
    stop = request.stop()
    told = [sequence for sequence in stop if not sequence.isspace()]
    if len(told) < len(stop):
        request.losses.add("stop", "sequences of spaces alone are left out")
    if told:
        body["stop_sequences"] = told


def tell_sampling(request: ChatRequest, body: Document, traits: ModelTraits) -> None:
    """Temperature and the like, as far as the model takes them; ``top_k`` is there already."""
    temperature, top_p = request.take("temperature"), request.take("top_p")
    if not traits.samplers:
        # These models answer any value but the default with an error.
        told = (("temperature", temperature), ("top_p", top_p), ("top_k", body.pop("top_k", None)))
        for name, value in told:
            if value is not None and (value != 1 or name == "top_k"):
                request.losses.add(name, "the model does not take it")
        return
    if temperature is not None:
        if temperature > 1:
            request.losses.add("temperature", "it is cut to 1")
            temperature = 1
        body["temperature"] = temperature
    if top_p is None or (top_p == 1 and temperature is not None):
        return
    if temperature is not None and traits.samplers == 1:
        request.losses.add("top_p", "only one of temperature and top_p is taken")
        return
    body["top_p"] = top_p


# Tools


def _tools(request: ChatRequest, body: Document, memo: Memo, traits: ModelTraits) -> None:
    functions = request.functions(native=is_native_tool, own=_OWN_TOOL_FIELDS)
    choice = request.tool_choice()
    parallel = request.take("parallel_tool_calls")
    if choice is not None and choice.names and choice.mode != "named":
        functions = [one for one in functions if one.name in choice.names]
    tools = [_tool(request, function, memo.names, traits) for function in functions]
    tools += request.native_tools
    if not tools:
        if choice is not None and choice.mode in ("required", "named"):
            request.losses.add(choice.path, "there are no tools")
        return
    body["tools"] = tools
    told: Document | None = None
    if choice is not None:
        if choice.mode == "named":
            told = {"type": "tool", "name": memo.names.there(choice.names[0])}
        else:
            told = {"type": "any" if choice.mode == "required" else choice.mode}
    if parallel is False and (told is None or told["type"] != "none"):
        told = {**(told or {"type": "auto"}), "disable_parallel_tool_use": True}
    if told is not None:
        body["tool_choice"] = told


_DATED: Final = re.compile(r"_20\d{6}\Z")


def is_native_tool(tool: Document) -> bool:
    """Whether a tool is one of Anthropic's own, whose types end in a date."""
    kind = tool.get("type")
    return isinstance(kind, str) and (kind == "mcp_toolset" or bool(_DATED.search(kind)))


def _tool(
    request: ChatRequest, function: Function, names: ToolNames, traits: ModelTraits
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
    tool: Document = {"name": names.there(function.name), "input_schema": schema}
    if function.description:
        tool["description"] = function.description
    if strict:
        tool["strict"] = True
    if function.cache_control:
        tool["cache_control"] = function.cache_control
    if function.own:
        tool.update(function.own)
    return tool


def _format(
    request: ChatRequest,
    body: Document,
    config: Document,
    wanted: JSONFormat,
    memo: Memo,
    how: StructuredOutput,
) -> None:
    """Ask for an answer that follows a schema."""
    if "format" in config:
        request.losses.add("response_format", "output_config says more")
        return
    held = held_schema(wanted.schema or {})
    if how == "tool" or (how == "auto" and held.is_open):
        _force_format(request, body, wanted, memo)
        return
    if held.is_open or held.is_looser:
        request.losses.add(f"{wanted.path}.schema", "the model is not held to all of it")
    schema = held.schema
    if wanted.description:
        schema = {"description": wanted.description, **schema}
    config["format"] = {"type": "json_schema", "schema": schema}


def _force_format(request: ChatRequest, body: Document, wanted: JSONFormat, memo: Memo) -> None:
    """Have the answer given as a call of a tool whose arguments follow the format."""
    tools = body.setdefault("tools", [])
    name = _JSON_TOOL
    while any(tool.get("name") == name for tool in tools):
        name += "_"
    memo.json_tool = name
    schema = wanted.schema or {}
    if schema.get("type") != "object":
        schema = {**schema, "type": "object"}
    described = wanted.description or "Give the answer by calling this tool."
    choice = body.get("tool_choice", {})
    may_call = bool(tools) and choice.get("type") != "none"
    tools.append({"name": name, "description": described, "input_schema": schema})
    if thinks(body):
        # A forced call does not go together with thinking.
        request.losses.add(wanted.path, "asked for, not forced, as thinking is on")
        body["tool_choice"] = {**choice, "type": "auto"}
    elif not may_call:
        body["tool_choice"] = {"type": "tool", "name": name}
    elif choice.get("type") != "tool":
        body["tool_choice"] = {**choice, "type": "any"}


# Who asks


def _identity(request: ChatRequest, body: Document) -> None:
    metadata = request.take("metadata")
    user, older = request.take("safety_identifier"), request.take("user")
    user = user or older
    if metadata and "user_id" in metadata:
        body["metadata"] = {"user_id": metadata["user_id"]}
        if user:
            request.losses.add("user", "metadata says more")
    elif user:
        # Not the name itself: it may be an address, which Anthropic asks not to be sent.
        digest = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
        body["metadata"] = {"user_id": digest}
    if metadata and metadata.keys() != {"user_id"}:
        request.losses.add("metadata")
    tier = request.take("service_tier")
    if tier in ("auto", "standard_only"):
        body["service_tier"] = tier
    elif tier == "default":
        body["service_tier"] = "standard_only"
    elif tier is not None:
        request.losses.add("service_tier")

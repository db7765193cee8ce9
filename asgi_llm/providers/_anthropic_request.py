"""A chat in the words of Anthropic's Messages API.

Source: Anthropic API reference, "Create a Message", "Extended thinking", "Adaptive thinking",
"Structured outputs", "Prompt caching"; November 2026.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._conversation import (
    ChatRequest,
    File,
    Function,
    Image,
    JSONFormat,
    Media,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from asgi_llm.providers._tool_names import ToolNames, safe_id
from asgi_llm.types import Document

__all__ = ["Memo", "StructuredOutput", "message_body"]

StructuredOutput = Literal["auto", "native", "tool"]

_SAME_FAMILY: Final = frozenset(
    (
        "top_k",
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "mcp_servers",
        "speed",
    )
)
"""Fields of Anthropic's own that a client may send, passed as they are."""

_STOP: Final = frozenset(("stop",))
_TOOL_FIELDS: Final = frozenset(
    ("tools", "functions", "tool_choice", "function_call", "parallel_tool_calls")
)
_THINKING_FIELDS: Final = frozenset(("thinking", "reasoning_effort", "output_config"))
_IDENTITY_FIELDS: Final = frozenset(("metadata", "safety_identifier", "user", "service_tier"))

_IMAGES: Final = frozenset(("image/jpeg", "image/png", "image/gif", "image/webp"))
_PDF: Final = "application/pdf"
_JSON_TOOL: Final = "json_response"
_SMALLEST_BUDGET: Final = 1024
_BUDGETS: Final = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_000,
    "max": 32_000,
}
_EFFORTS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}

# Models that lack what the newest have. A name that is not here is taken for a new model, so that
# nothing has to be learned of one before it can be used.
_BEFORE_THINKING: Final = ("claude-2", "claude-instant", "claude-3-opus", "claude-3-sonnet")
_BEFORE_THINKING_TOO: Final = ("claude-3-haiku", "claude-3-5")
_BEFORE_ADAPTIVE: Final = re.compile(
    r"claude-(3-7|(opus|sonnet)-4-(0|20\d{6})|opus-4-[15]|(sonnet|haiku)-4-5)"
)
_BEFORE_SCHEMAS: Final = re.compile(r"claude-(2|instant|3-|(opus|sonnet)-4-(0|20\d{6}))")
_DEFAULT_MAX_TOKENS: Final = (
    ("claude-2", 4096),
    ("claude-instant", 4096),
    ("claude-3-5", 8192),
    ("claude-3-7", 32_000),
    ("claude-3-", 4096),
    ("", 32_000),
)


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
            ``auto``, which is native but for models known to be too old.

    Raises:
        InvalidRequestError: The chat holds what Claude cannot be told.
    """
    memo = Memo(ToolNames(128))
    body: Document = {"model": model}
    body["max_tokens"] = request.max_tokens() or default_max_tokens or _default_cap(model)
    system = [_text_block(text) for text in request.system]
    body["messages"] = _messages(request, memo.names)
    if request.has_any(_SAME_FAMILY):
        for name in _SAME_FAMILY:
            if (value := request.take(name)) is not None:
                body[name] = value
    _sampling(request, body, model)
    if request.has_any(_TOOL_FIELDS):
        _tools(request, body, memo)
    config: Document = {}
    if request.has_any(_THINKING_FIELDS):
        config |= request.take("output_config") or {}
        _thinking(request, body, config, model)
    if (format_ := request.json_format()) is not None:
        if format_.schema is None:
            system.append({"type": "text", "text": "Answer with one JSON object and nothing else."})
            request.losses.add(f"{format_.path}.type", "asked for in words")
        elif structured_output == "tool" or (
            structured_output == "auto" and _BEFORE_SCHEMAS.match(model)
        ):
            _force_format(request, body, format_, memo)
        else:
            config["format"] = {"type": "json_schema", "schema": format_.schema}
    if config:
        body["output_config"] = config
    if system:
        plain = len(system) == 1 and len(system[0]) == 2
        body["system"] = system[0]["text"] if plain else system
    if request.has_any(_IDENTITY_FIELDS):
        _identity(request, body)
    if request.stream:
        body["stream"] = True
    return body, memo


def _default_cap(model: str) -> int:
    return next(cap for prefix, cap in _DEFAULT_MAX_TOKENS if model.startswith(prefix))


def _stop(request: ChatRequest, body: Document) -> None:
    stop = request.stop()
    told = [sequence for sequence in stop if not sequence.isspace()]
    if len(told) < len(stop):
        request.losses.add("stop", "sequences of spaces alone are left out")
    if told:
        body["stop_sequences"] = told


def _sampling(request: ChatRequest, body: Document, model: str) -> None:
    if request.has_any(_STOP):
        _stop(request, body)
    temperature, top_p = request.take("temperature"), request.take("top_p")
    if temperature is not None:
        if temperature > 1:
            request.losses.add("temperature", "it is cut to 1")
            temperature = 1
        body["temperature"] = temperature
    if top_p is None or (top_p == 1 and temperature is not None):
        return
    if temperature is not None and not model.startswith(("claude-2", "claude-3-")):
        request.losses.add("top_p", "only one of temperature and top_p is taken")
        return
    body["top_p"] = top_p


# Tools


def _tools(request: ChatRequest, body: Document, memo: Memo) -> None:
    functions = request.functions(native=is_native_tool)
    choice = request.tool_choice()
    parallel = request.take("parallel_tool_calls")
    if choice is not None and choice.names and choice.mode != "named":
        functions = [one for one in functions if one.name in choice.names]
    tools = [_tool(function, memo.names) for function in functions]
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


def _tool(function: Function, names: ToolNames) -> Document:
    schema = function.parameters or {"type": "object", "properties": {}}
    if schema.get("type") != "object":
        schema = {**schema, "type": "object"}
    tool: Document = {"name": names.there(function.name), "input_schema": schema}
    if function.description:
        tool["description"] = function.description
    if function.strict:
        tool["strict"] = True
    if function.cache_control:
        tool["cache_control"] = function.cache_control
    return tool


def _force_format(request: ChatRequest, body: Document, format_: JSONFormat, memo: Memo) -> None:
    """Have the answer given as a call of a tool whose arguments follow the format."""
    tools = body.setdefault("tools", [])
    name = _JSON_TOOL
    while any(tool.get("name") == name for tool in tools):
        name += "_"
    memo.json_tool = name
    alone = not tools
    described = format_.description or "Give the answer by calling this tool."
    tools.append({"name": name, "description": described, "input_schema": format_.schema})
    if _thinks(body):
        # A forced call does not go together with thinking.
        request.losses.add(format_.path, "asked for, not forced, as thinking is on")
        body["tool_choice"] = {"type": "auto"}
    elif alone:
        body["tool_choice"] = {"type": "tool", "name": name}
    elif body.get("tool_choice", {}).get("type") in (None, "auto"):
        body["tool_choice"] = {**body.get("tool_choice", {}), "type": "any"}


# Thinking


def _thinks(body: Document) -> bool:
    return body.get("thinking", {}).get("type") not in (None, "disabled")


def _thinking(request: ChatRequest, body: Document, config: Document, model: str) -> None:
    given = request.take("thinking")
    effort = request.take("reasoning_effort")
    if isinstance(given, dict):
        body["thinking"] = given
        if effort is not None:
            request.losses.add("reasoning_effort", "thinking says more")
    elif effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif effort is not None:
        _think(request, body, config, model, effort)
    if not _thinks(body):
        return
    if body.get("temperature", 1) != 1:
        del body["temperature"]
        request.losses.add("temperature", "it is 1 while thinking is on")
    if body.get("top_p", 1) < 0.95:
        del body["top_p"]
        request.losses.add("top_p", "it is at least 0.95 while thinking is on")
    if body.pop("top_k", None) is not None:
        request.losses.add("top_k", "not while thinking is on")
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        body["tool_choice"] = {**body["tool_choice"], "type": "auto"}
        body["tool_choice"].pop("name", None)
        request.losses.add("tool_choice", "no call is forced while thinking is on")


def _think(request: ChatRequest, body: Document, config: Document, model: str, effort: str) -> None:
    if effort not in _BUDGETS:
        raise InvalidRequestError(
            f"reasoning_effort: got {effort!r}, expected one of none, " + ", ".join(_BUDGETS),
            param="reasoning_effort",
            code="invalid_value",
        )
    if model.startswith(_BEFORE_THINKING + _BEFORE_THINKING_TOO):
        request.losses.add("reasoning_effort", "the model does not think")
    elif not _BEFORE_ADAPTIVE.match(model):
        body["thinking"] = {"type": "adaptive"}
        config.setdefault("effort", _EFFORTS[effort])
    elif _is_amid_calls(request):
        request.losses.add("reasoning_effort", "thoughts before the last calls were not sent back")
    else:
        budget = max(_SMALLEST_BUDGET, _BUDGETS[effort])
        if body["max_tokens"] <= budget:
            body["max_tokens"] += budget
            request.losses.add("max_tokens", "raised by what is thought")
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _is_amid_calls(request: ChatRequest) -> bool:
    """Whether the answer goes on from tool results whose calls came without signed thoughts.

    The models that think by a budget refuse to think there.
    """
    turns = request.turns
    if len(turns) < 2 or not any(isinstance(part, ToolResult) for part in turns[-1].parts):
        return False
    before = turns[-2].parts
    return not any(
        isinstance(part, RedactedThinking) or (isinstance(part, Thinking) and part.signature)
        for part in before
    )


# Who asks


def _identity(request: ChatRequest, body: Document) -> None:
    metadata = request.take("metadata")
    user = request.take("safety_identifier") or request.take("user")
    request.take("user")
    if metadata:
        if metadata.keys() == {"user_id"}:
            body["metadata"] = metadata
        else:
            request.losses.add("metadata")
    if user and "metadata" not in body:
        # Not the name itself: it may be an address, which Anthropic asks not to be sent.
        digest = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
        body["metadata"] = {"user_id": digest}
    tier = request.take("service_tier")
    if tier in ("auto", "standard_only"):
        body["service_tier"] = tier
    elif tier == "default":
        body["service_tier"] = "standard_only"
    elif tier is not None:
        request.losses.add("service_tier")


# Messages


def _messages(request: ChatRequest, names: ToolNames) -> list[Document]:
    turns = request.turns
    if not turns:
        raise InvalidRequestError(
            "messages: Claude needs a message of the user that is not blank",
            param="messages",
            code="invalid_value",
        )
    if turns[0].role != "user":
        raise InvalidRequestError(
            f"{turns[0].path}.role: Claude needs a message of the user first",
            param=f"{turns[0].path}.role",
            code="invalid_value",
        )
    messages: list[Document] = []
    for turn in turns:
        parts = turn.parts
        if len(parts) == 1 and type(parts[0]) is Text and parts[0].cache_control is None:
            messages.append({"role": turn.role, "content": parts[0].text})
            continue
        blocks = [block for part in parts for block in _blocks(part, request, names)]
        if blocks:
            messages.append({"role": turn.role, "content": blocks})
    return messages


def _text_block(text: Text | Refusal) -> Document:
    block: Document = {"type": "text", "text": text.text}
    if text.cache_control:
        block["cache_control"] = text.cache_control
    return block


def _blocks(part: Part, request: ChatRequest, names: ToolNames) -> Iterable[Document]:
    if isinstance(part, Text | Refusal):
        return (_text_block(part),)
    block: Document
    if isinstance(part, ToolCall):
        if part.extra:
            request.losses.add(f"{part.path}.extra_content")
        block = {
            "type": "tool_use",
            "id": safe_id(part.id),
            "name": names.there(part.name),
            "input": part.raw_arguments,
        }
    elif isinstance(part, ToolResult):
        block = {"type": "tool_result", "tool_use_id": safe_id(part.id)}
        if len(part.parts) == 1 and type(part.parts[0]) is Text:
            block["content"] = part.parts[0].text
        elif part.parts:
            block["content"] = [
                inner for one in part.parts for inner in _blocks(one, request, names)
            ]
        if part.is_error:
            block["is_error"] = True
    elif isinstance(part, Thinking):
        if not part.signature:
            request.losses.add(part.path, "thoughts without a signature cannot go back")
            return ()
        return ({"type": "thinking", "thinking": part.text, "signature": part.signature},)
    elif isinstance(part, RedactedThinking):
        return ({"type": "redacted_thinking", "data": part.data},)
    elif isinstance(part, Image):
        if part.detail not in (None, "auto"):
            request.losses.add(f"{part.path}.image_url.detail")
        block = _image(part)
    elif isinstance(part, File):
        block = _file(part)
    else:
        raise _unsupported(part, "Claude takes text, images and documents")
    if part.cache_control:
        block["cache_control"] = part.cache_control
    return (block,)


def _image(part: Media) -> Document:
    if part.url is not None:
        return {"type": "image", "source": _from_url(part)}
    if part.media_type not in _IMAGES:
        raise _unsupported(part, "Claude takes images in " + ", ".join(sorted(_IMAGES)))
    source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    return {"type": "image", "source": source}


def _from_url(part: Media) -> Document:
    if part.url is None or not part.url.lower().startswith(("http://", "https://")):
        raise _unsupported(part, "Claude takes https URLs and data URLs")
    return {"type": "url", "url": part.url}


def _file(part: File) -> Document:
    if part.file_id is not None or (part.data is None and part.url is None):
        raise _unsupported(part, "an uploaded file belongs to the provider that it was uploaded to")
    if part.url is None and part.media_type in _IMAGES:
        return _image(part)
    block: Document = {"type": "document"}
    if part.url is not None:
        block["source"] = _from_url(part)
    elif part.media_type == _PDF or (part.media_type is None and _is_pdf(part)):
        block["source"] = {"type": "base64", "media_type": _PDF, "data": part.data}
    elif part.media_type is not None and part.media_type.startswith("text/"):
        text = _decoded_text(part)
        block["source"] = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        raise _unsupported(part, "Claude takes documents in application/pdf and text")
    if part.name:
        block["title"] = part.name
    return block


def _is_pdf(part: File) -> bool:
    return (part.name or "").lower().endswith(".pdf") or (part.data or "").startswith("JVBERi")


def _decoded_text(part: File) -> str:
    try:
        return base64.b64decode(part.data or "", validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _unsupported(part, "expected UTF-8 text in base64") from error


def _unsupported(part: Part | Media, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{part.path}: {why}", param=part.path, code="unsupported_content_part"
    )

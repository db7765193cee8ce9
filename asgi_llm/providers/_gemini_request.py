"""A chat in the words of Gemini's generateContent.

Source: Gemini API reference, "Generating content", "Function calling", "Thinking", "Thought
signatures", "Structured output"; November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._conversation import (
    ChatRequest,
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
    Turn,
)
from asgi_llm.providers._gemini_schema import schema_subset
from asgi_llm.providers._tool_names import ToolNames
from asgi_llm.types import Document

__all__ = ["Memo", "generate_body"]

_BEFORE_THINKING: Final = re.compile(r"(models/)?gemini-(1|2\.0)")
_BEFORE_LEVELS: Final = re.compile(r"(models/)?gemini-2\.5")
_BEFORE_SCHEMAS: Final = _BEFORE_THINKING
_BEFORE_SIGNATURES: Final = re.compile(r"(models/)?gemini-[12]")
"""Models that lack what the newest have; a name that is not here is taken for a new model."""

_NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""What Google has callers send for a call whose signature they could not keep."""

_BUDGETS: Final = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 24_576,
    "max": 24_576,
}
_LEVELS: Final = {
    "none": "minimal",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_MOST_STOPS: Final = 5
_TYPES_BY_ENDING: Final = {
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "mp4": "video/mp4",
    "mov": "video/mov",
    "webm": "video/webm",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
}
_KIND_DEFAULTS: Final = {
    "Image": "image/jpeg",
    "File": "application/pdf",
    "Video": "video/mp4",
    "Audio": "audio/wav",
}
_SAME_NAMES: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_OWN_FIELDS: Final = {"safety_settings": "safetySettings", "cached_content": "cachedContent"}
_SAMPLING: Final = frozenset(_SAME_NAMES)
_TOOL_FIELDS: Final = frozenset(
    ("tools", "functions", "tool_choice", "function_call", "parallel_tool_calls")
)
_OTHER_FIELDS: Final = frozenset(
    (*_OWN_FIELDS, "thinking_config", "reasoning_effort", "logprobs", "top_logprobs", "modalities")
)
_OWN_TOOLS: Final = frozenset(
    (
        "google_search",
        "google_search_retrieval",
        "code_execution",
        "url_context",
        "google_maps",
        "computer_use",
        "file_search",
    )
)


class Memo(msgspec.Struct, gc=False):
    """What has to be known of a request to read its answer."""

    names: ToolNames


def generate_body(request: ChatRequest, model: str) -> tuple[Document, Memo]:
    """The body of ``generateContent``.

    Raises:
        InvalidRequestError: The chat holds what Gemini cannot be told.
    """
    memo = Memo(ToolNames(64))
    body: Document = {"contents": _contents(request, model, memo.names)}
    if request.system:
        body["systemInstruction"] = {"parts": [{"text": text.text} for text in request.system]}
        for text in request.system:
            _no_marker(request, text)
    config: Document = {}
    if request.has_any(_SAMPLING):
        for name, there in _SAME_NAMES.items():
            if (value := request.take(name)) is not None:
                config[there] = value
    if (cap := request.max_tokens()) is not None:
        config["maxOutputTokens"] = cap
    if stop := request.stop():
        if len(stop) > _MOST_STOPS:
            request.losses.add("stop", f"the first {_MOST_STOPS} are told")
        config["stopSequences"] = stop[:_MOST_STOPS]
    if (count := request.choices()) > 1:
        config["candidateCount"] = count
    if request.has_any(_TOOL_FIELDS):
        _tools(request, body, model, memo.names)
    if request.has_any(_OTHER_FIELDS):
        _others(request, body, config, model)
    if (format_ := request.json_format()) is not None:
        _format(request, config, format_, model)
    if config:
        body["generationConfig"] = config
    return body, memo


def _no_marker(request: ChatRequest, part: Any) -> None:
    if part.cache_control:
        request.losses.add(f"{part.path}.cache_control")


def _others(request: ChatRequest, body: Document, config: Document, model: str) -> None:
    for name, there in _OWN_FIELDS.items():
        if (value := request.take(name)) is not None:
            body[there] = value
    own, effort = request.take("thinking_config"), request.take("reasoning_effort")
    if isinstance(own, dict):
        config["thinkingConfig"] = own
        if effort is not None:
            request.losses.add("reasoning_effort", "thinking_config says more")
    elif effort is not None:
        _think(request, config, effort, model)
    if request.take("logprobs"):
        config["responseLogprobs"] = True
        if most := request.take("top_logprobs"):
            config["logprobs"] = most
    if modalities := request.take("modalities"):
        config["responseModalities"] = [str(one).upper() for one in modalities]


def _think(request: ChatRequest, config: Document, effort: str, model: str) -> None:
    if effort not in _BUDGETS:
        raise InvalidRequestError(
            f"reasoning_effort: got {effort!r}, expected one of " + ", ".join(_BUDGETS),
            param="reasoning_effort",
            code="invalid_value",
        )
    if _BEFORE_THINKING.match(model):
        request.losses.add("reasoning_effort", "the model does not think")
        return
    told: Document = {}
    if _BEFORE_LEVELS.match(model):
        told["thinkingBudget"] = _BUDGETS[effort]
    else:
        told["thinkingLevel"] = _LEVELS[effort]
        if effort in ("none", "xhigh", "max"):
            request.losses.add("reasoning_effort", f"it becomes {_LEVELS[effort]}")
    if effort != "none":
        told["includeThoughts"] = True
    config["thinkingConfig"] = told


def _format(request: ChatRequest, config: Document, format_: JSONFormat, model: str) -> None:
    config["responseMimeType"] = "application/json"
    if format_.schema is None:
        return
    if _BEFORE_SCHEMAS.match(model):
        config["responseSchema"] = schema_subset(
            format_.schema, f"{format_.path}.schema", request.losses
        )
    else:
        config["responseJsonSchema"] = format_.schema


# Tools


def is_native_tool(tool: Document) -> bool:
    """Whether a tool is one of Google's own, such as ``{"google_search": {}}``."""
    return tool.get("type") in _OWN_TOOLS


def _tools(request: ChatRequest, body: Document, model: str, names: ToolNames) -> None:
    functions = request.functions(native=is_native_tool)
    choice = request.tool_choice()
    if request.take("parallel_tool_calls") is False:
        request.losses.add("parallel_tool_calls")
    tools: list[Document] = []
    if functions:
        declared = [_declaration(one, request, model, names) for one in functions]
        tools.append({"functionDeclarations": declared})
    for tool in request.native_tools:
        kind = tool["type"]
        tools.append({kind: tool.get(kind) or {}})
    if tools:
        body["tools"] = tools
    if choice is None or not functions:
        if choice is not None and choice.mode in ("required", "named"):
            request.losses.add(choice.path, "there are no tools")
        return
    mode = {"auto": "AUTO", "none": "NONE"}.get(choice.mode, "ANY")
    calling: Document = {"mode": mode}
    if choice.names:
        if choice.mode == "auto":
            # Names go with ANY and VALIDATED alone; the latter leaves the choice to the model.
            calling["mode"] = "VALIDATED"
        calling["allowedFunctionNames"] = [names.there(name) for name in choice.names]
    body["toolConfig"] = {"functionCallingConfig": calling}


def _declaration(
    function: Function, request: ChatRequest, model: str, names: ToolNames
) -> Document:
    told: Document = {"name": names.there(function.name)}
    if function.description:
        told["description"] = function.description
    if function.parameters:
        if _BEFORE_SCHEMAS.match(model):
            told["parameters"] = schema_subset(
                function.parameters, f"{function.path}.parameters", request.losses
            )
        else:
            told["parametersJsonSchema"] = function.parameters
    if function.strict:
        request.losses.add(f"{function.path}.strict")
    _no_marker(request, function)
    return told


# Contents


def _contents(request: ChatRequest, model: str, names: ToolNames) -> list[Document]:
    if not request.turns:
        raise InvalidRequestError(
            "messages: Gemini needs a message that is not blank",
            param="messages",
            code="invalid_value",
        )
    contents: list[Document] = []
    for turn in request.turns:
        parts = list(_turn_parts(turn, request, model, names))
        if parts:
            contents.append({"role": "user" if turn.role == "user" else "model", "parts": parts})
    return contents


def _turn_parts(
    turn: Turn, request: ChatRequest, model: str, names: ToolNames
) -> Iterator[Document]:
    is_first_call = True
    lifted: list[Document] = []
    for part in turn.parts:
        if isinstance(part, Text | Refusal):
            if part.cache_control:
                _no_marker(request, part)
            yield {"text": part.text}
        elif isinstance(part, ToolCall):
            yield _call(part, request, model, names, is_first_call)
            is_first_call = False
        elif isinstance(part, ToolResult):
            yield _result(part, request, model, names, lifted)
        elif isinstance(part, Thinking | RedactedThinking):
            request.losses.add(part.path, "thoughts of another provider")
        else:
            yield _media(part, request)
    yield from lifted


def _call(
    part: ToolCall, request: ChatRequest, model: str, names: ToolNames, is_first: bool
) -> Document:
    told: Document = {"functionCall": {"name": names.there(part.name), "args": part.raw_arguments}}
    google = (part.extra or {}).get("google")
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    if isinstance(signature, str):
        told["thoughtSignature"] = signature
    elif is_first and not _BEFORE_SIGNATURES.match(model):
        told["thoughtSignature"] = _NO_SIGNATURE
    if part.cache_control:
        _no_marker(request, part)
    return told


def _result(
    part: ToolResult,
    request: ChatRequest,
    model: str,
    names: ToolNames,
    lifted: list[Document],
) -> Document:
    texts = [one.text for one in part.parts if isinstance(one, Text)]
    media = [_media(one, request) for one in part.parts if not isinstance(one, Text)]
    text = "\n".join(texts)
    response: Any = {"error": text} if part.is_error else _as_object(text)
    told: Document = {"name": names.there(part.name), "response": response}
    if media and _BEFORE_SIGNATURES.match(model):
        request.losses.add(f"{part.path}.content", "its images stand after the results")
        lifted.append({"text": f"Of the result of {part.name}:"})
        lifted += media
    elif media:
        told["parts"] = media
    if part.cache_control:
        _no_marker(request, part)
    return {"functionResponse": told}


def _as_object(text: str) -> Any:
    """A result that is a JSON object as it stands, and any other in one."""
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return {"result": text}
    return msgspec.Raw(text.encode())


def _media(part: Part, request: ChatRequest) -> Document:
    if not isinstance(part, Media):
        raise _unsupported(part, "Gemini takes text, images, documents, sound and films here")
    if isinstance(part, Image) and part.detail not in (None, "auto"):
        request.losses.add(f"{part.path}.image_url.detail")
    if part.cache_control:
        _no_marker(request, part)
    if part.url is not None:
        return {"fileData": {"mimeType": part.media_type or _guessed(part), "fileUri": part.url}}
    if part.data is None:
        raise _unsupported(part, "an uploaded file belongs to the provider that it was uploaded to")
    return {"inlineData": {"mimeType": part.media_type or _guessed(part), "data": part.data}}


def _guessed(part: Media) -> str:
    """A media type by the ending of the address or the name, else the usual one of its kind."""
    name = (part.url or getattr(part, "name", None) or "").partition("?")[0]
    ending = name.rpartition(".")[2].lower()
    return _TYPES_BY_ENDING.get(ending) or _KIND_DEFAULTS[type(part).__name__]


def _unsupported(part: Any, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{part.path}: {why}", param=part.path, code="unsupported_content_part"
    )

"""A chat in the words of Gemini's generateContent.

Source: Gemini API reference, "Generating content", "Function calling", "Structured output",
"OpenAI compatibility"; Vertex AI API reference, "GenerateContentRequest"; November 2026.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._conversation import ChatRequest, Function, JSONFormat
from asgi_llm.providers._gemini_content import content_list, lose_marker
from asgi_llm.providers._gemini_models import ModelTraits, model_traits
from asgi_llm.providers._gemini_schema import schema_subset
from asgi_llm.providers._gemini_thinking import thinking_config
from asgi_llm.providers._tool_names import ToolNames
from asgi_llm.types import Document

__all__ = ["Memo", "Schemas", "generate_body", "is_native_tool"]

Schemas = Literal["auto", "json", "subset"]

_OUTSIDE_NAMES: Final = re.compile(r"[^A-Za-z0-9_.:-]|\A[^A-Za-z_]")
_MOST_STOPS: Final = 5

_CONFIG: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_SAMPLING: Final = frozenset((*_CONFIG, "top_k"))
_TOOL_FIELDS: Final = frozenset(
    ("tools", "functions", "tool_choice", "function_call", "parallel_tool_calls")
)
_OUTPUT_FIELDS: Final = frozenset(("reasoning_effort", "logprobs", "top_logprobs", "modalities"))

_OWN_CONFIG: Final = (
    "audio_timestamp",
    "image_config",
    "media_resolution",
    "routing_config",
    "speech_config",
)
_OWN_BODY: Final = ("cached_content", "labels", "model_armor_config", "safety_settings")
_OWN_REST: Final = ("thinking_config", "tool_config")
_HOLDERS: Final = ("google", "extra_body")
"""Where clients of Google's compatible endpoint put fields of Google's own."""

_CALLING: Final = ("functionCallingConfig", "function_calling_config")
_IN_PIECES: Final = ("streamFunctionCallArguments", "stream_function_call_arguments")
"""Would have arguments come value by value, with paths, for which a chunk has no words."""

_OWN_TOOLS: Final = (
    "code_execution",
    "computer_use",
    "enterprise_web_search",
    "file_search",
    "google_maps",
    "google_search",
    "google_search_retrieval",
    "retrieval",
    "url_context",
)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


_OWN_FIELDS: Final[dict[str, str]] = {
    spelling: _camel(name)
    for name in (*_OWN_CONFIG, *_OWN_BODY, *_OWN_REST)
    for spelling in (name, _camel(name))
}
"""Google's own fields in both of the spellings that its API reads."""

_ANY_OWN: Final = frozenset((*_OWN_FIELDS, *_HOLDERS))
_IN_CONFIG: Final = frozenset(_camel(name) for name in _OWN_CONFIG)
_NATIVE_TOOLS: Final = {
    spelling: _camel(name) for name in _OWN_TOOLS for spelling in (name, _camel(name))
}


class Memo(msgspec.Struct, gc=False):
    """What has to be known of a request to read its answer."""

    names: ToolNames


def generate_body(
    request: ChatRequest, model: str, *, schemas: Schemas = "auto"
) -> tuple[Document, Memo]:
    """The body of ``generateContent``.

    Args:
        request: What is asked.
        model: As the API calls it.
        schemas: JSON Schemas are told as they are (``json``), in the ``subset`` that older models
            know, or as the model's name says (``auto``).

    Raises:
        InvalidRequestError: The chat holds what Gemini cannot be told.
    """
    memo = Memo(ToolNames(64, _OUTSIDE_NAMES))
    traits = model_traits(model)
    in_json = traits.has_json_schemas if schemas == "auto" else schemas == "json"
    body: Document = {"contents": content_list(request, traits, memo.names)}
    if request.system:
        body["systemInstruction"] = {"parts": [{"text": text.text} for text in request.system]}
        for text in request.system:
            lose_marker(request, text)
    config: Document = {}
    if request.has_any(_SAMPLING):
        _sample(request, config)
    if (cap := request.max_tokens()) is not None:
        config["maxOutputTokens"] = cap
    if stop := request.stop():
        if len(stop) > _MOST_STOPS:
            request.losses.add("stop", f"the first {_MOST_STOPS} are told")
        config["stopSequences"] = stop[:_MOST_STOPS]
    if (count := request.choices()) > 1:
        config["candidateCount"] = count
    own = _own_fields(request) if request.has_any(_ANY_OWN) else {}
    calling = None
    if request.has_any(_TOOL_FIELDS):
        calling = _tools(request, body, memo.names, in_json=in_json)
    if calling is not None or "toolConfig" in own:
        body["toolConfig"] = _tool_config(request, calling, own.pop("toolConfig", None))
    if request.has_any(_OUTPUT_FIELDS) or "thinkingConfig" in own:
        _shape(request, config, traits, own.pop("thinkingConfig", None))
    if (wanted := request.json_format()) is not None:
        _format(request, config, wanted, in_json=in_json)
    for name, value in own.items():
        (config if name in _IN_CONFIG else body)[name] = value
    if config:
        body["generationConfig"] = config
    return body, memo


def _sample(request: ChatRequest, config: Document) -> None:
    for name, there in _CONFIG.items():
        if (value := request.take(name)) is not None:
            config[there] = value
    top_k = request.take("top_k")
    if top_k is not None and top_k > 0:  # 0 and -1 ask other servers for no limit
        config["topK"] = top_k


def _own_fields(request: ChatRequest) -> Document:
    """The fields of Google's own under the API's names; those at the top win."""
    found: Document = {}
    for holder in _HOLDERS:
        if not request.has_any(frozenset((holder,))):
            continue
        held, path = request.take(holder), holder
        if holder == "extra_body" and isinstance(held, dict):
            for name in held:
                if name != "google":
                    request.losses.add(f"{holder}.{name}")
            held, path = held.get("google"), "extra_body.google"
        if held is None:
            continue
        if not isinstance(held, dict):
            raise _wrong(path, "an object")
        for name, value in held.items():
            if name in _OWN_FIELDS:
                found[_OWN_FIELDS[name]] = _checked(f"{path}.{name}", value)
            else:
                request.losses.add(f"{path}.{name}")
    for name, there in _OWN_FIELDS.items():
        if (value := request.take(name)) is not None:
            found[there] = _checked(name, value)
    return found


_TYPES: Final[dict[str, tuple[type, str]]] = {
    "safetySettings": (list, "a list"),
    "cachedContent": (str, "a text"),
    "mediaResolution": (str, "a text"),
    "audioTimestamp": (bool, "a boolean"),
}


def _checked(path: str, value: Any) -> Any:
    """A value that nobody has looked at, if it is of the kind that belongs there."""
    kind, said = _TYPES.get(_OWN_FIELDS[path.rpartition(".")[2]], (dict, "an object"))
    if not isinstance(value, kind):
        raise _wrong(path, said)
    return value


def _wrong(path: str, expected: str) -> InvalidRequestError:
    return InvalidRequestError(f"{path}: expected {expected}", param=path, code="invalid_type")


def _shape(request: ChatRequest, config: Document, traits: ModelTraits, own: Any) -> None:
    thinking = thinking_config(request, traits, own)
    if thinking is not None:
        config["thinkingConfig"] = thinking
    if request.take("logprobs"):
        config["responseLogprobs"] = True
        if most := request.take("top_logprobs"):
            config["logprobs"] = most
    modalities = request.take("modalities")
    if modalities and modalities != ["text"]:
        config["responseModalities"] = [one.upper() for one in modalities]


def _format(request: ChatRequest, config: Document, wanted: JSONFormat, *, in_json: bool) -> None:
    config["responseMimeType"] = "application/json"
    if wanted.schema is None:
        return
    if in_json:
        config["responseJsonSchema"] = wanted.schema
    else:
        path = f"{wanted.path}.schema"
        config["responseSchema"] = schema_subset(wanted.schema, path, request.losses)


# Tools


def is_native_tool(tool: Document) -> bool:
    """Whether a tool is one of Google's own, such as ``{"type": "google_search"}``."""
    return tool.get("type") in _NATIVE_TOOLS


def _tools(
    request: ChatRequest, body: Document, names: ToolNames, *, in_json: bool
) -> Document | None:
    """Put the tools into the body; how functions are to be called, where that is said."""
    functions = request.functions(native=is_native_tool)
    choice = request.tool_choice()
    if request.take("parallel_tool_calls") is False:
        request.losses.add("parallel_tool_calls")
    if choice is not None and choice.names and choice.mode == "auto":
        # The API limits names only where a call is forced.
        functions = [one for one in functions if one.name in choice.names]
    tools: list[Document] = []
    if functions:
        declared = [_declaration(one, request, names, in_json=in_json) for one in functions]
        tools.append({"functionDeclarations": declared})
    if choice is None or choice.mode != "none":
        for tool in request.native_tools:
            kind = tool["type"]
            tools.append({_NATIVE_TOOLS[kind]: tool.get(kind) or {}})
    if tools:
        body["tools"] = tools
    if choice is None:
        return None
    if not functions:
        if choice.mode in ("required", "named"):
            request.losses.add(choice.path, "there are no functions")
        return None
    calling: Document = {"mode": {"auto": "AUTO", "none": "NONE"}.get(choice.mode, "ANY")}
    if choice.names and choice.mode != "auto":
        calling["allowedFunctionNames"] = [names.there(name) for name in choice.names]
    return calling


def _tool_config(request: ChatRequest, calling: Document | None, own: Any) -> Document:
    """The client's own settings, which say more than ``tool_choice``."""
    told: Document = dict(own or {})
    for name in _CALLING:
        if isinstance(given := told.get(name), dict):
            told[name] = {key: value for key, value in given.items() if key not in _IN_PIECES}
            if len(told[name]) < len(given):
                request.losses.add("tool_config", "arguments of calls come whole")
    if calling is not None:
        if not told.keys().isdisjoint(_CALLING):
            request.losses.add("tool_choice", "tool_config says more")
        else:
            told["functionCallingConfig"] = calling
    return told


def _declaration(
    function: Function, request: ChatRequest, names: ToolNames, *, in_json: bool
) -> Document:
    told: Document = {"name": names.there(function.name)}
    if function.description:
        told["description"] = function.description
    if function.parameters:
        if in_json:
            told["parametersJsonSchema"] = function.parameters
        else:
            path = f"{function.path}.parameters"
            parameters = schema_subset(function.parameters, path, request.losses)
            if parameters.get("properties"):  # the subset has no empty objects
                told["parameters"] = parameters
    if function.strict:
        request.losses.add(f"{function.path}.strict")
    lose_marker(request, function)
    return told

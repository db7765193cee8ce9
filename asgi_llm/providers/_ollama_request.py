"""A chat request in the words of Ollama's native API.

Source: Ollama API reference, "Generate a chat message" and "Tool calling".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

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
from asgi_llm.providers._losses import Losses
from asgi_llm.types import Document

__all__ = ["build_chat", "native_options"]

_SAME_NAME: Final = (
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    # Ollama's own, which clients may also send beside OpenAI's.
    "top_k",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repeat_last_n",
    "num_ctx",
    "num_keep",
)
_PASSED: Final = ("keep_alive", "truncate", "shift")
_EFFORTS: Final[Mapping[str, bool | str]] = {
    "none": False,
    "low": "low",
    "medium": "medium",
    "high": "high",
}
_NEAREST_EFFORT: Final = {"minimal": "low", "xhigh": "high", "max": "high"}


def build_chat(request: ChatRequest, model: str, defaults: Mapping[str, Any]) -> Document:
    """The body of ``POST /api/chat``.

    Args:
        request: What is asked.
        model: Ollama's name of the model.
        defaults: Native options that the request may override.

    Raises:
        InvalidRequestError: It holds what Ollama cannot be told, or nothing at all.
    """
    messages = _messages(request)
    if not messages:
        # Ollama would take this for an order to load or unload the model.
        raise InvalidRequestError(
            "messages: they hold nothing but blank text", param="messages", code="invalid_value"
        )
    body: Document = {"model": model, "messages": messages, "stream": request.stream}
    functions = _offered(request)
    if functions:
        body["tools"] = [_tool(function, request.losses) for function in functions]
    options = dict(defaults)
    for name in _SAME_NAME:
        _put(options, name, request.take(name))
    _put(options, "num_predict", request.max_tokens())
    if stop := request.stop():
        options["stop"] = stop
    options.update(native_options(request.take("options")))
    if options:
        body["options"] = options
    for name in _PASSED:
        _put(body, name, request.take(name))
    _put(body, "format", _format(request.json_format(), request.losses))
    _put(body, "think", _think(request))
    if request.take("logprobs"):
        body["logprobs"] = True
        _put(body, "top_logprobs", request.take("top_logprobs"))
    return body


def native_options(given: Any) -> dict[str, Any]:
    """What the client sent as ``options``, Ollama's own field.

    Raises:
        InvalidRequestError: It is no object.
    """
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise InvalidRequestError(
            "options: expected an object", param="options", code="invalid_value"
        )
    return given


def _put(target: Document, name: str, value: Any) -> None:
    if value is not None:
        target[name] = value


def _think(request: ChatRequest) -> bool | str | None:
    """Ollama's own field, else the effort."""
    think, effort = request.take("think"), request.take("reasoning_effort")
    if think is not None:
        if not isinstance(think, bool | str):
            raise InvalidRequestError(
                "think: expected true, false or a level", param="think", code="invalid_value"
            )
        return think
    if effort is None:
        return None
    if effort in _EFFORTS:
        return _EFFORTS[effort]
    nearest = _NEAREST_EFFORT.get(effort)
    if nearest is None:
        raise InvalidRequestError(
            f"reasoning_effort: got {effort!r}, expected none, low, medium or high",
            param="reasoning_effort",
            code="invalid_value",
        )
    request.losses.add("reasoning_effort", f"it becomes {nearest!r}")
    return nearest


def _format(wanted: JSONFormat | None, losses: Losses) -> Any:
    if wanted is None:
        return None
    if wanted.description is not None:
        losses.add(f"{wanted.path}.description")
    return "json" if wanted.schema is None else wanted.schema


# Tools


def _offered(request: ChatRequest) -> list[Function]:
    """The tools that may be called. Which of them must be cannot be said."""
    functions, choice = request.functions(), request.tool_choice()
    if choice is None:
        return functions
    if choice.mode == "none":
        return []
    if choice.mode != "auto":
        request.losses.add(choice.path, "a call cannot be forced")
    if not choice.names:
        return functions
    return [function for function in functions if function.name in choice.names]


def _tool(function: Function, losses: Losses) -> Document:
    if function.strict:
        losses.add(f"{function.path}.strict")
    if function.cache_control is not None:
        losses.add(f"{function.path}.cache_control")
    told: Document = {"name": function.name}
    _put(told, "description", function.description)
    told["parameters"] = function.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": told}


# Messages


def _messages(request: ChatRequest) -> list[Document]:
    losses = request.losses
    messages: list[Document] = []
    if request.system:
        for text in request.system:
            _report_marker(text, losses)
        messages.append(
            {"role": "system", "content": _joined(part.text for part in request.system)}
        )
    for turn in request.turns:
        if turn.role == "assistant":
            messages.append(_assistant(turn, losses))
        else:
            messages += _user(turn, losses)
    return [message for message in messages if len(message) > 2 or message["content"]]


def _joined(texts: Iterable[str]) -> str:
    """Ollama joins neighbouring messages of one role in the same way."""
    return "\n\n".join(texts)


def _report_marker(part: Part, losses: Losses) -> None:
    if part.cache_control is not None:
        losses.add(f"{part.path}.cache_control")


def _assistant(turn: Turn, losses: Losses) -> Document:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Document] = []
    for part in turn.parts:
        _report_marker(part, losses)
        if isinstance(part, Text):
            texts.append(part.text)
        elif isinstance(part, Refusal):
            losses.add(part.path, "it is told as text")
            texts.append(part.text)
        elif isinstance(part, ToolCall):
            if part.extra is not None:
                losses.add(f"{part.path}.extra_content")
            function = {"index": len(calls), "name": part.name, "arguments": part.raw_arguments}
            calls.append({"id": part.id, "function": function})
        elif isinstance(part, Thinking) and part.signature is None:
            thoughts.append(part.text)
        elif isinstance(part, Thinking | RedactedThinking):
            losses.add(part.path, "signed thoughts are another provider's")
        else:
            raise _cannot(part, "an assistant's message is text here")
    message: Document = {"role": "assistant", "content": _joined(texts)}
    if thoughts:
        message["thinking"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _user(turn: Turn, losses: Losses) -> list[Document]:
    """Tool results first, each a message, then what the user says."""
    messages: list[Document] = []
    lifted: list[Document] = []
    said: list[Part] = []
    for part in turn.parts:
        _report_marker(part, losses)
        if isinstance(part, ToolResult):
            messages.append(_result(part, lifted, losses))
        else:
            said.append(part)
    return [*messages, *lifted, *_said(said)]


def _said(parts: list[Part]) -> list[Document]:
    """What the user says, in messages in which all images stand together.

    Ollama shows a message's images before its text, so texts between images need messages of their
    own to keep the order.
    """
    messages: list[Document] = []
    texts: list[str] = []
    images: list[str] = []
    last: type[Part] | None = None

    def end() -> None:
        message: Document = {"role": "user", "content": _joined(texts)}
        if images:
            message["images"] = list(images)
        if texts or images:
            messages.append(message)
        texts.clear()
        images.clear()

    for part in parts:
        if texts and images and type(part) is not last:
            end()
        last = type(part)
        if isinstance(part, Text):
            texts.append(part.text)
        else:
            images.append(_image(part))
    end()
    return messages


def _result(result: ToolResult, lifted: list[Document], losses: Losses) -> Document:
    texts: list[str] = []
    images: list[str] = []
    for part in result.parts:
        _report_marker(part, losses)
        if isinstance(part, Text):
            texts.append(part.text)
        else:
            losses.add(part.path, "it is moved to the user's message that follows")
            images.append(_image(part))
            texts.append("(An image, which the next message of the user shows.)")
    if images:
        words = f"Images from the result of the tool {result.name}, call {result.id}:"
        lifted.append({"role": "user", "content": words, "images": images})
    text = _joined(texts)
    return {
        "role": "tool",
        "content": f"Error: {text}" if result.is_error else text,
        "tool_name": result.name,
        "tool_call_id": result.id,
    }


def _image(part: Part) -> str:
    """The bytes of an image in base64, the only medium and the only form that Ollama takes."""
    if not isinstance(part, Image):
        raise _cannot(part, "Ollama takes text and images")
    if part.data is None:
        raise _cannot(part, "Ollama cannot fetch images; send a data URL")
    return part.data


def _cannot(part: Part, why: str) -> InvalidRequestError:
    kind = "media" if isinstance(part, Media) else "part"
    return InvalidRequestError(
        f"{part.path}: this {kind} cannot be carried to this provider: {why}",
        param=part.path,
        code="unsupported_content_part",
    )

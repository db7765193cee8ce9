"""From the events of a stream to the answer that they make up, and back.

Content, refusals, thoughts, tool calls, log probabilities, annotations and the usage are the same
on both sides, and so are fields that nobody here knows: a text in pieces is joined, a list grows.

Source: OpenAI API reference, "The chat completion chunk object", and "The completion object".
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm import _sse
from asgi_llm._semconv import Operation
from asgi_llm.types import Document, Usage
from asgi_llm.wire.usage import usage_to_openai

__all__ = ["fold_stream", "unfold_answer"]

_MAX_CHOICES: Final = 4096
_MAX_CALLS: Final = 4096

# Texts that are told whole, each time anew or once, and are not pieces of one text.
_WHOLE: Final = frozenset(("role", "id", "type", "name", "object", "model", "finish_reason"))
_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})
_OF_CHUNKS: Final = frozenset(("choices", "usage", "object", "obfuscation"))
_encode = msgspec.json.Encoder().encode


class _FoldError(ValueError):
    """The events do not make up an answer."""


def fold_stream(operation: Operation, body: bytes) -> Document | None:
    """The answer that a whole stream makes up; None where it makes up none.

    The usage is that of the last event that has one, or is left out.
    """
    decoder = _sse.Decoder(max_event_bytes=max(1, len(body)))
    events = [*decoder.feed(body), *decoder.close()]
    try:
        return _fold(operation, events)
    except (_FoldError, _sse.SSEError):
        return None


def _fold(operation: Operation, events: list[_sse.Event]) -> Document:
    answer: Document = {}
    choices: dict[int, dict[str, Any]] = {}
    usage: Any = None
    done = False
    for event in events:
        if event.done:
            done = True
            continue
        chunk = event.json()
        if done or type(chunk) is not dict or "error" in chunk:
            raise _FoldError
        for name, value in chunk.items():
            if name not in _OF_CHUNKS and (value is not None or name not in answer):
                answer[name] = value
        if chunk.get("usage") is not None:
            usage = chunk["usage"]
        for piece in _list(chunk.get("choices")):
            _add_choice(choices, piece, "delta" if operation == "chat" else "text")
    if not done or not choices or sorted(choices) != list(range(len(choices))):
        raise _FoldError
    answer["object"] = "chat.completion" if operation == "chat" else "text_completion"
    answer["choices"] = [_whole(choices[index], operation) for index in range(len(choices))]
    if usage is not None:
        answer["usage"] = usage
    return answer


def _add_choice(choices: dict[int, dict[str, Any]], piece: Any, said: str) -> None:
    index = piece.get("index", 0) if type(piece) is dict else None
    if type(index) is not int or not 0 <= index < _MAX_CHOICES:
        raise _FoldError
    choice = choices.get(index)
    if choice is None:
        choice = choices[index] = {"index": index, said: {} if said == "delta" else _Pieces()}
    for name, value in piece.items():
        if name == "index":
            continue
        if name == "delta":
            if type(value) is not dict:
                raise _FoldError
            _merge(choice["delta"], value)
        elif name == said:
            choice[name].append(_text(value))
        elif name == "logprobs" or type(value) is list:
            choice[name] = _joined(choice.get(name), value, name)
        elif value not in _NOTHING or name not in choice:
            # Verdicts, as Azure's, are told whole each time.
            choice[name] = value


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if name == "tool_calls" and value is not None:
            calls = into.setdefault("tool_calls", {})
            if type(calls) is not dict:
                calls = into["tool_calls"] = {}
            for call in _list(value):
                _add_call(calls, call)
        elif value is not None or name not in into:
            into[name] = _joined(into.get(name), value, name)


def _add_call(calls: dict[int, dict[str, Any]], piece: Any) -> None:
    # Gemini's own compatible endpoint sends whole calls without an index.
    index = piece.get("index", len(calls)) if type(piece) is dict else None
    if type(index) is not int or not 0 <= index < _MAX_CALLS:
        raise _FoldError
    call = calls.setdefault(index, {})
    for name, value in piece.items():
        if name != "index" and (value is not None or name not in call):
            call[name] = _joined(call.get(name), value, name)


class _Pieces(list[str]):
    """A text that is still growing: to join it anew for each piece would take the square of it."""


_OF_PIECES: Final = frozenset((_Pieces, list, dict))


def _joined(so_far: Any, more: Any, name: str) -> Any:
    """What a field holds after one more piece of it; ``so_far`` may be changed."""
    if so_far is None or more is None:
        return so_far if more is None else _growing(more, name)
    if type(so_far) is _Pieces and type(more) is str:
        so_far.append(more)
        return so_far
    if type(so_far) is type(more) is list:
        so_far.extend(more)
        return so_far
    if type(so_far) is type(more) is dict:
        for inner, value in more.items():
            so_far[inner] = _joined(so_far.get(inner), value, inner)
        return so_far
    if more in _NOTHING:
        return so_far
    if so_far in _NOTHING or (type(so_far) is _Pieces and not any(so_far)):
        return _growing(more, name)
    if type(so_far) in _OF_PIECES or type(more) in _OF_PIECES:
        # A text after parts, for one: only who made them knows how they make up one.
        raise _FoldError
    return more


def _growing(value: Any, name: str) -> Any:
    if type(value) is str:
        return value if name in _WHOLE else _Pieces((value,))
    if type(value) is dict:
        return {inner: _growing(one, inner) for inner, one in value.items()}
    return list(value) if type(value) is list else value


def _grown(value: Any) -> Any:
    if type(value) is _Pieces:
        return "".join(value)
    if type(value) is dict:
        return {name: _grown(inner) for name, inner in value.items()}
    return value


def _whole(choice: dict[str, Any], operation: Operation) -> dict[str, Any]:
    if "finish_reason" not in choice:
        raise _FoldError
    if operation != "chat":
        whole: dict[str, Any] = _grown(choice)
        return whole
    message = _grown(choice.pop("delta"))
    message.setdefault("role", "assistant")
    message.setdefault("content", None)
    calls = message.get("tool_calls")
    if type(calls) is dict:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
        if message["content"] == "":
            message["content"] = None
    return {"index": choice.pop("index"), "message": message, **_grown(choice)}


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if type(value) is not list:
        raise _FoldError
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if type(value) is not str:
        raise _FoldError
    return value


def unfold_answer(
    operation: Operation, body: bytes, *, usage: Usage | None = None, tells_usage: bool
) -> bytes | None:
    """The stream that tells a whole answer; None where that cannot be.

    Every choice is told in three events: who speaks, what, and why it ended.

    Args:
        operation: ``chat`` or ``text_completion``.
        body: The answer.
        usage: What it took, for one that does not say it itself.
        tells_usage: Whether an event at the end says it.
    """
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if type(answer) is not dict or type(answer.get("choices")) is not list:
        return None
    told = answer.get("usage") or (None if usage is None else usage_to_openai(usage))
    if tells_usage and told is None:
        return None
    head = {name: value for name, value in answer.items() if name not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk" if operation == "chat" else "text_completion"
    pieces: list[dict[str, Any]] = []
    for choice in answer["choices"]:
        if type(choice) is not dict:
            return None
        if operation == "chat":
            if type(choice.get("message")) is not dict:
                return None
            pieces += _chat_pieces(choice)
        else:
            pieces.append(choice)
    out = []
    for piece in pieces:
        event = {**head, "choices": [piece]}
        if tells_usage:
            event["usage"] = None
        out.append(_sse.encode(_encode(event)))
    if tells_usage:
        out.append(_sse.encode(_encode({**head, "choices": [], "usage": told})))
    out.append(_sse.DONE)
    return b"".join(out)


def _chat_pieces(choice: dict[str, Any]) -> list[dict[str, Any]]:
    index = choice.get("index", 0)
    message = dict(choice["message"])
    role = message.pop("role", "assistant")
    calls = message.get("tool_calls")
    if type(calls) is list:
        message["tool_calls"] = [
            # Its own index, where it has one, is the same for all of some providers' calls.
            {**call, "index": place} if type(call) is dict else call
            for place, call in enumerate(calls)
        ]
    content = message.pop("content", None)
    first: dict[str, Any] = {"role": role, "content": None if content is None else ""}
    said = message if content is None else {"content": content, **message}
    last = {name: value for name, value in choice.items() if name not in ("message", "index")}
    logprobs = last.pop("logprobs", None)
    return [
        {"index": index, "delta": first, "logprobs": None, "finish_reason": None},
        {"index": index, "delta": said, "logprobs": logprobs, "finish_reason": None},
        {"index": index, "delta": {}, "logprobs": None, **last},
    ]

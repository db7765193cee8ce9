"""The echo provider's chat and text completions: whole answers and streams."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from asgi_llm import _json, _sse
from asgi_llm.providers._echo_text import (
    Said,
    count,
    limited,
    pieces,
    prompt_tokens,
    respond,
)
from asgi_llm.types import Document

__all__ = ["chat", "chat_stream", "completion", "completion_stream"]

_FINGERPRINT: Final = "fp_echo"
_ARGUMENT_PIECE: Final = 16


def chat(document: Document, created: int) -> Document:
    """A ``chat.completion`` object."""
    said = limited(respond(document), document)
    seed = _digest(document)
    choices = [
        {
            "index": index,
            "message": _message(said, f"{seed}{index}"),
            "logprobs": _logprobs(said.text, document) if document.get("logprobs") else None,
            "finish_reason": said.finish_reason,
        }
        for index in range(_n(document))
    ]
    return {
        **_head("chatcmpl-" + seed, "chat.completion", document, created),
        "choices": choices,
        "usage": _usage(prompt_tokens(document), _tokens(said) * len(choices)),
    }


def chat_stream(document: Document, created: int) -> Iterator[bytes]:
    """The events of a chat stream: the role, the words or calls, the finish, the usage, the end."""
    said = limited(respond(document), document)
    seed = _digest(document)
    wants_usage = bool((document.get("stream_options") or {}).get("include_usage"))
    head = _head("chatcmpl-" + seed, "chat.completion.chunk", document, created)
    n = _n(document)
    # Counted before the first event: for a large request that is done off the event loop.
    usage = _usage(prompt_tokens(document), _tokens(said) * n)
    if wants_usage:
        head["usage"] = None

    def event(
        index: int, delta: Document, finish: str | None = None, logprobs: Any = None
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return _sse.encode(_json.encode({**head, "choices": [choice]}))

    for index in range(n):
        opening: Document = {"role": "assistant", "content": None if said.calls else ""}
        yield event(index, {**opening, "refusal": None})
    for deltas in zip(*(_deltas(said, f"{seed}{index}") for index in range(n)), strict=True):
        for index, delta in enumerate(deltas):
            text = delta.get("content")
            probabilities = _logprobs(text, document) if document.get("logprobs") else None
            yield event(index, delta, logprobs=probabilities)
    for index in range(n):
        yield event(index, {}, said.finish_reason)
    if wants_usage:
        yield _sse.encode(_json.encode({**head, "choices": [], "usage": usage}))
    yield _sse.DONE


def completion(document: Document, created: int) -> Document:
    """A ``text_completion`` object: each prompt is its own completion."""
    said = _completions(document)
    choices = [
        {"index": index, "text": one.text, "logprobs": None, "finish_reason": one.finish_reason}
        for index, one in enumerate(said)
    ]
    return {
        **_head("cmpl-" + _digest(document), "text_completion", document, created),
        "choices": choices,
        "usage": _completion_usage(document, said),
    }


def completion_stream(document: Document, created: int) -> Iterator[bytes]:
    """The events of a text completion stream."""
    said = _completions(document)
    wants_usage = bool((document.get("stream_options") or {}).get("include_usage"))
    head = _head("cmpl-" + _digest(document), "text_completion", document, created)
    usage = _completion_usage(document, said)
    if wants_usage:
        head["usage"] = None
    for index, one in enumerate(said):
        for text in [*pieces(one.text or ""), ""]:
            choice = {
                "index": index,
                "text": text,
                "logprobs": None,
                "finish_reason": None if text else one.finish_reason,
            }
            yield _sse.encode(_json.encode({**head, "choices": [choice]}))
    if wants_usage:
        yield _sse.encode(_json.encode({**head, "choices": [], "usage": usage}))
    yield _sse.DONE


def _head(id_: str, kind: str, document: Document, created: int) -> Document:
    return {
        "id": id_,
        "object": kind,
        "created": created,
        "model": document["model"],
        "system_fingerprint": _FINGERPRINT,
    }


def _digest(document: Document) -> str:
    """24 characters that depend on the request's content, and not on whether it is streamed."""
    said = {k: v for k, v in document.items() if k not in ("stream", "stream_options")}
    return hashlib.sha256(_json.encode(said)).hexdigest()[:24]


def _n(document: Document) -> int:
    n = document.get("n")
    return n if isinstance(n, int) and n > 0 else 1


def _call_id(seed: str, position: int) -> str:
    return "call_" + hashlib.sha256(f"{seed}/{position}".encode()).hexdigest()[:24]


def _message(said: Said, seed: str) -> Document:
    message: Document = {
        "role": "assistant",
        "content": said.text,
        "refusal": None,
        "annotations": [],
    }
    if said.calls:
        message["tool_calls"] = [
            {
                "id": _call_id(seed, position),
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for position, (name, arguments) in enumerate(said.calls)
        ]
    return message


def _deltas(said: Said, seed: str) -> Iterator[Document]:
    """What one choice says, piece by piece."""
    for text in pieces(said.text or ""):
        yield {"content": text}
    for position, (name, arguments) in enumerate(said.calls):
        opening = {
            "index": position,
            "id": _call_id(seed, position),
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        yield {"tool_calls": [opening]}
        for start in range(0, len(arguments), _ARGUMENT_PIECE):
            part = arguments[start : start + _ARGUMENT_PIECE]
            yield {"tool_calls": [{"index": position, "function": {"arguments": part}}]}


def _tokens(said: Said) -> int:
    called = sum(count(name) + count(arguments) for name, arguments in said.calls)
    return count(said.text or "") + called


def _usage(prompt: int, completion: int) -> Document:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _logprobs(text: str | None, document: Document) -> Document | None:
    """Log probabilities of a model that is certain: 0 for each token."""
    if text is None:
        return None
    rows: list[Document] = []
    for token in pieces(text):
        row: Document = {"token": token, "logprob": 0.0, "bytes": list(token.encode())}
        rows.append({**row, "top_logprobs": [row] if document.get("top_logprobs") else []})
    return {"content": rows, "refusal": None}


def _prompts(document: Document) -> list[str]:
    """The prompts as texts; tokens are written as their numbers."""
    prompt = document.get("prompt")
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        return [""]
    if isinstance(prompt[0], int):
        return [" ".join(map(str, prompt))]
    return [one if isinstance(one, str) else " ".join(map(str, one)) for one in prompt]


def _completions(document: Document) -> list[Said]:
    prompts = _prompts(document)
    before = prompts if document.get("echo") else [""] * len(prompts)
    out: list[Said] = []
    for prompt, opening in zip(prompts, before, strict=True):
        one = limited(Said(text=prompt), document)
        said = Said(text=opening + (one.text or ""), finish_reason=one.finish_reason)
        out += [said] * _n(document)
    return out


def _completion_usage(document: Document, said: list[Said]) -> Document:
    return _usage(sum(map(count, _prompts(document))), sum(count(one.text or "") for one in said))

"""The bytes that the harness sends and gets: one JSON exchange and one paced stream."""

from __future__ import annotations

import json
from typing import Any

CHUNKS = 100
"""Writes of one stream, each one SSE event; the last write also holds ``[DONE]``."""

REQUEST_BYTES = 1024
ANSWER_BYTES = 720
_MODEL = "gpt-4o-mini"


def request_body(model: str, *, stream: bool) -> bytes:
    """A chat request of exactly 1 KB, so that every target reads the same amount."""
    document: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": ""},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
    }
    if stream:
        document |= {"stream": True, "stream_options": {"include_usage": True}}
    return _filled(document, document["messages"][1], REQUEST_BYTES)


def answer_body() -> bytes:
    """A chat completion of 720 bytes."""
    message = {"role": "assistant", "content": "", "refusal": None}
    document = {
        "id": "chatcmpl-BwK3mDq0Zx5tYh2LrN8sVfGp",
        "object": "chat.completion",
        "created": 1763600000,
        "model": _MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 190, "completion_tokens": 75, "total_tokens": 265},
        "service_tier": "default",
        "system_fingerprint": "fp_560af6e559",
    }
    return _filled(document, message, ANSWER_BYTES)


def stream_writes() -> list[bytes]:
    """The stream, one item a write: a role, contents, a finish reason, the usage and ``[DONE]``."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": f" token{number:02}"} for number in range(CHUNKS - 3)]
    writes = [_event([_choice(delta, None)], None) for delta in deltas]
    writes.append(_event([_choice({}, "stop")], None))
    usage = {"prompt_tokens": 190, "completion_tokens": 97, "total_tokens": 287}
    writes.append(_event([], usage) + b"data: [DONE]\n\n")
    return writes


def _choice(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _event(choices: list[dict[str, Any]], usage: dict[str, int] | None) -> bytes:
    document = {
        "id": "chatcmpl-BwK3mDq0Zx5tYh2LrN8sVfGp",
        "object": "chat.completion.chunk",
        "created": 1763600000,
        "model": _MODEL,
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def _filled(document: dict[str, Any], message: dict[str, Any], length: int) -> bytes:
    words = "the quick brown fox jumps over the lazy dog and reads a book "
    missing = length - len(json.dumps(document).encode())
    message["content"] = (words * (missing // len(words) + 1))[:missing]
    return json.dumps(document).encode()

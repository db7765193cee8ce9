"""The bytes that the harness sends and gets: one JSON exchange and one paced stream."""

from __future__ import annotations

import json
from typing import Any

CHUNKS = 100
"""Writes of one stream, each one SSE event; the last write also holds ``[DONE]``."""

CLIENT_KEY = "sk-client"
"""What every request has as its key."""

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


def claude_answer() -> bytes:
    """A message of 720 bytes in Anthropic's format."""
    text = {"type": "text", "text": ""}
    document = {
        "id": "msg_01BwK3mDq0Zx5tYh2LrN8sVf",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-6",
        "content": [text],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 190,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 75,
            "service_tier": "standard",
        },
    }
    return _filled(document, text, ANSWER_BYTES, "text")


def claude_writes() -> list[bytes]:
    """A stream in Anthropic's format that becomes as many events as ``stream_writes`` has."""
    usage = {"input_tokens": 190, "output_tokens": 1}
    message = {"id": "msg_01", "type": "message", "model": "claude-sonnet-4-6", "usage": usage}
    writes = [
        _claude({"type": "content_block_delta", "index": 0, "delta": {**delta, "text": text}})
        for delta in ({"type": "text_delta"},)
        for text in (f" token{number:02}" for number in range(CHUNKS - 2))
    ]
    block = {"type": "text", "text": ""}
    start = _claude({"type": "message_start", "message": message})
    start += _claude({"type": "content_block_start", "index": 0, "content_block": block})
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    writes[0] = start + writes[0]
    writes[-1] += _claude({"type": "content_block_stop", "index": 0})
    writes[-1] += _claude({"type": "message_delta", "delta": end, "usage": {"output_tokens": 97}})
    writes[-1] += _claude({"type": "message_stop"})
    return writes


def _claude(event: dict[str, Any]) -> bytes:
    data = json.dumps(event, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


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


def _filled(
    document: dict[str, Any], message: dict[str, Any], length: int, field: str = "content"
) -> bytes:
    words = "the quick brown fox jumps over the lazy dog and reads a book "
    missing = length - len(json.dumps(document).encode())
    message[field] = (words * (missing // len(words) + 1))[:missing]
    return json.dumps(document).encode()

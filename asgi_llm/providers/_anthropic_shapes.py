"""What Anthropic's Messages API answers, as far as it is read: typed, and decoded in one go.

Source: Anthropic API reference, "Create a Message" and "Streaming Messages"; November 2026.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm.providers._anthropic_usage import TokenUsage

__all__ = [
    "Block",
    "Delta",
    "Event",
    "Message",
    "decode_block",
    "decode_event",
    "decode_message",
]


class Block(msgspec.Struct, gc=False):
    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")
    caller: Any = None
    citations: Any = None


class Message(msgspec.Struct, gc=False):
    """Whole, or the beginning of a stream."""

    type: str = ""
    id: str | None = None
    model: str | None = None
    content: list[Block] = []
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Any = None
    container: Any = None
    usage: TokenUsage | None = None
    error: Any = None


class Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: Any = None
    content: Any = None
    encrypted_content: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Any = None
    container: Any = None


class Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: Delta | None = None
    content_block: msgspec.Raw = msgspec.Raw(b"")
    message: Message | None = None
    usage: TokenUsage | None = None
    error: Any = None


decode_message: Final = msgspec.json.Decoder(Message).decode
decode_block: Final = msgspec.json.Decoder(Block).decode
decode_event: Final = msgspec.json.Decoder(Event).decode

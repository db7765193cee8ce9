"""What Bedrock's Converse answers, as far as it is read: typed, and decoded in one go.

Source: Amazon Bedrock API reference, "Converse", "ConverseStream" and the types that they lead to;
November 2026.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm.providers._bedrock_usage import TokenUsage

__all__ = [
    "Answer",
    "Delta",
    "Event",
    "Picture",
    "Reasoning",
    "ToolUse",
    "decode_answer",
    "decode_any",
    "decode_block",
    "decode_event",
]


class ToolUse(msgspec.Struct, gc=False, rename="camel"):
    """The input is an object, or a piece of one's text."""

    tool_use_id: str | None = None
    name: str = ""
    type: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")


class ReasoningText(msgspec.Struct, gc=False):
    text: str = ""
    signature: str = ""


class Reasoning(msgspec.Struct, gc=False, rename="camel"):
    """Of a block, or of a delta."""

    reasoning_text: ReasoningText | None = None
    text: str = ""
    signature: str = ""
    redacted_content: str | None = None


class Cited(msgspec.Struct, gc=False):
    content: list[ReasoningText] | None = None
    citations: list[Any] | None = None


class Source(msgspec.Struct, gc=False):
    bytes: str | None = None


class Picture(msgspec.Struct, gc=False):
    format: str = "png"
    source: Source | None = None


class Block(msgspec.Struct, gc=False, rename="camel"):
    """A content block, or the start of one; one of its fields is there."""

    text: str | None = None
    tool_use: ToolUse | None = None
    reasoning_content: Reasoning | None = None
    citations_content: Cited | None = None
    image: Picture | None = None


class ToolUseDelta(msgspec.Struct, gc=False):
    input: str = ""


class Delta(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    tool_use: ToolUseDelta | None = None
    reasoning_content: Reasoning | None = None
    citation: Any = None
    tool_result: list[Any] | None = None
    image: Picture | None = None


class Event(msgspec.Struct, gc=False, rename="camel"):
    """Any event but an error."""

    content_block_index: int = 0
    delta: Delta | None = None
    start: msgspec.Raw = msgspec.Raw(b"{}")
    stop_reason: str | None = None
    additional_model_response_fields: Any = None
    usage: TokenUsage | None = None
    trace: Any = None


class Message(msgspec.Struct, gc=False):
    content: list[msgspec.Raw]


class Output(msgspec.Struct, gc=False):
    message: Message


class Answer(msgspec.Struct, gc=False, rename="camel"):
    """A whole answer."""

    output: Output
    stop_reason: str
    additional_model_response_fields: Any = None
    usage: TokenUsage | None = None
    trace: Any = None


decode_answer: Final = msgspec.json.Decoder(Answer).decode
decode_block: Final = msgspec.json.Decoder(Block).decode
decode_event: Final = msgspec.json.Decoder(Event).decode
decode_any: Final = msgspec.json.Decoder().decode

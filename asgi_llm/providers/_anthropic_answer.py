"""Answers of Anthropic's Messages API, whole and streamed, read by the same functions.

Source: Anthropic API reference, "Create a Message" and "Streaming Messages"; November 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from asgi_llm.errors import ProviderError
from asgi_llm.providers._anthropic_request import Memo
from asgi_llm.providers._anthropic_shapes import (
    Block,
    Delta,
    Message,
    decode_block,
    decode_event,
    decode_message,
)
from asgi_llm.providers._anthropic_usage import TokenUsage, buckets
from asgi_llm.providers._chat_answer import CUTTING, AnswerWriter, FinishReason
from asgi_llm.types import Document

__all__ = ["MessageReader", "read_message"]

_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "pause_turn": "stop",
}
_PLAIN: Final = frozenset(("end_turn", "stop_sequence", "tool_use", "max_tokens"))
"""Stop reasons that OpenAI's words say as well."""
_KNOWN_BLOCKS: Final = frozenset(("text", "thinking", "redacted_thinking", "tool_use"))


class _Open:
    """A content block that has begun."""

    __slots__ = (
        "call",
        "citations",
        "fragments",
        "has_arguments",
        "kind",
        "raw",
        "signature",
        "start",
        "thinking",
    )

    def __init__(self, kind: str, start: int) -> None:
        self.kind = kind
        self.start = start
        """Where in the text of the answer it begins."""
        self.call: int | None = None
        self.thinking: list[str] | None = None
        self.signature = ""
        self.citations: list[Document] | None = None
        self.raw: Document | None = None
        """The block itself, where it is of a kind that has no name here."""
        self.has_arguments = False
        self.fragments: list[str] | None = None
        """Of the input of such a block."""


class MessageReader:
    """Reads one answer's events. See ``AnswerReader``.

    Args:
        memo: Of the request.
        error_of: Makes the error of an error object.
    """

    ends_with_body = False

    __slots__ = (
        "_characters",
        "_error_of",
        "_is_cut",
        "_memo",
        "_open",
        "_said_json",
        "_usage",
        "over",
    )

    def __init__(self, memo: Memo, error_of: Any) -> None:
        self._memo = memo
        self._error_of = error_of
        self._open: dict[int, _Open] = {}
        self._usage = TokenUsage()
        self._characters = 0
        self._said_json = False
        self._is_cut = False
        """The input of a block that has no name here does not end."""
        self.over = False

    def read(self, kind: str, data: bytes, writer: AnswerWriter) -> None:
        """See ``AnswerReader.read``."""
        event = decode_event(data)
        type_ = event.type
        if type_ == "content_block_delta":
            if event.delta is not None:
                self._delta(event.index, event.delta, writer)
        elif type_ == "content_block_start":
            block = decode_block(event.content_block)
            raw = None
            if block.type not in _KNOWN_BLOCKS:
                raw = msgspec.json.decode(event.content_block)
            self._begin(event.index, block, raw, writer)
        elif type_ == "content_block_stop":
            self._end(event.index, writer)
        elif type_ == "message_start":
            if (message := event.message) is not None:
                writer.begin(id=message.id, model=message.model)
                self._count(message.usage, writer)
                if message.content:
                    # An answer to Claude's own code, which waits for a call, begins whole.
                    self._blocks(
                        message.content,
                        lambda: msgspec.json.decode(data)["message"]["content"],
                        writer,
                    )
                    if message.stop_reason is not None:
                        self._finish(message, message.stop_reason, writer)
        elif type_ == "message_delta":
            self._count(event.usage, writer)
            if event.delta is not None and event.delta.stop_reason is not None:
                for index in list(self._open):
                    # Other servers of this format leave out the ends of blocks.
                    self._end(index, writer)
                self._finish(event.delta, event.delta.stop_reason, writer)
        elif type_ == "message_stop":
            self.over = True
        elif type_ == "error":
            raise self._error(event.error)
        # `ping`, and whatever else may come one day, says nothing of the answer.

    def read_whole(self, body: bytes, writer: AnswerWriter) -> None:
        """A whole answer: its blocks are begun and ended one after the other."""
        message = decode_message(body)
        if message.type == "error" or message.error:
            raise self._error(message.error)
        if message.type != "message":
            raise msgspec.ValidationError("no message")
        writer.begin(id=message.id, model=message.model)
        self._blocks(message.content, lambda: msgspec.json.decode(body)["content"], writer)
        if message.usage is not None:
            writer.usage = buckets(message.usage)
        if message.stop_reason is not None:
            self._finish(message, message.stop_reason, writer)

    def _error(self, error: Any) -> ProviderError:
        made: ProviderError = self._error_of({"error": error})
        return made

    # Blocks

    def _blocks(
        self, blocks: list[Block], undecoded: Callable[[], list[Document]], writer: AnswerWriter
    ) -> None:
        """Blocks that are whole; ``undecoded`` gives them as they stand."""
        raws: list[Document] | None = None
        for index, block in enumerate(blocks):
            if block.type == "text" and not block.citations:
                self._characters += len(block.text or "")
                writer.text(block.text or "")
                continue
            raw = None
            if block.type not in _KNOWN_BLOCKS:
                raws = undecoded() if raws is None else raws
                raw = raws[index]
            self._begin(index, block, raw, writer)
            self._end(index, writer)

    def _begin(self, index: int, block: Block, raw: Document | None, writer: AnswerWriter) -> None:
        opened = self._open[index] = _Open(block.type, self._characters)
        if block.type == "text":
            if block.text:
                self._characters += len(block.text)
                writer.text(block.text)
            if isinstance(block.citations, list):
                opened.citations = block.citations
        elif block.type == "thinking":
            opened.signature = block.signature or ""
            if block.thinking:
                opened.thinking = [block.thinking]
                writer.reasoning(block.thinking)
        elif block.type == "redacted_thinking":
            writer.thinking_block({"type": "redacted_thinking", "data": block.data or ""})
        elif block.type == "tool_use":
            # In a stream the input is an empty object here, and comes in fragments.
            given = bytes(block.input)
            arguments = "" if given.strip() in (b"{}", b"", b"null") else given.decode()
            if block.name == self._memo.json_tool and block.name is not None:
                opened.kind = "json"
                self._said_json = True
                if arguments:
                    opened.has_arguments = True
                    writer.text(arguments)
            else:
                name = self._memo.names.here(block.name or "")
                opened.call = writer.tool_call(
                    name, id=block.id, arguments=arguments, extra=_called_by(block.caller)
                )
                opened.has_arguments = bool(arguments)
        else:
            opened.raw = raw

    def _delta(self, index: int, delta: Delta, writer: AnswerWriter) -> None:
        kind = delta.type
        if kind == "text_delta":
            self._characters += len(delta.text)
            writer.text(delta.text)
            return
        opened = self._open.get(index)
        if opened is None:
            raise msgspec.ValidationError("a delta of a block that has not begun")
        if kind == "input_json_delta":
            if opened.kind == "json":
                if delta.partial_json:
                    opened.has_arguments = True
                    writer.text(delta.partial_json)
            elif opened.call is not None:
                if delta.partial_json:
                    opened.has_arguments = True
                    writer.arguments(opened.call, delta.partial_json)
            else:
                opened.fragments = opened.fragments or []
                opened.fragments.append(delta.partial_json)
        elif kind == "thinking_delta":
            opened.thinking = opened.thinking or []
            opened.thinking.append(delta.thinking)
            writer.reasoning(delta.thinking)
        elif kind == "signature_delta":
            opened.signature += delta.signature
        elif kind == "citations_delta" and isinstance(delta.citation, dict):
            opened.citations = [*(opened.citations or ()), delta.citation]
        elif kind == "compaction_delta" and opened.raw is not None:
            # It comes in one piece, and is null where no summary could be made.
            opened.raw["content"] = delta.content
            if delta.encrypted_content is not None:
                opened.raw["encrypted_content"] = delta.encrypted_content

    def _end(self, index: int, writer: AnswerWriter) -> None:
        opened = self._open.pop(index, None)
        if opened is None:
            return
        if opened.kind == "thinking":
            thoughts = "".join(opened.thinking or ())
            writer.thinking_block(
                {"type": "thinking", "thinking": thoughts, "signature": opened.signature}
            )
        elif opened.kind == "json":
            if not opened.has_arguments:
                writer.text("{}")
        elif opened.call is not None:
            if not opened.has_arguments:
                # A tool without arguments gets an empty object.
                writer.arguments(opened.call, "{}")
        elif opened.raw is not None:
            raw = opened.raw
            if opened.fragments:
                try:
                    raw["input"] = msgspec.json.decode("".join(opened.fragments) or "{}")
                except msgspec.DecodeError:
                    self._is_cut = True
                    return
            writer.message_fields({"provider_blocks": [raw]})
        elif opened.citations:
            self._cite(opened, opened.citations, writer)

    def _cite(self, opened: _Open, citations: list[Document], writer: AnswerWriter) -> None:
        """Sources: those with an address in the format's own field, all of them beside it."""
        annotations = [
            {
                "type": "url_citation",
                "url_citation": {
                    "url": citation["url"],
                    "title": citation.get("title") or "",
                    "start_index": opened.start,
                    "end_index": self._characters,
                },
            }
            for citation in citations
            if isinstance(citation, dict) and isinstance(citation.get("url"), str)
        ]
        fields: Document = {"citations": citations}
        if annotations:
            fields["annotations"] = annotations
        writer.message_fields(fields)

    # The end

    def _finish(self, end: Message | Delta, reason: str, writer: AnswerWriter) -> None:
        fields: Document = {}
        if isinstance(end.stop_details, dict):
            fields["stop_details"] = end.stop_details
            why = end.stop_details.get("explanation")
            if reason == "refusal" and isinstance(why, str) and why:
                writer.refusal(why)
        if isinstance(end.container, dict):
            fields["container"] = end.container
        if fields:
            writer.message_fields(fields)
        finish = _FINISH.get(reason, "stop")
        if self._is_cut and finish not in CUTTING:
            raise msgspec.ValidationError("the input of a call is no JSON")
        if reason == "tool_use" and self._said_json:
            # The writer makes it `tool_calls` again where a tool of the client's was called too.
            finish = "stop"
        native = None if reason in _PLAIN else reason
        writer.finish(finish, native=native, stop_sequence=end.stop_sequence)

    def _count(self, usage: TokenUsage | None, writer: AnswerWriter) -> None:
        """Counts are cumulative; what a later event does not say stays as it was."""
        if usage is None:
            return
        known = self._usage
        for name in TokenUsage.__struct_fields__:
            value = getattr(usage, name)
            if value is not None:
                setattr(known, name, value)
        writer.usage = buckets(known)


def _called_by(caller: Any) -> Document | None:
    """Who made a call, where that is not the model itself: it has to be told with the call."""
    if isinstance(caller, dict) and caller.get("type") != "direct":
        return {"anthropic": {"caller": caller}}
    return None


def read_message(body: bytes, memo: Memo, error_of: Any, writer: AnswerWriter) -> None:
    """Tell the parts of a whole answer to ``writer``."""
    MessageReader(memo, error_of).read_whole(body, writer)

"""Answers of Bedrock's Converse, whole and streamed, read by the same functions.

Source: Amazon Bedrock API reference, "Converse", "ConverseStream" and the types that they lead to;
November 2026.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

import msgspec

from asgi_llm.errors import ProviderError, ProviderUnavailableError
from asgi_llm.providers._anthropic_request import Memo
from asgi_llm.providers._bedrock_events import EXCEPTION
from asgi_llm.providers._bedrock_shapes import (
    Answer,
    Delta,
    Event,
    Picture,
    Reasoning,
    ToolUse,
    decode_answer,
    decode_any,
    decode_block,
    decode_event,
)
from asgi_llm.providers._bedrock_usage import buckets
from asgi_llm.providers._chat_answer import CUTTING, AnswerWriter, FinishReason
from asgi_llm.types import Document

__all__ = ["ConverseReader"]

_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_PLAIN: Final = frozenset(("end_turn", "stop_sequence", "tool_use", "max_tokens"))
"""Stop reasons that OpenAI's words say as well."""
_MALFORMED: Final = "malformed_"
"""What stop reasons begin with that are the model's failures."""
_SERVER_TOOL: Final = "server_tool_use"

ErrorOf = Callable[[str, bytes], ProviderError]


class _Open:
    """A content block that has begun."""

    __slots__ = (
        "call",
        "citations",
        "has_arguments",
        "is_json",
        "own",
        "picture",
        "pieces",
        "redacted",
        "signature",
        "thinking",
    )

    def __init__(self) -> None:
        self.call: int | None = None
        self.is_json = False
        """It is a call that stands for the answer's text."""
        self.has_arguments = False
        self.thinking: list[str] | None = None
        self.signature = ""
        self.redacted: list[str] | None = None
        self.citations: list[Any] | None = None
        self.picture: str | None = None
        """The format of a picture."""
        self.own: Document | None = None
        """The block itself, where it is Bedrock's own affair."""
        self.pieces: list[Any] = []
        """Of such a block, or of a picture."""


class ConverseReader:
    """Reads one answer. See ``AnswerReader``.

    Args:
        memo: Of the request.
        error_of: Makes the error of an exception's name and body.
    """

    # The message ends before its usage; without that it would still be whole.
    ends_with_body = True

    __slots__ = (
        "_characters",
        "_error_of",
        "_is_cut",
        "_is_stopped",
        "_memo",
        "_open",
        "_start",
        "over",
    )

    def __init__(self, memo: Memo, error_of: ErrorOf) -> None:
        self._memo = memo
        self._error_of = error_of
        self._open: dict[int, _Open] = {}
        self._characters = 0
        self._start = 0
        """Where in the text of the answer the current block begins."""
        self._is_stopped = False
        self._is_cut = False
        """The input of a call that Bedrock makes itself does not end."""
        self.over = False

    def read(self, kind: str, data: bytes, writer: AnswerWriter) -> None:
        """See ``AnswerReader.read``."""
        if kind == "contentBlockDelta":
            event = decode_event(data)
            delta = event.delta
            if delta is None:
                return
            if delta.text is not None:
                self._text(delta.text, writer)
            else:
                self._delta(event.content_block_index, delta, writer)
        elif kind == "contentBlockStart":
            event = decode_event(data)
            self._begin(event.content_block_index, event.start, writer)
        elif kind == "contentBlockStop":
            self._end(decode_event(data).content_block_index, writer)
        elif kind == "messageStop":
            event = decode_event(data)
            for index in list(self._open):
                self._end(index, writer)
            self._is_stopped = True
            self._finish(event, event.stop_reason or "", writer)
        elif kind == "metadata":
            event = decode_event(data)
            self._close(event, writer)
            self.over = self._is_stopped
        elif kind.startswith(EXCEPTION):
            raise self._error_of(kind.removeprefix(EXCEPTION), data)
        # `messageStart`, and whatever else may come one day, says nothing of the answer.

    def read_whole(self, body: bytes, writer: AnswerWriter) -> None:
        """A whole answer: its blocks are begun and ended one after the other."""
        answer = decode_answer(body)
        for index, raw in enumerate(answer.output.message.content):
            self._begin(index, raw, writer)
            self._end(index, writer)
        self._close(answer, writer)
        self._finish(answer, answer.stop_reason, writer)

    # Blocks

    def _begin(self, index: int, raw: msgspec.Raw, writer: AnswerWriter) -> None:
        """A block, or the start of one that comes in deltas."""
        block = decode_block(raw)
        if block.text is not None:
            self._text(block.text, writer)
        elif block.tool_use is not None and block.tool_use.type != _SERVER_TOOL:
            self._call(index, block.tool_use, writer)
        elif block.reasoning_content is not None:
            self._thought(index, block.reasoning_content, writer)
        elif block.citations_content is not None:
            cited = block.citations_content
            self._text("".join(one.text for one in cited.content or ()), writer)
            for citation in cited.citations or ():
                self._citation(index, citation)
        elif block.image is not None:
            opened = self._at(index)
            opened.picture = block.image.format
            self._picture(opened, block.image)
        elif own := decode_any(raw):
            self._at(index).own = own

    def _delta(self, index: int, delta: Delta, writer: AnswerWriter) -> None:
        """What is no text."""
        if delta.reasoning_content is not None:
            self._thought(index, delta.reasoning_content, writer)
            return
        if delta.citation is not None:
            self._citation(index, delta.citation)
            return
        opened = self._open.get(index)
        if delta.tool_use is not None:
            if opened is None:
                raise msgspec.ValidationError("arguments of a call that has not begun")
            if opened.own is not None:
                opened.pieces.append(delta.tool_use.input)
            else:
                self._arguments(opened, delta.tool_use.input, writer)
        elif opened is None:
            return  # of a block that nobody knows yet
        elif delta.tool_result is not None:
            opened.pieces += delta.tool_result
        elif delta.image is not None:
            self._picture(opened, delta.image)

    def _at(self, index: int) -> _Open:
        opened = self._open.get(index)
        if opened is None:
            opened = self._open[index] = _Open()
        return opened

    def _text(self, text: str, writer: AnswerWriter) -> None:
        self._characters += len(text)
        writer.text(text)

    def _call(self, index: int, call: ToolUse, writer: AnswerWriter) -> None:
        opened = self._at(index)
        if call.name == self._memo.json_tool:
            opened.is_json = True
        else:
            name = self._memo.names.here(call.name)
            opened.call = writer.tool_call(name, id=call.tool_use_id)
        # Where it comes in deltas the start has no input.
        given = bytes(call.input).strip()
        if given not in (b"{}", b"null"):
            self._arguments(opened, given.decode(), writer)

    def _arguments(self, opened: _Open, fragment: str, writer: AnswerWriter) -> None:
        if not fragment:
            return
        opened.has_arguments = True
        if opened.is_json:
            self._text(fragment, writer)
        elif opened.call is not None:
            writer.arguments(opened.call, fragment)

    def _thought(self, index: int, thought: Reasoning, writer: AnswerWriter) -> None:
        opened = self._at(index)
        if thought.redacted_content is not None:
            opened.redacted = [*(opened.redacted or ()), thought.redacted_content]
            return
        whole = thought.reasoning_text
        text, signature = thought.text, thought.signature
        if whole is not None:
            text, signature = whole.text, whole.signature
        if opened.thinking is None:
            opened.thinking = []
        if text:
            opened.thinking.append(text)
            writer.reasoning(text)
        opened.signature += signature

    def _citation(self, index: int, citation: Any) -> None:
        opened = self._at(index)
        opened.citations = [*(opened.citations or ()), citation]

    def _picture(self, opened: _Open, picture: Picture) -> None:
        if picture.source is not None and picture.source.bytes:
            opened.pieces.append(picture.source.bytes)

    def _end(self, index: int, writer: AnswerWriter) -> None:
        start, self._start = self._start, self._characters
        opened = self._open.pop(index, None)
        if opened is None:
            return
        if opened.thinking is not None:
            block = {"type": "thinking", "thinking": "".join(opened.thinking)}
            if opened.signature:
                block["signature"] = opened.signature
            writer.thinking_block(block)
        if opened.redacted is not None:
            data = _joined(opened.redacted)
            writer.thinking_block({"type": "redacted_thinking", "data": data})
        if opened.is_json or opened.call is not None:
            if not opened.has_arguments:
                # A tool without arguments gets an empty object.
                self._arguments(opened, "{}", writer)
        elif opened.citations is not None:
            self._cite(opened.citations, start, writer)
        elif opened.picture is not None:
            url = f"data:image/{opened.picture};base64,{_joined(opened.pieces)}"
            image = {"type": "image_url", "image_url": {"url": url}}
            writer.message_fields({"images": [image]})
        elif opened.own is not None:
            try:
                block = _own_block(opened.own, opened.pieces)
            except msgspec.DecodeError:
                self._is_cut = True
            else:
                writer.message_fields({"provider_blocks": [block]})

    def _cite(self, citations: list[Any], start: int, writer: AnswerWriter) -> None:
        """Sources: those with an address in the format's own field, all of them beside it."""
        annotations = []
        for citation in citations:
            web = _inner(_inner(citation, "location"), "web")
            if isinstance(url := _inner(web, "url"), str):
                cited = {
                    "url": url,
                    "title": _inner(citation, "title") or "",
                    "start_index": start,
                    "end_index": self._characters,
                }
                annotations.append({"type": "url_citation", "url_citation": cited})
        fields: Document = {"citations": citations}
        if annotations:
            fields["annotations"] = annotations
        writer.message_fields(fields)

    # The end

    def _finish(self, end: Answer | Event, reason: str, writer: AnswerWriter) -> None:
        if reason.startswith(_MALFORMED):
            raise ProviderUnavailableError(
                "The model wrote something that cannot be read.", code=reason
            )
        fields = end.additional_model_response_fields
        if fields:
            writer.message_fields({"additional_model_response_fields": fields})
        finish = _FINISH.get(reason, "stop")
        if self._is_cut and finish not in CUTTING:
            raise msgspec.ValidationError("the input of a call is no JSON")
        if reason == "tool_use":
            # The writer makes it `tool_calls` where a tool of the client's was called, and not one
            # that stands for the answer's format or that Bedrock runs.
            finish = "stop"
        sequence = _inner(fields, "stop_sequence")
        writer.finish(
            finish,
            native=None if reason in _PLAIN else reason,
            stop_sequence=sequence if isinstance(sequence, str) else None,
        )

    def _close(self, end: Answer | Event, writer: AnswerWriter) -> None:
        """What is known beside the message."""
        if end.usage is not None:
            writer.usage = buckets(end.usage)
        if end.trace:
            writer.message_fields({"trace": end.trace})


def _own_block(block: Document, pieces: list[Any]) -> Document:
    """A block that only Bedrock reads, as it was, whole; its type is the name of its one field."""
    kind = next(iter(block), "")
    inner = block.get(kind)
    if pieces and isinstance(inner, dict):
        if kind == "toolUse":
            inner["input"] = decode_any("".join(pieces) or "{}")
        else:
            inner["content"] = pieces
    return {"type": kind, **block}


def _inner(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _joined(pieces: list[str]) -> str:
    """Base64 that came in pieces, each encoded by itself; one alone stays as it came."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        data = b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except ValueError as error:  # of binascii's, or of characters beyond ASCII
        raise msgspec.ValidationError("no base64") from error
    return base64.b64encode(data).decode()

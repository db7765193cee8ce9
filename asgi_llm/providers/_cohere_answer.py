"""Answers of Cohere's v2 API, read part by part: whole, or one event of a stream at a time.

Source: Cohere API reference v2, "Chat" and "Chat with Streaming", November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from asgi_llm.errors import ProviderError, ProviderTimeoutError, ProviderUnavailableError
from asgi_llm.providers._chat_answer import AnswerWriter, FinishReason
from asgi_llm.providers._errors import parse_stream_error, scrub
from asgi_llm.providers._rerank import token_count
from asgi_llm.providers._tool_names import ToolNames
from asgi_llm.types import Document, Usage

__all__ = ["ChatReader", "read_chat"]


class _Content(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    function: _Function | None = None
    id: str | None = None


class _Tokens(msgspec.Struct):
    input_tokens: Any = None
    output_tokens: Any = None
    reasoning_tokens: Any = None
    image_tokens: Any = None


class _Usage(msgspec.Struct):
    billed_units: _Tokens | None = None
    tokens: _Tokens | None = None
    cached_tokens: Any = None


class _Logprob(msgspec.Struct):
    text: str | None = None
    logprobs: list[float] | None = None


class _Message(msgspec.Struct):
    content: list[_Content] | None = None
    tool_plan: str | None = None
    tool_calls: list[_Call] | None = None
    citations: list[Document] | None = None


class _Answer(msgspec.Struct):
    message: _Message
    id: str | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None
    logprobs: list[_Logprob] | None = None


class _Delta(msgspec.Struct):
    """Lists stand only in the first event, and are empty."""

    content: _Content | list[_Content] | None = None
    tool_plan: str | None = None
    tool_calls: _Call | list[_Call] | None = None
    citations: Document | list[Document] | None = None


class _DeltaOf(msgspec.Struct):
    message: _Delta | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None
    error: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int | None = None
    id: str | None = None
    delta: _DeltaOf | None = None
    logprobs: _Logprob | None = None


_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_decode_event: Final = msgspec.json.Decoder(_Event).decode

_FINISH: Final[Mapping[str, FinishReason]] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    # It becomes "tool_calls" where there is a call.
    "TOOL_CALL": "stop",
    "MAX_TOKENS": "length",
    "ERROR_LIMIT": "length",
    "ERROR_TOXIC": "content_filter",
}
_PLAIN: Final = frozenset(("COMPLETE", "STOP_SEQUENCE", "TOOL_CALL", "MAX_TOKENS"))


def read_chat(
    body: bytes,
    writer: AnswerWriter,
    names: ToolNames,
    *,
    provider: str,
    secrets: tuple[str, ...] = (),
) -> None:
    """Tell the parts of a whole answer to ``writer``.

    Raises:
        ProviderError: It ended with an error.
        msgspec.MsgspecError: It is not what it should be.
    """
    answer = _decode_answer(body)
    writer.begin(id=answer.id)
    message = answer.message
    if message.tool_plan:
        writer.reasoning(message.tool_plan)
    for part in message.content or ():
        _tell_content(part, writer)
    for call in message.tool_calls or ():
        _tell_call(call, writer, names)
    if message.citations:
        _tell_citations(message.citations, writer)
    if answer.logprobs:
        writer.logprobs([_logprob(one) for one in answer.logprobs])
    if answer.finish_reason is not None:
        _finish(answer.finish_reason, None, writer, provider, secrets)
    writer.usage = _usage(answer.usage)


class ChatReader:
    """Reads one streamed answer.

    Args:
        names: Of the tools.
        provider: The provider's name here, for errors.
        secrets: Strings that no error may show.
    """

    __slots__ = ("_calls", "_names", "_provider", "_secrets", "over")

    ends_with_body = False

    def __init__(self, names: ToolNames, *, provider: str, secrets: tuple[str, ...] = ()) -> None:
        self._names = names
        self._provider = provider
        self._secrets = secrets
        # Cohere's index of a call: ours, and whether it has arguments yet.
        self._calls: dict[int, tuple[int, bool]] = {}
        self.over = False

    def read(self, kind: str, data: bytes, writer: AnswerWriter) -> None:
        """See ``AnswerReader``."""
        event = _decode_event(data)
        type_, delta = event.type, event.delta
        message = None if delta is None else delta.message
        if type_ == "content-delta" or type_ == "content-start":
            if message is not None and isinstance(message.content, _Content):
                _tell_content(message.content, writer)
            if event.logprobs is not None:
                writer.logprobs([_logprob(event.logprobs)])
        elif type_ == "tool-plan-delta":
            if message is not None and message.tool_plan:
                writer.reasoning(message.tool_plan)
        elif type_ == "tool-call-delta":
            if message is not None:
                self._go_on(event.index, message, writer)
        elif type_ == "tool-call-start":
            if message is not None and isinstance(message.tool_calls, _Call):
                self._begin(event.index, message.tool_calls, writer)
        elif type_ == "tool-call-end":
            self._end(event.index, writer)
        elif type_ == "citation-start":
            if message is not None and isinstance(message.citations, dict):
                _tell_citations([message.citations], writer)
        elif type_ == "message-start":
            writer.begin(id=event.id)
        elif type_ == "message-end":
            self._finish(delta, writer)
        elif not type_:
            raise parse_stream_error(
                msgspec.json.decode(data), secrets=self._secrets, provider=self._provider
            )

    def _begin(self, index: int | None, call: _Call, writer: AnswerWriter) -> None:
        ours = _tell_call(call, writer, self._names)
        place = len(self._calls) if index is None else index
        self._calls[place] = ours, bool(call.function and call.function.arguments)

    def _go_on(self, index: int | None, message: _Delta, writer: AnswerWriter) -> None:
        call = message.tool_calls
        if not isinstance(call, _Call) or call.function is None or not call.function.arguments:
            return
        place = self._place(index)
        ours, _ = self._calls[place]
        self._calls[place] = ours, True
        writer.arguments(ours, call.function.arguments)

    def _end(self, index: int | None, writer: AnswerWriter) -> None:
        ours, has_arguments = self._calls[self._place(index)]
        if not has_arguments:
            writer.arguments(ours, "{}")

    def _place(self, index: int | None) -> int:
        place = len(self._calls) - 1 if index is None else index
        if place not in self._calls:
            raise msgspec.ValidationError("a call goes on that has not begun")
        return place

    def _finish(self, delta: _DeltaOf | None, writer: AnswerWriter) -> None:
        self.over = True
        if delta is None:
            return
        writer.usage = _usage(delta.usage)
        if delta.error and delta.finish_reason is None:
            raise _failed(delta.error, self._provider, self._secrets)
        if delta.finish_reason is not None:
            _finish(delta.finish_reason, delta.error, writer, self._provider, self._secrets)


def _tell_content(part: _Content, writer: AnswerWriter) -> None:
    if part.thinking:
        writer.reasoning(part.thinking)
    if part.text:
        writer.text(part.text)


def _tell_call(call: _Call, writer: AnswerWriter, names: ToolNames) -> int:
    function = call.function
    if function is None or function.name is None:
        raise msgspec.ValidationError("a call is of no function")
    return writer.tool_call(
        names.here(function.name), id=call.id, arguments=function.arguments or ""
    )


def _tell_citations(citations: list[Document], writer: AnswerWriter) -> None:
    """All of them in Cohere's form, and in OpenAI's those of documents that have an address."""
    fields: Document = {"citations": citations}
    if annotations := [made for one in citations for made in _annotations(one)]:
        fields["annotations"] = annotations
    writer.message_fields(fields)


def _annotations(citation: Document) -> list[Document]:
    made: list[Document] = []
    sources = citation.get("sources")
    if not isinstance(sources, list | None):
        raise msgspec.ValidationError("the sources of a citation are no list")
    for source in sources or ():
        document = source.get("document") if isinstance(source, dict) else None
        if not isinstance(document, dict) or not isinstance(document.get("url"), str):
            continue
        cited: Document = {
            "start_index": citation.get("start"),
            "end_index": citation.get("end"),
            "url": document["url"],
            "title": str(document.get("title") or ""),
        }
        made.append({"type": "url_citation", "url_citation": cited})
    return made


def _logprob(one: _Logprob) -> Document:
    """A piece of text may be of several tokens; the logarithm of all of them is the sum."""
    text = one.text or ""
    return {
        "token": text,
        "logprob": sum(one.logprobs or ()),
        "bytes": list(text.encode()),
        "top_logprobs": [],
    }


def _finish(
    word: str, error: str | None, writer: AnswerWriter, provider: str, secrets: tuple[str, ...]
) -> None:
    if word == "TIMEOUT":
        raise ProviderTimeoutError(f"The provider {provider!r} did not finish its answer in time.")
    if word == "ERROR":
        raise _failed(error, provider, secrets)
    writer.finish(_FINISH.get(word, "stop"), native=None if word in _PLAIN else word)


def _failed(error: str | None, provider: str, secrets: tuple[str, ...]) -> ProviderError:
    told = scrub(error, secrets) if error else "it gives no reason"
    return ProviderUnavailableError(f"The provider {provider!r} broke its answer off: {told}")


def _usage(given: _Usage | None) -> Usage | None:
    """What is billed, which leaves out the prompt that Cohere puts around each request."""
    if given is None:
        return None
    tokens = given.tokens or _NO_TOKENS
    billed = given.billed_units or _NO_TOKENS
    read, made = token_count(billed.input_tokens), token_count(billed.output_tokens)
    cached = 0
    if read is None and made is None:
        read, made = token_count(tokens.input_tokens), token_count(tokens.output_tokens)
        if read is None and made is None:
            return None
        read = (read or 0) + (token_count(tokens.image_tokens) or 0)
        cached = min(token_count(given.cached_tokens) or 0, read)
    reasoning = min(token_count(tokens.reasoning_tokens) or 0, made or 0)
    return Usage(
        input_uncached=(read or 0) - cached,
        input_cached=cached,
        output_text=(made or 0) - reasoning,
        reasoning=reasoning,
    )


_NO_TOKENS: Final = _Tokens()

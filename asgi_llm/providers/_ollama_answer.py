"""Answers of Ollama's native API, read part by part: whole, or one line of a stream at a time.

Source: Ollama API reference, "Generate a chat message", "Streaming" and "Errors".
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm.providers._chat_answer import AnswerWriter, FinishReason
from asgi_llm.providers._errors import parse_stream_error
from asgi_llm.providers._think_tags import ThinkSplitter
from asgi_llm.types import Document, Usage
from asgi_llm.wire.estimate import estimate_usage
from asgi_llm.wire.usage import MAX_TOKENS

__all__ = ["ChatReader", "token_usage"]


class _Function(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Logprob(msgspec.Struct, gc=False):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _TokenLogprob(_Logprob):
    top_logprobs: list[_Logprob] | None = None


class _Line(msgspec.Struct):
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    model: str | None = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    logprobs: list[_TokenLogprob] | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Line).decode
_decode_string: Final = msgspec.json.Decoder(str).decode

_FINISH: Final[dict[str | None, FinishReason]] = {None: "stop", "stop": "stop", "length": "length"}


class ChatReader:
    """Reads one answer, whole or streamed.

    Args:
        document: What was asked, for an estimate where Ollama leaves a count out.
        think_tags: Take thoughts out of the text.
        provider: The provider's name here, for errors.
        secrets: Strings that no error may show.
    """

    __slots__ = ("_begun", "_document", "_provider", "_secrets", "_splitter", "over")

    ends_with_body = False

    def __init__(
        self, document: Document, *, think_tags: bool, provider: str, secrets: tuple[str, ...]
    ) -> None:
        self._document = document
        self._provider = provider
        self._secrets = secrets
        self._splitter = ThinkSplitter() if think_tags else None
        self._begun = False
        self.over = False

    def read(self, kind: str, data: bytes, writer: AnswerWriter) -> None:
        """One line of a stream, or a whole answer: see ``AnswerReader``."""
        line = _decode(data)
        if line.error:
            raise parse_stream_error(
                msgspec.json.decode(data), secrets=self._secrets, provider=self._provider
            )
        if not self._begun:
            self._begun = True
            writer.begin(model=line.model)
        if line.message is not None:
            self._read_message(line.message, writer)
        if line.logprobs:
            writer.logprobs([_logprob(one) for one in line.logprobs])
        if line.done:
            self._read_end(line, writer)

    def _read_message(self, message: _Message, writer: AnswerWriter) -> None:
        if message.thinking:
            writer.reasoning(message.thinking)
        if message.content:
            if self._splitter is None:
                writer.text(message.content)
            else:
                _tell(self._splitter.feed(message.content), writer)
        for call in message.tool_calls or ():
            arguments = _arguments(call.function.arguments)
            writer.tool_call(call.function.name, id=call.id, arguments=arguments)

    def _read_end(self, line: _Line, writer: AnswerWriter) -> None:
        if self._splitter is not None:
            _tell(self._splitter.close(), writer)
        word = line.done_reason or None
        reason = _FINISH.get(word)
        writer.finish(reason or "stop", native=None if reason else word)
        writer.usage = token_usage(line.prompt_eval_count, line.eval_count, self._document)
        self.over = True


def _tell(parts: tuple[str, str], writer: AnswerWriter) -> None:
    thoughts, text = parts
    if thoughts:
        writer.reasoning(thoughts)
    if text:
        writer.text(text)


def _arguments(raw: msgspec.Raw) -> str:
    """The text of the object as it stands; some models' templates give it in a string."""
    data = bytes(raw)
    if data == b"null":
        return "{}"
    if data.startswith(b'"'):
        return _decode_string(data) or "{}"
    return data.decode()


def _logprob(one: _TokenLogprob) -> Document:
    return {**_plain(one), "top_logprobs": [_plain(other) for other in one.top_logprobs or ()]}


def _plain(one: _Logprob) -> Document:
    return {"token": one.token, "logprob": one.logprob, "bytes": one.bytes}


def token_usage(given: Any, made: Any, document: Document) -> Usage | None:
    """Usage from the two counts, of which Ollama leaves out those that are zero.

    Some versions count zero for a prompt that they still have from an earlier call; where its count
    is left out, it is an estimate.

    Args:
        given: ``prompt_eval_count``.
        made: ``eval_count``, thoughts included.
        document: What was asked.
    """
    known_given, known_made = _count(given), _count(made)
    if known_given is None and known_made is None:
        return None
    if known_given is not None:
        broken = known_made is None and made is not None
        return Usage(input_uncached=known_given, output_text=known_made or 0, estimated=broken)
    guess = estimate_usage(document, 0)
    return msgspec.structs.replace(guess, output_text=known_made or 0)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None

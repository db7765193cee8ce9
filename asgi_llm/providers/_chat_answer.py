"""Chat answers in the OpenAI format, written part by part.

An adapter reads its provider's answer once, as a sequence of parts, and tells them to a writer:
``CompletionWriter`` makes one object of them, ``ChunkWriter`` the events of a stream. So a part
means the same in both.

What the format has no field for is carried in the fields that other servers use for it:
``reasoning_content`` and ``thinking_blocks`` on messages and deltas (LiteLLM, DeepSeek),
``extra_content`` on tool calls (Google's compatible endpoint), ``native_finish_reason`` on choices
(OpenRouter) and ``stop_reason`` for the stop sequence that was met (vLLM).

Source: OpenAI API reference, "The chat completion object" and "The chat completion chunk object".
"""

from __future__ import annotations

import os
from typing import ClassVar, Final, Literal, Protocol

import msgspec

from asgi_llm.errors import ProviderUnavailableError
from asgi_llm.types import Document, Usage
from asgi_llm.wire.usage import usage_to_openai

__all__ = [
    "CUTTING",
    "AnswerWriter",
    "ChunkWriter",
    "CompletionWriter",
    "FinishReason",
    "empty_answer",
]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]

CUTTING: Final = frozenset(("length", "content_filter"))
"""Reasons for which an answer may end anywhere, amid the input of a call too."""

_encode = msgspec.json.Encoder().encode


class AnswerWriter(Protocol):
    """Takes the parts of an answer in the order in which they came.

    ``choice`` is the index of the choice that a part belongs to.
    """

    usage: Usage | None
    """The adapter sets it whenever the provider says more; the last one counts."""

    def begin(self, *, id: str | None = None, model: str | None = None) -> None:
        """What is known of the answer before its content; may be said again with more."""

    def text(self, text: str, *, choice: int = 0) -> None:
        """A piece of the text."""

    def reasoning(self, text: str, *, choice: int = 0) -> None:
        """A piece of the thoughts."""

    def thinking_block(self, block: Document, *, choice: int = 0) -> None:
        """A whole block of thoughts with its signature, which a client sends back as it is.

        Its text has been told with ``reasoning`` already, where it has any.
        """

    def refusal(self, text: str, *, choice: int = 0) -> None:
        """A piece of a refusal."""

    def tool_call(
        self,
        name: str,
        *,
        id: str | None = None,
        arguments: str = "",
        extra: Document | None = None,
        choice: int = 0,
    ) -> int:
        """A call begins, or comes as a whole; its index, for ``arguments``.

        Args:
            name: Of the tool, in the client's words.
            id: The provider's; None: it has none, and one is made.
            arguments: JSON text, as far as it is known.
            extra: Goes to ``extra_content``.
            choice: Index of the choice.
        """

    def arguments(self, call: int, fragment: str, *, choice: int = 0) -> None:
        """More of the arguments of the call with that index."""

    def logprobs(self, content: list[Document], *, choice: int = 0) -> None:
        """Log probabilities of the text told since the last time."""

    def message_fields(self, fields: Document, *, choice: int = 0) -> None:
        """Further fields of the message, such as ``annotations``; lists go on where they ended."""

    def finish(
        self,
        reason: FinishReason,
        *,
        native: str | None = None,
        stop_sequence: str | None = None,
        choice: int = 0,
    ) -> None:
        """The choice is finished. ``stop`` becomes ``tool_calls`` where it made any.

        Args:
            reason: In the format's words.
            native: In the provider's words.
            stop_sequence: The stop sequence that was met, if it was one.
            choice: Index of the choice.
        """


class _Choice:
    """What is known of one choice."""

    __slots__ = (
        "calls",
        "fields",
        "finish",
        "logprobs",
        "reasoning",
        "refusal",
        "text",
        "thinking",
    )

    def __init__(self) -> None:
        # Strings and not lists: a whole answer comes in few pieces, and what is not made costs
        # nothing, neither now nor in the garbage collector.
        self.text: str | None = None
        self.reasoning = ""
        self.thinking: list[Document] | None = None
        self.refusal: str | None = None
        self.calls: list[_Call] | None = None
        self.logprobs: list[Document] | None = None
        self.fields: Document | None = None
        self.finish: Document | None = None

    def message(self) -> Document:
        message: Document = {"role": "assistant", "content": self.text, "refusal": self.refusal}
        if self.text is None and not self.calls and self.refusal is None:
            message["content"] = ""
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.thinking:
            message["thinking_blocks"] = self.thinking
        if self.calls:
            message["tool_calls"] = [call.document() for call in self.calls]
        if self.fields:
            message.update(self.fields)
        return message


class _Call:
    """A tool call on its way."""

    __slots__ = ("arguments", "extra", "id", "name")

    def __init__(self, id: str, name: str, arguments: str, extra: Document | None) -> None:
        self.id = id
        self.name = name
        self.arguments = arguments
        self.extra = extra

    def document(self) -> Document:
        function = {"name": self.name, "arguments": self.arguments or "{}"}
        call: Document = {"id": self.id, "type": "function", "function": function}
        if self.extra is not None:
            call["extra_content"] = self.extra
        return call


def _finish(
    reason: FinishReason, native: str | None, stop_sequence: str | None, has_calls: bool
) -> Document:
    """The fields of a choice that say how it ended."""
    finish: Document = {"finish_reason": "tool_calls" if has_calls and reason == "stop" else reason}
    if native is not None:
        finish["native_finish_reason"] = native
    if stop_sequence is not None:
        finish["stop_reason"] = stop_sequence
    return finish


class CompletionWriter:
    """Makes a ``chat.completion`` object. See ``AnswerWriter``.

    Args:
        model: As the provider calls it, until it says more.
        created: Unix seconds.
        choice: Added to the index of every choice: several calls may make one answer.
    """

    __slots__ = ("_choice", "_choices", "_created", "_id", "_model", "usage")

    def __init__(self, *, model: str, created: int, choice: int = 0) -> None:
        self._id = ""
        self._model = model
        self._created = created
        self._choice = choice
        self._choices: dict[int, _Choice] = {}
        self.usage: Usage | None = None

    def begin(self, *, id: str | None = None, model: str | None = None) -> None:
        self._id = id or self._id
        self._model = model or self._model

    def _at(self, choice: int) -> _Choice:
        found = self._choices.get(choice)
        if found is None:
            found = self._choices[choice] = _Choice()
        return found

    def text(self, text: str, *, choice: int = 0) -> None:
        known = self._at(choice)
        known.text = text if known.text is None else known.text + text

    def reasoning(self, text: str, *, choice: int = 0) -> None:
        self._at(choice).reasoning += text

    def thinking_block(self, block: Document, *, choice: int = 0) -> None:
        known = self._at(choice)
        known.thinking = [*(known.thinking or ()), block]

    def refusal(self, text: str, *, choice: int = 0) -> None:
        known = self._at(choice)
        known.refusal = (known.refusal or "") + text

    def tool_call(
        self,
        name: str,
        *,
        id: str | None = None,
        arguments: str = "",
        extra: Document | None = None,
        choice: int = 0,
    ) -> int:
        known = self._at(choice)
        if known.calls is None:
            known.calls = []
        index = len(known.calls)
        known.calls.append(_Call(id or self._call_id(choice, index), name, arguments, extra))
        return index

    def _call_id(self, choice: int, index: int) -> str:
        self._id = self._id or new_id()
        return _call_id(self._id, self._choice + choice, index)

    def arguments(self, call: int, fragment: str, *, choice: int = 0) -> None:
        calls = self._at(choice).calls or ()
        calls[call].arguments += fragment

    def logprobs(self, content: list[Document], *, choice: int = 0) -> None:
        known = self._at(choice)
        known.logprobs = (known.logprobs or []) + content

    def message_fields(self, fields: Document, *, choice: int = 0) -> None:
        at = self._at(choice)
        if at.fields is None:
            at.fields = {}
        for name, value in fields.items():
            before = at.fields.get(name)
            is_more = isinstance(before, list) and isinstance(value, list)
            at.fields[name] = before + value if is_more else value

    def finish(
        self,
        reason: FinishReason,
        *,
        native: str | None = None,
        stop_sequence: str | None = None,
        choice: int = 0,
    ) -> None:
        known = self._at(choice)
        known.finish = _finish(reason, native, stop_sequence, bool(known.calls))

    def document(self) -> Document:
        """The whole answer.

        Raises:
            ProviderUnavailableError: There is none: no choice, or one that is not finished.
        """
        choices = sorted(self._choices.items())
        if not choices:
            raise empty_answer()
        for _, choice in choices:
            if choice.finish is None:
                raise empty_answer()
        document: Document = {
            "id": self._id or new_id(),
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "index": self._choice + index,
                    "message": choice.message(),
                    "logprobs": _logprobs(choice.logprobs),
                    **(choice.finish or {}),
                }
                for index, choice in choices
            ],
        }
        if self.usage is not None:
            document["usage"] = usage_to_openai(self.usage)
        return document


class ChunkWriter:
    """Makes ``chat.completion.chunk`` events. See ``AnswerWriter``.

    What was written since the last ``taken`` waits there. How the choices ended is kept back until
    ``end``, so that a stream that breaks off never looks finished.

    Args:
        model: As the provider calls it, until it says more.
        created: Unix seconds.
        choice: Added to the index of every choice: several calls may make one answer.
        id: Of the answer, where it is not to be the provider's.
    """

    __slots__ = (
        "_calls",
        "_choice",
        "_created",
        "_finish",
        "_head",
        "_id",
        "_model",
        "_out",
        "_plain",
        "characters",
        "usage",
    )

    _called: ClassVar[str] = "tool_calls"
    """The finish reason of a choice that made calls."""

    def __init__(self, *, model: str, created: int, choice: int = 0, id: str = "") -> None:
        self._id = id
        self._model = model
        self._created = created
        self._choice = choice
        self._head = b""
        # For each choice that has begun: what stands before the delta of a plain text.
        self._plain: dict[int, bytes] = {}
        self._calls: dict[int, int] = {}
        self._finish: dict[int, Document] = {}
        self._out: list[bytes] = []
        self.characters = 0
        """Of everything that was written, for an estimate of usage."""
        self.usage: Usage | None = None

    def begin(self, *, id: str | None = None, model: str | None = None) -> None:
        if not self._plain:
            self._id = self._id or id or ""
            self._model = model or self._model

    def text(self, text: str, *, choice: int = 0) -> None:
        self.characters += len(text)
        plain = self._plain.get(choice)
        if plain is None:
            self._delta({"content": text}, choice)
        else:
            self._out.append(b'%b"content":%b%b' % (plain, _encode(text), _PLAIN_END))

    def reasoning(self, text: str, *, choice: int = 0) -> None:
        self.characters += len(text)
        self._delta({"reasoning_content": text}, choice)

    def thinking_block(self, block: Document, *, choice: int = 0) -> None:
        self._delta({"thinking_blocks": [block]}, choice)

    def refusal(self, text: str, *, choice: int = 0) -> None:
        self.characters += len(text)
        self._delta({"refusal": text}, choice)

    def tool_call(
        self,
        name: str,
        *,
        id: str | None = None,
        arguments: str = "",
        extra: Document | None = None,
        choice: int = 0,
    ) -> int:
        index = self._calls.get(choice, 0)
        self._calls[choice] = index + 1
        self.characters += len(name) + len(arguments)
        call: Document = {
            "index": index,
            "id": id or self._call_id(choice, index),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        if extra is not None:
            call["extra_content"] = extra
        self._delta({"tool_calls": [call]}, choice)
        return index

    def _call_id(self, choice: int, index: int) -> str:
        self._id = self._id or new_id()
        return _call_id(self._id, self._choice + choice, index)

    def arguments(self, call: int, fragment: str, *, choice: int = 0) -> None:
        if not fragment:
            return
        self.characters += len(fragment)
        self._delta({"tool_calls": [{"index": call, "function": {"arguments": fragment}}]}, choice)

    def logprobs(self, content: list[Document], *, choice: int = 0) -> None:
        self._delta({}, choice, {"logprobs": _logprobs(content)})

    def message_fields(self, fields: Document, *, choice: int = 0) -> None:
        self._delta(fields, choice)

    def finish(
        self,
        reason: FinishReason,
        *,
        native: str | None = None,
        stop_sequence: str | None = None,
        choice: int = 0,
    ) -> None:
        # Calls may still come: `end` looks for them.
        self._finish[choice] = _finish(reason, native, stop_sequence, False)

    @property
    def finished(self) -> bool:
        """Whether every choice that has begun is finished, and there is one."""
        return bool(self._finish) and self._finish.keys() >= self._plain.keys()

    def taken(self) -> bytes:
        """What was written since the last time."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def end(self) -> None:
        """Write how each choice ended."""
        for choice, finish in sorted(self._finish.items()):
            reason = finish["finish_reason"]
            if reason == "tool_calls" or (reason == "stop" and self._calls.get(choice)):
                finish["finish_reason"] = self._called
            self._delta({}, choice, finish)

    def write_usage(self, usage: Usage) -> None:
        """Write the chunk that holds usage alone."""
        chunk = {"choices": [], "usage": usage_to_openai(usage)}
        self._out.append(self._prefix() + _encode(chunk)[1:] + b"\n\n")

    def _prefix(self) -> bytes:
        if not self._head:
            self._id = self._id or new_id()
            head = {
                "id": self._id,
                "object": "chat.completion.chunk",
                "created": self._created,
                "model": self._model,
            }
            self._head = b"data: " + _encode(head)[:-1] + b","
        return self._head

    def _delta(self, delta: Document, choice: int, fields: Document | None = None) -> None:
        prefix = self._prefix()
        index = self._choice + choice
        if choice not in self._plain:
            self._plain[choice] = b'%b"choices":[{"index":%d,"delta":{' % (prefix, index)
            delta = {"role": "assistant", "content": None if "tool_calls" in delta else "", **delta}
        row = {"index": index, "delta": delta, "finish_reason": None}
        if fields is not None:
            row.update(fields)
        self._out.append(b'%b"choices":[%b]}\n\n' % (prefix, _encode(row)))


_PLAIN_END: Final = b'},"finish_reason":null}]}\n\n'


def new_id() -> str:
    """An id for an answer whose provider gives none."""
    return "chatcmpl-" + os.urandom(16).hex()


def _call_id(answer: str, choice: int, index: int) -> str:
    """An id for a call whose provider gives none: the same for the same answer."""
    return f"call_{answer.rpartition('-')[2]}_{choice}_{index}"


def _logprobs(content: list[Document] | None) -> Document | None:
    return None if content is None else {"content": content, "refusal": None}


def empty_answer() -> ProviderUnavailableError:
    """The error for an answer with nothing in it."""
    return ProviderUnavailableError(
        "The provider's answer has no finished choice.", code="invalid_provider_response"
    )

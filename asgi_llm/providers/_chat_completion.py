"""Whole chat answers in the OpenAI format. See ``_chat_answer``."""

from __future__ import annotations

from asgi_llm.providers._chat_answer import (
    FinishReason,
    call_id,
    empty_answer,
    finish_fields,
    logprobs_field,
    new_id,
)
from asgi_llm.types import Document, Usage
from asgi_llm.wire.usage import usage_to_openai

__all__ = ["CompletionWriter"]


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
        return call_id(self._id, self._choice + choice, index)

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
        known.finish = finish_fields(reason, native, stop_sequence, bool(known.calls))

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
                    "logprobs": logprobs_field(choice.logprobs),
                    **(choice.finish or {}),
                }
                for index, choice in choices
            ],
        }
        if self.usage is not None:
            document["usage"] = usage_to_openai(self.usage)
        return document

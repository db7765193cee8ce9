"""Streamed chat answers in the OpenAI format. See ``_chat_answer``."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from asgi_llm.providers._chat_answer import (
    FinishReason,
    call_id,
    finish_fields,
    logprobs_field,
    new_id,
)
from asgi_llm.types import Document, Usage
from asgi_llm.wire.usage import usage_to_openai

__all__ = ["ChunkWriter"]

_encode = msgspec.json.Encoder().encode

_PLAIN_END: Final = b'},"finish_reason":null}]}\n\n'


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
        return call_id(self._id, self._choice + choice, index)

    def arguments(self, call: int, fragment: str, *, choice: int = 0) -> None:
        if not fragment:
            return
        self.characters += len(fragment)
        self._delta({"tool_calls": [{"index": call, "function": {"arguments": fragment}}]}, choice)

    def logprobs(self, content: list[Document], *, choice: int = 0) -> None:
        self._delta({}, choice, {"logprobs": logprobs_field(content)})

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
        self._finish[choice] = finish_fields(reason, native, stop_sequence, False)

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

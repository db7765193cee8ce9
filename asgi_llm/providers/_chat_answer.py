"""Chat answers in the OpenAI format, written part by part.

An adapter reads its provider's answer once, as a sequence of parts, and tells them to a writer:
``CompletionWriter`` makes one object of them, ``ChunkWriter`` the events of a stream. So a part
means the same in both. Here is what both have in common.

What the format has no field for is carried in the fields that other servers use for it:
``reasoning_content`` and ``thinking_blocks`` on messages and deltas (LiteLLM, DeepSeek),
``extra_content`` on tool calls (Google's compatible endpoint), ``native_finish_reason`` on choices
(OpenRouter) and ``stop_reason`` for the stop sequence that was met (vLLM).

Source: OpenAI API reference, "The chat completion object" and "The chat completion chunk object".
"""

from __future__ import annotations

import os
from typing import Final, Literal, Protocol

from asgi_llm.errors import ProviderUnavailableError
from asgi_llm.types import Document, Usage

__all__ = [
    "CUTTING",
    "AnswerWriter",
    "FinishReason",
    "call_id",
    "empty_answer",
    "finish_fields",
    "logprobs_field",
    "new_id",
]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]

CUTTING: Final = frozenset(("length", "content_filter"))
"""Reasons for which an answer may end anywhere, amid the input of a call too."""


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


def finish_fields(
    reason: FinishReason, native: str | None, stop_sequence: str | None, has_calls: bool
) -> Document:
    """The fields of a choice that say how it ended."""
    finish: Document = {"finish_reason": "tool_calls" if has_calls and reason == "stop" else reason}
    if native is not None:
        finish["native_finish_reason"] = native
    if stop_sequence is not None:
        finish["stop_reason"] = stop_sequence
    return finish


def new_id() -> str:
    """An id for an answer whose provider gives none."""
    return "chatcmpl-" + os.urandom(16).hex()


def call_id(answer: str, choice: int, index: int) -> str:
    """An id for a call whose provider gives none: the same for the same answer."""
    return f"call_{answer.rpartition('-')[2]}_{choice}_{index}"


def logprobs_field(content: list[Document] | None) -> Document | None:
    """What a choice says of the log probabilities of its text."""
    return None if content is None else {"content": content, "refusal": None}


def empty_answer() -> ProviderUnavailableError:
    """The error for an answer with nothing in it."""
    return ProviderUnavailableError(
        "The provider's answer has no finished choice.", code="invalid_provider_response"
    )

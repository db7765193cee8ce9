"""Answers for clients that speak of functions in the form before tools.

Who sends ``functions`` reads ``function_call``: one call an answer, without an id. A second call of
the same answer has no place there and is left out; a model makes it again when it has the result
of the first.

Source: OpenAI API reference, "Create chat completion", the deprecated ``functions``.
"""

from __future__ import annotations

from asgi_llm.providers._chat_chunks import ChunkWriter
from asgi_llm.providers._chat_completion import CompletionWriter
from asgi_llm.types import Document

__all__ = ["FunctionCallChunks", "FunctionCallCompletion", "wants_function_call"]


def wants_function_call(document: Document) -> bool:
    """Whether the request knows functions and no tools."""
    return bool(document.get("functions")) and not document.get("tools")


class FunctionCallCompletion(CompletionWriter):
    """A ``CompletionWriter`` that has ``function_call`` in the place of ``tool_calls``."""

    __slots__ = ()

    def document(self) -> Document:
        document = super().document()
        for choice in document["choices"]:
            message = choice["message"]
            calls = message.pop("tool_calls", None)
            if calls:
                message["function_call"] = _function_call(calls[0])
            if choice["finish_reason"] == "tool_calls":
                choice["finish_reason"] = "function_call"
        return document


class FunctionCallChunks(ChunkWriter):
    """A ``ChunkWriter`` that has ``function_call`` in the place of ``tool_calls``."""

    __slots__ = ()

    _called = "function_call"

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
        if index == 0:
            call: Document = {"function": {"name": name, "arguments": arguments}}
            if extra is not None:
                call["extra_content"] = extra
            delta: Document = {"function_call": _function_call(call)}
            if choice not in self._plain:
                # What an answer without a text has in its first delta.
                delta["content"] = None
            self._delta(delta, choice)
        return index

    def arguments(self, call: int, fragment: str, *, choice: int = 0) -> None:
        self.characters += len(fragment)
        if fragment and call == 0:
            self._delta({"function_call": {"arguments": fragment}}, choice)


def _function_call(call: Document) -> Document:
    function: Document = call["function"]
    extra = call.get("extra_content")
    return function if extra is None else {**function, "extra_content": extra}

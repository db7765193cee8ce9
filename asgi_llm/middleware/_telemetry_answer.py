"""What an answer of an app that is not ours says of itself, in OpenAI's form."""

from __future__ import annotations

from typing import Final

from asgi_llm.errors import RawHeaders
from asgi_llm.middleware._answer_usage import AnswerReader
from asgi_llm.types import Usage

__all__ = ["ForeignAnswer", "tells_usage"]

_HEAD_BYTES: Final = 4096
_MODEL: Final = b'"model"'


def tells_usage(headers: RawHeaders) -> bool:
    """Whether the answer is of a kind that names a model and its usage: no sound, no picture."""
    for name, value in headers:
        if name.lower() == b"content-type":
            return value.lower().startswith((b"application/json", b"text/event-stream"))
    return False


class ForeignAnswer:
    """Keeps of an answer what its model and its usage can be read from.

    Streaming: holds references to what ``AnswerReader`` holds, and to the first chunk.

    Args:
        headers: Of the answer.
    """

    __slots__ = ("_head", "_reader")

    def __init__(self, headers: RawHeaders) -> None:
        self._reader = AnswerReader(headers)
        self._head = b""

    def feed(self, chunk: bytes) -> None:
        """A piece of the body passes."""
        if not self._head:
            self._head = chunk
        self._reader.feed(chunk)

    def usage(self) -> Usage | None:
        """What the answer says it used; None where it does not say."""
        usage = self._reader.usage(0)
        return None if usage is None or usage.estimated else usage

    def model(self) -> str | None:
        """The model that the beginning of the answer names."""
        head = self._head[:_HEAD_BYTES]
        _, found, rest = head.partition(_MODEL)
        if not found:
            return None
        # In a text within the answer the quotation marks would stand behind backslashes.
        before, _, value = rest.partition(b'"')
        name, closed, _ = value.partition(b'"')
        if before.strip() != b":" or not closed or not name.isascii() or b"\\" in name:
            return None
        return name.decode("ascii")

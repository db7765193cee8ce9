"""Streams of other formats as streams of the OpenAI format: the frame around an adapter's reader.

Framing, what is held back, how a stream ends and what is said of one that does not: all of that is
here, once. An adapter brings the framing of its provider and a reader for single events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from asgi_llm import _sse
from asgi_llm.errors import ProviderError, ProviderUnavailableError
from asgi_llm.providers._chat_answer import AnswerWriter
from asgi_llm.providers._chat_chunks import ChunkWriter
from asgi_llm.types import Usage

__all__ = [
    "AnswerReader",
    "FrameError",
    "Frames",
    "JSONLines",
    "SSEFrames",
    "StreamGroup",
    "TranslatedStream",
    "sum_usage",
]

Frame = tuple[str, bytes]
"""The kind of an event (``message`` where the framing has no kinds) and its data, undecoded."""


class FrameError(ValueError):
    """The stream breaks its framing; the text goes into the error for the client.

    Attributes:
        frames: The events before that place that were not returned yet.
    """

    frames: Sequence[Frame] = ()


class Frames(Protocol):
    """Takes a stream apart into events, at any split of the bytes."""

    def feed(self, chunk: bytes) -> Sequence[Frame]:
        """The events that ``chunk`` completes.

        Raises:
            FrameError: The framing is broken, or an event is over the cap.
        """

    def close(self) -> Sequence[Frame]:
        """The last event, where the body may end without a border.

        Raises:
            FrameError: The body ends within an event and may not.
        """


class SSEFrames:
    """Server-sent events."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = _sse.Decoder()

    def feed(self, chunk: bytes) -> Sequence[Frame]:
        try:
            return [(event.type, event.data) for event in self._decoder.feed(chunk)]
        except _sse.SSEError as error:
            raise FrameError(str(error)) from error

    def close(self) -> Sequence[Frame]:
        return [(event.type, event.data) for event in self._decoder.close()]


class JSONLines:
    """One JSON value a line (Ollama)."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> Sequence[Frame]:
        lines = (self._held + chunk).split(b"\n")
        self._held = lines.pop()
        if len(self._held) > _sse.MAX_EVENT_BYTES:
            raise FrameError(f"a line is larger than {_sse.MAX_EVENT_BYTES} bytes")
        return [("message", line) for line in lines if line.strip()]

    def close(self) -> Sequence[Frame]:
        held, self._held = self._held, b""
        return [("message", held)] if held.strip() else []


class AnswerReader(Protocol):
    """Reads the events of one answer and tells its parts to a writer."""

    over: bool
    """The provider said that nothing more comes."""

    ends_with_body: bool
    """The format has no end mark: an answer is over when all its choices are finished and its body
    has ended as its framing says."""

    def read(self, kind: str, data: bytes, writer: AnswerWriter) -> None:
        """One event.

        Raises:
            ProviderError: It is an error.
            msgspec.MsgspecError: It is not what it should be.
        """


class StreamGroup:
    """The streams that one answer is made of, which end together: one, as a rule.

    Args:
        include_usage: The client asked for the chunk with the usage.
        size: How many there are.
    """

    __slots__ = ("include_usage", "left", "usage")

    def __init__(self, *, include_usage: bool, size: int = 1) -> None:
        self.include_usage = include_usage
        self.left = size
        self.usage: Usage | None = None

    def add(self, usage: Usage | None) -> None:
        """One of them has used so much."""
        self.usage = sum_usage(self.usage, usage)


class TranslatedStream:
    """See ``StreamDecoder``.

    Args:
        frames: The framing.
        reader: The adapter's.
        writer: Where ``reader`` writes.
        group: What this stream is a part of.

    Streaming: holds back an unfinished event and how the choices ended. Everything else leaves with
    the chunk that brought it.
    """

    __slots__ = ("_frames", "_group", "_reader", "_writer", "done", "error", "usage")

    def __init__(
        self, frames: Frames, reader: AnswerReader, writer: ChunkWriter, group: StreamGroup
    ) -> None:
        self._frames = frames
        self._reader = reader
        self._writer = writer
        self._group = group
        self.done = False
        self.error: ProviderError | None = None
        self.usage: Usage | None = None

    @property
    def output_characters(self) -> int:
        """How much was written, for an estimate where the provider did not come to say it."""
        return self._writer.characters

    def feed(self, chunk: bytes) -> bytes:
        if self.done or self.error is not None:
            return b""
        try:
            self._read(self._frames.feed(chunk))
        except FrameError as error:
            # They count like those of an earlier chunk.
            self._read(error.frames)
            if not self.done and self.error is None:
                self._malformed(error)
        return self._taken()

    def close(self, *, framed: bool = True) -> bytes:
        if self.done or self.error is not None:
            return b""
        try:
            self._read(self._frames.close())
        except FrameError as error:
            self._malformed(error)
        if not self.done and self.error is None:
            if self._reader.ends_with_body and framed and self._writer.finished:
                self._end()
            else:
                self.error = ProviderUnavailableError(
                    "The provider's stream ended before it was finished.", code="stream_truncated"
                )
        return self._taken()

    def _read(self, frames: Sequence[Frame]) -> None:
        reader, writer = self._reader, self._writer
        for kind, data in frames:
            try:
                reader.read(kind, data, writer)
            except ProviderError as error:
                self.error = error
                break
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                self._malformed(error)
                break
            if reader.over:
                if writer.finished:
                    self._end()
                else:
                    self.error = ProviderUnavailableError(
                        "The provider ended its stream without a finish reason.",
                        code="stream_truncated",
                    )
                break
        if not self.done:
            self.usage = writer.usage

    def _end(self) -> None:
        writer, group = self._writer, self._group
        writer.end()
        group.left -= 1
        group.add(writer.usage)
        self.done = True
        self.usage = writer.usage
        if not group.left:
            self.usage = group.usage
            if group.include_usage and group.usage is not None:
                writer.write_usage(group.usage)

    def _taken(self) -> bytes:
        out = self._writer.taken()
        return out + _sse.DONE if self.done and not self._group.left else out

    def _malformed(self, cause: Any) -> None:
        self.error = ProviderUnavailableError(
            "The provider sent an event that cannot be read.", code="invalid_provider_response"
        )
        self.error.__cause__ = cause


_COUNTS: Final = tuple(name for name in Usage.__struct_fields__ if name != "estimated")


def sum_usage(one: Usage | None, other: Usage | None) -> Usage | None:
    """Usage of two calls that one answer is made of."""
    if one is None or other is None:
        return one or other
    return Usage(
        **{name: getattr(one, name) + getattr(other, name) for name in _COUNTS},
        estimated=one.estimated or other.estimated,
    )

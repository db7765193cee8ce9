"""What an attempt answers, held back as long as another attempt may still take its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.types import Message, Send

from asgi_llm import _json, _sse
from asgi_llm._asgi import is_event_stream
from asgi_llm._sse import EventReader
from asgi_llm.errors import RawHeaders
from asgi_llm.state import ATTEMPTS, State

__all__ = ["AttemptAnswer", "error_names", "read_error"]

_MAX_HELD_BYTES: Final = 256 * 1024
"""Of the body of an error. A longer one is no error to judge, and passes."""

_MAX_HELD_MESSAGES: Final = 1024

_ATTEMPTS: Final = b"x-attempts"


class AttemptAnswer:
    """The ``send`` that one attempt gets.

    A good answer passes as it comes. Held back are, where another attempt is possible, an answer
    with a status from 400 on, and the beginning of an event stream until its first content: an
    error that comes before that is one that can be mended.

    Args:
        send: To the client.
        state: The request's.
        number: Of the attempt, from 1. The client is told of later ones where the app does not.
        holds: Whether another attempt is possible.
        peek_bytes: How much of a stream may be held back; 0 lets streams pass at once.
        on_begin: Called when the first byte is about to leave.

    Attributes:
        begun: Whether anything has left: from then on there is no other attempt.
        status: Of the answer; None: it did not begin.
        whole: Whether its end has come.
        is_counted: Whether the client is told of more attempts than the app knows of.
        refused: Whether a stream said, before any content, that it failed.
        error: What the stream gave as its error.

    Streaming: at most ``peek_bytes`` of a stream and 256 KiB of an error are held.
    """

    __slots__ = (
        "_held",
        "_holds",
        "_peek_bytes",
        "_reader",
        "_room",
        "_send",
        "_state",
        "begun",
        "error",
        "is_counted",
        "number",
        "on_begin",
        "refused",
        "status",
        "whole",
    )

    def __init__(
        self,
        send: Send,
        state: State,
        *,
        number: int,
        holds: bool,
        peek_bytes: int,
        on_begin: Callable[[int], Awaitable[None]],
    ) -> None:
        self._send = send
        self._state = state
        self.number = number
        self._holds = holds
        self._peek_bytes = peek_bytes
        self.on_begin = on_begin
        self._held: list[Message] = []
        self._reader: EventReader | None = None
        self._room = 0
        self.begun = False
        self.status: int | None = None
        self.whole = False
        self.refused = False
        self.is_counted = False
        self.error: Any = None

    @property
    def headers(self) -> RawHeaders:
        """Of an answer that is held back."""
        return self._held[0]["headers"] if self._held else []

    @property
    def body(self) -> bytes:
        """What is held back of it."""
        return b"".join([message.get("body", b"") for message in self._held[1:]])

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.whole = True
        if self.begun:
            await self._send(message)
        elif self._held:
            await self._hold(message)
        elif message["type"] == "http.response.start":
            await self._start(message)
        else:
            # What may come before a start, such as an early hint.
            await self._send(message)

    async def release(self) -> None:
        """Send what is held."""
        held, self._held = self._held, []
        self._reader = None
        if not held:
            return
        await self._begin(held[0])
        for message in held[1:]:
            await self._send(message)

    def drop(self) -> None:
        """Forget what is held, as if nothing had been said."""
        self._held.clear()
        self.status = None

    async def _start(self, message: Message) -> None:
        status: int = message["status"]
        self.status = status
        if self._holds:
            # May be an iterator, which can be read once.
            headers: RawHeaders = list(message.get("headers", ()))
            message = {**message, "headers": headers}
            if status >= 400:
                self._room = _MAX_HELD_BYTES
            elif self._peek_bytes and is_event_stream(headers):
                self._room = self._peek_bytes
                self._reader = EventReader(self._state.event_log)
            if self._room:
                self._held.append(message)
                return
        await self._begin(message)

    async def _begin(self, start: Message) -> None:
        """Let the start leave, with the number of attempts where there were several."""
        await self.on_begin(start["status"])
        self.begun = True
        if self.number > 1 or self.is_counted:
            headers: RawHeaders = list(start.get("headers", ()))
            if self.is_counted:
                headers = [pair for pair in headers if pair[0].lower() != _ATTEMPTS]
            if not any(name.lower() == _ATTEMPTS for name, _ in headers):
                headers.append((_ATTEMPTS, b"%d" % self._count(start["status"])))
            start = {**start, "headers": headers}
        await self._send(start)

    def _count(self, status: int) -> int:
        """How many calls were made; this one is noted when it is over."""
        made = self._state.get(ATTEMPTS)
        if not made:
            return self.number
        return len(made) if status >= 400 else len(made) + 1

    async def _hold(self, message: Message) -> None:
        self._held.append(message)
        chunk: bytes = message.get("body", b"")
        self._room -= len(chunk)
        passes = self._room < 0 or len(self._held) > _MAX_HELD_MESSAGES
        if self._reader is not None and not self.refused:
            if message["type"] == "http.response.body":
                passes = self._has_content(self._reader, chunk) or passes
            else:
                passes = True
            passes = passes or (self.whole and not self.refused)
        if passes:
            await self.release()

    def _has_content(self, reader: EventReader, chunk: bytes) -> bool:
        """Whether the client has something to read in ``chunk``."""
        try:
            for event in reader.feed(chunk):
                if event.done:
                    return True
                document = event.json()
                error = document.get("error") if isinstance(document, dict) else None
                if error or event.type == "error":
                    self.refused = True
                    self.error = error
                    return False
                if not _is_preamble(document):
                    return True
        except _sse.SSEError:
            # Whatever it is, it is not for this layer to judge.
            return True
        return False


def _is_preamble(document: Any) -> bool:
    """Whether an event of a chat stream says only that an answer begins."""
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list) or document.get("usage"):
        return False
    for choice in choices:
        if not isinstance(choice, dict) or choice.get("finish_reason") is not None:
            return False
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return False
        if any(value for name, value in delta.items() if name != "role"):
            return False
    return True


def read_error(body: bytes) -> tuple[str | None, str | None]:
    """The code and the type of an error in OpenAI's form; None where it does not say them."""
    try:
        document = _json.decode_unchecked(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    return error_names(document.get("error") if isinstance(document, dict) else None)


def error_names(error: Any) -> tuple[str | None, str | None]:
    """The code and the type of an ``error`` object."""
    if not isinstance(error, dict):
        return None, None
    code, kind = error.get("code"), error.get("type")
    return code if isinstance(code, str) else None, kind if isinstance(kind, str) else None

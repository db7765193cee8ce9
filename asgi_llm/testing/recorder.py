"""The ``send`` of a test: it keeps what an app sends, and refuses what a server would refuse."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Message

from asgi_llm import _sse
from asgi_llm.errors import RawHeaders

__all__ = ["Recorder"]


class Recorder:
    """An ASGI ``send`` for one HTTP response.

    Attributes:
        messages: What was sent, the very objects, in order.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._start: Message | None = None
        self._complete = False

    async def __call__(self, message: Message) -> None:
        self.record(message)

    def record(self, message: Message) -> None:
        """Keep ``message``.

        Raises:
            RuntimeError: No server would take it here: a second start, a body before the start or
                after the end.
        """
        kind = message["type"]
        if kind == "http.response.start":
            if self._start is not None:
                raise RuntimeError("a second http.response.start was sent")
            self._start = message
        if kind == "http.response.body":
            if self._start is None:
                raise RuntimeError("http.response.body was sent before http.response.start")
            if self._complete:
                raise RuntimeError("http.response.body was sent after the response had ended")
            self._complete = not message.get("more_body", False)
        self.messages.append(message)

    @property
    def started(self) -> bool:
        """Whether the response has begun."""
        return self._start is not None

    @property
    def complete(self) -> bool:
        """Whether the last piece of the body was sent."""
        return self._complete

    @property
    def status(self) -> int:
        """The status.

        Raises:
            LookupError: Nothing was answered.
        """
        return int(self._started()["status"])

    @property
    def headers(self) -> RawHeaders:
        """All headers as pairs, in their order.

        Raises:
            LookupError: Nothing was answered.
        """
        return [(bytes(name), bytes(value)) for name, value in self._started().get("headers", ())]

    def header(self, name: str) -> bytes | None:
        """The first value of a header, whatever its case; None where it is not there."""
        return next(iter(self.header_values(name)), None)

    def header_values(self, name: str) -> list[bytes]:
        """Every value of a header, in order."""
        wanted = name.lower().encode("latin-1")
        return [value for key, value in self.headers if key.lower() == wanted]

    @property
    def chunks(self) -> list[bytes]:
        """The body as it was sent, message by message."""
        return [
            message.get("body", b"")
            for message in self.messages
            if message["type"] == "http.response.body"
        ]

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(self.chunks)

    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)

    @property
    def events(self) -> list[_sse.Event]:
        """The server-sent events of the body so far; ``event.json()`` and ``event.done`` help."""
        decoder = _sse.Decoder()
        return [*decoder.feed(self.body), *decoder.close()]

    def _started(self) -> Message:
        if self._start is None:
            raise LookupError(f"no response was started; sent was {self.messages!r}")
        return self._start

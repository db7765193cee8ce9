"""uvicorn's HTTP protocol, with the bounds that it lacks on what a client may hold on to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asgi_llm import _json
from asgi_llm.errors import InternalError, error_document

if TYPE_CHECKING:
    from asgi_llm.gateway.serve import ServerConfig

__all__ = ["BoundedProtocol"]

MAX_HEAD_BYTES = 64 * 1024


def _refusal(status: bytes, message: str, code: str, kind: str) -> bytes:
    body = _json.encode(error_document(InternalError(message, code=code, type=kind)))
    return (
        b"HTTP/1.1 " + status + b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        b"connection: close\r\n\r\n" % len(body) + body
    )


_FULL = _refusal(
    b"503 Service Unavailable",
    "The gateway has as many connections as it takes; please try again.",
    "too_many_connections",
    "server_error",
).replace(b"connection:", b"retry-after: 1\r\nconnection:", 1)
_LATE = _refusal(
    b"408 Request Timeout",
    "The head of the request did not arrive in time.",
    "request_timeout",
    "invalid_request_error",
)
_LONG = _refusal(
    b"431 Request Header Fields Too Large",
    f"The head of the request is larger than {MAX_HEAD_BYTES} bytes.",
    "headers_too_large",
    "invalid_request_error",
)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. It may not be one too many, and the head of a request not late or endless."""

    _timer: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._own_config.max_connections:
            self._refuse(_FULL)
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and see to it that a head that has begun also ends."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_LONG)
            elif self._timer is None:
                self._wait_for_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends: let a request under way finish, up to the deadline."""
        self._own_config.drain.begin()
        super().shutdown()

    @property
    def _own_config(self) -> ServerConfig:
        return cast("ServerConfig", self.config)

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(
            self._own_config.header_timeout_seconds, self._refuse, _LATE
        )

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, answer: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

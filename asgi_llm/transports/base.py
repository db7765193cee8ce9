"""What a provider app needs of an HTTP client, at the level of bytes.

TransportError
├── ConnectError          refused, unreachable, no address, TLS failed: nothing was sent
├── TransportTimeoutError connect, first byte, idle or total
├── ConnectionLostError   the connection ended before the response did
├── UpstreamProtocolError an ambiguous or malformed response, or headers over the cap
└── ResponseTooLargeError a body over the cap
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from asgi_llm.errors import RawHeaders

__all__ = [
    "ConnectError",
    "ConnectionLostError",
    "ResponseTooLargeError",
    "Timeouts",
    "Transport",
    "TransportError",
    "TransportTimeoutError",
    "UpstreamProtocolError",
    "UpstreamRequest",
    "UpstreamResponse",
]


class TransportError(Exception):
    """Base of what a transport raises. The text names no header, key or query of the request."""


class ConnectError(TransportError):
    """No connection could be made; nothing was sent."""


class TransportTimeoutError(TransportError):
    """A deadline passed.

    Args:
        phase: Which one of ``Timeouts`` it was.
        seconds: Its length.
    """

    def __init__(self, phase: Phase, seconds: float) -> None:
        super().__init__(f"{_PHASES[phase]} within {seconds:g} seconds")
        self.phase = phase
        self.seconds = seconds


Phase = Literal["connect", "first_byte", "idle", "total"]

_PHASES: dict[Phase, str] = {
    "connect": "no connection",
    "first_byte": "no answer",
    "idle": "nothing more of the answer",
    "total": "no complete answer",
}


class ConnectionLostError(TransportError):
    """The connection ended before the response did: the answer is not whole."""


class UpstreamProtocolError(TransportError):
    """The response is malformed or could be read in two ways, or its headers are over the cap."""


class ResponseTooLargeError(TransportError):
    """The body is over the cap that the reader gave."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """Deadlines of one call, in seconds, each above 0; None is no deadline.

    Args:
        connect_seconds: From asking for a connection to having one, TLS and the wait for a free
            place in the pool included.
        first_byte_seconds: From the request sent to the response's status line.
        idle_seconds: Between two pieces of the response.
        total_seconds: From the call to the end of the response.
    """

    connect_seconds: float | None = 10.0
    first_byte_seconds: float | None = 300.0
    idle_seconds: float | None = 120.0
    total_seconds: float | None = 1800.0


Headers = Sequence[tuple[bytes, bytes]]
"""Pairs to send. A tuple that is sent again and again is written once."""


class UpstreamRequest(msgspec.Struct, gc=False):
    """One call to make.

    Args:
        method: Upper case.
        url: Absolute, ``http`` or ``https``, already escaped.
        headers: Names in lower case. Without ``host``, ``content-length``, ``transfer-encoding``
            and ``connection``: those are the transport's.
        body: The bytes, or an iterable of them, which is sent as it comes (chunked, or with
            ``content_length`` where that is given) and cannot be sent twice.
        content_length: Length of an iterable body, where it is known.
    """

    method: str
    url: str
    headers: Headers
    body: bytes | AsyncIterable[bytes] = b""
    content_length: int | None = None


class UpstreamResponse(Protocol):
    """A response whose status and headers are there and whose body may still be on its way."""

    status: int
    headers: RawHeaders
    """Names in lower case, in the order in which they came, duplicates kept."""
    framed: bool
    """False: the body ended when the connection did, so its end proves nothing."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body in non-empty pieces as they come, content encoding not undone.

        What is not asked for is not read: a slow reader slows the upstream down. May be iterated
        once.

        Raises:
            ConnectionLostError: The connection ended before the body did.
            TransportTimeoutError: ``idle`` or ``total``.
        """
        ...

    async def read(self, max_bytes: int) -> bytes:
        """The whole body. Once it is there nothing is left to close.

        Raises:
            ResponseTooLargeError: It is over ``max_bytes``; no more than that was kept.
        """
        ...

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, else close it. Idempotent."""
        ...


class Transport(Protocol):
    """Makes calls. One instance serves any number of requests at once, on one event loop."""

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamResponse:
        """Send ``request`` and wait for the response's headers. Redirects are not followed.

        Cancelling it closes the connection. The caller closes the response.

        Raises:
            TransportError: As drawn above.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        ...

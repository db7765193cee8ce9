"""Reading responses strictly: httptools, and what it lets pass and must not be passed."""

from __future__ import annotations

import httptools

from asgi_llm.errors import RawHeaders
from asgi_llm.transports._response import Http1Response
from asgi_llm.transports.base import UpstreamProtocolError

_MAX_HEADERS = 256
_FRAMING = frozenset((b"transfer-encoding", b"content-length"))


class _Malformed(Exception):
    """Stops the parser; what is wrong stands in ``Parsing._malformed``."""


class Parsing:
    """The parsing half of a connection: what httptools calls, and what came of it.

    The parser refuses by itself folded headers, several lengths or a length beside chunks, bare
    line feeds, and sloppy chunk sizes. An empty line between two messages says nothing, and passes.
    """

    __slots__ = (
        "_complete",
        "_count",
        "_head_bytes",
        "_headers",
        "_interim",
        "_is_head",
        "_keep",
        "_malformed",
        "_parser",
        "_parts",
        "_response",
        "_started",
        "on_body",
    )

    def __init__(self) -> None:
        self._response: Http1Response | None = None
        # The parser appends each piece of the body by itself, with no call into this class.
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        self._headers: RawHeaders = []
        self._is_head = self._started = self._complete = self._interim = False
        self._keep = True
        self._malformed: UpstreamProtocolError | None = None
        self._head_bytes = 0
        self._count = 0
        """Parts that belong to the message."""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def _head_fits(self, response: Http1Response, max_bytes: int) -> bool:
        """The exact look, for when all that came in the same reads is over the cap."""
        return self._started and self._head_bytes + _size(response.headers) <= max_bytes

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep = False

    def on_status(self, reason: bytes) -> None:
        self._head_bytes += len(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        response, parser = self._response, self._parser
        if response is None or parser is None or self._complete:
            return
        headers, self._headers = self._headers, []
        status = parser.get_status_code()
        version = parser.get_http_version()
        if version != "1.1" and version != "1.0":
            self._refuse("the response is of another HTTP version")
        if len(headers) > _MAX_HEADERS:
            self._refuse("the response has too many headers")
        if status < 200:
            if status < 100:
                self._refuse("the response has an unknown status")
            if status == 101:
                self._refuse("the upstream wants to speak another protocol")
            self._interim = True
            self._head_bytes += _size(headers)
            return
        chunked = False
        for name, value in headers:
            if name in _FRAMING:
                if name == b"content-length":
                    response.length = int(value)
                elif chunked or value.lower() != b"chunked" or version != "1.1":
                    self._refuse("the response has an unknown transfer-encoding")
                else:
                    chunked = True
        response.status = status
        response.headers = headers
        self._keep = parser.should_keep_alive()
        self._started = True
        if self._is_head:
            response.length = None
            self._complete, self._keep = True, False
        elif status in (204, 304):
            response.length = None
        elif not chunked and response.length is None:
            response.framed = self._keep = False

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._complete:
            self._complete = True
            self._count = len(self._parts)

    def _refuse(self, why: str) -> None:
        self._malformed = UpstreamProtocolError(why)
        raise _Malformed


def _size(headers: RawHeaders) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)

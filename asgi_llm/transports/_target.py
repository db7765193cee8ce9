"""Where a request goes and how its head is written, checked so that nothing can be smuggled in."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from asgi_llm.transports.base import Headers

_VISIBLE = re.compile(r"[!-~]+")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_METHOD = re.compile(r"[A-Z]+")
_OWN_HEADERS = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection"))
_PORTS = {"http": 80, "https": 443}
_MAX_NAMES = 512
_MAX_BLOCKS = 512


class Origin(NamedTuple):
    """What connections may be shared for."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_target(method: str, url: str) -> tuple[Origin, bytes]:
    """The origin of ``url``, and the request line with the host field.

    Raises:
        ValueError: The method or the URL cannot be sent as it is. The text does not repeat the URL,
            whose query may hold a key.
    """
    if _METHOD.fullmatch(method) is None:
        raise ValueError("the method must be upper-case letters")
    # Before it is parsed: urlsplit drops line ends and tabs without a word.
    if _VISIBLE.fullmatch(url) is None:
        raise ValueError("the URL must be visible ASCII characters, escaped")
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in _PORTS or not host:
        raise ValueError("the URL must be absolute, with http or https and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL must not hold a user name or password")
    default = _PORTS[parts.scheme]
    origin = Origin(parts.scheme, host, default if parts.port is None else parts.port)
    name = f"[{host.partition('%')[0]}]" if ":" in host else host
    if origin.port != default:
        name = f"{name}:{origin.port}"
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    return origin, f"{method} {target} HTTP/1.1\r\nhost: {name}\r\n".encode("ascii")


class HeadEncoder:
    """Writes the headers of requests.

    An adapter sends the same headers with each request, as one tuple. A tuple cannot change, so
    what was written for it once is written again.
    """

    __slots__ = ("_blocks", "_names")

    def __init__(self) -> None:
        self._names: set[bytes] = set()
        # By identity; the tuple is kept, so that no other can have its id.
        self._blocks: dict[int, tuple[Headers, bytes]] = {}

    def encode(self, prefix: bytes, headers: Headers, framing: bytes) -> bytes:
        """The head: ``prefix``, ``headers``, then ``framing`` and the empty line.

        Raises:
            ValueError: A name is not a lower-case token, is the transport's own, or a value holds
                CR, LF or NUL. The text does not repeat the value.
        """
        known = self._blocks.get(id(headers))
        if known is not None and known[0] is headers:
            return b"%b%b%b\r\n" % (prefix, known[1], framing)
        block = self._block(headers)
        if type(headers) is tuple:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[id(headers)] = headers, block
        return b"%b%b%b\r\n" % (prefix, block, framing)

    def _block(self, headers: Headers) -> bytes:
        parts: list[bytes] = []
        for name, value in headers:
            if name not in self._names:
                self._check_name(name)
            parts += (name, b": ", value, b"\r\n")
        block = b"".join(parts)
        # One line a header and no other: that is what a CR or LF in a value would change.
        lines = len(headers)
        if block.count(b"\n") != lines or block.count(b"\r") != lines or b"\0" in block:
            raise ValueError("a header value holds CR, LF or NUL")
        return block

    def _check_name(self, name: bytes) -> None:
        if _TOKEN.fullmatch(name) is None:
            raise ValueError("a header name is not a lower-case token")
        if name in _OWN_HEADERS:
            raise ValueError(f"the header {name.decode()} is the transport's to set")
        if len(self._names) < _MAX_NAMES:
            self._names.add(name)

"""Undoing the content encoding of a response, for upstreams that compress without being asked."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator

from asgi_llm.errors import RawHeaders
from asgi_llm.transports.base import (
    ResponseTooLargeError,
    UpstreamProtocolError,
    UpstreamResponse,
)

__all__ = ["decoded"]

_PIECE_BYTES = 64 * 1024
_GZIP = frozenset((b"gzip", b"x-gzip"))
# Window bits for zlib: with 16 added a gzip header is expected, negative means no header at all.
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def decoded(response: UpstreamResponse) -> UpstreamResponse:
    """``response`` with gzip or deflate undone; the very same object where nothing is to be undone.

    The result's headers have no ``content-encoding`` and no ``content-length``; ``read`` counts
    decoded bytes, and inflates at most 64 KiB over its cap.

    Streaming: decodes as it comes, in pieces of at most 64 KiB, each inflated when it is asked for.

    Raises:
        UpstreamProtocolError: The encoding is another. None is ever asked for. The caller still
            closes ``response``.
    """
    encoding = b""
    for name, value in response.headers:
        if name == b"content-encoding" and value.lower() not in (b"", b"identity"):
            encoding = encoding + b"," + value.lower() if encoding else value.lower()
    if not encoding:
        return response
    if encoding not in _GZIP and encoding != b"deflate":
        raise UpstreamProtocolError("the response has an unknown content-encoding")
    return _Decoded(response, is_gzip=encoding in _GZIP)


class _Decoded:
    """A response whose body is inflated on its way to the reader."""

    def __init__(self, response: UpstreamResponse, *, is_gzip: bool) -> None:
        self.status = response.status
        self.framed = response.framed
        self.headers: RawHeaders = [
            (name, value)
            for name, value in response.headers
            if name not in (b"content-encoding", b"content-length")
        ]
        self._response = response
        self._inflater = _Inflater(is_gzip)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        inflater = self._inflater
        async for chunk in self._response:
            for piece in inflater.feed(chunk):
                yield piece
        inflater.close()

    async def read(self, max_bytes: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in self:
            size += len(piece)
            if size > max_bytes:
                pieces.clear()
                await self.aclose()
                raise ResponseTooLargeError(f"the response inflates to more than {max_bytes} bytes")
            pieces.append(piece)
        await self.aclose()
        return b"".join(pieces)

    async def aclose(self) -> None:
        await self._response.aclose()


class _Inflater:
    """Inflates one body; gzip may have several members, one after the other."""

    __slots__ = ("_fed", "_held", "_is_gzip", "_zlib")

    def __init__(self, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._held = b""
        self._fed = False
        self._zlib = zlib.decompressobj(_GZIP_BITS) if is_gzip else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Inflate ``data``, piece by piece.

        Raises:
            UpstreamProtocolError: It is corrupt, or goes on after its end.
        """
        if self._zlib is None:
            data = self._held + data
            if len(data) < 2:
                self._held = data
                return
            self._zlib = zlib.decompressobj(_ZLIB_BITS if _has_zlib_header(data) else _RAW_BITS)
            self._held = b""
        self._fed = True
        # A full piece may have left more inside zlib, though all of the input is taken.
        more = False
        while data or more:
            if self._zlib.eof:
                if not self._is_gzip:
                    raise UpstreamProtocolError("the compressed response goes on after its end")
                self._zlib = zlib.decompressobj(_GZIP_BITS)
            try:
                piece = self._zlib.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise UpstreamProtocolError("the compressed response is corrupt") from error
            data = self._zlib.unconsumed_tail or self._zlib.unused_data
            more = len(piece) == _PIECE_BYTES and not self._zlib.eof
            if piece:
                yield piece

    def close(self) -> None:
        """The body is over. No body at all is fine.

        Raises:
            UpstreamProtocolError: The compressed data is not over.
        """
        if self._held or (self._zlib is not None and self._fed and not self._zlib.eof):
            raise UpstreamProtocolError("the compressed response breaks off")


def _has_zlib_header(data: bytes) -> bool:
    """Some servers take "deflate" for the bare format (RFC 1951), without the header of zlib."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0

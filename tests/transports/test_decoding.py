"""Undoing the content encoding of responses."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Sequence

import pytest

from asgi_llm.errors import RawHeaders
from asgi_llm.transports._decoding import decoded
from asgi_llm.transports.base import ResponseTooLargeError, UpstreamProtocolError

TEXT = b"".join(b'data: {"n":%d}\n\n' % n for n in range(5000))
CAP = 1 << 24


class Served:
    """A response whose pieces are known."""

    def __init__(self, pieces: Sequence[bytes], *encodings: bytes, framed: bool = True) -> None:
        self.status = 200
        self.framed = framed
        self.headers: RawHeaders = [(b"x", b"1"), (b"content-length", b"9"), (b"x", b"2")]
        self.headers += [(b"content-encoding", encoding) for encoding in encodings]
        self.pieces = pieces
        self.taken = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            yield piece

    async def read(self, max_bytes: int) -> bytes:
        return b"".join(self.pieces)

    async def aclose(self) -> None:
        self.closed = True


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


ENCODED = [
    (b"gzip", gzip.compress(TEXT)),
    (b"GZIP", gzip.compress(TEXT)),
    (b"x-gzip", gzip.compress(TEXT)),
    (b"gzip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
    (b"deflate", zlib.compress(TEXT)),
    (b"deflate", raw_deflate(TEXT)),
]


@pytest.mark.parametrize(("encoding", "data"), ENCODED)
@pytest.mark.parametrize("size", [1, 2, 1000, CAP])
async def test_encodings(encoding: bytes, data: bytes, size: int) -> None:
    """gzip, of one member or more, and both formats called deflate are undone at every cut."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert TEXT == await decoded(Served(pieces, encoding)).read(CAP)
    assert TEXT == b"".join([piece async for piece in decoded(Served(pieces, encoding))])


@pytest.mark.parametrize("encodings", [(), (b"identity",), (b"",), (b"identity", b"Identity")])
def test_identity_is_the_same_object(encodings: tuple[bytes, ...]) -> None:
    """Where nothing is to be undone nothing is wrapped."""
    response = Served([b"a"], *encodings)
    assert decoded(response) is response


@pytest.mark.parametrize("encodings", [(b"br",), (b"zstd",), (b"gzip, gzip",), (b"gzip", b"gzip")])
def test_other_encodings_are_refused(encodings: tuple[bytes, ...]) -> None:
    """What was not asked for and cannot be undone is an error."""
    with pytest.raises(UpstreamProtocolError, match="content-encoding"):
        decoded(Served([b"a"], *encodings))


async def test_headers_and_framing() -> None:
    """What no longer holds leaves the headers; the rest stays in order, and so does ``framed``."""
    response = Served([], b"gzip", framed=False)
    wrapped = decoded(response)
    assert [(b"x", b"1"), (b"x", b"2")] == wrapped.headers
    assert (wrapped.status, wrapped.framed) == (200, False)
    await wrapped.aclose()
    assert response.closed


async def test_each_piece_is_decoded_when_it_comes() -> None:
    """An event that the upstream has flushed is handed over before the next piece is asked for."""
    compressor = zlib.compressobj(wbits=31)
    pieces = [
        compressor.compress(b"data: %d\n\n" % n) + compressor.flush(zlib.Z_SYNC_FLUSH)
        for n in range(3)
    ]
    response = Served([*pieces, compressor.flush()], b"gzip")
    chunks = aiter(decoded(response))
    for n in range(3):
        assert await anext(chunks) == b"data: %d\n\n" % n
        assert response.taken == n + 1
    assert [b""] == [await anext(chunks, b"")]


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
async def test_a13_bomb(encoding: bytes) -> None:
    """A bomb inflates to no more than the cap and 64 KiB, and its sender is left."""
    zeros = b"\0" * (64 << 20)
    bomb = gzip.compress(zeros) if encoding == b"gzip" else zlib.compress(zeros)
    del zeros
    response = Served([bomb], encoding)
    tracemalloc.start()
    try:
        with pytest.raises(ResponseTooLargeError):
            await decoded(response).read(1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Beside the output: zlib's window and buffers, and the bomb's rest, copied as it is consumed.
    assert peak < (1 << 20) + 65536 + (256 << 10)
    assert response.closed


async def test_a13_bomb_in_a_stream() -> None:
    """A stream is inflated in pieces of at most 64 KiB, as they are asked for."""
    response = Served([gzip.compress(b"\0" * (8 << 20))], b"gzip")
    sizes = [len(piece) async for piece in decoded(response)]
    assert sum(sizes) == 8 << 20
    assert max(sizes) <= 65536


async def test_a13_cap_counts_decoded_bytes() -> None:
    """A body of just the cap is not over it."""
    data = gzip.compress(TEXT)
    assert TEXT == await decoded(Served([data], b"gzip")).read(len(TEXT))
    with pytest.raises(ResponseTooLargeError):
        await decoded(Served([data], b"gzip")).read(len(TEXT) - 1)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        (b"gzip", gzip.compress(TEXT)[:-1]),
        (b"gzip", gzip.compress(TEXT)[:-400]),
        (b"deflate", zlib.compress(TEXT)[:-1]),
        (b"deflate", b"\x78"),
        (b"gzip", b"not compressed at all"),
        (b"deflate", random.Random(1).randbytes(1000)),
        (b"gzip", gzip.compress(TEXT) + b"and more"),
        (b"deflate", zlib.compress(TEXT) + b"and more"),
        (b"gzip", gzip.compress(TEXT)[:50] + b"\xff" * 50 + gzip.compress(TEXT)[100:]),
    ],
)
@pytest.mark.parametrize("size", [1, CAP])
async def test_broken_data(encoding: bytes, data: bytes, size: int) -> None:
    """Data that breaks off, is corrupt or goes on after its end is an error, never a short body."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    with pytest.raises(UpstreamProtocolError):
        await decoded(Served(pieces, encoding)).read(CAP)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
async def test_no_body(encoding: bytes) -> None:
    """A response without a body may name an encoding."""
    assert b"" == await decoded(Served([], encoding)).read(CAP)


@pytest.mark.parametrize("bits", [-15, 15, 31])
async def test_ends_at_the_border_of_a_piece(bits: int) -> None:
    """What zlib still holds when all input is taken is not forgotten."""
    encoding = b"gzip" if bits == 31 else b"deflate"
    for size in range(65530, 65900):
        compressor = zlib.compressobj(9, wbits=bits)
        data = compressor.compress(bytes(size)) + compressor.flush()
        assert bytes(size) == await decoded(Served([data], encoding)).read(CAP)

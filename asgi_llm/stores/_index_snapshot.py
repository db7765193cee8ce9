"""The file of a semantic index: written whole or not at all, and believed only if it is whole.

The magic with the version, then chunks, then the SHA-256 of all before it::

    entries 4 | dimension 4 | length 8 | entries in MessagePack | vectors, 32-bit floats

Little endian throughout.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from asgi_llm.stores.semantic_index import IndexEntry

__all__ = [
    "CHUNK",
    "MAGIC",
    "Chunk",
    "SnapshotError",
    "put_aside",
    "read_snapshot",
    "write_snapshot",
]

logger = logging.getLogger(__name__)

MAGIC: Final = b"asgi-llm semantic index 1\n"
_ANY_MAGIC: Final = b"asgi-llm semantic index "
CHUNK: Final = 1000
_HEAD: Final = struct.Struct("<IIQ")
_DIGEST_BYTES: Final = 32
_MAX_DIMENSION: Final = 65_536

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[IndexEntry]).decode


class SnapshotError(Exception):
    """The file is not a whole snapshot of this version."""


class Chunk(NamedTuple):
    """Some entries and their vectors."""

    entries: list[IndexEntry]
    vectors: Any
    """Shape (n, d), float32."""


def write_snapshot(path: Path, chunks: Iterable[Chunk]) -> None:
    """Write ``chunks`` beside ``path``, and then put the file in its place.

    Raises:
        OSError: It could not be written; what was there before is there still.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            digest = hashlib.sha256(MAGIC)
            file.write(MAGIC)
            for chunk in chunks:
                entries = _encode(chunk.entries)
                count, dimension = chunk.vectors.shape
                vectors = chunk.vectors.astype("<f4", copy=False).tobytes()
                for piece in (_HEAD.pack(count, dimension, len(entries)), entries, vectors):
                    digest.update(piece)
                    file.write(piece)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def read_snapshot(path: Path, numpy: Any) -> Iterator[Chunk]:
    """The chunks of a file, all of which was checked before the first is given.

    Raises:
        SnapshotError: The file is damaged, or of another version.
        OSError: It cannot be read.
    """
    data = memoryview(path.read_bytes())
    if bytes(data[: len(MAGIC)]) != MAGIC:
        if bytes(data[: len(_ANY_MAGIC)]) == _ANY_MAGIC:
            raise SnapshotError("it is of another version")
        raise SnapshotError("it is no snapshot of a semantic index")
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(data) < len(MAGIC) + _DIGEST_BYTES or hashlib.sha256(body).digest() != bytes(digest):
        raise SnapshotError("its checksum does not fit: it is damaged, or was cut off")
    return _chunks(body[len(MAGIC) :], numpy)


def put_aside(path: Path, error: Exception) -> None:
    """Rename a file that cannot be used to ``NAME.damaged``, and say so in the log."""
    logger.warning("the semantic index starts empty, %s cannot be used: %s", path, error)
    try:
        path.replace(path.with_name(path.name + ".damaged"))
    except OSError as failure:
        logger.warning("%s could not be put aside: %s", path, failure)


def _chunks(body: memoryview, numpy: Any) -> Iterator[Chunk]:
    while body:
        if len(body) < _HEAD.size:
            raise SnapshotError("a chunk has no head")
        count, dimension, length = _HEAD.unpack(body[: _HEAD.size])
        body = body[_HEAD.size :]
        size = count * dimension * 4
        if not 0 < dimension <= _MAX_DIMENSION or len(body) < length + size:
            raise SnapshotError("a chunk has no whole body")
        try:
            entries = _decode(body[:length])
        except msgspec.MsgspecError as error:
            raise SnapshotError(f"a chunk cannot be read: {error}") from error
        if len(entries) != count:
            raise SnapshotError("a chunk has more or fewer entries than it says")
        vectors = numpy.frombuffer(body[length : length + size], dtype="<f4")
        yield Chunk(entries, vectors.astype(numpy.float32).reshape(count, dimension))
        body = body[length + size :]


def _sync_folder(folder: Path) -> None:
    """Make the new name last, where folders can be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

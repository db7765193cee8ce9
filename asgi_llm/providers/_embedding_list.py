"""Embeddings of providers whose answers are OpenAI's lists, or nearly.

Vectors stay in the bytes in which they came, unless their encoding has to change.
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from asgi_llm import _json
from asgi_llm.providers._embeddings import check_dimensions, pack
from asgi_llm.providers._native import malformed
from asgi_llm.providers._rerank import token_count
from asgi_llm.providers.base import Answer
from asgi_llm.types import Document, Usage

__all__ = ["as_wanted", "embedding_list", "size_batches"]

_FLOAT_BYTES: Final = 4
_QUOTE: Final = ord('"')


class _Row(msgspec.Struct):
    embedding: msgspec.Raw
    index: int | None = None


class _List(msgspec.Struct):
    """What is read of one answer."""

    data: list[_Row]
    usage: dict[str, Any] | None = None


_decode: Final = msgspec.json.Decoder(_List).decode
_numbers: Final = msgspec.json.Decoder(list[float]).decode
_string: Final = msgspec.json.Decoder(str).decode


def size_batches(texts: Sequence[str], limit: int, max_bytes: int) -> list[Sequence[str]]:
    """``texts`` in order, in pieces of at most ``limit`` texts and ``max_bytes`` UTF-8 bytes.

    A text that is larger by itself has a piece of its own.
    """
    pieces: list[Sequence[str]] = []
    start = size = 0
    for at, text in enumerate(texts):
        length = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if at > start and (at - start >= limit or size + length > max_bytes):
            pieces.append(texts[start:at])
            start, size = at, 0
        size += length
    pieces.append(texts[start:])
    return pieces


def as_wanted(body: bytes, size: int, as_base64: bool | None) -> bool:
    """Whether an answer can go to the client as it is: all vectors, in their order and encoding.

    Raises:
        msgspec.MsgspecError: It is not what it should be.
    """
    rows = _decode(body).data
    return len(rows) == size and all(
        row.index == place
        and (as_base64 is None or bytes(row.embedding).startswith(b'"') == as_base64)
        for place, row in enumerate(rows)
    )


def embedding_list(
    model: str,
    sizes: Sequence[int],
    bodies: Sequence[bytes],
    *,
    as_base64: bool | None,
    dimensions: int | None = None,
) -> Answer:
    """One answer of those to each of the calls.

    Args:
        model: As the provider calls it.
        sizes: How many texts each call had.
        bodies: In the order of the calls.
        as_base64: How vectors are wanted: as little-endian 32-bit floats in base64, or as numbers;
            None: as they came.
        dimensions: What was asked for, to be verified; None: nothing was, or it cannot be.

    Raises:
        ProviderError: Not every text has a vector, or vectors are of another length.
        msgspec.MsgspecError: An answer is not what it should be.
    """
    data: list[Document] = []
    tokens: int | None = None
    for size, body in zip(sizes, bodies, strict=True):
        answer = _decode(body)
        for raw in _in_order(answer.data, size):
            if dimensions is not None:
                check_dimensions(_length(raw), dimensions)
            vector = raw if as_base64 is None else _encoded(raw, as_base64)
            data.append({"object": "embedding", "index": len(data), "embedding": vector})
        counts = answer.usage or {}
        used = token_count(counts.get("prompt_tokens"))
        if used is None:
            used = token_count(counts.get("total_tokens"))
        if used is not None:
            tokens = used + (tokens or 0)
    usage = None if tokens is None else Usage(input_uncached=tokens)
    spent = {"prompt_tokens": tokens or 0, "total_tokens": tokens or 0}
    document = {"object": "list", "data": data, "model": model, "usage": spent}
    return Answer(_json.encode(document), usage)


def _in_order(rows: list[_Row], size: int) -> list[msgspec.Raw]:
    """The vectors of a call by the order of its texts."""
    found: dict[int, msgspec.Raw] = {}
    for place, row in enumerate(rows):
        found[place if row.index is None else row.index] = row.embedding
    if len(rows) != size or found.keys() != set(range(size)):
        raise malformed()
    return [found[index] for index in range(size)]


def _length(raw: msgspec.Raw) -> int:
    """How many numbers a vector has."""
    data = bytes(raw)
    if data[:1] != b'"':
        return data.count(b",") + 1
    return len(_bytes(data)) // _FLOAT_BYTES


def _encoded(raw: msgspec.Raw, as_base64: bool) -> Any:
    data = bytes(raw)
    is_base64 = data[0] == _QUOTE
    if is_base64 == as_base64:
        return raw
    if as_base64:
        return pack(_numbers(data))
    packed = _bytes(data)
    if len(packed) % _FLOAT_BYTES:
        raise malformed()
    numbers = array("f", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _bytes(data: bytes) -> bytes:
    try:
        return base64.b64decode(_string(data), validate=True)
    except ValueError as error:  # of binascii's, or of characters beyond ASCII
        raise malformed() from error

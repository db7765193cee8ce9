"""Embeddings: what every adapter to another format does alike.

Source: OpenAI API reference, "Create embeddings".
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from asgi_llm import _json
from asgi_llm.errors import InvalidRequestError, ProviderRejectedError
from asgi_llm.types import Document, Usage

__all__ = [
    "batches",
    "check_dimensions",
    "embedding_answer",
    "embedding_texts",
    "pack",
    "wants_base64",
]

T = TypeVar("T")


def embedding_texts(document: Document) -> list[str]:
    """The texts to embed.

    Raises:
        InvalidRequestError: They are given as token ids, which only OpenAI's own models share.
    """
    given = document["input"]
    if isinstance(given, str):
        return [given]
    for index, one in enumerate(given):
        if not isinstance(one, str):
            raise InvalidRequestError(
                f"input[{index}]: this provider takes texts, not token ids",
                param=f"input[{index}]",
                code="unsupported_input",
            )
    return list(given)


def batches(values: Sequence[T], limit: int) -> list[Sequence[T]]:
    """``values`` in order, in pieces of at most ``limit``."""
    return [values[at : at + limit] for at in range(0, len(values), limit)]


def check_dimensions(length: int, dimensions: int | None) -> None:
    """Check that a vector is as long as it was asked to be; None: nothing was said.

    Raises:
        ProviderRejectedError: It is not.
    """
    if dimensions is not None and length != dimensions:
        raise ProviderRejectedError(
            f"dimensions: the model gives vectors of {length} numbers, not {dimensions}",
            status=400,
            param="dimensions",
            code="unsupported_dimensions",
        )


def wants_base64(document: Document) -> bool:
    """Whether vectors are to be encoded: openai-python asks for it unless it is told otherwise.

    Raises:
        InvalidRequestError: Another encoding is asked for.
    """
    given = document.get("encoding_format")
    if given not in (None, "float", "base64"):
        raise InvalidRequestError(
            f'encoding_format: got {given!r}, expected "float" or "base64"',
            param="encoding_format",
            code="invalid_value",
        )
    return given == "base64"


def embedding_answer(
    model: str, vectors: Iterable[Sequence[float]], usage: Usage | None, *, as_base64: bool
) -> bytes:
    """The body of the answer.

    Args:
        model: As the provider calls it.
        vectors: In the order of the texts.
        usage: Of all calls together; None is told as zero.
        as_base64: Encode each vector as little-endian 32-bit floats.
    """
    tokens = 0 if usage is None else usage.input_tokens
    document: dict[str, Any] = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": pack(vector) if as_base64 else vector,
            }
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return _json.encode(document)


def pack(vector: Sequence[float]) -> str:
    """``vector`` as little-endian 32-bit floats in base64."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode("ascii")

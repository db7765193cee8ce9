"""Requests and answers that are plain, read as the bytes that they are.

Compiled, most are read this way, without any document: ``_cache_plain.pyx`` has what is done then.
In Python that would take longer than to parse them, so that all are taken for others here. What is
not plain is read as a document, with the same results.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from asgi_llm._semconv import Operation
from asgi_llm.middleware._cache_controls import CacheControls
from asgi_llm.middleware._cache_request import CacheRequest

__all__ = ["READS_BYTES", "digest", "peek_answer", "read_bytes"]


READS_BYTES: Final = False
"""Whether ``read_bytes`` and ``peek_answer`` ever read anything."""


def digest(data: bytes) -> bytes:
    """SHA-256 of ``data``."""
    return sha256(data).digest()


def read_bytes(
    data: bytes,
    route: str,
    operation: Operation,
    query: bytes,
    partition: str,
    controls: CacheControls,
    namespace: str,
    deployment: str,
    deterministic: bool,
) -> CacheRequest | None:
    """A request with its ``key``, as ``read_request`` and ``digest_request`` give them.

    Its ``document`` is empty. None: it is to be read by these.

    Args:
        data: The body.
        route: For ``CacheRequest``.
        operation: For ``CacheRequest``.
        query: For ``CacheRequest``.
        partition: For ``CacheRequest``.
        controls: For ``CacheRequest``.
        namespace: Of ``controls``.
        deployment: For ``CacheRequest``.
        deterministic: Whether it has to be one for ``is_deterministic``.
    """
    return None


def peek_answer(body: bytes) -> int:
    """Whether an answer is whole, and all of its choices ended by themselves.

    Returns:
        1: it does, and says what it took; 0: it does, and does not say that; -1: it is to be
        parsed.
    """
    return -1

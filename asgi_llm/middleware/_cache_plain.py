"""Requests and answers that are plain, read as the bytes that they are.

Compiled, most are read this way, without any document: ``_cache_plain.pyx`` has what is done then.
In Python that would take longer than to parse them, so that all are taken for others here. What is
not plain is read as a document, with the same results.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from asgi_llm._semconv import Operation
from asgi_llm.errors import RawHeaders
from asgi_llm.middleware._cache_controls import CacheControls
from asgi_llm.middleware._cache_request import CacheRequest
from asgi_llm.state import State, StateKey

__all__ = [
    "READS_BYTES",
    "are_plain_headers",
    "client_id_of",
    "credentials_of",
    "decimal",
    "digest",
    "lengths_of",
    "peek_answer",
    "read_bytes",
    "values_of",
]


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


def are_plain_headers(state: State, max_body_bytes: int) -> bool:
    """Whether a request has a body of plain JSON, not above a length, and says nothing to caches.

    Args:
        state: Of the request.
        max_body_bytes: The length.
    """
    headers = state.headers
    if (
        headers.get(b"content-type") != b"application/json"
        or b"content-encoding" in headers
        or b"transfer-encoding" in headers
        or b"cache-control" in headers
        or b"x-cache-ttl" in headers
        or b"x-cache-namespace" in headers
    ):
        return False
    length = headers.get(b"content-length", b"0")
    return length.isdigit() and len(length) <= 18 and int(length) <= max_body_bytes


def values_of(state: State) -> Mapping[StateKey[Any], Any]:
    """``values`` of a state."""
    return state.values


def decimal(number: int) -> bytes:
    """A number of at least 0 in digits."""
    return b"%d" % number


def client_id_of(state: State) -> str | None:
    """``client_request_id`` of a state."""
    return state.client_request_id


def lengths_of(names: frozenset[bytes]) -> int:
    """A number with a bit for each length below 63 that a name has."""
    return sum({1 << len(name) for name in names if len(name) < 63})


def credentials_of(headers: RawHeaders, names: frozenset[bytes], lengths: int) -> str | None:
    """A digest over the headers of these names; None: there are none.

    Args:
        headers: Of a request.
        names: In lower case.
        lengths: ``lengths_of`` the names.
    """
    told = [
        b"%d:%b%d:%b" % (len(name), name, len(value), value)
        for name, value in headers
        if name in names
    ]
    return sha256(b"".join(told)).hexdigest() if told else None

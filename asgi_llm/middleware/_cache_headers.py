"""What the cache asks of the headers of every request, and of its state.

Compiled, ``_cache_headers.pyx`` reads the list that the host gave, and makes no objects of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from asgi_llm.errors import RawHeaders
from asgi_llm.state import State, StateKey

__all__ = [
    "are_plain_headers",
    "client_id_of",
    "credentials_of",
    "decimal",
    "lengths_of",
    "values_of",
]


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

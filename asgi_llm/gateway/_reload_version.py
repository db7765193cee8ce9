"""A short name for what a configuration says."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from asgi_llm.gateway._definition_types import Secret
from asgi_llm.gateway._definitions import Configuration

__all__ = ["version_of"]

_PURPOSE: Final = b"asgi_llm configuration"
_ROUNDS: Final = 50_000
"""About 15 ms, once a reload: as much for every guess at a secret in it."""

_BYTES: Final = 6


def version_of(configuration: Configuration) -> str:
    """12 hexadecimal digits, the same on all machines for the same effective configuration.

    Values from the environment and secrets are part of it; none of them can be read out of it.
    Comments, the order of keys in a definition, and what was left out or written as its default
    make no difference.

    Source: RFC 8018 (PBKDF2) with HMAC-SHA-256.
    """
    data = msgspec.json.encode(_plain(configuration))
    return hashlib.pbkdf2_hmac("sha256", data, _PURPOSE, _ROUNDS, _BYTES).hex()


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return ["secret", value.reveal()]
    if isinstance(value, msgspec.Struct):
        fields = {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        return [type(value).__name__, fields]
    if isinstance(value, dict):
        return [[str(name), _plain(one)] for name, one in value.items()]
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if value is msgspec.UNSET:
        return ["unset"]
    return value

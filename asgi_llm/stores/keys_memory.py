"""Keys that the configuration names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.key_material import digest_key
from asgi_llm.types import Principal

__all__ = ["DIGEST_PREFIX", "MemoryKeys"]

DIGEST_PREFIX: Final = "sha256:"
"""Before a digest in hexadecimal. Without it 64 such digits are a key like any other, so that a
digest that got known is never taken for the key itself."""

_HEX_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_OF_NOTHING = hashlib.sha256(b"").digest()


class MemoryKeys:
    """A fixed set of keys. Never asks anyone, so that every look-up is a warm one.

    Args:
        keys: What is known of each key, under the key itself or under ``sha256:`` and its digest
            in hexadecimal. The keys are digested at once and not kept.

    Raises:
        ConfigurationError: A key that no request could carry, a malformed digest, the digest of
            an empty key, or one key twice.
    """

    def __init__(self, keys: Mapping[str, KeyRecord | Principal]) -> None:
        self._records: dict[bytes, KeyRecord] = {}
        for position, (key, known) in enumerate(keys.items(), start=1):
            digest = _digest(key, position)
            if digest in self._records:
                raise ConfigurationError(f"key {position} is there already", param="keys")
            record = KeyRecord(principal=known) if isinstance(known, Principal) else known
            self._records[digest] = record

    def __len__(self) -> int:
        return len(self._records)

    def peek(self, digest: bytes) -> KeyRecord | None:
        """The record of a key, without waiting."""
        return self._records.get(digest)

    async def find(self, digest: bytes) -> KeyRecord | None:
        """The record of a key; None: no such key."""
        return self._records.get(digest)


def _digest(key: str, position: int) -> bytes:
    """The digest that ``key`` stands for. Messages name its position: it may be a secret."""
    if key.startswith(DIGEST_PREFIX):
        text = key.removeprefix(DIGEST_PREFIX)
        if _HEX_DIGEST.fullmatch(text) is None:
            raise ConfigurationError(
                f"key {position}: {DIGEST_PREFIX} is followed by 64 hexadecimal digits",
                param="keys",
            )
        digest = bytes.fromhex(text)
        if digest == _OF_NOTHING:
            raise ConfigurationError(
                f"key {position}: this is the digest of an empty text", param="keys"
            )
        return digest
    try:
        return digest_key(key)
    except ConfigurationError as error:
        raise ConfigurationError(f"key {position}: {error.message}", param="keys") from None

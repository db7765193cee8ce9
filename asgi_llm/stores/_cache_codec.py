"""How answers lie in a store that others can read: compressed, and encrypted where that is wanted.

The first byte says how what follows was made, so that entries of before a change can be read after
it.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.cache import StoredAnswer, decode_answer, encode_answer

__all__ = ["AnswerCodec", "read_encryption_keys"]

_COMPRESSED: Final = 1
_ENCRYPTED: Final = 2
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = frozenset((16, 24, 32))
_MOST_BYTES: Final = 64 * 1024 * 1024
_LEVEL: Final = 3


def read_encryption_keys(text: str) -> dict[str, bytes]:
    """Keys as they stand in an environment variable: ``new:BASE64,old:BASE64``.

    The first one encrypts, all of them decrypt: a key is replaced by putting another before it, and
    dropped when all that it encrypted has run out. A single key may do without an id.

    Raises:
        ConfigurationError: Not base64, not 16, 24 or 32 bytes, or an id twice. The message does not
            hold the text.
    """
    keys: dict[str, bytes] = {}
    for part in text.split(","):
        name, colon, encoded = part.strip().rpartition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise _bad_key("a key is not base64") from error
        name = name if colon else "1"
        if name in keys:
            raise _bad_key(f"the id {name!r} is there twice")
        keys[name] = key
    return keys


class AnswerCodec:
    """Answers to bytes and back.

    Args:
        compress_over_bytes: What is larger is compressed with zstd (extra ``cache``); None: nothing
            is.
        encryption_keys: AES keys of 16, 24 or 32 bytes by their ids, of 1 to 255 bytes in UTF-8;
            the first one encrypts. Without any nothing is encrypted.

    Raises:
        ConfigurationError: An option is wrong, or a package is missing.
    """

    def __init__(
        self, *, compress_over_bytes: int | None, encryption_keys: Mapping[str, bytes] | None
    ) -> None:
        if compress_over_bytes is not None and compress_over_bytes < 0:
            raise ConfigurationError(
                "compress_over_bytes must be at least 0", param="compress_over_bytes"
            )
        self._over = compress_over_bytes
        self._compress: Callable[[bytes], bytes] | None = None
        self._zstd: Any = None
        if compress_over_bytes is not None:
            self._zstd = require("zstandard", extra="cache")
            self._compress = self._zstd.ZstdCompressor(level=_LEVEL).compress
        self._ciphers: dict[bytes, Any] = {}
        self._writes_with: bytes | None = None
        for name, key in (encryption_keys or {}).items():
            self._add(name, key)

    def _add(self, name: str, key: bytes) -> None:
        aead = require("cryptography.hazmat.primitives.ciphers.aead", extra="cache")
        raw = name.encode()
        if not 0 < len(raw) < 256:
            raise _bad_key("an id has 1 to 255 bytes")
        if len(key) not in _KEY_BYTES:
            raise _bad_key(f"the key {name!r} has {len(key)} bytes, not 16, 24 or 32")
        self._ciphers[raw] = aead.AESGCM(key)
        if self._writes_with is None:
            self._writes_with = raw

    def encode(self, key: bytes, answer: StoredAnswer) -> bytes:
        """``answer`` as it is kept under ``key``."""
        data = encode_answer(answer)
        flags = 0
        if self._compress is not None and self._over is not None and len(data) > self._over:
            data = self._compress(data)
            flags = _COMPRESSED
        name = self._writes_with
        if name is None:
            return bytes((flags,)) + data
        # Bound to the key: under another one, as that of another partition, it is worth nothing.
        head = bytes((flags | _ENCRYPTED, len(name))) + name
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._ciphers[name].encrypt(nonce, data, head + key)
        return head + nonce + sealed

    def decode(self, key: bytes, data: bytes) -> StoredAnswer | None:
        """What ``encode`` made for ``key``; None: it cannot be read, or was made for another."""
        if not data:
            return None
        flags = data[0]
        if flags & _ENCRYPTED:
            opened = self._opened(key, data)
            if opened is None:
                return None
            data = opened
        elif self._ciphers:
            # Who can write to the store is not let in by leaving the encryption out.
            return None
        else:
            data = data[1:]
        if flags & _COMPRESSED:
            expanded = self._expanded(data)
            if expanded is None:
                return None
            data = expanded
        return decode_answer(data)

    def _opened(self, key: bytes, data: bytes) -> bytes | None:
        start = 2 + data[1] if len(data) > 1 else len(data)
        cipher = self._ciphers.get(data[2:start])
        if cipher is None or len(data) < start + _NONCE_BYTES:
            return None
        nonce = data[start : start + _NONCE_BYTES]
        invalid = require("cryptography.exceptions", extra="cache").InvalidTag
        try:
            opened: bytes = cipher.decrypt(nonce, data[start + _NONCE_BYTES :], data[:start] + key)
        except invalid:
            return None
        return opened

    def _expanded(self, data: bytes) -> bytes | None:
        zstd = self._zstd or require("zstandard", extra="cache")
        try:
            size = zstd.frame_content_size(data)
            if not 0 <= size <= _MOST_BYTES:
                return None
            expanded: bytes = zstd.ZstdDecompressor().decompress(data)
        except zstd.ZstdError:
            return None
        return expanded


def _bad_key(cause: str) -> ConfigurationError:
    return ConfigurationError(f"encryption_keys: {cause}", param="encryption_keys")

"""Keys as text: how they are made, digested and hinted at."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from asgi_llm.errors import ConfigurationError

__all__ = ["MAX_KEY_LENGTH", "digest_key", "key_hint", "new_key"]

MAX_KEY_LENGTH: Final = 512
"""Characters of a key. New ones have 46."""

_PREFIX = "sk-"
_RANDOM_BYTES = 32
_HINT_LENGTH = 4
# What a header carries without any change on the way.
_SENDABLE = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY_LENGTH}}}")


def new_key() -> str:
    """A new key: ``sk-`` and 32 random bytes in URL-safe base64."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest_key(key: str) -> bytes:
    """The SHA-256 digest (32 bytes) of ``key``, which is all that is ever kept of it.

    Raises:
        ConfigurationError: No request could carry such a key: it is empty, too long, or has other
            characters than visible ASCII. The message does not quote it.
    """
    if _SENDABLE.fullmatch(key) is None:
        raise ConfigurationError(
            f"a key must be 1 to {MAX_KEY_LENGTH} visible ASCII characters, without spaces",
            param="key",
        )
    return hashlib.sha256(key.encode("ascii")).digest()


def key_hint(key: str) -> str:
    """The last four characters, for people who have several keys; nothing of a key below 16."""
    return key[-_HINT_LENGTH:] if len(key) >= 4 * _HINT_LENGTH else ""

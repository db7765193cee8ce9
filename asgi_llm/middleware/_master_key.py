"""The master key, how one is compared, and which keys that somebody chose are refused."""

from __future__ import annotations

import hmac
from typing import Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.key_material import digest_key

__all__ = ["GOOD_KEY", "MIN_KEY_LENGTH", "MasterKey", "why_guessable"]

MIN_KEY_LENGTH: Final = 16
_MIN_DISTINCT_CHARACTERS: Final = 8

_EXAMPLES = (
    "changeme",
    "change-me",
    "change_me",
    "changethis",
    "change-this",
    "replace-me",
    "replace-this",
    "example",
    "placeholder",
    "insert-",
    "your-",
    "your_",
    "my-key",
    "sk-master",
    "master-key",
    "master_key",
    "masterkey",
    "12345678",
    "password",
    "secret-key",
)
"""What stands in examples and templates. By chance in less than one of a million random keys."""


class MasterKey:
    """The key of whoever runs the gateway.

    Args:
        key: The key itself.
        insecure: Take any key that can be sent.

    Raises:
        ConfigurationError: The key is empty, short or taken from an example. The message does not
            quote it.
    """

    def __init__(self, key: str, *, insecure: bool = False) -> None:
        if not insecure:
            cause = (
                why_guessable(key) if key else "it is empty; leave it out for a gateway without one"
            )
            if cause is not None:
                raise _refusal(cause)
        try:
            self._digest = digest_key(key)
        except ConfigurationError as error:
            raise _refusal(error.message) from None

    def has(self, digest: bytes) -> bool:
        """Whether ``digest`` is this key's; takes the same time for every digest."""
        return hmac.compare_digest(digest, self._digest)


def why_guessable(key: str) -> str | None:
    """Why a key that somebody chose is no good, in words that do not quote it; None: it may be."""
    if len(key) < MIN_KEY_LENGTH:
        return f"it has fewer than {MIN_KEY_LENGTH} characters"
    lowered = key.lower()
    if any(example in lowered for example in _EXAMPLES) or (
        len(set(key)) < _MIN_DISTINCT_CHARACTERS
    ):
        return "it looks like one from an example"
    return None


GOOD_KEY: Final = "python -c 'import secrets; print(\"sk-\" + secrets.token_urlsafe(32))'"
"""How to make one."""


def _refusal(cause: str) -> ConfigurationError:
    return ConfigurationError(
        f"master_key is refused: {cause}. A good one: {GOOD_KEY}", param="master_key"
    )

"""The master key: which ones are refused, and how one is compared."""

from __future__ import annotations

import hmac
from typing import Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.key_material import digest_key

__all__ = ["MIN_MASTER_KEY_LENGTH", "MasterKey"]

MIN_MASTER_KEY_LENGTH: Final = 16
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
            _refuse_guessable(key)
        try:
            self._digest = digest_key(key)
        except ConfigurationError as error:
            raise _refusal(error.message) from None

    def has(self, digest: bytes) -> bool:
        """Whether ``digest`` is this key's; takes the same time for every digest."""
        return hmac.compare_digest(digest, self._digest)


def _refuse_guessable(key: str) -> None:
    if not key:
        raise _refusal("it is empty; leave it out for a gateway without one")
    if len(key) < MIN_MASTER_KEY_LENGTH:
        raise _refusal(f"it has fewer than {MIN_MASTER_KEY_LENGTH} characters")
    lowered = key.lower()
    if any(example in lowered for example in _EXAMPLES) or (
        len(set(key)) < _MIN_DISTINCT_CHARACTERS
    ):
        raise _refusal("it looks like one from an example")


def _refusal(cause: str) -> ConfigurationError:
    return ConfigurationError(
        f"master_key is refused: {cause}. A good one: "
        "python -c 'import secrets; print(\"sk-\" + secrets.token_urlsafe(32))'",
        param="master_key",
    )

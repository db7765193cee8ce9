"""The credential of a request: where it may stand, and where it may not."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from asgi_llm.errors import InvalidRequestError

__all__ = [
    "CREDENTIAL_HEADERS",
    "MAX_CREDENTIAL_BYTES",
    "claimed_issuer",
    "looks_like_a_token",
    "read_credential",
    "refuse_key_in_url",
]

CREDENTIAL_HEADERS: Final = frozenset(
    (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
)
"""Where a credential is looked for. Names with an underscore in place of a dash are other names."""

MAX_CREDENTIAL_BYTES: Final = 8192
"""A longer one is no credential. Tokens of a few KiB are common, keys have 46 bytes."""

# No header can hold it, and no key has its digest.
_OTHER_SCHEME = b"\0"
_SCHEME = b"Bearer "

_KEY_FIELDS = frozenset(("key", "api_key", "api-key", "apikey", "access_token", "x-goog-api-key"))


def read_credential(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The one credential of a request, byte for byte; empty where there is none.

    What follows ``Bearer`` and one space is the credential, spaces included, so that a variant of a
    key is another key. An ``Authorization`` of another scheme is a credential that no store knows.

    Raises:
        InvalidRequestError: There are two that differ, or two ``Authorization`` headers.
    """
    found = b""
    authorized = False
    for name, value in headers:
        if name in CREDENTIAL_HEADERS:
            if name == b"authorization":
                if authorized:
                    raise _ambiguous("There are two Authorization headers.")
                authorized = True
                if value[:7] == _SCHEME or value[:7].lower() == b"bearer ":
                    value = value[7:]
                elif value.lower() == b"bearer":
                    continue
                elif value:
                    value = _OTHER_SCHEME
            if value:
                if found and found != value:
                    raise _ambiguous("The request carries two credentials that differ.")
                found = value
    return found


def _ambiguous(message: str) -> InvalidRequestError:
    return InvalidRequestError(f"{message} Send one.", code="ambiguous_credentials")


def refuse_key_in_url(query: bytes) -> None:
    """Refuse a key in the URL: it would end up in the logs of everything on the way.

    Raises:
        InvalidRequestError: The query has such a field. The message names the field alone.
    """
    for field in query.split(b"&"):
        name = unquote_to_bytes(field.partition(b"=")[0].replace(b"+", b" ")).decode("latin-1")
        if name.strip().lower() in _KEY_FIELDS:
            raise InvalidRequestError(
                "Send the key in the Authorization header, not in the URL.",
                param=name.strip().lower(),
                code="key_in_url",
            )


def looks_like_a_token(credential: bytes) -> bool:
    """Whether a credential has the outer form of a signed JSON Web Token."""
    return credential.startswith(b"eyJ") and credential.count(b".") == 2


def claimed_issuer(token: bytes) -> str | None:
    """The issuer that an unverified token names: only good for choosing who verifies it."""
    payload = token.split(b".")[1]
    try:
        claims = msgspec.json.decode(
            base64.b64decode(payload + b"=" * (-len(payload) % 4), altchars=b"-_", validate=True),
            type=_Claims,
        )
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return claims.iss


class _Claims(msgspec.Struct):
    iss: str | None = None

"""Errors of Bedrock, before, within and in place of an answer.

Source: Amazon Bedrock API reference, "Converse", "ConverseStream" and "Common errors"; November
2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from asgi_llm.errors import ProviderError, RawHeaders
from asgi_llm.providers._errors import parse_error, parse_stream_error

__all__ = ["answer_error", "exception_error"]

_NO_CREDENTIALS: Final = frozenset(
    (
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    )
)
"""They come with the status 403, or 400, and their texts are about the gateway's own key."""

_STATUS: Final = {
    "accessDeniedException": 403,
    "internalServerException": 500,
    "modelErrorException": 424,
    "modelNotReadyException": 503,
    "modelStreamErrorException": 424,
    "modelTimeoutException": 408,
    "resourceNotFoundException": 404,
    "serviceQuotaExceededException": 429,
    "serviceUnavailableException": 503,
    "throttlingException": 429,
    "validationException": 400,
}
_FAILED_MODEL: Final = 424
_NAME_HEADER: Final = b"x-amzn-errortype"


class _Body(msgspec.Struct, rename={"type": "__type", "capital": "Message"}):
    message: Any = None
    capital: Any = None
    type: Any = None
    original_status: Any = msgspec.field(default=None, name="originalStatusCode")


_decode: Final = msgspec.json.Decoder(_Body).decode


def answer_error(
    status: int, headers: RawHeaders, body: bytes, *, provider: str, secrets: Sequence[str]
) -> ProviderError:
    """The error that a non-2xx answer means."""
    name = ""
    for field, value in headers:
        if field == _NAME_HEADER:
            name = value.decode("latin-1")
    found = _read(body)
    name = _plain(name or found.type)
    status = _status(status, name, found)
    if found.message is None and found.capital is None:
        # A proxy's page, or nothing.
        told = body
    else:
        told = msgspec.json.encode(_told(name, found))
    return parse_error(status, headers, told, provider=provider, secrets=secrets)


def exception_error(
    name: str, body: bytes, *, provider: str, secrets: Sequence[str]
) -> ProviderError:
    """The error that an exception within a stream means."""
    name = _plain(name)
    found = _read(body)
    status = _status(_STATUS.get(name[:1].lower() + name[1:], 500), name, found)
    told = {**_told(name, found), "status": status}
    return parse_stream_error({"error": told}, provider=provider, secrets=secrets)


def _read(body: bytes) -> _Body:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Body()


def _plain(name: Any) -> str:
    """A name without the service before it and the address behind it."""
    if not isinstance(name, str):
        return ""
    return name.rpartition("#")[2].partition(":")[0].strip()


def _told(name: str, found: _Body) -> dict[str, Any]:
    message = found.message if isinstance(found.message, str) else found.capital
    return {"message": message, "type": name or None}


def _status(status: int, name: str, found: _Body) -> int:
    if name in _NO_CREDENTIALS:
        return 401
    if name in ("ServiceQuotaExceededException", "ModelNotReadyException"):
        return _STATUS[name[:1].lower() + name[1:]]
    if status == _FAILED_MODEL:
        # The status of what failed behind Bedrock, which is no fault of the client's.
        original = found.original_status
        if isinstance(original, int) and not isinstance(original, bool) and original >= 500:
            return original if original <= 599 else 500
        return original if original in (408, 429) else 500
    return status

"""Every error that a client or an operator can meet, and the one way to render it.

LLMError
├── ConfigurationError          an option or a configuration key is wrong; raised at construction
├── StoreError                  503  a store did not answer and the layer denies without it
├── RequestError
│   ├── InvalidRequestError     400  also 404/405/408/415/422 by ``status``
│   ├── AuthenticationError     401
│   ├── PermissionDeniedError   403
│   ├── ModelNotFoundError      404
│   ├── BudgetExceededError     400
│   ├── ContentFilterError      400
│   ├── RequestTooLargeError    413
│   ├── RateLimitError          429
│   └── InternalError           500  no detail leaves the process
└── ProviderError
    ├── ProviderRejectedError   the upstream's 4xx (its 401 and 403 become 502)
    ├── ProviderUnavailableError 502, or 503 when nothing is left to try
    └── ProviderTimeoutError    504

Source: OpenAI API reference, "Error codes" (the ``error`` object with message, type, param, code).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

__all__ = [
    "AuthenticationError",
    "BudgetExceededError",
    "ConfigurationError",
    "ContentFilterError",
    "InternalError",
    "InvalidRequestError",
    "LLMError",
    "ModelNotFoundError",
    "PermissionDeniedError",
    "ProviderError",
    "ProviderRejectedError",
    "ProviderTimeoutError",
    "ProviderUnavailableError",
    "RateLimitError",
    "RawHeaders",
    "RequestError",
    "RequestTooLargeError",
    "StoreError",
    "error_document",
    "render",
]

RawHeaders = list[tuple[bytes, bytes]]


class LLMError(Exception):
    """Base of all errors of the package; carries everything that its rendering needs.

    Args:
        message: One sentence for the client. Must hold no secret.
        param: Path of the offending field, as in ``messages[2].content[0].type``.
        code: Machine-readable cause; the class has a default.
        status: HTTP status; the class has a default.
        type: OpenAI's error type; the class has a default.
        retry_after_seconds: Rendered as ``Retry-After``, rounded up to whole seconds.
        headers: Further headers of the answer.
    """

    default_status: ClassVar[int] = 500
    default_type: ClassVar[str] = "internal_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        type: str | None = None,
        retry_after_seconds: float | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.status = status if status is not None else self.default_status
        self.type = type if type is not None else self.default_type
        self.retry_after_seconds = retry_after_seconds
        self.headers = tuple(headers)


class ConfigurationError(LLMError):
    """An option is wrong. ``param`` names the option or the key path."""

    default_code = "configuration_error"


class StoreError(LLMError):
    """A store failed or missed its deadline, and the layer is set to deny without it."""

    default_status = 503
    default_type = "server_error"
    default_code = "store_unavailable"


class RequestError(LLMError):
    """The request cannot be served, for a cause on the gateway's own side of the wire."""


class InvalidRequestError(RequestError):
    """The request is malformed; ``param`` names the field."""

    default_status = 400
    default_type = "invalid_request_error"
    default_code = "invalid_request"


class AuthenticationError(RequestError):
    """No valid credential came with the request."""

    default_status = 401
    default_type = "authentication_error"
    default_code = "invalid_api_key"


class PermissionDeniedError(RequestError):
    """The caller is known and may not do this."""

    default_status = 403
    default_type = "permission_error"
    default_code = "model_not_allowed"


class ModelNotFoundError(RequestError):
    """No deployment serves the requested model."""

    default_status = 404
    default_type = "invalid_request_error"
    default_code = "model_not_found"

    def __init__(self, message: str, *, param: str | None = "model", **fields: Any) -> None:
        super().__init__(message, param=param, **fields)


class BudgetExceededError(RequestError):
    """The request would spend more than a budget has left."""

    default_status = 400
    default_type = "budget_exceeded"
    default_code = "budget_exceeded"


class ContentFilterError(RequestError):
    """A guard refused the request or its answer."""

    default_status = 400
    default_type = "invalid_request_error"
    default_code = "content_filter"


class RequestTooLargeError(RequestError):
    """The body is over the limit; the connection is closed after the answer."""

    default_status = 413
    default_type = "invalid_request_error"
    default_code = "request_too_large"


class RateLimitError(RequestError):
    """A limit is reached; ``retry_after_seconds`` says when to come back."""

    default_status = 429
    default_type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class InternalError(RequestError):
    """Something broke in the gateway. The cause is logged, never sent."""

    default_status = 500
    default_type = "internal_error"
    default_code = "internal_error"


class ProviderError(LLMError):
    """The upstream did not give an answer that can be passed on."""

    default_type = "server_error"


class ProviderRejectedError(ProviderError):
    """The upstream refused the request (a 4xx), scrubbed of its secrets."""

    default_status = 400
    default_type = "invalid_request_error"
    default_code = "provider_rejected"


class ProviderUnavailableError(ProviderError):
    """The upstream could not be reached, broke off, or answered nonsense."""

    default_status = 502
    default_code = "provider_unavailable"


class ProviderTimeoutError(ProviderError):
    """The upstream missed a deadline: connect, first byte, idle or total."""

    default_status = 504
    default_type = "timeout_error"
    default_code = "provider_timeout"


def error_document(error: LLMError) -> dict[str, Any]:
    """The ``{"error": {...}}`` object, the same in a JSON body and in a stream's error event."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def render(error: LLMError, request_id: str) -> tuple[int, RawHeaders, bytes]:
    """Status, headers and body of the answer for ``error``.

    A 413 and a 408 also close the connection: the rest of the body is not worth reading.
    """
    body = msgspec.json.encode(error_document(error))
    headers: RawHeaders = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode("ascii")),
        *error.headers,
    ]
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % max(0, math.ceil(error.retry_after_seconds))))
    if error.status in (408, 413):
        headers.append((b"connection", b"close"))
    return error.status, headers, body

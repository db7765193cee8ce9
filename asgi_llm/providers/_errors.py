"""What an upstream's error means to our client, free of the upstream's secrets.

One place for every OpenAI-format dialect. The status and the codes decide; texts are looked at only
in `_CONTEXT_TEXTS`, because many servers have no code for a context that is too long.

Upstream                            Here
400, 404, 409, 413, 422, other 4xx  ProviderRejectedError, the status kept
401, 403, 407                       ProviderRejectedError 502, provider_authentication_failed
402                                 ProviderRejectedError 502, provider_quota_exhausted
429                                 ProviderRejectedError 429, rate_limit_error, Retry-After
408, 504, 524                       ProviderTimeoutError 504
503, 529, overloaded_error          ProviderUnavailableError 503, model_overloaded, Retry-After
other 5xx, 1xx, 2xx, 3xx            ProviderUnavailableError 502

A content filter and a context that is too long are the client's to act on, so their codes win over
a 403 or a 5xx and the status becomes 400 there.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from asgi_llm.errors import (
    ProviderError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RawHeaders,
)
from asgi_llm.providers._error_body import ErrorDetail, read, read_body
from asgi_llm.providers._scrub import scrub

__all__ = ["MAX_RETRY_AFTER_SECONDS", "parse_error", "parse_stream_error", "scrub"]

MAX_RETRY_AFTER_SECONDS = 3600.0

_CONTEXT_CODES = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "exceed_context_size_error",  # llama.cpp server, as the type
        "model_context_window_exceeded",
        "too_many_tokens",  # Cohere
        "1261",  # Z.AI
    }
)
_FILTER_CODES = frozenset(
    {
        "content_filter",
        "content_filtered",
        "content_policy_violation",
        "data_inspection_failed",  # Alibaba
        "moderation_blocked",
        "responsibleaipolicyviolation",  # Azure, in innererror
        "1301",  # Z.AI
    }
)
_OVERLOAD_CODES = frozenset({"overloaded_error", "model_overloaded", "engine_overloaded"})
_MODEL_CODES = frozenset({"model_not_found", "deploymentnotfound", "unknown_model"})

_CONTEXT_TEXTS = re.compile(
    "|".join(
        (
            r"maximum context length",  # OpenAI, vLLM, DeepSeek, Mistral, Together, OpenRouter
            r"context[ _]length[ _]exceeded",
            r"exceeds? the (available|maximum|model'?s?) context",  # llama.cpp server, LM Studio
            r"(longer|greater) than the (model's )?context length",  # SGLang, LM Studio
            r"exceeds the context length",  # Ollama
            r"exceed context limit",  # Anthropic, of input and max_tokens together
            r"maximum prompt length is",  # xAI
            r"prompt (is too long|exceeds max length)",
            r"exceeded model token limit",  # Moonshot
            r"input token count .{0,40}exceeds the maximum",  # Gemini
            r"tokens \+ `?max_new_tokens`? must be",  # Text Generation Inference
            r"too many tokens: size limit",  # Cohere
            r"reduce the length of the messages",  # Groq, Cerebras
            r"input is too long for requested model",  # Bedrock
            r"too many total text bytes",  # Bedrock
        )
    ),
    re.IGNORECASE,
)
_ABOUT_A_MODEL = re.compile(r"\b(model|deployment)s?\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")

_STATUS_BY_WORD = {
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "too_many_requests": 429,
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "billing_error": 402,
    "request_too_large": 413,
    "overloaded_error": 503,
    "model_overloaded": 503,
    "service_unavailable": 503,
    "timeout_error": 504,
    "timeout": 504,
}


def parse_error(
    status: int,
    headers: RawHeaders,
    body: bytes,
    *,
    provider: str,
    secrets: Sequence[str] = (),
    now: Callable[[], float] = time.time,
) -> ProviderError:
    """The error for an upstream answer whose status is not 2xx, or that has no usable body.

    Args:
        status: The upstream's status.
        headers: Its headers, names in lower case.
        body: Its body, content encoding undone; only the first 256 KiB count.
        provider: The provider's name here, for messages.
        secrets: Texts that must not come through, such as the API key.
        now: Unix time in seconds, for a ``Retry-After`` that is a date.
    """
    detail = read_body(body)
    retry_after = _retry_after(headers, now)
    return _mapped(status, detail, retry_after, provider, secrets)


def parse_stream_error(data: Any, *, provider: str, secrets: Sequence[str] = ()) -> ProviderError:
    """The error for an error object that came within a stream, or in a body with status 200.

    Args:
        data: The parsed event or body: ``{"error": ...}``, or any form that ``parse_error`` reads.
        provider: The provider's name here, for messages.
        secrets: Texts that must not come through.
    """
    try:
        detail = read(data)
    except RecursionError:
        detail = ErrorDetail()
    status = detail.status
    if status is None or not 400 <= status <= 599:
        words = (detail.code, detail.type)
        found = (_STATUS_BY_WORD.get(word.lower()) for word in words if word is not None)
        status = next((one for one in found if one is not None), None)
    if status is None:
        status = 400 if detail.says(_CONTEXT_CODES | _FILTER_CODES) else 500
    return _mapped(status, detail, None, provider, secrets)


def _mapped(
    status: int,
    detail: ErrorDetail,
    retry_after: float | None,
    provider: str,
    secrets: Sequence[str],
) -> ProviderError:
    message = scrub(detail.message, secrets)
    if not message:
        message = f"The provider {provider!r} answered with status {status} and no explanation."
    if retry_after is None and detail.retry_after_seconds is not None:
        retry_after = min(detail.retry_after_seconds, MAX_RETRY_AFTER_SECONDS)
    code = _word(detail.code, secrets)
    kind = _word(detail.type, secrets)
    param = scrub(detail.param, secrets)[:200] if detail.param else None

    if status >= 400:
        if detail.says(_FILTER_CODES):
            return ProviderRejectedError(
                message, status=_blamed_on_client(status), code="content_filter", param=param
            )
        if detail.says(_CONTEXT_CODES) or _CONTEXT_TEXTS.search(detail.message):
            return ProviderRejectedError(
                message,
                status=_blamed_on_client(status),
                code="context_length_exceeded",
                param=param,
            )
    if status in (401, 407):
        # Its text is about the gateway's key and would only mislead the client about its own.
        return ProviderRejectedError(
            f"The provider {provider!r} did not accept the gateway's credentials.",
            status=502,
            type="server_error",
            code="provider_authentication_failed",
        )
    if status == 403:
        return ProviderRejectedError(
            f"The provider {provider!r} does not allow this: {message}",
            status=502,
            type="server_error",
            code="provider_authentication_failed",
        )
    if status == 402:
        return ProviderRejectedError(
            f"The gateway's account at the provider {provider!r} is out of credit.",
            status=502,
            type="server_error",
            code="provider_quota_exhausted",
        )
    if status in (408, 504, 524):
        return ProviderTimeoutError(message, retry_after_seconds=retry_after)
    if status in (503, 529) or detail.says(_OVERLOAD_CODES):
        return ProviderUnavailableError(
            message, status=503, code="model_overloaded", retry_after_seconds=retry_after
        )
    if status == 429:
        quota = detail.says(frozenset({"insufficient_quota"}))
        return ProviderRejectedError(
            message,
            status=429,
            type="insufficient_quota" if quota else "rate_limit_error",
            code="insufficient_quota" if quota else code or "rate_limit_exceeded",
            param=param,
            retry_after_seconds=retry_after,
        )
    if 400 <= status <= 499:
        if status == 404 and (detail.says(_MODEL_CODES) or _ABOUT_A_MODEL.search(detail.message)):
            code = "model_not_found"
        return ProviderRejectedError(
            message,
            status=status,
            type=kind,
            code=code,
            param=param,
            retry_after_seconds=retry_after,
        )
    return ProviderUnavailableError(message, retry_after_seconds=retry_after)


def _blamed_on_client(status: int) -> int:
    return status if status in (400, 413, 422) else 400


def _word(value: str | None, secrets: Sequence[str]) -> str | None:
    """``value`` if it is a plain word and holds no secret."""
    if value is None or not _WORD.fullmatch(value) or scrub(value, secrets) != value:
        return None
    return value


def _retry_after(headers: RawHeaders, now: Callable[[], float]) -> float | None:
    """Seconds to wait, within [0, 3600]; None where nothing sensible was said."""
    values = {name: value.decode("latin-1").strip() for name, value in headers}
    milliseconds = _seconds(values.get(b"retry-after-ms", ""))
    if milliseconds:
        return min(milliseconds / 1000, MAX_RETRY_AFTER_SECONDS)
    value = values.get(b"retry-after", "")
    seconds = _seconds(value)
    if seconds is None and value[:3].isalpha():
        try:
            date = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = max(0.0, date.timestamp() - now())
    return None if seconds is None else min(seconds, MAX_RETRY_AFTER_SECONDS)


def _seconds(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None

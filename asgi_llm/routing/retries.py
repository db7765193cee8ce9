"""What a failure means for the next step: again here, elsewhere, or not at all; when; how often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Final, Literal

import msgspec

from asgi_llm.errors import ConfigurationError, LLMError, ProviderError, RequestError

__all__ = ["Backoff", "Failure", "FailureKind", "RetryBudget", "Then", "classify"]

FailureKind = Literal[
    "rate_limited",
    "overloaded",
    "unavailable",
    "timeout",
    "unreachable",
    "broken_off",
    "authentication",
    "quota",
    "model_not_found",
    "too_large",
    "context_length",
    "content_filter",
    "rejected",
    "not_supported",
    "invalid",
    "client_left",
    "internal",
]
"""What went wrong. ``rejected`` is the provider's other 4xx. The last four say nothing of the
target: its adapter cannot carry the request, the request is refused here, its client has left, or
something failed on our own side."""

Then = Literal["same", "next", "stop"]
"""``same``: may be tried again at the same target, or at another; ``next``: at another one only;
``stop``: at no other target of the route."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that failed, and what follows from it."""

    kind: FailureKind
    then: Then
    counts_against_breaker: bool = False
    """Whether it speaks against the target, and not against the request."""
    retry_after_seconds: float | None = None
    """How long the provider asked to wait, above 0. It may be any length, so whoever waits has a
    bound of their own."""
    cools_down: bool = False
    """Whether that wait is meant for all calls to the target."""
    fallback: Literal["errors", "context_length", "content_filter"] | None = None
    """The field of ``Fallbacks`` whose routes may serve instead; None: none may."""

    @property
    def concerns_target(self) -> bool:
        """Whether the target was asked at all, so that it is known to be there or not."""
        return self.kind not in ("not_supported", "invalid", "client_left", "internal")


# kind, then, counts, cools down, fallback
_Row = tuple[
    FailureKind, Then, bool, bool, Literal["errors", "context_length", "content_filter"] | None
]

_BY_CODE: Final[dict[str, _Row]] = {
    "context_length_exceeded": ("context_length", "stop", False, False, "context_length"),
    "content_filter": ("content_filter", "stop", False, False, "content_filter"),
    "provider_authentication_failed": ("authentication", "next", True, False, "errors"),
    "provider_quota_exhausted": ("quota", "next", True, False, "errors"),
    "insufficient_quota": ("quota", "next", True, False, "errors"),
    "model_overloaded": ("overloaded", "same", True, True, "errors"),
    # The provider may have done the work, and will be paid for it: not twice.
    "connection_lost": ("broken_off", "next", True, False, "errors"),
    "stream_truncated": ("broken_off", "next", True, False, "errors"),
    "invalid_provider_response": ("broken_off", "next", True, False, "errors"),
    "provider_timeout": ("timeout", "next", True, False, "errors"),
}
_AUTHENTICATION: Final[_Row] = ("authentication", "next", True, False, "errors")
_TIMEOUT: Final[_Row] = ("timeout", "next", True, False, "errors")
_OVERLOADED: Final[_Row] = ("overloaded", "same", True, True, "errors")
_LATER: Final[_Row] = ("rejected", "same", False, False, "errors")
_BY_STATUS: Final[dict[int, _Row]] = {
    401: _AUTHENTICATION,
    402: ("quota", "next", True, False, "errors"),
    403: _AUTHENTICATION,
    404: ("model_not_found", "next", False, False, "errors"),
    407: _AUTHENTICATION,
    408: _TIMEOUT,
    409: _LATER,
    413: ("too_large", "next", False, False, "errors"),
    425: _LATER,
    429: ("rate_limited", "same", True, True, "errors"),
    503: _OVERLOADED,
    504: _TIMEOUT,
    524: _TIMEOUT,
    529: _OVERLOADED,
}
_REJECTED: Final[_Row] = ("rejected", "stop", False, False, None)
_UNAVAILABLE: Final[_Row] = ("unavailable", "same", True, False, "errors")
_UNREACHABLE: Final[_Row] = ("unreachable", "same", True, False, "errors")
_NO_ANSWER: Final[_Row] = ("broken_off", "next", True, False, "errors")
_NOT_SUPPORTED: Final[_Row] = ("not_supported", "next", False, False, "errors")
_INVALID: Final[_Row] = ("invalid", "stop", False, False, None)
_CLIENT_LEFT: Final[_Row] = ("client_left", "stop", False, False, None)
_INTERNAL: Final[_Row] = ("internal", "stop", False, False, None)


def classify(
    error: BaseException | None,
    *,
    status: int | None = None,
    error_code: str | None = None,
    retry_after_seconds: float | None = None,
    bytes_sent: bool = False,
) -> Failure | None:
    """What the outcome of one call means; None: it is an answer.

    A 429 with a time to wait cools the target down and counts as no failure; without one it counts.

    Args:
        error: What was raised, or is in ``FAILURE``; None where only an answer is known. A
            ``TimeoutError`` is a deadline of the caller's; another ``OSError``, or a cancellation,
            is a client that has left.
        status: The upstream's status, as in ``Attempt``; None: no answer came.
        error_code: As in ``Attempt``; ``error.code`` where None.
        retry_after_seconds: ``error.retry_after_seconds`` where None.
        bytes_sent: Whether the client has got any part of the answer. Then nothing is tried again.
    """
    code = error_code
    if isinstance(error, LLMError):
        code = code or error.code
        if retry_after_seconds is None:
            retry_after_seconds = error.retry_after_seconds
    elif error is None and code is None and (status is None or status < 400):
        return None
    kind, then, counts, cools_down, fallback = _row(error, status, code)
    if retry_after_seconds is None or not retry_after_seconds > 0:
        retry_after_seconds, cools_down = None, False
    elif kind == "rate_limited":
        counts = False
    if bytes_sent:
        then, fallback = "stop", None
    return Failure(
        kind=kind,
        then=then,
        counts_against_breaker=counts,
        retry_after_seconds=retry_after_seconds,
        cools_down=cools_down,
        fallback=fallback,
    )


def _row(error: BaseException | None, status: int | None, code: str | None) -> _Row:
    if isinstance(error, RequestError):
        # Refused here: by the adapter, before anything was sent.
        if code == "context_length_exceeded":
            return _BY_CODE[code]
        missing = code == "model_not_found" or (code or "").startswith("unsupported_")
        return _NOT_SUPPORTED if missing else _INVALID
    if error is not None and not isinstance(error, ProviderError):
        if isinstance(error, TimeoutError):
            return _TIMEOUT
        left = isinstance(error, OSError | asyncio.CancelledError)
        return _CLIENT_LEFT if left else _INTERNAL
    row = _BY_CODE.get(code or "")
    if row is not None:
        return row
    answered = status is not None
    if error is not None and (status is None or 200 <= status < 300):
        # What came in an answer or a stream that began well.
        status = error.status
    if status is None:
        return _UNREACHABLE
    row = _BY_STATUS.get(status)
    if row is not None:
        return row
    if 400 <= status < 500:
        return _REJECTED
    if status < 400:
        return _NO_ANSWER
    return _UNAVAILABLE if answered else _UNREACHABLE


class Backoff(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How long to wait before a retry: at random, up to a bound that grows (full jitter).

    Raises:
        ConfigurationError: A figure is out of its range.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    base_seconds: float = 0.25
    """The bound of the first wait, above 0."""
    factor: float = 2.0
    """What the bound grows by, at least 1."""
    cap_seconds: float = 8.0
    """The most that the bound grows to, at least ``base_seconds``."""
    max_retry_after_seconds: float = 20.0
    """The longest time asked for by a provider that is waited for, at least 0."""

    def __post_init__(self) -> None:
        if not 0 < self.base_seconds < inf:
            raise ConfigurationError("base_seconds must be above 0", param="base_seconds")
        if not 1 <= self.factor < inf:
            raise ConfigurationError("factor must be at least 1", param="factor")
        if not self.base_seconds <= self.cap_seconds < inf:
            raise ConfigurationError(
                "cap_seconds must be at least base_seconds", param="cap_seconds"
            )
        if not 0 <= self.max_retry_after_seconds < inf:
            raise ConfigurationError(
                "max_retry_after_seconds must be at least 0", param="max_retry_after_seconds"
            )

    def wait_seconds(
        self,
        retry: int,
        random: Callable[[], float],
        *,
        retry_after_seconds: float | None = None,
        left_seconds: float = inf,
    ) -> float | None:
        """Seconds to wait before retry number ``retry``; None: do not try there again.

        Args:
            retry: From 0.
            random: From 0 to below 1.
            retry_after_seconds: What the provider asked for. It is waited for first.
            left_seconds: Until the request's deadline; a wait that would reach it is none.
        """
        bound = self.base_seconds
        for _ in range(retry):
            if bound >= self.cap_seconds:
                break
            bound *= self.factor
        wait = random() * min(bound, self.cap_seconds)
        if retry_after_seconds is not None:
            if retry_after_seconds > self.max_retry_after_seconds:
                return None
            wait += max(0.0, retry_after_seconds)
        return wait if wait < left_seconds else None


class RetryBudget:
    """Holds retries to a share of requests, so that they do not finish off what is overloaded.

    A token bucket: over any time there are at most ``share`` of the requests, ``floor_per_second``
    and ``burst`` retries together. It is one process' own, and for one event loop.

    Args:
        share: What a request adds, from 0 to 1.
        floor_per_second: What time adds, at least 0, so that few requests can be retried too.
        burst: The most that it holds, and what it begins with; at least 1.
        clock: Seconds that never go back.
    """

    __slots__ = ("_burst", "_clock", "_filled_at", "_floor", "_share", "_tokens")

    def __init__(
        self,
        *,
        share: float = 0.1,
        floor_per_second: float = 0.2,
        burst: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= share <= 1:
            raise ConfigurationError("share is from 0 to 1", param="share")
        if not 0 <= floor_per_second < inf:
            raise ConfigurationError(
                "floor_per_second must be at least 0", param="floor_per_second"
            )
        if not 1 <= burst < inf:
            raise ConfigurationError("burst must be at least 1", param="burst")
        self._share = share
        self._floor = floor_per_second
        self._burst = self._tokens = float(burst)
        self._clock = clock
        self._filled_at = clock()

    def requested(self) -> None:
        """A request has come, of which nothing was tried yet."""
        self._tokens = min(self._burst, self._tokens + self._share)

    def take(self) -> bool:
        """Whether one more retry may be made; if so it is counted."""
        now = self._clock()
        gained = self._floor * (now - self._filled_at)
        self._filled_at = now
        self._tokens = min(self._burst, self._tokens + gained)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

"""What a client may say of caching with one request, by header.

Source: RFC 9111, section 5.2.1 (request directives of ``Cache-Control``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from asgi_llm.errors import InvalidRequestError, RequestError

__all__ = ["NO_CONTROLS", "CacheControls", "not_cached", "read_controls"]

_NAMESPACE: Final = re.compile(rb"[A-Za-z0-9._:/-]{1,128}")
_MOST_DIGITS: Final = 10


class CacheControls(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one request asks of caches."""

    looks: bool = True
    """Whether a stored answer will do. False: ``no-cache``; a new answer is kept all the same."""
    stores: bool = True
    """Whether its answer may be kept. False: ``no-store``, or ``X-Cache-TTL: 0``; a stored answer
    will do all the same."""
    only_cached: bool = False
    """Whether only a stored answer will do: ``only-if-cached``."""
    max_age_seconds: float | None = None
    """How old a stored answer may be; None: as old as the layer serves it."""
    ttl_seconds: float | None = None
    """How long its answer is fresh; None: as the layer has it."""
    namespace: str = ""
    """Requests with different ones share nothing. It divides a partition and never leaves it."""

    @property
    def shares(self) -> bool:
        """Whether an answer will do that is being made for another, and its own for others."""
        return self.looks and self.stores and self.max_age_seconds is None and not self.only_cached

    def allow(self, age_seconds: float) -> bool:
        """Whether a stored answer of this age will do."""
        return self.looks and (self.max_age_seconds is None or age_seconds <= self.max_age_seconds)


NO_CONTROLS: Final = CacheControls()


def read_controls(headers: Mapping[bytes, bytes], *, max_ttl_seconds: float) -> CacheControls:
    """Read ``Cache-Control``, ``X-Cache-TTL`` and ``X-Cache-Namespace``.

    Directives that are not known are passed over, as the RFC has it.

    Args:
        headers: Of the request; names in lower case.
        max_ttl_seconds: What a longer ``X-Cache-TTL`` is cut to.

    Raises:
        InvalidRequestError: ``X-Cache-TTL`` is no whole number of seconds, or
            ``X-Cache-Namespace`` is not 1 to 128 of the characters that it may have.
    """
    directives = headers.get(b"cache-control")
    ttl = headers.get(b"x-cache-ttl")
    namespace = headers.get(b"x-cache-namespace")
    if directives is None and ttl is None and namespace is None:
        return NO_CONTROLS
    looks = stores = True
    only_cached = False
    max_age: float | None = None
    for directive in (directives or b"").lower().split(b","):
        name, _, value = directive.strip().partition(b"=")
        if name == b"no-cache":
            looks = False
        elif name == b"no-store":
            stores = False
        elif name == b"only-if-cached":
            only_cached = True
        elif name == b"max-age":
            # What cannot be read is taken for the strictest that could have been meant.
            seconds = _seconds(value.strip(b'" ')) or 0.0
            max_age = seconds if max_age is None else min(max_age, seconds)
    ttl_seconds: float | None = None
    if ttl is not None:
        asked = _seconds(ttl.strip())
        if asked is None:
            raise InvalidRequestError(
                "X-Cache-TTL must be a whole number of seconds.",
                param="X-Cache-TTL",
                code="invalid_cache_ttl",
            )
        ttl_seconds = min(asked, max_ttl_seconds)
        stores = stores and ttl_seconds > 0
    if namespace is not None and _NAMESPACE.fullmatch(namespace) is None:
        raise InvalidRequestError(
            "X-Cache-Namespace must be 1 to 128 letters, digits and . _ : / -",
            param="X-Cache-Namespace",
            code="invalid_cache_namespace",
        )
    return CacheControls(
        looks=looks,
        stores=stores,
        only_cached=only_cached,
        max_age_seconds=max_age,
        ttl_seconds=ttl_seconds,
        namespace="" if namespace is None else namespace.decode("ascii"),
    )


def not_cached() -> RequestError:
    """The answer to ``only-if-cached`` where there is nothing (RFC 9111, section 5.2.1.7)."""
    return RequestError(
        "There is no stored answer for this request.",
        status=504,
        type="invalid_request_error",
        code="not_cached",
    )


def _seconds(value: bytes) -> float | None:
    return float(value[:_MOST_DIGITS]) if value.isdigit() else None

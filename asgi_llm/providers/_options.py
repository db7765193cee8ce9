"""Checks of options that several adapters take."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from asgi_llm.errors import ConfigurationError, RawHeaders

__all__ = ["checked_base_url", "credential", "header_pairs"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
# The transport writes these itself; a second one would make the request ambiguous.
_FRAMING = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_SENSITIVE = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)


def checked_base_url(url: str, option: str = "base_url") -> str:
    """``url`` without a slash at its end.

    Raises:
        ConfigurationError: It is no absolute http or https URL, or has credentials, a query or a
            fragment.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{option} is no URL: {error}", param=option) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigurationError(
            f"{option} must be an absolute http or https URL, not {url!r}", param=option
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{option} must not hold credentials", param=option)
    if parts.query or parts.fragment or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise ConfigurationError(
            f"{option} must not hold a query, a fragment, a space or non-ASCII text", param=option
        )
    return url.rstrip("/")


def credential(value: str, option: str) -> bytes:
    """``value`` as a header value. The message of the error does not show it.

    Raises:
        ConfigurationError: It is empty or holds what a header cannot.
    """
    if not _VALUE.fullmatch(value):
        raise ConfigurationError(
            f"{option} is empty, or holds a line end, a space at an end or non-ASCII text",
            param=option,
        )
    return value.encode("ascii")


def header_pairs(headers: Iterable[tuple[str, str]]) -> tuple[RawHeaders, list[str]]:
    """``headers`` for the wire, and the values among them that are secrets by their names.

    Raises:
        ConfigurationError: A name or a value is malformed, or the name is the transport's.
    """
    pairs: RawHeaders = []
    secrets: list[str] = []
    for name, value in headers:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is no header name", param="headers")
        if name.lower() in _FRAMING:
            raise ConfigurationError(f"{name!r} is set by the transport", param="headers")
        pairs.append((name.lower().encode("ascii"), credential(value, f"headers[{name}]")))
        if _SENSITIVE.search(name):
            secrets.append(value)
    return pairs, secrets

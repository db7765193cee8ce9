"""Calls of guards to services: one POST of JSON, with a deadline and a cap."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from asgi_llm._json import decode_unchecked
from asgi_llm.errors import ConfigurationError, RawHeaders, StoreError
from asgi_llm.transports._addresses import (
    AddressPolicy,
    CheckedResolver,
    Resolver,
    is_public,
    safe_url,
    system_addresses,
)
from asgi_llm.transports._decoding import decoded
from asgi_llm.transports.base import Timeouts, Transport, TransportError, UpstreamRequest
from asgi_llm.transports.http1 import Http1Transport

__all__ = ["JsonPost", "checked_transport"]

_MAX_BYTES: Final = 1024 * 1024
_ALL_PORTS: Final = range(1, 65536)


def checked_transport(
    *, policy: AddressPolicy = is_public, resolver: Resolver = system_addresses
) -> Transport:
    """A transport that connects to addresses that ``policy`` allows alone, however named."""
    return Http1Transport(resolver=CheckedResolver(resolver, policy))


class JsonPost:
    """Posts JSON to one URL. Redirects are not followed.

    Args:
        url: ``https``, or ``http``.
        transport: The way there.
        timeout_seconds: Deadline of one call, above 0.

    Raises:
        ConfigurationError: An option is wrong.
    """

    def __init__(self, url: str, *, transport: Transport, timeout_seconds: float) -> None:
        if not 0 < timeout_seconds < math.inf:
            raise ConfigurationError("timeout_seconds must be above 0", param="timeout_seconds")
        try:
            self._url = safe_url(url, schemes=("https", "http"), ports=_ALL_PORTS)
        except ValueError as error:
            raise ConfigurationError(f"url: {error}", param="url") from error
        self._transport = transport
        self._timeouts = Timeouts(
            connect_seconds=timeout_seconds,
            first_byte_seconds=timeout_seconds,
            idle_seconds=timeout_seconds,
            total_seconds=timeout_seconds,
        )

    async def __call__(self, body: bytes, headers: RawHeaders) -> Any:
        """The document of the answer.

        Raises:
            StoreError: There was none, in time, with a status of success.
        """
        request = UpstreamRequest(
            "POST",
            self._url,
            ((b"content-type", b"application/json"), (b"user-agent", b"asgi-llm"), *headers),
            body,
        )
        try:
            response = await self._transport.send(request, self._timeouts)
            try:
                answer = await decoded(response).read(_MAX_BYTES)
            finally:
                await response.aclose()
        except TransportError as error:
            raise StoreError("the guard's service did not answer") from error
        if not 200 <= response.status < 300:
            raise StoreError(f"the guard's service answered with status {response.status}")
        try:
            return decode_unchecked(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StoreError("the guard's service answered with no JSON") from error

"""Documents that are fetched by HTTP from a configured URL: keys and what points to them."""

from __future__ import annotations

from typing import Final, Protocol

from asgi_llm.errors import StoreError
from asgi_llm.transports._decoding import decoded
from asgi_llm.transports.base import Timeouts, Transport, TransportError, UpstreamRequest
from asgi_llm.transports.http1 import Http1Transport

__all__ = ["Fetch", "HttpFetch"]

_MAX_BYTES: Final = 1024 * 1024
_TIMEOUTS: Final = Timeouts(connect_seconds=3.0, first_byte_seconds=5.0, total_seconds=5.0)
_HEADERS: Final = ((b"accept", b"application/json"), (b"user-agent", b"asgi-llm"))


class Fetch(Protocol):
    """Gets a document."""

    async def __call__(self, url: str) -> bytes:
        """The body of a 200 answer to a GET.

        Raises:
            Exception: There is none; what is raised is logged by its type.
        """
        ...


class HttpFetch:
    """Gets a document of at most 1 MiB within 5 seconds. Redirects are not followed.

    Args:
        transport: The way there. Default: ``http1``, opened when it is used, closed by ``aclose``.
    """

    def __init__(self, transport: Transport | None = None) -> None:
        self._owns = transport is None
        self._transport: Transport = Http1Transport() if transport is None else transport

    async def __call__(self, url: str) -> bytes:
        try:
            response = await self._transport.send(UpstreamRequest("GET", url, _HEADERS), _TIMEOUTS)
            try:
                if response.status != 200:
                    raise StoreError(f"the answer has status {response.status}")
                return await decoded(response).read(_MAX_BYTES)
            finally:
                await response.aclose()
        except TransportError as error:
            raise StoreError("there was no answer") from error

    async def aclose(self) -> None:
        """Close what was opened here. Idempotent."""
        if self._owns:
            await self._transport.aclose()

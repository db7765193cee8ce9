"""Webhooks of a configuration: who is told of budgets, and over which connections."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from asgi_llm.errors import ConfigurationError, RawHeaders, StoreError
from asgi_llm.gateway._cost_definitions import WebhookDefinition
from asgi_llm.middleware.cost import BudgetAlert, Notify, SignedWebhook
from asgi_llm.transports._addresses import CheckedResolver, is_public, safe_url, system_addresses
from asgi_llm.transports.base import Timeouts, Transport, TransportError, UpstreamRequest
from asgi_llm.transports.http1 import Http1Transport

__all__ = ["HttpPost", "Webhooks"]

_TIMEOUTS: Final = Timeouts(connect_seconds=5.0, first_byte_seconds=10.0, total_seconds=15.0)
_ALL_PORTS: Final = range(1, 65_536)


class HttpPost:
    """Posts within 15 seconds and follows no redirect. Opened when it is used.

    Args:
        private: Whether addresses that are not public may be reached. Otherwise every address of
            a name has to be public, and the connection goes to one of those that were checked.
    """

    def __init__(self, *, private: bool) -> None:
        resolver = None if private else CheckedResolver(system_addresses, is_public)
        self._transport: Transport = Http1Transport(max_idle_per_origin=0, resolver=resolver)

    async def __call__(self, url: str, *, headers: RawHeaders, body: bytes) -> int:
        """The status of the answer.

        Raises:
            StoreError: There was none.
        """
        try:
            request = UpstreamRequest("POST", url, tuple(headers), body)
            response = await self._transport.send(request, _TIMEOUTS)
        except TransportError as error:
            raise StoreError("there was no answer") from error
        await response.aclose()
        return response.status

    async def aclose(self) -> None:
        """Close what is open. Idempotent."""
        await self._transport.aclose()


class Webhooks:
    """Tells everybody of an alert; one who does not answer keeps nobody else from hearing it.

    Args:
        definitions: Who they are.

    Raises:
        ConfigurationError: One of them is wrong; ``param`` is its path below the layer.
    """

    def __init__(self, definitions: Sequence[WebhookDefinition]) -> None:
        self._posts = {private: HttpPost(private=private) for private in (False, True)}
        self._all: list[Notify] = []
        for index, definition in enumerate(definitions):
            try:
                self._all.append(self._webhook(definition))
            except ConfigurationError as error:
                param = f"webhooks.{index}.{error.param}"
                raise ConfigurationError(error.message, param=param) from None

    def _webhook(self, definition: WebhookDefinition) -> SignedWebhook:
        schemes = ("https", "http") if definition.private else ("https",)
        try:
            url = safe_url(definition.url.reveal(), schemes=schemes, ports=_ALL_PORTS)
        except ValueError as error:
            raise ConfigurationError(str(error), param="url") from None
        return SignedWebhook(
            url,
            secret=definition.secret.reveal() if definition.secret else None,
            post=self._posts[definition.private],
            max_attempts=definition.max_attempts,
        )

    async def __call__(self, alert: BudgetAlert) -> None:
        """Tell them all.

        Raises:
            StoreError: Some of them did not take it.
        """
        results = await asyncio.gather(*(one(alert) for one in self._all), return_exceptions=True)
        failures = [result for result in results if isinstance(result, Exception)]
        if failures:
            raise StoreError(f"{len(failures)} of {len(results)} webhooks did not take an alert")

    async def aclose(self) -> None:
        """Close the connections."""
        for post in self._posts.values():
            await post.aclose()

"""Drivers over plain connections and TLS, and short ways to say what a test asks for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import trustme

from asgi_llm.testing import Upstream
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.transports.http1 import Http1Transport
from asgi_llm.transports.httpx import HttpxTransport


class Wire:
    """A driver, and whether it speaks TLS: makes transports and the upstreams that they call.

    Args:
        driver: ``http1``, ``httpx2`` or ``httpx``.
        authority: Signs the upstreams' certificates; None is plain.
    """

    def __init__(self, driver: str, authority: trustme.CA | None) -> None:
        self.driver = driver
        self.authority = authority
        self._open: list[Transport] = []

    def upstream(self, *args: Any, **options: Any) -> Upstream:
        """An upstream that this wire's transports trust."""
        context = None if self.authority is None else server_context(self.authority)
        return Upstream(*args, ssl_context=context, **options)

    def transport(self, **http1_options: Any) -> Transport:
        """A transport, closed when the test ends."""
        context = None if self.authority is None else client_context(self.authority)
        transport: Transport
        if self.driver == "http1":
            transport = Http1Transport(ssl_context=context, **http1_options)
        else:
            module: Any = httpx2 if self.driver == "httpx2" else httpx
            client = module.AsyncClient(verify=context or True, trust_env=False)
            transport = HttpxTransport(client, close_client=True)
        self._open.append(transport)
        return transport

    async def aclose(self) -> None:
        for transport in self._open:
            await transport.aclose()


def server_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    """A server's context with a certificate for ``name``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name, "::1" if name == "127.0.0.1" else name).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts ``authority`` alone."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def seconds(**changes: float | None) -> Timeouts:
    """Deadlines that no test should reach, but for ``changes``."""
    limits: dict[str, float | None] = {
        "connect_seconds": 5.0,
        "first_byte_seconds": 5.0,
        "idle_seconds": 5.0,
        "total_seconds": 10.0,
    }
    return Timeouts(**{**limits, **changes})


def post(upstream: Upstream, path: str = "/v1/x", **fields: Any) -> UpstreamRequest:
    """A POST to ``upstream``."""
    fields.setdefault("body", b"{}")
    return UpstreamRequest("POST", upstream.url + path, fields.pop("headers", []), **fields)


async def fetch(
    transport: Transport,
    request: UpstreamRequest,
    timeouts: Timeouts | None = None,
    max_bytes: int = 1 << 24,
) -> bytes:
    """The whole body of the answer."""
    response = await transport.send(request, timeouts or seconds())
    try:
        return await response.read(max_bytes)
    finally:
        await response.aclose()


async def pieces(*parts: bytes, then: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """An iterable body; it waits for ``then`` before its end."""
    for part in parts:
        yield part
    if then is not None:
        await then.wait()

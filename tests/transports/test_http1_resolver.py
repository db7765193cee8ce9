"""A transport with a resolver of its own connects to what that gives, and to nothing else."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
import trustme

from asgi_llm.testing import Upstream, json_reply
from asgi_llm.transports.base import ConnectError, UpstreamRequest
from asgi_llm.transports.http1 import Http1Transport
from tests.transports.wires import client_context, fetch, seconds, server_context

NAME = "upstream.example"


async def test_b9_a_name_leads_where_the_resolver_says() -> None:
    """It is asked with host and port, once a connection; the name stays in the request."""
    asked: list[tuple[str, int]] = []

    async def resolver(host: str, port: int) -> list[tuple[str, int]]:
        asked.append((host, port))
        return [("127.0.0.1", socket.AF_INET)]

    async with asyncio.timeout(10), Upstream(lambda _: json_reply({})) as upstream:
        transport = Http1Transport(resolver=resolver)
        request = UpstreamRequest("GET", f"http://{NAME}:{upstream.port}/", ())
        for _ in range(2):
            assert b"{}" == await fetch(transport, request)
        await transport.aclose()
        host = upstream.ledger[0].request.header("host")
        assert ([(NAME, upstream.port)], 1) == (asked, upstream.connections)
        assert f"{NAME}:{upstream.port}".encode() == host


@pytest.mark.parametrize("host", [NAME, "127.0.0.1"])
async def test_b9_what_the_resolver_refuses_is_not_connected_to(host: str) -> None:
    """A literal address goes through it like a name."""

    async def resolver(host: str, port: int) -> list[tuple[str, int]]:
        raise OSError("not allowed")

    async with asyncio.timeout(10), Upstream() as upstream:
        transport = Http1Transport(resolver=resolver)
        request = UpstreamRequest("GET", f"http://{host}:{upstream.port}/", ())
        with pytest.raises(ConnectError, match="not allowed"):
            await transport.send(request, seconds())
        await transport.aclose()
        assert 0 == upstream.connections


async def test_a_name_without_an_address_cannot_be_connected_to() -> None:
    """Where the resolver has an empty list in place of an error."""

    async def resolver(host: str, port: int) -> list[tuple[str, int]]:
        return []

    transport = Http1Transport(resolver=resolver)
    with pytest.raises(ConnectError, match="the name has no address"):
        await transport.send(UpstreamRequest("GET", f"http://{NAME}/", ()), seconds())
    await transport.aclose()


@pytest.mark.parametrize(("certified", "stands"), [(NAME, True), ("127.0.0.1", False)])
async def test_the_certificate_has_to_be_the_names(
    certified: str, stands: bool, authority: trustme.CA
) -> None:
    """And not that of the address that the name leads to."""

    async def resolver(host: str, port: int) -> list[tuple[str, int]]:
        return [("127.0.0.1", socket.AF_INET)]

    ours: ssl.SSLContext = client_context(authority)
    async with (
        asyncio.timeout(10),
        Upstream(
            lambda _: json_reply({}), ssl_context=server_context(authority, certified)
        ) as upstream,
    ):
        transport = Http1Transport(ssl_context=ours, resolver=resolver)
        request = UpstreamRequest("GET", f"https://{NAME}:{upstream.port}/", ())
        if stands:
            assert b"{}" == await fetch(transport, request)
        else:
            with pytest.raises(ConnectError):
                await transport.send(request, seconds())
        await transport.aclose()

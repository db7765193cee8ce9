"""What the httpx driver does beyond the promises that it shares, and when it is chosen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import httpx2
import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.testing import Upstream, json_reply
from asgi_llm.transports.base import (
    ConnectError,
    ConnectionLostError,
    TransportTimeoutError,
    UpstreamProtocolError,
    UpstreamRequest,
)
from asgi_llm.transports.default import default_transport
from asgi_llm.transports.http1 import Http1Transport
from asgi_llm.transports.httpx import HttpxTransport
from tests.transports.wires import fetch, seconds

REQUEST = UpstreamRequest("POST", "http://upstream.invalid/v1/x", [(b"x", b"1")], b"{}")


def mocked(handler: Callable[[Any], Any], package: Any = httpx2, **options: Any) -> HttpxTransport:
    """A transport over a client whose answers come from ``handler``."""
    client = package.AsyncClient(transport=package.MockTransport(handler), **options)
    return HttpxTransport(client, close_client=True)


@pytest.mark.parametrize("package", [httpx, httpx2])
async def test_mock_transports(package: Any) -> None:
    """A client over a mock is used as it is, without a socket."""
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        return package.Response(200, json={"a": 1})

    transport = mocked(answer, package, headers={"x-client": "own"})
    assert b'{"a":1}' == (await fetch(transport, REQUEST)).replace(b" ", b"")
    await transport.aclose()
    assert seen[0].headers["x"] == "1"
    assert seen[0].headers["x-client"] == "own"
    assert seen[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("package", [httpx, httpx2])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ConnectError", ConnectError),
        ("ProxyError", ConnectError),
        ("ReadError", ConnectionLostError),
        ("WriteError", ConnectionLostError),
        ("CloseError", ConnectionLostError),
        ("RemoteProtocolError", UpstreamProtocolError),
        ("LocalProtocolError", UpstreamProtocolError),
    ],
)
async def test_errors(package: Any, name: str, expected: type[Exception]) -> None:
    """Each error of the client becomes one of ours."""

    def fail(request: Any) -> Any:
        raise getattr(package, name)("why")

    transport = mocked(fail, package)
    with pytest.raises(expected):
        await transport.send(REQUEST, seconds())
    await transport.aclose()


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("ConnectTimeout", "connect"),
        ("PoolTimeout", "connect"),
        ("ReadTimeout", "first_byte"),
        ("WriteTimeout", "first_byte"),
    ],
)
async def test_timeouts_of_the_client(name: str, phase: str) -> None:
    """The client's own timeouts name their phase."""

    def fail(request: Any) -> Any:
        raise getattr(httpx2, name)("why")

    transport = mocked(fail)
    with pytest.raises(TransportTimeoutError) as caught:
        await transport.send(REQUEST, seconds())
    assert (caught.value.phase, caught.value.seconds) == (phase, 5.0)
    await transport.aclose()


async def test_deadlines_without_the_clients_help() -> None:
    """A client that keeps no time is held to the deadlines all the same."""

    async def never(request: Any) -> Any:
        await asyncio.Event().wait()

    transport = mocked(never)
    with pytest.raises(TransportTimeoutError) as caught:
        limits = seconds(connect_seconds=0.05, first_byte_seconds=0.05)
        await transport.send(REQUEST, limits)
    assert caught.value.phase == "first_byte"
    await transport.aclose()


async def test_errors_in_the_body() -> None:
    """A read that fails within the body closes the response and is one of our errors."""

    async def body() -> AsyncIterator[bytes]:
        yield b"ab"
        raise httpx2.ReadTimeout("why")

    transport = mocked(lambda request: httpx2.Response(200, content=body()))
    response = await transport.send(REQUEST, seconds())
    chunks = aiter(response)
    assert await anext(chunks) == b"ab"
    with pytest.raises(TransportTimeoutError) as caught:
        await anext(chunks)
    assert caught.value.phase == "idle"
    await response.aclose()
    await transport.aclose()


@pytest.mark.parametrize(
    ("headers", "version", "framed"),
    [
        ([], b"HTTP/1.1", False),
        ([(b"content-length", b"2")], b"HTTP/1.1", True),
        ([(b"transfer-encoding", b"chunked")], b"HTTP/1.1", True),
        ([], b"HTTP/2", True),
    ],
)
async def test_framed(headers: Any, version: bytes, framed: bool) -> None:
    """Framed is what names its length or is chunked, and all of HTTP/2."""

    async def body() -> AsyncIterator[bytes]:
        yield b"ab"

    def answer(request: Any) -> Any:
        stream = httpx2.Response(200, content=body()).stream
        extensions = {"http_version": version}
        return httpx2.Response(200, headers=headers, stream=stream, extensions=extensions)

    transport = mocked(answer)
    response = await transport.send(REQUEST, seconds())
    assert b"ab" == await response.read(2)
    await response.aclose()
    await transport.aclose()
    assert response.framed == framed


async def test_client_stays_open() -> None:
    """Whoever made the client closes it, unless that was handed over."""
    client = httpx2.AsyncClient()
    await HttpxTransport(client).aclose()
    assert not client.is_closed
    await HttpxTransport(client, close_client=True).aclose()
    assert client.is_closed


async def test_derived_clients() -> None:
    """A class derived from a client is one, wherever it is defined."""

    class Client(httpx2.AsyncClient):
        pass

    client = Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200)))
    assert b"" == await fetch(HttpxTransport(client), REQUEST)
    await client.aclose()


def test_other_clients_are_refused() -> None:
    """What is no asynchronous client is a ConfigurationError."""
    with httpx2.Client() as client, pytest.raises(ConfigurationError) as caught:
        HttpxTransport(client)
    assert caught.value.param == "client"


async def test_http1_is_the_default() -> None:
    """Without a proxy our own transport is taken."""
    transport = default_transport()
    assert isinstance(transport, Http1Transport)
    await transport.aclose()


async def test_proxy_is_used() -> None:
    """With a proxy the call goes to it, with the whole URL, through httpx2."""
    async with Upstream() as proxy:
        proxy.script(json_reply({"via": "proxy"}))
        transport = default_transport(proxy.url)
        assert isinstance(transport, HttpxTransport)
        assert b'{"via":"proxy"}' == await fetch(transport, REQUEST)
        await transport.aclose()
        assert proxy.ledger[0].request.target == REQUEST.url


@pytest.mark.parametrize("proxy", ["nonsense", "ftp://127.0.0.1:1", "http://127.0.0.1:port"])
def test_bad_proxy(proxy: str) -> None:
    """A proxy that is none is a ConfigurationError."""
    with pytest.raises(ConfigurationError) as caught:
        default_transport(proxy)
    assert caught.value.param == "proxy"

"""Over sockets, through real servers: what they make of headers changes no decision."""

from __future__ import annotations

import asyncio
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.testing.serving import serve
from tests.middleware.auth.probes import CALLER, KEY, Inside, table

SERVERS: list[tuple[Literal["uvicorn", "hypercorn"], Literal["h11", "httptools"] | None]] = [
    ("uvicorn", "httptools"),
    ("uvicorn", "h11"),
    ("hypercorn", None),
]
GOOD = b"Authorization: Bearer " + KEY.encode()
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)


async def answered(url: str, target: bytes, *headers: bytes) -> int:
    """The status of one raw request; 0: the connection was closed without an answer."""
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    try:
        lines = [b"GET " + target + b" HTTP/1.1", b"Host: x", *headers, b"", b""]
        writer.write(b"\r\n".join(lines))
        async with asyncio.timeout(10):
            head = await reader.readline()
    finally:
        writer.close()
    return int(head.split()[1]) if head else 0


@pytest.mark.parametrize(("server", "http"), SERVERS)
async def test_a2_a3_a5_a8_a20_b2_over_the_wire(server: Any, http: Any) -> None:
    """Bytes on the wire to decisions, the same for each server."""
    inside = Inside()
    key = KEY.encode()
    async with serve(AuthMiddleware(inside, keys=table()), server, http=http) as url:
        for target, headers, expected in [
            (b"/v1/files", [GOOD], 200),
            (b"/v1/files", [b"AUTHORIZATION:bearer " + key], 200),
            (b"/v1/files", [b"X-API-Key: " + key], 200),
            (b"/v1/files", [b"x_api_key: " + key], 401),
            (b"/v1/files", [], 401),
            (b"/v1/files", [b"Authorization: Bearer\xa0" + key], 401),
            (b"/v1/files", [b"Authorization: Bearer " + key + b"\xff"], 401),
            (b"/v1/files", [b"Authorization: Bearer  " + key], 401),
            (b"/v1/files", [b"Authorization: Bearer \t" + key], 401),
            (b"/v1/files", [b"Authorization: Bearer " + key + b", Bearer " + key], 401),
            (b"/v1/files", [GOOD, GOOD], 400),
            (b"/v1/files", [GOOD, b"api-key: other"], 400),
            (b"/v1/files?key=" + key, [GOOD], 400),
            (b"/v1/files?%6bey=" + key, [], 400),
            (b"/health/live", [], 200),
            (b"/health/live?key=1", [], 200),
            (b"//health/live", [], 401),
            (b"/x/../health/live", [], 401),
            (b"/health/%2e/live", [], 401),
            (b"/v1/files", [GOOD, b"Connection: authorization"], 200),
            (b"/v1/socket", [UPGRADE], 403),
        ]:
            status = await answered(url, target, *headers)
            # Some servers refuse a byte of a header themselves.
            allowed = {expected, 400} if expected == 401 else {expected}
            assert status in allowed, (target, headers)
        served = zip(inside.scopes, inside.principals, strict=True)
        principals = [principal for scope, principal in served if scope["type"] == "http"]
    assert [CALLER] * 3 + [None] * 2 + [CALLER] == principals

"""A gateway's terminal app on a real socket, and a client that sends raw bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.echo import Echo
from asgi_llm.providers.openai import OpenAI
from asgi_llm.testing import Upstream, chat_answer, json_reply
from asgi_llm.testing.serving import serve
from tests.services.postgres_server import postgres_server, postgres_url
from tests.services.redis_server import redis_server, redis_url

__all__ = ["postgres_server", "postgres_url", "redis_server", "redis_url"]

SECRET = "sk-canary-0123456789abcdef0123456789"
MAX_BODY_BYTES = 256 * 1024


@dataclass
class Raw:
    """One raw answer: its status (0 where the connection was just closed), head and body."""

    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return None


@dataclass
class Door:
    """Where a gateway listens."""

    url: str
    upstream: Upstream

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    async def send(self, *parts: bytes, timeout_seconds: float = 10.0) -> Raw:
        """Send bytes as they are on a new connection; the first answer to them.

        The client's side stays open, so that what ends the exchange is the server.
        """
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                return await read_answer(reader, is_head=parts[0].startswith(b"HEAD "))
            except ConnectionError:
                return Raw(0, b"", b"")
            finally:
                writer.close()

    async def post(
        self,
        body: bytes | dict[str, Any],
        *,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        headers: tuple[str, ...] = ("content-type: application/json",),
        host: str = "gateway",
    ) -> Raw:
        """Send one request with exactly these headers, host and length apart."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *headers]
        lines += [f"content-length: {len(data)}", "connection: close", "", ""]
        return await self.send("\r\n".join(lines).encode("latin-1") + data)


async def read_answer(reader: asyncio.StreamReader, *, is_head: bool = False) -> Raw:
    """One HTTP answer, with its body to the announced end, or to the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return Raw(0, b"", b"")
    raw = Raw(int(head.split(b" ", 2)[1]), head, b"")
    if is_head:
        return raw
    length = raw.header("content-length")
    if length is not None:
        raw.body = await reader.readexactly(int(length))
    elif raw.header("transfer-encoding") == "chunked":
        raw.body = await _chunks(reader)
    else:
        raw.body = await reader.read()
    return raw


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).strip() or b"0", 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    return b"".join(parts)


CHAT = {"model": "echo/echo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """A ProviderApp under uvicorn (httptools), with echo and an OpenAI-format upstream."""
    async with Upstream(lambda _: json_reply(chat_answer("hello"))) as upstream:
        app = ProviderApp(
            [Echo(), OpenAI(name="up", api_key=SECRET, base_url=upstream.url + "/v1")],
            max_body_bytes=MAX_BODY_BYTES,
            body_timeout_seconds=0.5,
        )
        try:
            async with serve(app, server="uvicorn", http="httptools") as url:
                yield Door(url, upstream)
        finally:
            await app.aclose()

"""The error boundary under real servers: what a client on the wire sees of a broken answer."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm.gateway.compose import compose
from asgi_llm.testing.serving import serve

SECRET = "the prompt of a client"
TYPES = {"/stream": b"text/event-stream", "/json": b"application/json"}


async def breaking(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    if scope["path"] in TYPES:
        headers = [(b"content-type", TYPES[scope["path"]])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
    error: Exception = ValueError(SECRET)
    raise error


SERVERS: list[Any] = [
    pytest.param("uvicorn", {"http": "httptools"}, id="uvicorn-httptools"),
    pytest.param("uvicorn", {"http": "h11"}, id="uvicorn-h11"),
    pytest.param("hypercorn", {}, id="hypercorn"),
]


@pytest.mark.parametrize(("server", "options"), SERVERS)
async def test_a_broken_answer_on_the_wire(
    server: Any, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Before the start a 500; in a stream an error event; else a cut connection, no clean end."""
    async with (
        asyncio.timeout(30),
        serve(compose([], breaking), server, **options) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        unstarted = await http.get("/")
        assert (500, "internal_error") == (
            unstarted.status_code,
            unstarted.json()["error"]["code"],
        )
        stream = await http.get("/stream")
        assert stream.text.startswith('data: {}\n\ndata: {"error":')
        assert stream.text.endswith("data: [DONE]\n\n")
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.get("/json")
    assert 3 == caplog.text.count("\nValueError\n")
    assert SECRET not in caplog.text

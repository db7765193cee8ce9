"""What our apps are measured against: the server alone, and a bare pass-through.

The upstream's origin comes in the environment variable ``PERFORMANCE_UPSTREAM``.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from tests.performance.raw_client import Pool
from tests.performance.wire import answer_body


async def _answer_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def hello() -> ASGIApp:
    """Reads the body and answers with a constant: what the server itself costs."""
    body = answer_body()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _answer_lifespan(receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def pass_through() -> ASGIApp:
    """Hands the body to the upstream and the answer back, as bytes, by the floor client."""
    upstream = urlsplit(os.environ["PERFORMANCE_UPSTREAM"])
    host, port = upstream.hostname or "127.0.0.1", upstream.port or 80
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\n"
        "content-type: application/json\r\nauthorization: Bearer sk-upstream\r\n"
    ).encode()
    pool: Pool | None = None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal pool
        if scope["type"] == "lifespan":
            await _answer_lifespan(receive, send)
            return
        if pool is None:
            pool = Pool(host, port)
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = await pool.post(head, body)
        if answer.is_stream:
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for chunk in answer.chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        data = b"".join(answer.parts)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    return app

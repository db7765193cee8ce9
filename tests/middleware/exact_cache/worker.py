"""A worker process of a test: ``python -m ... url document requests lease_seconds``.

It says ``ready``, asks when it gets a line, says ``asked`` when all its requests are under way, and
then what came of them. The app inside counts its calls in Redis, and waits there for its answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import msgspec
import redis.asyncio
from starlette.types import Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.stores.cache_redis import RedisCache
from asgi_llm.testing import chat_answer, chat_events
from tests.middleware.exact_cache.conftest import ask, read, text_of

WAIT_SECONDS = 30


class Counted:
    """An app that answers with the number of the call, when it is told to."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url, socket_timeout=WAIT_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        document = msgspec.json.decode(await read(receive))
        number = await self._client.incr("calls")
        await self._client.blpop(["go"], timeout=WAIT_SECONDS)
        text = f"Answer number {number}."
        if document.get("stream"):
            kind, body = b"text/event-stream", b""
            for event in chat_events(text):
                body += _sse.encode(msgspec.json.encode(event))
            body += _sse.DONE
        else:
            kind, body = b"application/json", msgspec.json.encode(chat_answer(text))
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def aclose(self) -> None:
        await self._client.aclose()


async def main(url: str, document: Any, requests: int, lease_seconds: float) -> None:
    app = Counted(url)
    store = RedisCache(url, timeout_seconds=10.0)
    layer = ExactCacheMiddleware(app, store=store, lease_seconds=lease_seconds)
    await store.get([bytes(32)])
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async with asyncio.timeout(2 * WAIT_SECONDS):
        asked = [asyncio.create_task(patient(layer, document)) for _ in range(requests)]
        for _ in range(10):
            await asyncio.sleep(0)
        print("asked", flush=True)
        answers = await asyncio.gather(*asked)
    print(json.dumps([text_of(answer) for answer in answers]), flush=True)
    await layer.aclose()
    await store.aclose()
    await app.aclose()


async def patient(layer: ExactCacheMiddleware, document: Any) -> Any:
    return await ask(layer, document, timeout_seconds=2 * WAIT_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))

"""An upload to a provider that does not read it, and a client that leaves meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable

from starlette.types import Message

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.openai import OpenAI
from asgi_llm.testing import http_scope
from asgi_llm.transports.base import Timeouts, UpstreamRequest, UpstreamResponse

DEADLINE_SECONDS = 10.0
FORM = (b"content-type", b"multipart/form-data; boundary=b")
HEAD = (
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nopenai/whisper-1\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
)
PIECES = 100


class Deaf:
    """A transport whose upstream takes the first piece of a body, and no more.

    Attributes:
        ended: Set when the call is given up.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamResponse:
        """Wait for ever."""
        assert isinstance(request.body, AsyncIterable)
        await anext(aiter(request.body))
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        raise AssertionError

    async def aclose(self) -> None:
        """Nothing was opened."""


async def test_a_client_that_leaves_ends_the_call() -> None:
    """At once, with pieces of its file that nobody has taken still before its end."""
    transport = Deaf()
    app = ProviderApp([OpenAI(api_key="k")], transport=transport)
    given = 0

    async def receive() -> Message:
        nonlocal given
        given += 1
        if given > PIECES:
            return {"type": "http.disconnect"}
        body = HEAD if given == 1 else b"x" * 65536
        return {"type": "http.request", "body": body, "more_body": True}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = http_scope(path="/v1/audio/transcriptions", headers=[FORM])
    async with asyncio.timeout(DEADLINE_SECONDS):
        await app(scope, receive, send)
    assert (True, []) == (transport.ended.is_set(), sent)
    await app.aclose()

"""B19 over HTTP/2, which is spoken where a client that can is handed in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httpx2
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.openai import OpenAI
from asgi_llm.testing import call, chat_events
from asgi_llm.transports.httpx import HttpxTransport

STREAM = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
HEADERS = [(":status", "200"), ("content-type", "text/event-stream")]


class GoesAway(asyncio.Protocol):
    """Begins a stream of events, and says GOAWAY in the midst of it."""

    _has_gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connection = H2Connection(H2Configuration(client_side=False))
        self._connection.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._has_gone:
            return
        for event in self._connection.receive_data(data):
            if isinstance(event, RequestReceived):
                self._connection.send_headers(event.stream_id, HEADERS)
                for said in chat_events("One two three four.")[:2]:
                    text = f"data: {json.dumps(said)}\n\n".encode()
                    self._connection.send_data(event.stream_id, text)
                self._connection.close_connection(ErrorCodes.INTERNAL_ERROR, last_stream_id=0)
                self._has_gone = True
        self._flush()

    def _flush(self) -> None:
        self._transport.write(self._connection.data_to_send())


@asynccontextmanager
async def going_away() -> AsyncIterator[str]:
    """The URL of such a server."""
    server = await asyncio.get_running_loop().create_server(GoesAway, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def test_b19_a_goaway_in_the_midst_of_a_stream_is_no_end() -> None:
    """The stream ends with an error event, and never as if it were whole."""
    async with (
        asyncio.timeout(30),
        going_away() as url,
        httpx2.AsyncClient(http1=False, http2=True, trust_env=False) as client,
    ):
        provider = OpenAI(api_key="sk-test", base_url=url, transport=HttpxTransport(client))
        answer = await call(ProviderApp([provider]), json=STREAM)
    assert 200 == answer.status
    events = [json.loads(one[6:]) for one in answer.body.split(b"\n\n") if one[6:7] == b"{"]
    assert "error" in events[-1]
    assert not any(
        choice.get("finish_reason") for event in events for choice in event.get("choices", ())
    )

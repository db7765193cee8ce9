"""Clients that read slowly and clients that do not read at all, by ticks that the test gives."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message

from asgi_llm.errors import RawHeaders
from asgi_llm.providers._exchange import Calling, Exchange
from asgi_llm.providers._fan_out import FanOut
from asgi_llm.providers._watch import ClientWatch, Watchman
from asgi_llm.providers.base import Provider
from asgi_llm.providers.ollama import Ollama
from asgi_llm.providers.openai import OpenAI
from asgi_llm.state import State
from asgi_llm.testing import Recorder, chat_events
from asgi_llm.transports.base import Timeouts, UpstreamRequest
from asgi_llm.types import Deployment

TIMEOUT_SECONDS = 2.0
TEXT = ["word "] * 20


class Replayed:
    """A transport, and its own answers: each the same pieces, one at a time."""

    def __init__(self, content_type: bytes, pieces: list[bytes]) -> None:
        self.status = 200
        self.framed = True
        self.headers: RawHeaders = [(b"content-type", content_type)]
        self._pieces = pieces

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> Replayed:
        return self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def read(self, max_bytes: int) -> bytes:
        return b"".join(self._pieces)

    async def aclose(self) -> None:
        """Nothing is open."""


async def waits_for_ever() -> Any:
    """The ``receive`` of a client that stays."""
    await asyncio.Event().wait()


def openai_stream() -> tuple[Exchange, int]:
    """A stream that passes, and its messages at least."""
    events = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in chat_events(TEXT)]
    replayed = Replayed(b"text/event-stream", [*events, b"data: [DONE]\n\n"])
    return _exchange(OpenAI(api_key="k"), replayed, "chat", stream=True), len(TEXT)


def speech() -> tuple[Exchange, int]:
    """A file that passes as it comes."""
    replayed = Replayed(b"audio/mpeg", [b"sound"] * 20)
    return _exchange(OpenAI(api_key="k"), replayed, "speech"), 20


def two_streams() -> tuple[Exchange, int]:
    """One stream out of two that a provider gives one by one."""
    lines = [{"message": {"content": text}, "done": False} for text in TEXT]
    last = {"message": {"content": ""}, "done": True, "done_reason": "stop"}
    pieces = [json.dumps(line).encode() + b"\n" for line in [*lines, last]]
    replayed = Replayed(b"application/x-ndjson", pieces)
    exchange = _exchange(Ollama(base_url="http://x"), replayed, "chat", stream=True, n=2)
    assert isinstance(exchange, FanOut)
    return exchange, len(TEXT)


def _exchange(provider: Provider, transport: Any, operation: Any, **more: Any) -> Exchange:
    if operation == "chat":
        more["messages"] = [{"role": "user", "content": "x"}]
    deployment = Deployment(provider=provider.name, model="m")
    translation = provider.translate(operation, {"model": "m", "input": "x", **more}, deployment)
    calling = Calling(
        provider=provider,
        transport=transport,
        timeouts=Timeouts(),
        max_response_bytes=1 << 20,
        clock=time.monotonic,
        header=(b"x-provider", b"p"),
        authorize=None,
        with_headers=None,
        told_headers={},
    )
    of_one = FanOut if translation.more else Exchange
    return of_one(calling, translation, State())


KINDS = pytest.mark.parametrize("make", [openai_stream, speech, two_streams])


@KINDS
async def test_a_client_that_takes_each_message_is_not_cut_off(make: Any) -> None:
    """However long all of it lasts, and though a message is under way at every tick."""
    exchange, at_least = make()
    watch = ClientWatch(Watchman(TIMEOUT_SECONDS), waits_for_ever)
    client = Recorder()

    async def send(message: Message) -> None:
        # Time passes while the client takes it, but not as much as it has.
        watch.tick(1.0, TIMEOUT_SECONDS)
        await asyncio.sleep(0)
        client.record(message)

    with watch:
        await exchange.run(send, watch)
    assert not watch.gone
    assert len(client.messages) >= at_least
    assert not client.messages[-1].get("more_body")


@KINDS
async def test_a_client_that_does_not_take_a_message_is_cut_off(make: Any) -> None:
    """When its time is over and not before, in the midst of an answer."""
    exchange, _ = make()
    watch = ClientWatch(Watchman(TIMEOUT_SECONDS), waits_for_ever)
    taken: list[Message] = []
    ticks = 0

    async def send(message: Message) -> None:
        nonlocal ticks
        taken.append(message)
        if len(taken) == 5:
            while True:
                ticks += 1
                watch.tick(1.0, TIMEOUT_SECONDS)
                await asyncio.sleep(0)

    with watch:
        await exchange.run(send, watch)
    assert watch.gone
    # The first may come right after the begin; after three more it is over two seconds.
    assert (5, 4) == (len(taken), ticks)


async def test_time_between_messages_is_the_upstreams() -> None:
    """A client that has taken all there is waits as long as it has to."""
    watch = ClientWatch(Watchman(TIMEOUT_SECONDS), waits_for_ever)
    with watch:
        for sending in ({"type": "a"}, None, {"type": "b"}, None):
            watch.sending = sending
            for _ in range(3 if sending else 100):
                watch.tick(1.0, TIMEOUT_SECONDS)
                await asyncio.sleep(0)
    assert not watch.gone

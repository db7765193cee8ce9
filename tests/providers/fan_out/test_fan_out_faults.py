"""Answers made of several calls, where something is slow, late, broken or too much."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.providers._chat_answer import AnswerWriter
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.providers._embeddings import batches, embedding_answer, embedding_texts
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._native import ChatCall, NativeFormat
from asgi_llm.providers._translated_stream import AnswerReader
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.base import Answer, Translation
from asgi_llm.state import ATTEMPTS, FAILURE, USAGE, State, enter
from asgi_llm.testing import (
    Exchange,
    Recorder,
    Reply,
    Reset,
    Upstream,
    Wait,
    call,
    http_scope,
    json_reply,
    sse_reply,
)
from asgi_llm.transports.base import Timeouts, UpstreamRequest, UpstreamResponse
from asgi_llm.types import Deployment, Document, Usage

BATCH = 2


class Plain(NativeFormat):
    """A format with a word for everything, and one choice an answer."""

    def chat_call(self, request: ChatRequest, deployment: Deployment) -> ChatCall:
        return ChatCall(f"{self.base_url}/chat", {"ask": len(request.turns)})

    def read_answer(self, translation: Translation, body: bytes, writer: AnswerWriter) -> None:
        PlainReader().read("message", body, writer)

    def reader(self, translation: Translation) -> AnswerReader:
        return PlainReader()

    def other_call(
        self, operation: Operation, document: Document, deployment: Deployment, losses: Losses
    ) -> Translation:
        first, *more = (
            UpstreamRequest("POST", f"{self.base_url}/embed", (), _json.encode(texts))
            for texts in batches(embedding_texts(document), BATCH)
        )
        return Translation(operation, document, deployment, first, more=tuple(more))

    def read_other(self, translation: Translation, *bodies: bytes) -> Answer:
        told = [msgspec.json.decode(body) for body in bodies]
        vectors = [vector for one in told for vector in one["vectors"]]
        usage = Usage(input_uncached=sum(one["tokens"] for one in told))
        model = translation.deployment.model
        return Answer(embedding_answer(model, vectors, usage, as_base64=False), usage)


class PlainReader:
    over = False
    ends_with_body = False

    def read(self, kind: str, data: bytes, writer: AnswerWriter) -> None:
        told = msgspec.json.decode(data)
        if told.get("bug"):
            raise LookupError("a mistake in the adapter")
        writer.begin()
        if "text" in told:
            writer.text(told["text"])
        if "tokens" in told:
            writer.usage = Usage(input_uncached=10, output_text=told["tokens"])
        if told.get("over"):
            writer.finish("stop")
            self.over = True


OVER = {"over": True, "tokens": 2}
QUICK = Timeouts(first_byte_seconds=0.2, idle_seconds=0.2)


class Setting:
    """An upstream and an app before it, called in process."""

    def __init__(self, upstream: Upstream, timeouts: Timeouts | None = None) -> None:
        provider = Plain(
            name="plain",
            provider_name="plain",
            base_url=upstream.url,
            operations=("chat", "embeddings"),
            timeouts=timeouts,
        )
        self.app = ProviderApp([provider])
        self.state = State()

    def scope(self) -> Any:
        scope, self.state = enter(json_scope())
        return scope

    async def ask(self, **more: Any) -> Recorder:
        return await call(self.app, self.scope(), body=chat(**more), timeout_seconds=10)


def json_scope() -> Any:
    return http_scope(headers=[("content-type", "application/json"), ("x-request-id", "mine")])


def chat(**more: Any) -> bytes:
    messages = [{"role": "user", "content": "x" * 40}]
    return json.dumps({"model": "plain/m", "messages": messages, **more}).encode()


def told(answer: Recorder) -> list[Any]:
    """The events of a stream; the end mark as a string."""
    lines = [line[6:] for line in answer.body.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


@pytest.mark.parametrize("stream", [False, True])
async def test_each_call_counts_as_an_attempt_in_the_headers(stream: bool) -> None:
    """Also before they are over; the provider's limits are told, and the client's own id."""
    async with asyncio.timeout(20), Upstream() as upstream:
        here = Setting(upstream)
        headers = {"x-ratelimit-remaining-requests": "7"}
        reply = (
            sse_reply([{"text": "a"}, OVER], done=False, headers=headers)
            if stream
            else json_reply({"text": "a", **OVER}, headers=headers)
        )
        upstream.script(reply)
        answer = await here.ask(n=3, stream=stream)
        sent = dict(answer.headers)
        assert (b"3", b"7", b"mine") == (
            sent[b"x-attempts"],
            sent[b"x-ratelimit-remaining-requests"],
            sent[b"x-client-request-id"],
        )
        attempts = here.state.get(ATTEMPTS)
        assert attempts is not None
        assert 3 == len(attempts)
        usage = here.state.get(USAGE)
        assert usage is not None
        assert (30, 6) == (usage.input_tokens, usage.output_tokens)
        await here.app.aclose()


async def test_case_93_batches_keep_their_order() -> None:
    """Whichever is answered first; usage is summed."""
    gates = {name: asyncio.Event() for name in "ace"}

    async def reply(request: Any) -> Reply:
        texts = request.json()
        await gates[texts[0]].wait()
        for name, before in (("c", "e"), ("a", "c")):
            if texts[0] == before:
                gates[name].set()
        return json_reply({"vectors": [[ord(t)] for t in texts], "tokens": len(texts)})

    async with asyncio.timeout(20), Upstream(reply) as upstream:
        here = Setting(upstream)
        gates["e"].set()
        scope = http_scope(path="/v1/embeddings")
        document = {"model": "plain/m", "input": list("abcde")}
        answer = await call(here.app, scope, json=document)
        body = json.loads(answer.body)
        assert [0, 1, 2, 3, 4] == [one["index"] for one in body["data"]]
        assert [[float(ord(t))] for t in "abcde"] == [one["embedding"] for one in body["data"]]
        assert 5 == body["usage"]["total_tokens"]
        assert 3 == len(upstream.ledger)
        await here.app.aclose()


async def test_one_that_does_not_answer_in_time_is_the_answer() -> None:
    """With the status of a timeout; the others are ended."""
    async with asyncio.timeout(20), Upstream() as upstream:
        here = Setting(upstream, QUICK)
        upstream.script(
            json_reply({"text": "a", **OVER}),
            json_reply({"text": "b", **OVER}, before=[Wait(asyncio.Event())]),
        )
        answer = await here.ask(n=2)
        assert (504, "provider_timeout") == (
            answer.status,
            json.loads(answer.body)["error"]["code"],
        )
        assert sorted(["200", "None"]) == sorted(
            str(attempt.status) for attempt in here.state.get(ATTEMPTS) or ()
        )
        await here.app.aclose()


@pytest.mark.parametrize(
    ("last", "code"), [(Wait(asyncio.Event()), "provider_timeout"), (Reset(), "connection_lost")]
)
async def test_case_82_one_stream_that_stalls_or_is_cut_ends_all(last: Any, code: str) -> None:
    """In one error event and one end mark; usage is estimated, each call's input counted."""
    async with asyncio.timeout(20), Upstream() as upstream:
        here = Setting(upstream, QUICK)
        upstream.script(
            sse_reply([{"text": "a1"}, last], done=False),
            sse_reply([{"text": "b1"}, OVER], done=False),
        )
        answer = await here.ask(n=2, stream=True)
        *events, error, end = told(answer)
        assert ("[DONE]", code) == (end, error["error"]["code"])
        assert "[DONE]" not in events
        said = [one["delta"].get("content") for e in events for one in e["choices"]]
        assert {"a1", "b1"} <= set(said)
        usage, failure = here.state.get(USAGE), here.state.get(FAILURE)
        assert usage is not None
        assert failure is not None
        assert (True, code) == (usage.estimated, failure.code)
        # What the one said, and a guess for the other.
        assert usage.input_tokens > 10
        assert usage.output_tokens >= 3
        await upstream.served(2)
        await here.app.aclose()


async def test_the_end_comes_after_every_finish_reason() -> None:
    """Though all streams end while the client does not read."""
    n = 8
    async with asyncio.timeout(20), Upstream() as upstream:
        here = Setting(upstream)
        upstream.script(sse_reply([{"text": "t"}, OVER], done=False, split="every"))
        scope = here.scope()
        async with Exchange(here.app, scope, body=chat(n=n, stream=True)) as exchange:
            # The client takes one message, and nothing more until all is there.
            await exchange.next_message()
            await upstream.served(n)
            while not exchange.recorder.complete:
                await exchange.next_message()
            events = told(exchange.recorder)
        assert "[DONE]" == events[-1]
        finished = [
            choice["index"]
            for event in events[:-1]
            for choice in event["choices"]
            if choice["finish_reason"]
        ]
        assert list(range(n)) == sorted(finished)
        usage = here.state.get(USAGE)
        assert usage is not None
        assert (10 * n, 2 * n) == (usage.input_tokens, usage.output_tokens)
        await here.app.aclose()


class Pushed:
    """A transport whose answers are streams that the test pushes, and the answers themselves."""

    def __init__(self) -> None:
        self.streams: list[PushedStream] = []

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamResponse:
        self.streams.append(PushedStream())
        return self.streams[-1]

    async def aclose(self) -> None:
        return


class PushedStream:
    """One chunk at a time; None is the end."""

    status = 200
    framed = True

    def __init__(self) -> None:
        self.headers = [(b"content-type", b"text/event-stream")]
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    def push(self, event: Any) -> None:
        self._chunks.put_nowait(None if event is None else b"data: %b\n\n" % _json.encode(event))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk

    async def read(self, max_bytes: int) -> bytes:
        return b"".join([chunk async for chunk in self])

    async def aclose(self) -> None:
        return


async def test_an_end_is_not_overtaken_by_the_end_of_all() -> None:
    """One stream waits with its end when the last of all ends in the very turn of a free place."""
    transport = Pushed()
    provider = Plain(name="plain", provider_name="p", base_url="http://x", transport=transport)
    app = ProviderApp([provider])
    async with (
        asyncio.timeout(10),
        Exchange(app, json_scope(), body=chat(n=2, stream=True)) as exchange,
    ):
        await exchange.settle()
        early, late = transport.streams
        # One in the client's hands, one that waits for it, and one that waits for its place.
        for event in ({"text": "1"}, {"text": "2"}, OVER):
            early.push(event)
        early.push(None)
        await exchange.next_message()
        await exchange.settle()
        await exchange.next_message()
        late.push(OVER)
        late.push(None)
        while not exchange.recorder.complete:
            await exchange.next_message()
        events = told(exchange.recorder)
    assert ["[DONE]"] == [event for event in events if event == "[DONE]"]
    assert "[DONE]" == events[-1]
    ends = [c["index"] for e in events[:-1] for c in e["choices"] if c["finish_reason"]]
    assert [0, 1] == ends
    await app.aclose()


async def test_a_client_that_does_not_read_stops_all_upstreams() -> None:
    """One chunk of all streams together waits here; the rest stays with the upstreams."""

    def endless() -> Iterator[dict[str, str]]:
        while True:
            yield {"text": "x" * 10_000}

    async with (
        asyncio.timeout(20),
        Upstream(lambda _: sse_reply(endless(), done=False), send_buffer_bytes=4096) as upstream,
    ):
        here = Setting(upstream)
        async with Exchange(here.app, here.scope(), body=chat(n=2, stream=True)) as exchange:
            await exchange.next_message()
            await upstream.until(
                lambda: len(upstream.ledger) == 2 and all(row.blocked for row in upstream.ledger)
            )
            assert exchange.pending <= 1
            exchange.disconnect()
            async with asyncio.timeout(1):
                served = await upstream.served(2)
        assert [True, True] == [row.client_left for row in served]
        await here.app.aclose()


async def test_more_streams_than_are_under_way_at_once() -> None:
    """The ninth begins when one is over, and all end in one stream."""
    under_way = most = 0
    full = asyncio.Event()

    async def reply(_: Any) -> Reply:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if most == 8:
            full.set()
        await full.wait()
        under_way -= 1
        return sse_reply([{"text": "t"}, OVER], done=False)

    async with asyncio.timeout(20), Upstream(reply) as upstream:
        here = Setting(upstream)
        events = told(await here.ask(n=20, stream=True))
        finished = [c for e in events[:-1] for c in e["choices"] if c["finish_reason"]]
        assert (20, 8, "[DONE]") == (len(finished), most, events[-1])
        await here.app.aclose()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_mistake_in_an_adapter_leaves_nobody_waiting(stream: bool) -> None:
    """It is raised as it is, as from a single call; the other stream is ended."""
    async with asyncio.timeout(20), Upstream() as upstream:
        here = Setting(upstream)
        upstream.script(
            sse_reply([{"bug": True}, Wait(asyncio.Event())], done=False)
            if stream
            else json_reply({"bug": True}),
            sse_reply([Wait(asyncio.Event())], done=False)
            if stream
            else json_reply({"text": "a", **OVER}),
        )
        with pytest.raises(LookupError, match="a mistake"):
            await here.ask(n=2, stream=stream)
        await upstream.served(2)
        await here.app.aclose()


async def test_connections_of_streams_are_used_again() -> None:
    """What follows the end mark is taken."""
    async with asyncio.timeout(20), Upstream() as upstream:
        here = Setting(upstream)
        upstream.script(sse_reply([{"text": "t"}, OVER], done=False))
        for _ in range(3):
            assert "[DONE]" == told(await here.ask(n=2, stream=True))[-1]
        assert 2 == upstream.connections
        await here.app.aclose()


async def test_a_mistake_before_the_first_call_ends_the_request() -> None:
    """Nobody waits for chunks that no call will bring."""

    class Mistaken(Plain):
        def stream_decoders(self, translation: Translation) -> Any:
            raise LookupError("a mistake in the adapter")

    app = ProviderApp([Mistaken(name="plain", provider_name="p", base_url="http://x")])
    with pytest.raises(LookupError):
        await call(app, json_scope(), body=chat(n=2, stream=True), timeout_seconds=2)
    await app.aclose()

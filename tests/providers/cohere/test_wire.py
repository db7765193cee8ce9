"""The adapter within the app, against a server on a real socket."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.cohere import Cohere
from asgi_llm.testing import (
    Close,
    Exchange,
    ReceivedRequest,
    Reply,
    Reset,
    Step,
    Upstream,
    Wait,
    call,
    http_scope,
    json_reply,
)
from asgi_llm.testing.recorder import Recorder

SSE = [("content-type", "text/event-stream")]
EVENTS: list[dict[str, Any]] = [
    {"type": "message-start", "id": "a1", "delta": {"message": {"role": "assistant"}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"thinking": "hm"}}}},
    {"type": "content-delta", "index": 1, "delta": {"message": {"content": {"text": "Grüße"}}}},
    {
        "type": "message-end",
        "delta": {
            "finish_reason": "COMPLETE",
            "usage": {"billed_units": {"input_tokens": 5, "output_tokens": 4}},
        },
    },
]
DATA = b"".join(
    f"event: {one['type']}\ndata: {json.dumps(one, ensure_ascii=False)}\n\n".encode()
    for one in EVENTS
)


async def ask(upstream: Upstream, **document: Any) -> Recorder:
    app = ProviderApp([Cohere(api_key="key-0123456789", base_url=upstream.url)])
    asked = {"model": "cohere/c", "messages": [{"role": "user", "content": "hi"}], **document}
    recorder = await call(app, json=asked)
    await app.aclose()
    return recorder


async def test_a_stream_arrives() -> None:
    """Written byte by byte, with the end that the gateway's clients know."""
    async with Upstream() as upstream:
        body = DATA + b"data: [DONE]\n\n"
        upstream.script(Reply(headers=SSE, body=body, framing="chunked", split="every"))
        found = await ask(upstream, stream=True, stream_options={"include_usage": True})
        (row,) = await upstream.served(1)
    *events, end, _ = found.body.split(b"\n\n")
    chunks = [json.loads(event[6:]) for event in events]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert ("hm", "Grüße") == (
        "".join(delta.get("reasoning_content") or "" for delta in deltas),
        "".join(delta.get("content") or "" for delta in deltas),
    )
    assert (b"data: [DONE]", 9) == (end, chunks[-1]["usage"]["total_tokens"])
    assert ("/v2/chat", b"Bearer key-0123456789") == (
        row.request.path,
        row.request.header("authorization"),
    )


async def test_a_chunk_leaves_before_the_next_one_comes() -> None:
    """The translation waits for nothing but the end of an event."""
    go = asyncio.Event()
    cut = DATA.index(b"event: message-end")
    async with Upstream() as upstream:
        upstream.script(
            Reply(headers=SSE, body=[DATA[:cut], Wait(go), DATA[cut:]], framing="chunked")
        )
        app = ProviderApp([Cohere(api_key="k", base_url=upstream.url)])
        messages = [{"role": "user", "content": "hi"}]
        body = json.dumps({"model": "cohere/c", "messages": messages, "stream": True}).encode()
        scope = http_scope(headers=[("content-type", "application/json")])
        async with asyncio.timeout(10), Exchange(app, scope, body=body) as exchange:
            assert b'"hm"' in await exchange.next_chunk()
            go.set()
            recorder = await exchange.finish()
        assert recorder.body.endswith(b"data: [DONE]\n\n")
        await app.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_case_82_no_stream_that_is_cut_ends_as_a_success(seed: int) -> None:
    """At a random byte before the end, by FIN or RST, with framing or without."""
    chance = random.Random(seed)
    wrong: list[int] = []
    async with Upstream() as upstream:
        for number in range(10):
            cut = chance.randrange(1, len(DATA) - 2)
            ending: Step = Close() if chance.random() < 0.5 else Reset()
            framing: Any = chance.choice(["chunked", "close"])
            upstream.script(Reply(headers=SSE, body=[DATA[:cut], ending], framing=framing))
            found = await ask(upstream, stream=True)
            if b'"finish_reason":"' in found.body or b'"error"' not in found.body:
                wrong.append(number)
    assert [] == wrong


async def test_case_80_an_error_before_the_first_event_has_a_status() -> None:
    """And the key is not in it."""
    body = b'{"id":"x","message":"invalid request: key-0123456789"}'
    headers = [("content-type", "application/json")]
    async with Upstream() as upstream:
        upstream.script(Reply(status=400, headers=headers, body=body))
        found = await ask(upstream, stream=True)
    assert (400, False) == (found.status, b"key-0123456789" in found.body)


async def test_case_93_a_long_list_is_several_calls_and_one_answer() -> None:
    """In its order, whichever call is answered first."""

    def handler(request: ReceivedRequest) -> Reply:
        asked = json.loads(request.body)
        meta = {"billed_units": {"input_tokens": len(asked["texts"])}}
        vectors = [[float(text)] for text in asked["texts"]]
        return json_reply({"id": "e", "embeddings": {"float": vectors}, "meta": meta})

    async with Upstream(handler) as upstream:
        app = ProviderApp([Cohere(api_key="k", base_url=upstream.url)])
        texts = [str(index) for index in range(200)]
        found = await call(
            app,
            http_scope("POST", "/v1/embeddings"),
            json={"model": "cohere/e", "input": texts},
        )
        await app.aclose()
        assert 3 == len(upstream.ledger)
    document = json.loads(found.body)
    assert list(range(200)) == [row["embedding"][0] for row in document["data"]]
    assert 200 == document["usage"]["total_tokens"]


async def test_case_69_choices_are_streamed_side_by_side() -> None:
    """With one end and the sum of the usage."""
    async with Upstream() as upstream:
        upstream.script(Reply(headers=SSE, body=DATA, framing="chunked"))
        found = await ask(upstream, stream=True, n=2, stream_options={"include_usage": True})
        assert 2 == len(upstream.ledger)
    *events, end, _ = found.body.split(b"\n\n")
    chunks = [json.loads(event[6:]) for event in events]
    finished = [
        choice["index"]
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["finish_reason"]
    ]
    assert ([0, 1], b"data: [DONE]") == (sorted(finished), end)
    assert 18 == chunks[-1]["usage"]["total_tokens"]

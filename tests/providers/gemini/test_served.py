"""The adapter within the app, against a server on a real socket."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from asgi_llm.errors import ProviderError
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.gemini import Gemini
from asgi_llm.testing import (
    Close,
    Exchange,
    ReceivedRequest,
    Reply,
    Reset,
    Step,
    Upstream,
    call,
    http_scope,
    json_reply,
)
from asgi_llm.testing.recorder import Recorder
from asgi_llm.testing.replies import Wait

KEY = "AIza-0123456789"
SSE = [("content-type", "text/event-stream")]
JSON = [("content-type", "application/json; charset=UTF-8")]


def event(text: str, **more: Any) -> dict[str, Any]:
    counts = {"promptTokenCount": 5, "candidatesTokenCount": 4, "totalTokenCount": 9}
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, **more}
    return {"candidates": [candidate], "usageMetadata": counts, "responseId": "r1"}


EVENTS = [event("Grü"), event("ße"), event("!", finishReason="STOP")]
DATA = b"".join(f"data: {json.dumps(one, ensure_ascii=False)}\r\n\r\n".encode() for one in EVENTS)


async def ask(upstream: Upstream, **document: Any) -> Recorder:
    app = ProviderApp([Gemini(api_key=KEY, base_url=f"{upstream.url}/v1beta")])
    messages = [{"role": "user", "content": "hi"}]
    async with asyncio.timeout(30):
        recorder = await call(app, json={"model": "gemini/g", "messages": messages, **document})
    await app.aclose()
    return recorder


@pytest.mark.parametrize(
    "reply",
    [
        Reply(headers=SSE, body=DATA, framing="chunked", split="every"),
        Reply(headers=JSON, body=json.dumps(EVENTS).encode(), framing="chunked", split="every"),
    ],
    ids=["events", "83-array"],
)
async def test_a_stream_arrives(reply: Reply) -> None:
    """Written byte by byte, in either framing, with the end that clients know."""
    async with Upstream() as upstream:
        upstream.script(reply)
        found = await ask(upstream, stream=True, stream_options={"include_usage": True})
        (row,) = await upstream.served(1)
    *events, end, _ = found.body.split(b"\n\n")
    chunks = [json.loads(one[6:]) for one in events]
    assert "Grüße!" == "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert (b"data: [DONE]", 9) == (end, chunks[-1]["usage"]["total_tokens"])
    assert ("/v1beta/models/g:streamGenerateContent?alt=sse", KEY.encode()) == (
        row.request.target,
        row.request.header("x-goog-api-key"),
    )


async def test_a_chunk_leaves_before_the_next_one_comes() -> None:
    """The translation waits for nothing but the end of an event."""
    go = asyncio.Event()
    cut = DATA.index(b"data: ", 10)
    async with Upstream() as upstream:
        steps: list[Step] = [DATA[:cut], Wait(go), DATA[cut:]]
        upstream.script(Reply(headers=SSE, body=steps, framing="chunked"))
        app = ProviderApp([Gemini(api_key=KEY, base_url=upstream.url)])
        messages = [{"role": "user", "content": "hi"}]
        body = json.dumps({"model": "gemini/g", "messages": messages, "stream": True}).encode()
        scope = http_scope(headers=[("content-type", "application/json")])
        async with asyncio.timeout(10), Exchange(app, scope, body=body) as exchange:
            assert "Grü".encode() in await exchange.next_chunk()
            go.set()
            recorder = await exchange.finish()
        assert recorder.body.endswith(b"data: [DONE]\n\n")
        await app.aclose()


@pytest.mark.parametrize("data", [DATA, json.dumps(EVENTS).encode()], ids=["events", "array"])
async def test_case_82_no_stream_that_is_cut_ends_as_a_success(data: bytes) -> None:
    """Before its last event is there, by FIN or RST, with framing or without."""
    chance = random.Random(7)
    last = data.rindex(b"finishReason")
    wrong: list[tuple[int, str]] = []
    async with Upstream() as upstream:
        for _ in range(24):
            cut = chance.randrange(1, last)
            ending: Step = Close() if chance.random() < 0.5 else Reset()
            framing: Any = chance.choice(["chunked", "close"])
            headers = SSE if data is DATA else JSON
            upstream.script(Reply(headers=headers, body=[data[:cut], ending], framing=framing))
            found = await ask(upstream, stream=True)
            if b'"finish_reason":"' in found.body or b'"error"' not in found.body:
                wrong.append((cut, framing))
    assert [] == wrong


async def test_case_82_a_body_that_ends_only_with_its_connection_is_no_success() -> None:
    """Even behind the finish: nothing says that it was all."""
    async with Upstream() as upstream:
        upstream.script(Reply(headers=SSE, body=DATA, framing="close"))
        found = await ask(upstream, stream=True)
    assert (False, True) == (b'"finish_reason":"' in found.body, b'"error"' in found.body)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (400, "INVALID_ARGUMENT", 400),
        (401, "UNAUTHENTICATED", 502),
        (403, "PERMISSION_DENIED", 502),
        (404, "NOT_FOUND", 404),
        (429, "RESOURCE_EXHAUSTED", 429),
        (500, "INTERNAL", 502),
        (503, "UNAVAILABLE", 503),
        (504, "DEADLINE_EXCEEDED", 504),
    ],
)
async def test_case_80_89_errors_have_their_status(
    status: int, told: str, code: int, stream: bool
) -> None:
    """Of streams too, whose errors come in an array; the key is never shown."""
    error = {"error": {"code": status, "message": f"bad {KEY}", "status": told}}
    body = json.dumps([error] if stream else error).encode()
    async with Upstream() as upstream:
        upstream.script(Reply(status=status, headers=JSON, body=body))
        found = await ask(upstream, stream=stream)
    assert (code, False) == (found.status, KEY.encode() in found.body)


async def test_case_81_an_error_with_status_200_has_its_own() -> None:
    """Before anything was sent, whatever it says of its type."""
    error = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}
    async with Upstream() as upstream:
        for headers, body in (
            (SSE, b"data: " + json.dumps(error).encode() + b"\n\n"),
            (JSON, json.dumps([error]).encode()),
        ):
            upstream.script(Reply(headers=headers, body=body, framing="chunked"))
            assert 429 == (await ask(upstream, stream=True)).status


async def test_case_92_93_a_long_list_of_texts_is_several_calls_and_one_answer() -> None:
    """In its order, with the tokens that are told."""

    def handler(request: ReceivedRequest) -> Reply:
        asked = json.loads(request.body)["requests"]
        rows = [{"values": [float(one["content"]["parts"][0]["text"]), 0.5]} for one in asked]
        return json_reply({"embeddings": rows, "usageMetadata": {"promptTokenCount": len(rows)}})

    async with Upstream(handler) as upstream:
        app = ProviderApp([Gemini(api_key=KEY, base_url=upstream.url)])
        texts = [str(index) for index in range(201)]
        async with asyncio.timeout(30):
            found = await call(
                app,
                http_scope("POST", "/v1/embeddings"),
                json={"model": "gemini/e", "input": texts, "dimensions": 2, "task_type": "X"},
            )
        await app.aclose()
        rows = await upstream.served(3)
    document = json.loads(found.body)
    assert [[float(text), 0.5] for text in texts] == [row["embedding"] for row in document["data"]]
    assert 201 == document["usage"]["prompt_tokens"]
    (first, *_) = json.loads(rows[0].request.body)["requests"]
    assert {"outputDimensionality": 2, "taskType": "X", "model": "models/e"} == {
        name: value for name, value in first.items() if name != "content"
    }
    assert {"/models/e:batchEmbedContents"} == {row.request.target for row in rows}


async def test_models_are_listed_by_their_plain_names() -> None:
    """Those that do what is offered here, and those of which nothing is said."""
    listed = [
        {"name": "models/chat", "supportedGenerationMethods": ["generateContent"]},
        {"name": "models/vectors", "supportedGenerationMethods": ["embedContent"]},
        {"name": "models/films", "supportedGenerationMethods": ["predictLongRunning"]},
        {"name": "tunedModels/mine"},
    ]
    async with Upstream() as upstream:
        upstream.script(json_reply({"models": listed}))
        app = ProviderApp([Gemini(api_key=KEY, base_url=upstream.url)])
        async with asyncio.timeout(30):
            found = await call(app, http_scope("GET", "/v1/models"))
        await app.aclose()
        (row,) = await upstream.served(1)
    assert ["gemini/chat", "gemini/vectors", "gemini/tunedModels/mine"] == [
        one["id"] for one in json.loads(found.body)["data"]
    ]
    assert ("/models?pageSize=1000", KEY.encode()) == (
        row.request.target,
        row.request.header("x-goog-api-key"),
    )


@pytest.mark.parametrize("body", [b"{", b'{"models":[{"name":5}]}', b"\xff", b"[]"])
def test_what_is_no_list_of_models_is_an_error(body: bytes) -> None:
    """Of the provider's."""
    with pytest.raises(ProviderError) as caught:
        Gemini(api_key=KEY).parse_models(body)
    assert "invalid_provider_response" == caught.value.code

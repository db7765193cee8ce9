"""The adapter within the app, against a server on a real socket."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.ollama import Ollama
from asgi_llm.testing import Close, Exchange, Reply, Reset, Step, Upstream, Wait, call, http_scope
from asgi_llm.testing.recorder import Recorder

LINES: list[dict[str, Any]] = [
    {"model": "m", "message": {"role": "assistant", "content": "", "thinking": "hm"}},
    {"model": "m", "message": {"role": "assistant", "content": "Grüße"}},
    {"model": "m", "message": {"role": "assistant", "content": " 世界"}},
    {
        "model": "m",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 5,
        "eval_count": 4,
    },
]
DATA = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in LINES)
NDJSON = [("content-type", "application/x-ndjson")]


async def ask(upstream: Upstream, **document: Any) -> Recorder:
    app = ProviderApp([Ollama(base_url=upstream.url)])
    asked = {"model": "ollama/m", "messages": [{"role": "user", "content": "hi"}], **document}
    recorder = await call(app, json=asked)
    await app.aclose()
    return recorder


async def test_a_stream_of_lines_becomes_a_stream_of_events() -> None:
    """Written byte by byte, too."""
    async with Upstream() as upstream:
        upstream.script(Reply(headers=NDJSON, body=DATA, framing="chunked", split="every"))
        found = await ask(upstream, stream=True, stream_options={"include_usage": True})
        (row,) = await upstream.served(1)
    assert (200, b"text/event-stream; charset=utf-8") == (
        found.status,
        found.header("content-type"),
    )
    *events, end, _ = found.body.split(b"\n\n")
    assert b"data: [DONE]" == end
    chunks = [json.loads(event[6:]) for event in events]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "Grüße 世界" == "".join(delta.get("content") or "" for delta in deltas)
    assert "hm" == "".join(delta.get("reasoning_content") or "" for delta in deltas)
    assert (5, 4) == (
        chunks[-1]["usage"]["prompt_tokens"],
        chunks[-1]["usage"]["completion_tokens"],
    )
    assert "/api/chat" == row.request.path


async def test_a_chunk_leaves_before_the_next_one_comes() -> None:
    """The translation waits for nothing but the end of a line."""
    go = asyncio.Event()
    first, rest = DATA.split(b"\n", 1)
    async with Upstream() as upstream:
        upstream.script(
            Reply(headers=NDJSON, body=[first + b"\n", Wait(go), rest], framing="chunked")
        )
        app = ProviderApp([Ollama(base_url=upstream.url)])
        body = json.dumps(
            {"model": "ollama/m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        ).encode()
        scope = http_scope(headers=[("content-type", "application/json")])
        async with Exchange(app, scope, body=body) as exchange:
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
        for number in range(15):
            cut = chance.randrange(1, len(DATA) - 1)
            ending: Step = Close() if chance.random() < 0.5 else Reset()
            upstream.script(
                Reply(
                    headers=NDJSON,
                    body=[DATA[:cut], ending],
                    framing=chance.choice(["chunked", "close"]),
                )
            )
            found = await ask(upstream, stream=True, stream_options={"include_usage": True})
            finished = b'"finish_reason":"' in found.body or b'"usage"' in found.body
            if finished or b'"error"' not in found.body:
                wrong.append(number)
    assert [] == wrong


async def test_case_80_an_error_before_the_first_line_has_a_status() -> None:
    """And one that is all of a 200's stream is no success either."""
    async with Upstream() as upstream:
        upstream.script(
            Reply(
                status=404,
                headers=[("content-type", "application/json")],
                body=b'{"error":"model \'m\' not found"}',
            ),
            Reply(headers=NDJSON, body=b'{"error":"out of memory"}\n', framing="chunked"),
            Reply(headers=[("content-type", "application/json")], body=b'{"error":"busy"}'),
        )
        found = [await ask(upstream, stream=True) for _ in range(3)]
    assert [404, 502, 502] == [one.status for one in found]
    assert "model_not_found" == json.loads(found[0].body)["error"]["code"]
    assert "out of memory" == json.loads(found[1].body)["error"]["message"]


async def test_losses_are_named_in_the_header() -> None:
    """Of a whole answer."""
    answer = {**LINES[-1], "message": {"role": "assistant", "content": "a"}}
    async with Upstream() as upstream:
        upstream.script(
            Reply(headers=[("content-type", "application/json")], body=json.dumps(answer).encode())
        )
        found = await ask(upstream, user="u", logit_bias={"1": 1})
    assert (200, b"user, logit_bias") == (found.status, found.header("x-translation-loss"))
    assert "a" == json.loads(found.body)["choices"][0]["message"]["content"]


async def test_embeddings_and_models_go_through_the_app() -> None:
    """Over their own endpoints."""

    def answer(request: Any) -> Reply:
        body = {
            "/api/embed": {"embeddings": [[1.0, 0.0]], "prompt_eval_count": 1},
            "/api/tags": {"models": [{"name": "m:latest", "model": "m:latest"}]},
        }[request.path]
        return Reply(headers=[("content-type", "application/json")], body=json.dumps(body).encode())

    async with Upstream(answer) as upstream:
        app = ProviderApp([Ollama(base_url=upstream.url)])
        scope = http_scope(path="/v1/embeddings")
        vectors = await call(app, scope, json={"model": "ollama/m", "input": "a"})
        models = await call(app, http_scope("GET", "/v1/models"))
        await app.aclose()
    assert [1.0, 0.0] == json.loads(vectors.body)["data"][0]["embedding"]
    assert ["ollama/m:latest"] == [row["id"] for row in json.loads(models.body)["data"]]

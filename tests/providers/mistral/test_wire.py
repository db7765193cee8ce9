"""The adapter within the app, against a server on a real socket."""

from __future__ import annotations

import json
from typing import Any

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.mistral import Mistral
from asgi_llm.testing import Reply, Upstream, call
from asgi_llm.testing.recorder import Recorder

SSE = [("content-type", "text/event-stream; charset=utf-8")]
JSON = [("content-type", "application/json")]
HEAD = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def events(*deltas: dict[str, Any], finish: str = "stop") -> bytes:
    rows: list[dict[str, Any]] = [
        *({"index": 0, "delta": one, "finish_reason": None} for one in deltas)
    ]
    rows.append({"index": 0, "delta": {"content": ""}, "finish_reason": finish})
    lines = [json.dumps({**HEAD, "choices": [row]}, ensure_ascii=False) for row in rows]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


async def ask(upstream: Upstream, **document: Any) -> Recorder:
    app = ProviderApp([Mistral(api_key="key-0123456789", base_url=upstream.url + "/v1")])
    asked = {"model": "mistral/m", "messages": [{"role": "user", "content": "hi"}], **document}
    recorder = await call(app, json=asked)
    await app.aclose()
    return recorder


async def test_a_stream_with_thoughts_arrives() -> None:
    """Written byte by byte."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm ü"}]}
    data = events({"content": [thought]}, {"content": "Grüße"})
    async with Upstream() as upstream:
        upstream.script(Reply(headers=SSE, body=data, framing="chunked", split="every"))
        found = await ask(upstream, stream=True, user="u")
        (row,) = await upstream.served(1)
    deltas = [
        choice["delta"]
        for event in found.body.split(b"\n\n")[:-2]
        for choice in json.loads(event[6:])["choices"]
    ]
    assert "hm ü" == "".join(delta.get("reasoning_content") or "" for delta in deltas)
    assert "Grüße" == "".join(delta.get("content") or "" for delta in deltas)
    assert found.body.endswith(b"data: [DONE]\n\n")
    assert b"user" == found.header("x-translation-loss")
    assert "/v1/chat/completions" == row.request.path
    assert b"Bearer key-0123456789" == row.request.header("authorization")


async def test_limits_have_openais_names() -> None:
    """Those of a minute, which is what OpenAI's are of."""
    answer = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        ],
    }
    headers = [*JSON, ("x-ratelimit-remaining-tokens-minute", "7")]
    async with Upstream() as upstream:
        upstream.script(Reply(headers=headers, body=json.dumps(answer).encode()))
        found = await ask(upstream)
    assert b"7" == found.header("x-ratelimit-remaining-tokens")


async def test_case_80_errors_have_a_status() -> None:
    """And the key is in none of them."""
    body = b'{"object":"error","message":"no key-0123456789 here","type":"x","code":"1"}'
    async with Upstream() as upstream:
        upstream.script(Reply(status=400, headers=JSON, body=body))
        found = await ask(upstream)
    assert (400, False) == (found.status, b"key-0123456789" in found.body)

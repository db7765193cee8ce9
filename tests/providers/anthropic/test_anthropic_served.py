"""Claude behind the provider app, over real sockets, as the OpenAI SDK sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.app import ProviderApp
from asgi_llm.state import TRANSLATION_LOSS, USAGE, State, enter
from asgi_llm.testing import Upstream, json_reply, sse_reply
from asgi_llm.testing.serving import serve

WHOLE = {
    "type": "message",
    "id": "msg_1",
    "model": "claude-opus-9",
    "content": [{"type": "text", "text": "hello there"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 9, "output_tokens": 4},
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**WHOLE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "hello there"},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 4},
    },
    {"type": "message_stop"},
]
LIMITS = [
    (b"anthropic-ratelimit-requests-remaining", b"41"),
    (b"request-id", b"req_upstream"),
]


class Setting:
    """An upstream, the app before it, and a client of that."""

    def __init__(self, upstream: Upstream, client: openai.AsyncOpenAI, states: list[State]) -> None:
        self.upstream = upstream
        self.client = client
        self.states = states

    async def ask(self, **more: Any) -> Any:
        return await self.client.chat.completions.with_raw_response.create(
            model="anthropic/claude-opus-9", messages=[{"role": "user", "content": "hi"}], **more
        )


@asynccontextmanager
async def setting() -> AsyncIterator[Setting]:
    states: list[State] = []
    async with asyncio.timeout(20), Upstream() as upstream:
        app = ProviderApp([Anthropic(api_key="sk-ant-0123456789", base_url=upstream.url)])

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                scope, state = enter(scope)
                states.append(state)
            await app(scope, receive, send)

        async with (
            serve(watched) as url,
            openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client,
        ):
            yield Setting(upstream, client, states)
        await app.aclose()


async def test_a_whole_answer_reaches_the_sdk() -> None:
    """With usage, and without the upstream's own ids among the headers."""
    async with setting() as here:
        here.upstream.script(json_reply(WHOLE, headers=LIMITS))
        raw = await here.ask(seed=1)
        answer = raw.parse()
        assert ("hello there", 13) == (answer.choices[0].message.content, answer.usage.total_tokens)
        assert b"/v1/messages" == here.upstream.ledger[0].request.target.encode()
        assert "seed" == raw.headers["x-translation-loss"]
        assert ("seed",) == here.states[0].get(TRANSLATION_LOSS)


async def test_case_33_95_what_only_claude_knows_reaches_it() -> None:
    """Its own tools and fields, from a client that has no words for them."""
    async with setting() as here:
        here.upstream.script(json_reply(WHOLE))
        search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
        own = {"thinking": {"type": "adaptive"}, "container": "container_1", "tools": [search]}
        raw = await here.ask(extra_body=own)
        assert "x-translation-loss" not in raw.headers
        sent = json.loads(here.upstream.ledger[0].request.body)
        assert own == {name: sent[name] for name in own}


async def test_case_91_limits_have_openais_names() -> None:
    """Those that mean the same."""
    async with setting() as here:
        here.upstream.script(json_reply(WHOLE, headers=LIMITS))
        headers = (await here.ask()).headers
        assert "41" == headers["x-ratelimit-remaining-requests"]
        assert "request-id" not in headers


async def test_a_stream_reaches_the_sdk() -> None:
    """Its finish and usage come at the end."""
    async with setting() as here:
        here.upstream.script(sse_reply(EVENTS, done=False))
        raw = await here.ask(stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in raw.parse()]
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert ("hello there", "stop", 13) == (
            said,
            chunks[-2].choices[0].finish_reason,
            chunks[-1].usage.total_tokens,
        )


async def test_case_82_a_stream_that_breaks_off_is_an_error_with_an_estimate() -> None:
    """The count of the input is Claude's; that of the output is guessed from what was sent."""
    async with setting() as here:
        here.upstream.script(sse_reply(EVENTS[:3], done=False))
        raw = await here.ask(stream=True)
        with pytest.raises(openai.APIError, match="ended before it was finished"):
            async for chunk in raw.parse():
                assert chunk.choices[0].finish_reason is None
        usage = here.states[0].get(USAGE)
        assert usage is not None
        assert (True, 9) == (usage.estimated, usage.input_tokens)
        assert usage.output_tokens >= 3


async def test_strict_refuses_before_anything_is_sent() -> None:
    """With the field's name."""
    async with asyncio.timeout(20), Upstream() as upstream:
        adapter = Anthropic(api_key="sk-ant-0123456789", base_url=upstream.url, strict=True)
        app = ProviderApp([adapter])
        async with (
            serve(app) as url,
            openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client,
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(
                    model="anthropic/claude-opus-9",
                    messages=[{"role": "user", "content": "hi"}],
                    seed=1,
                )
        assert "seed" == caught.value.param
        assert [] == upstream.ledger
        await app.aclose()


async def test_an_error_has_openais_class() -> None:
    """429 with its Retry-After."""
    async with setting() as here:
        body = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
        here.upstream.script(json_reply(body, status=429, headers=[(b"retry-after", b"3")]))
        with pytest.raises(openai.RateLimitError) as caught:
            await here.ask()
        assert "3" == caught.value.response.headers["retry-after"]
        assert "slow down" in json.dumps(caught.value.body)

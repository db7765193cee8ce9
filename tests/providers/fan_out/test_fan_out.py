"""Answers made of several calls, over real sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.ollama import Ollama
from asgi_llm.state import ATTEMPTS, USAGE, State, enter
from asgi_llm.testing import Reply, Upstream, Wait, json_reply, sse_reply
from asgi_llm.testing.serving import serve

ASK: dict[str, Any] = {
    "model": "anthropic/claude-opus-9",
    "messages": [{"role": "user", "content": "hi"}],
}


def whole(text: str) -> dict[str, Any]:
    return {
        "type": "message",
        "id": f"msg_{text}",
        "model": "claude-opus-9",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 2},
    }


def delta(text: str) -> dict[str, Any]:
    return {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": text},
    }


def head(name: str) -> list[dict[str, Any]]:
    begun = {**whole(name), "content": [], "stop_reason": None}
    block = {"type": "text", "text": ""}
    return [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": block},
    ]


TAIL: list[dict[str, Any]] = [
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
]


class Setting:
    """An upstream, the app before it, clients of that, and the states of its requests."""

    def __init__(
        self, upstream: Upstream, client: openai.AsyncOpenAI, url: str, states: list[State]
    ) -> None:
        self.upstream = upstream
        self.client = client
        self.url = url
        self.states = states

    async def ask(self, **more: Any) -> Any:
        return await self.client.chat.completions.create(**ASK, **more)


@asynccontextmanager
async def setting() -> AsyncIterator[Setting]:
    states: list[State] = []
    async with asyncio.timeout(20), Upstream() as upstream:
        app = ProviderApp(
            [
                Anthropic(api_key="sk-ant-0123456789", base_url=upstream.url),
                Ollama(base_url=upstream.url),
            ]
        )

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                scope, state = enter(scope)
                states.append(state)
            await app(scope, receive, send)

        async with (
            serve(watched) as url,
            openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client,
        ):
            yield Setting(upstream, client, url, states)
        await app.aclose()


async def test_case_69_whole_answers_become_choices() -> None:
    """Each its own, numbered; usage is summed, and each call is an attempt."""
    async with setting() as here:
        here.upstream.script(*(json_reply(whole(text)) for text in "abc"))
        answer = await here.ask(n=3)
        assert ["a", "b", "c"] == sorted(choice.message.content for choice in answer.choices)
        assert [0, 1, 2] == [choice.index for choice in answer.choices]
        assert (30, 6) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
        attempts = here.states[0].get(ATTEMPTS)
        assert attempts is not None
        assert [200, 200, 200] == [attempt.status for attempt in attempts]


async def test_case_69_streams_are_passed_on_as_they_come() -> None:
    """The second goes on while the first waits, under one id; one end and one usage for all."""
    go_on = asyncio.Event()
    async with setting() as here:
        here.upstream.script(
            sse_reply([*head("a"), delta("a1"), Wait(go_on), delta("a2"), *TAIL], done=False),
            sse_reply([*head("b"), delta("b1"), delta("b2"), *TAIL], done=False),
        )
        stream = await here.ask(n=2, stream=True, stream_options={"include_usage": True})
        said: dict[int, list[str]] = {0: [], 1: []}
        finished: list[int] = []
        ids, usage = set(), []
        async for chunk in stream:
            ids.add(chunk.id)
            usage += [chunk.usage] if chunk.usage else []
            for choice in chunk.choices:
                said[choice.index] += [choice.delta.content] if choice.delta.content else []
                if choice.finish_reason:
                    finished.append(choice.index)
                    # One has ended; only now may the other go on.
                    go_on.set()
        assert [["a1", "a2"], ["b1", "b2"]] == sorted(said.values())
        assert {0, 1} == set(finished)
        assert 1 == len(ids)
        assert [(20, 4)] == [(one.prompt_tokens, one.completion_tokens) for one in usage]
        told = here.states[0].get(USAGE)
        assert told is not None
        assert (24, False) == (told.total_tokens, told.estimated)


async def test_one_call_that_fails_is_the_answer() -> None:
    """The others are ended, also one that would never answer."""
    async with setting() as here:
        body = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
        here.upstream.script(
            json_reply(whole("a"), before=[Wait(asyncio.Event())]),
            json_reply(body, status=429),
        )
        with pytest.raises(openai.RateLimitError, match="slow down"):
            await here.ask(n=2)
        served = await here.upstream.served(2)
        assert 1 == sum(row.client_left for row in served)


async def test_case_82_one_stream_that_breaks_off_ends_all_in_an_error() -> None:
    """Usage is an estimate then."""
    async with setting() as here:
        here.upstream.script(
            sse_reply([*head("a"), delta("a1")], done=False),
            sse_reply([*head("b"), delta("b1"), Wait(asyncio.Event())], done=False),
        )
        stream = await here.ask(n=2, stream=True)
        with pytest.raises(openai.APIError, match="ended before it was finished"):
            async for chunk in stream:
                assert all(choice.finish_reason is None for choice in chunk.choices)
        usage = here.states[0].get(USAGE)
        assert usage is not None
        assert usage.estimated
        served = await here.upstream.served(2)
        assert 1 == sum(row.client_left for row in served)


async def test_a_client_that_leaves_ends_all_calls() -> None:
    """Within a second."""
    async with setting() as here:
        stall = Wait(asyncio.Event())
        here.upstream.script(
            *(sse_reply([*head(name), delta(name), stall], done=False) for name in "abc")
        )
        async with (
            httpx2.AsyncClient() as client,
            client.stream(
                "POST", f"{here.url}/v1/chat/completions", json={**ASK, "n": 3, "stream": True}
            ) as answer,
        ):
            async for _ in answer.aiter_bytes():
                break
        async with asyncio.timeout(1):
            served = await here.upstream.served(3)
        assert [True] * 3 == [row.client_left for row in served]


async def test_more_answers_than_are_under_way_at_once() -> None:
    """All are made; no more than eight at the same time."""
    under_way = most = 0
    full = asyncio.Event()
    texts: Iterator[int] = itertools.count()

    async def answer(_: Any) -> Reply:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if most == 8:
            full.set()
        await full.wait()
        under_way -= 1
        return json_reply(whole(str(next(texts))))

    async with asyncio.timeout(20), Upstream(answer) as upstream:
        app = ProviderApp([Anthropic(api_key="sk-ant-0123456789", base_url=upstream.url)])
        async with serve(app) as url, httpx2.AsyncClient() as client:
            reply = await client.post(f"{url}/v1/chat/completions", json={**ASK, "n": 20})
        await app.aclose()
    assert (200, 20, 8) == (reply.status_code, len(json.loads(reply.text)["choices"]), most)

"""Clients that send functions get function calls: over real sockets, read by OpenAI's SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from asgi_llm.providers._chat_chunks import ChunkWriter
from asgi_llm.providers._chat_completion import CompletionWriter
from asgi_llm.providers._legacy_functions import FunctionCallChunks, FunctionCallCompletion
from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.app import ProviderApp
from asgi_llm.testing import Upstream, json_reply, sse_reply
from asgi_llm.testing.serving import serve

ASK: dict[str, Any] = {
    "model": "anthropic/claude-opus-9",
    "messages": [{"role": "user", "content": "What is the weather in Rome?"}],
}
FUNCTIONS: dict[str, Any] = {
    "functions": [{"name": "weather", "parameters": {"type": "object", "properties": {}}}]
}
TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "weather"}}]}
USAGE = {"input_tokens": 10, "output_tokens": 5}


def whole(*content: dict[str, Any], reason: str = "tool_use") -> dict[str, Any]:
    return {
        "type": "message",
        "id": "msg_1",
        "model": "claude-opus-9",
        "content": list(content),
        "stop_reason": reason,
        "usage": USAGE,
    }


def used(id: str, city: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "weather", "input": {"city": city}}


TEXT = {"type": "text", "text": "Let me see."}


def events(*calls: tuple[str, str], text: str = "", reason: str = "tool_use") -> list[Any]:
    """The stream of an answer: a text, then calls, each with its arguments in two pieces."""
    told: list[Any] = [{"type": "message_start", "message": {**whole(), "stop_reason": None}}]
    index = 0
    if text:
        told += [
            {"type": "content_block_start", "index": 0, "content_block": {**TEXT, "text": ""}},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": text},
            },
            {"type": "content_block_stop", "index": 0},
        ]
        index = 1
    for id_, city in calls:
        block = {**used(id_, city), "input": {}}
        told.append({"type": "content_block_start", "index": index, "content_block": block})
        for piece in ('{"city": ', f'"{city}"}}'):
            delta = {"type": "input_json_delta", "partial_json": piece}
            told.append({"type": "content_block_delta", "index": index, "delta": delta})
        told.append({"type": "content_block_stop", "index": index})
        index += 1
    told += [
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return told


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with asyncio.timeout(20), Upstream() as upstream:
        yield upstream


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[openai.AsyncOpenAI]:
    app = ProviderApp([Anthropic(api_key="sk-ant-0123456789", base_url=upstream.url)])
    async with (
        serve(app) as url,
        openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client,
    ):
        yield client
    await app.aclose()


async def chunks(client: openai.AsyncOpenAI, **more: Any) -> list[Any]:
    stream = await client.chat.completions.create(**{**ASK, "stream": True, **more})
    return [chunk.choices[0] async for chunk in stream if chunk.choices]


async def test_case_32_a_whole_answer_has_a_function_call(
    upstream: Upstream, client: openai.AsyncOpenAI
) -> None:
    """In the place of tool calls, with the text beside it and a finish reason of its own."""
    upstream.script(json_reply(whole(TEXT, used("toolu_1", "Rome"))))
    answer = await client.chat.completions.create(**ASK, **FUNCTIONS)
    choice = answer.choices[0]
    assert ("function_call", None) == (choice.finish_reason, choice.message.tool_calls)
    assert "Let me see." == choice.message.content
    call = choice.message.function_call
    assert call is not None
    assert ("weather", '{"city":"Rome"}') == (call.name, call.arguments.replace(" ", ""))
    assert "weather" == upstream.ledger[0].request.json()["tools"][0]["name"]


@pytest.mark.parametrize("text", ["", "Let me see."])
async def test_case_32_a_stream_has_a_function_call(
    text: str, upstream: Upstream, client: openai.AsyncOpenAI
) -> None:
    """Its name first, then arguments only; nothing of tools."""
    upstream.script(sse_reply(events(("toolu_1", "Rome"), text=text), done=False))
    told = await chunks(client, **FUNCTIONS)
    assert all(choice.delta.tool_calls is None for choice in told)
    calls = [choice.delta.function_call for choice in told if choice.delta.function_call]
    assert ["weather"] == [call.name for call in calls if call.name]
    assert "weather" == calls[0].name
    assert '{"city": "Rome"}' == "".join(call.arguments or "" for call in calls)
    assert "assistant" == told[0].delta.role
    assert text == "".join(choice.delta.content or "" for choice in told)
    assert (text or None) == told[0].delta.content
    assert ["function_call"] == [one.finish_reason for one in told if one.finish_reason]


async def test_case_32_only_the_first_of_several_calls_has_a_place(
    upstream: Upstream, client: openai.AsyncOpenAI
) -> None:
    """In both forms of an answer; no piece of the second gets into it."""
    upstream.script(
        json_reply(whole(used("toolu_1", "Rome"), used("toolu_2", "Oslo"))),
        sse_reply(events(("toolu_1", "Rome"), ("toolu_2", "Oslo")), done=False),
    )
    answer = await client.chat.completions.create(**ASK, **FUNCTIONS)
    call = answer.choices[0].message.function_call
    assert call is not None
    assert '{"city":"Rome"}' == call.arguments.replace(" ", "")
    told = await chunks(client, **FUNCTIONS)
    calls = [choice.delta.function_call for choice in told if choice.delta.function_call]
    assert '{"city": "Rome"}' == "".join(call.arguments or "" for call in calls)


async def test_case_32_who_speaks_of_tools_gets_tool_calls(
    upstream: Upstream, client: openai.AsyncOpenAI
) -> None:
    """Also who speaks of both."""
    for asked in (TOOLS, {**TOOLS, "functions": [{"name": "other"}]}):
        upstream.script(
            json_reply(whole(used("toolu_1", "Rome"))),
            sse_reply(events(("toolu_1", "Rome")), done=False),
        )
        answer = await client.chat.completions.create(**ASK, **asked)
        choice = answer.choices[0]
        assert ("tool_calls", None) == (choice.finish_reason, choice.message.function_call)
        told = await chunks(client, **asked)
        assert all(choice.delta.function_call is None for choice in told)
        assert "tool_calls" == told[-1].finish_reason


async def test_case_32_an_answer_without_a_call_is_as_ever(
    upstream: Upstream, client: openai.AsyncOpenAI
) -> None:
    """A text, and its own finish reason."""
    upstream.script(
        json_reply(whole(TEXT, reason="end_turn")),
        sse_reply(events(text="Let me see.", reason="end_turn"), done=False),
    )
    answer = await client.chat.completions.create(**ASK, **FUNCTIONS)
    choice = answer.choices[0]
    assert ("stop", "Let me see.", None) == (
        choice.finish_reason,
        choice.message.content,
        choice.message.function_call,
    )
    told = await chunks(client, **FUNCTIONS)
    assert ["stop"] == [one.finish_reason for one in told if one.finish_reason]


async def test_case_32_calls_of_one_function_go_back_with_ids_of_their_own(
    upstream: Upstream, client: openai.AsyncOpenAI
) -> None:
    """The form has none, and a provider refuses one that comes twice."""
    upstream.script(json_reply(whole(TEXT, reason="end_turn")))
    said: list[Any] = []
    for city in ("Rome", "Oslo"):
        call = {"name": "weather", "arguments": f'{{"city": "{city}"}}'}
        said += [
            {"role": "assistant", "content": None, "function_call": call},
            {"role": "function", "name": "weather", "content": f"sun in {city}"},
        ]
    await client.chat.completions.create(
        **{**ASK, "messages": [*ASK["messages"], *said]}, **FUNCTIONS
    )
    sent = upstream.ledger[0].request.json()["messages"]
    blocks = [block for message in sent for block in message["content"] if type(block) is dict]
    calls = [(b["id"], b["input"]["city"]) for b in blocks if b["type"] == "tool_use"]
    results = [(b["tool_use_id"], b["content"]) for b in blocks if b["type"] == "tool_result"]
    assert ["Rome", "Oslo"] == [city for _, city in calls]
    assert [id_ for id_, _ in calls] == [id_ for id_, _ in results]
    assert 2 == len({id_ for id_, _ in calls})
    assert "Rome" in str(results[0][1])


def test_what_came_beside_a_call_stays_beside_it() -> None:
    """A signature of another format, which the client sends back."""
    extra = {"google": {"thought_signature": "c2ln"}}
    completion: CompletionWriter = FunctionCallCompletion(model="m", created=1)
    stream: ChunkWriter = FunctionCallChunks(model="m", created=1)
    completion.tool_call("f", arguments="{}", extra=extra)
    completion.finish("stop")
    call = {"name": "f", "arguments": "{}", "extra_content": extra}
    choice = completion.document()["choices"][0]
    assert (call, "function_call") == (choice["message"]["function_call"], choice["finish_reason"])
    stream.tool_call("f", arguments="{}", extra=extra)
    assert b'"extra_content":{"google":{"thought_signature":"c2ln"}}' in stream.taken()

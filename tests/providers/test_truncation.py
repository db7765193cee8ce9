"""A stream that the provider did not finish never looks finished to the client."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import openai
import pytest

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.echo import Echo
from asgi_llm.providers.openai import OpenAI
from asgi_llm.testing import Close, ReceivedRequest, Reply, Reset, Upstream
from asgi_llm.testing.serving import serve
from asgi_llm.transports.base import Timeouts
from asgi_llm.types import Deployment

COUNT = 200
DONE = b"data: [DONE]"
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}},
}
REQUESTS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "one two three four five six seven"}]},
    {"messages": [{"role": "user", "content": "Grüße an 世界, naïve 🙂 " * 4}], "n": 2},
    {"messages": [{"role": "user", "content": "call f"}], "tools": [TOOL]},
    {"messages": [{"role": "user", "content": 'say "finish_reason":"stop" or data: [DONE]'}]},
]


async def sources(fixture_bytes: Callable[[str], bytes]) -> list[tuple[bytes, int]]:
    """Whole streams that end with usage and the end mark, and their numbers of choices."""
    echo = Echo()
    assert echo.transport is not None
    found = [
        (fixture_bytes("openai_tools_stream.sse"), 1),
        (fixture_bytes("mistral_stream.sse"), 1),
    ]
    for document in REQUESTS:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        request = echo.translate(
            "chat", {**document, **options}, Deployment(provider="echo", model="echo")
        ).request
        response = await echo.transport.send(request, Timeouts())
        found.append((await response.read(1_000_000), document.get("n", 1)))
    return found


def first_finish(data: bytes) -> int:
    """Where the event with the first finish reason begins."""
    finish = min(
        place
        for quoted in (b'"finish_reason":"stop"}', b'"finish_reason":"tool_calls"}', b'"stop","')
        if (place := data.find(quoted)) >= 0
    )
    return data.rfind(b"data: {", 0, finish)


async def collect(client: openai.AsyncOpenAI, n: int) -> tuple[list[Any], openai.APIError | None]:
    chunks: list[Any] = []
    try:
        stream = await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "x"}],
            n=n,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            chunks.append(chunk)
    except openai.APIError as error:
        return chunks, error
    return chunks, None


async def wrong_endings(replies: list[tuple[Reply, int]]) -> list[str]:
    """What is wrong with how each of the broken streams reached the client."""
    queue = [reply for reply, _ in replies]

    def handler(_: ReceivedRequest) -> Reply:
        return queue.pop(0)

    wrong: list[str] = []
    async with Upstream(handler) as upstream:
        app = ProviderApp([OpenAI(api_key="sk-0123456789", base_url=upstream.url + "/v1")])
        async with (
            serve(app, "uvicorn", log_level="warning") as url,
            openai.AsyncOpenAI(
                api_key="none", base_url=url + "/v1", max_retries=0, timeout=20.0
            ) as client,
        ):
            for number, (_, n) in enumerate(replies):
                chunks, error = await collect(client, n)
                finished = {
                    choice.index for c in chunks for choice in c.choices if choice.finish_reason
                }
                if error is None:
                    wrong.append(f"{number}: ended without an error")
                elif len(finished) == n:
                    wrong.append(f"{number}: all choices finished")
                elif any(chunk.usage for chunk in chunks):
                    wrong.append(f"{number}: usage as if it was whole")
                elif isinstance(error, openai.APIConnectionError):
                    wrong.append(f"{number}: no error event, only {error!r}")
    return wrong


@pytest.mark.parametrize("seed", [1])
async def test_b19_no_stream_that_is_cut_at_a_random_byte_ends_as_a_success(
    seed: int, fixture_bytes: Callable[[str], bytes]
) -> None:
    """200 of them: FIN or RST, with chunked framing or none, anywhere up to the end mark."""
    chance = random.Random(seed)
    streams = await sources(fixture_bytes)
    replies = []
    for number in range(COUNT):
        data, n = streams[number % len(streams)]
        cut = chance.randrange(data.rindex(DONE) + len(DONE))
        ending = chance.choice([Close(), Reset()])
        body: list[Any] = [data[:cut], ending] if cut else [ending]
        replies.append(
            (
                Reply(
                    headers=[("content-type", "text/event-stream")],
                    body=body,
                    framing="chunked" if chance.random() < 0.5 else "close",
                    split=chance.choice([None, random.Random(number)]),
                ),
                n,
            )
        )
    assert [] == await wrong_endings(replies)


@pytest.mark.parametrize("seed", [2])
async def test_b19_no_stream_that_ends_well_formed_before_its_finish_ends_as_a_success(
    seed: int, fixture_bytes: Callable[[str], bytes]
) -> None:
    """200 of them, at an event's border, half of them even with the end mark."""
    chance = random.Random(seed)
    streams = await sources(fixture_bytes)
    replies = []
    for number in range(COUNT):
        data, n = streams[number % len(streams)]
        begin = first_finish(data)
        borders = [at for at in range(begin + 1) if data.startswith(b"data: {", at)]
        cut = chance.choice([at for at in borders if at == 0 or data[at - 1 : at] == b"\n"])
        end = chance.choice([b"", DONE + b"\n\n"])
        replies.append(
            (
                Reply(
                    headers=[("content-type", "text/event-stream")],
                    body=data[:cut] + end,
                    framing="chunked",
                    split=chance.choice([None, random.Random(number)]),
                ),
                n,
            )
        )
    assert [] == await wrong_endings(replies)


async def test_the_same_streams_whole_are_successes(
    fixture_bytes: Callable[[str], bytes],
) -> None:
    """So that the two tests above cannot pass because everything fails."""
    streams = await sources(fixture_bytes)
    replies = [
        (Reply(headers=[("content-type", "text/event-stream")], body=data, framing="chunked"), n)
        for data, n in streams
    ]
    assert [f"{number}: ended without an error" for number in range(len(streams))] == (
        await wrong_endings(replies)
    )

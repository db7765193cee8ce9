"""The OpenAI SDK against the echo provider, over a real socket, with strict typed models."""

from __future__ import annotations

import io
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.echo import Echo
from asgi_llm.testing.serving import serve

MODEL = "echo/echo"


class Event(BaseModel):
    """What the model is asked for."""

    name: str
    day: int
    guests: list[str]


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        serve(ProviderApp([Echo()]), "uvicorn", log_level="warning") as url,
        openai.AsyncOpenAI(
            api_key="none",
            base_url=url + "/v1",
            max_retries=0,
            timeout=20.0,
            _strict_response_validation=True,
        ) as client,
    ):
        yield client


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_chat_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    """The same text and usage both ways."""
    whole = await client.chat.completions.create(model=MODEL, messages=user("hello there"))
    assert "hello there" == whole.choices[0].message.content
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=user("hello there"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert ("hello there", whole.usage, whole.id) == (text, chunks[-1].usage, chunks[0].id)


async def test_structured_output_is_parsed(client: openai.AsyncOpenAI) -> None:
    """The SDK's own schema for a pydantic model, whole and streamed."""
    answer = await client.chat.completions.parse(
        model=MODEL, messages=user("a party"), response_format=Event
    )
    assert Event(name="name", day=1, guests=["guests"]) == answer.choices[0].message.parsed
    async with client.chat.completions.stream(
        model=MODEL, messages=user("a party"), response_format=Event
    ) as stream:
        final = await stream.get_final_completion()
    assert answer.choices[0].message.parsed == final.choices[0].message.parsed


async def test_a_tool_loop_ends(client: openai.AsyncOpenAI) -> None:
    """Call, result, answer."""
    tools: list[Any] = [
        {
            "type": "function",
            "function": {
                "name": "add",
                "parameters": {
                    "type": "object",
                    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                    "required": ["a", "b"],
                },
            },
        }
    ]
    messages = user('call add {"a": 2, "b": 3}')
    first = await client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    calls = first.choices[0].message.tool_calls
    assert calls is not None and calls[0].type == "function"
    assert ("add", '{"a": 2, "b": 3}') == (calls[0].function.name, calls[0].function.arguments)
    messages += [
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": calls[0].id, "content": "5"},
    ]
    second = await client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    assert ("5", "stop") == (
        second.choices[0].message.content,
        second.choices[0].finish_reason,
    )
    async with client.chat.completions.stream(
        model=MODEL, messages=user("x"), tools=tools, tool_choice="required"
    ) as stream:
        final = await stream.get_final_completion()
    streamed = final.choices[0].message.tool_calls
    assert streamed is not None
    assert '{"a":1,"b":1}' == streamed[0].function.arguments


async def test_the_other_endpoints(client: openai.AsyncOpenAI) -> None:
    """Each answer fits its strict model."""
    completion = await client.completions.create(model=MODEL, prompt=["a", "b"], logprobs=None)
    assert ["a", "b"] == [choice.text for choice in completion.choices]
    moderation = await client.moderations.create(model=MODEL, input="[hate]")
    assert moderation.results[0].categories.hate
    image = await client.images.generate(model=MODEL, prompt="a cat")
    assert image.data is not None and image.data[0].b64_json
    speech = await client.audio.speech.create(model=MODEL, voice="alloy", input="hello")
    assert b"RIFF" == speech.content[:4]
    text = await client.audio.transcriptions.create(
        model=MODEL, file=("a.wav", io.BytesIO(speech.content)), language="en"
    )
    assert text.text.startswith(f"a.wav: {len(speech.content)} bytes; language=en")
    verbose = await client.audio.transcriptions.create(
        model=MODEL, file=("a.wav", b"abc"), response_format="verbose_json"
    )
    assert 1.0 == verbose.duration
    models = [model.id async for model in await client.models.list()]
    assert {MODEL, "echo/error-429"} <= set(models)


async def test_embeddings_are_the_same_as_floats_and_in_the_sdks_own_base64(
    client: openai.AsyncOpenAI,
) -> None:
    """The SDK asks for base64 by itself and decodes it, which its strict mode cannot."""
    options: Any = {"model": MODEL, "input": ["a b", "c"], "dimensions": 16}
    floats = await client.embeddings.create(**options, encoding_format="float")
    async with openai.AsyncOpenAI(api_key="none", base_url=client.base_url) as lenient:
        by_default = await lenient.embeddings.create(**options)
    packed = [struct.pack("<16f", *row.embedding) for row in floats.data]
    assert packed == [struct.pack("<16f", *row.embedding) for row in by_default.data]


async def test_a_text_completion_streams(client: openai.AsyncOpenAI) -> None:
    """As OpenAI does it, with finish_reason null, which the SDK's strict mode does not know."""
    async with openai.AsyncOpenAI(api_key="none", base_url=client.base_url) as lenient:
        stream = await lenient.completions.create(model=MODEL, prompt="one two", stream=True)
        choices = [chunk.choices[0] async for chunk in stream]
    assert [("one", None), (" two", None), ("", "stop")] == [
        (choice.text, choice.finish_reason) for choice in choices
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.InternalServerError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_each_error_class_can_be_ordered(
    client: openai.AsyncOpenAI, status: int, kind: type[openai.APIStatusError]
) -> None:
    """By the name of the model; a provider's 401 is never the client's."""
    with pytest.raises(kind):
        await client.chat.completions.create(model=f"echo/error-{status}", messages=user("a"))


@pytest.mark.parametrize("model", ["cut", "error-in-stream"])
async def test_broken_streams_can_be_ordered(client: openai.AsyncOpenAI, model: str) -> None:
    """Some content, then the SDK's exception, and no finish reason."""
    chunks = []
    stream = await client.chat.completions.create(
        model=f"echo/{model}", messages=user("one two three four"), stream=True
    )
    with pytest.raises(openai.APIError):
        async for chunk in stream:
            chunks.append(chunk)
    assert 3 == len(chunks)
    assert [None] * 3 == [chunk.choices[0].finish_reason for chunk in chunks]


async def test_a_timeout_can_be_ordered(client: openai.AsyncOpenAI) -> None:
    """504, at once."""
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model="echo/timeout", messages=user("a"))
    assert (504, "provider_timeout") == (caught.value.status_code, caught.value.code)

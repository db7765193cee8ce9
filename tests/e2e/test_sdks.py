"""The official ``openai`` client, sync and async, against a gateway with no configuration.

The client parses every answer in strict mode, so that a missing or mistyped field is an error.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import math
import wave
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel

MODEL = "echo/echo"
EMBEDDING_MODEL = MODEL
ASK: list[dict[str, str]] = [{"role": "user", "content": "one two three four five six"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Caller:
    """One client of either kind, called in the same words."""

    def __init__(self, client: openai.OpenAI | openai.AsyncOpenAI) -> None:
        self.client: Any = client

    async def __call__(self, method: Callable[..., Any], **options: Any) -> Any:
        """The result of one call, with a deadline."""
        async with asyncio.timeout(30):
            if inspect.iscoroutinefunction(method) or isinstance(self.client, openai.AsyncOpenAI):
                result = method(**options)
                return await result if inspect.isawaitable(result) else result
            return await asyncio.to_thread(method, **options)

    async def items(self, iterable: Any) -> list[Any]:
        """All items of a stream or of a page."""
        async with asyncio.timeout(30):
            if hasattr(iterable, "__aiter__"):
                return [item async for item in iterable]
            return await asyncio.to_thread(list, iterable)


@pytest.fixture(params=["sync", "async"])
async def lenient(request: pytest.FixtureRequest, gateway_origin: str) -> AsyncIterator[Caller]:
    """A client of each kind that parses as it does by default, and does not try again.

    The client's own types do not fit what it asks for in two places, whoever answers: base64 where
    a vector is typed as numbers, and no finish reason in the chunks of a text completion.
    """
    make = openai.OpenAI if request.param == "sync" else openai.AsyncOpenAI
    client = make(api_key="sk-none", base_url=f"{gateway_origin}/v1", max_retries=0)
    yield Caller(client)
    closed = client.close()
    if inspect.isawaitable(closed):
        await closed


@pytest.fixture
def call(lenient: Caller) -> Caller:
    """A client of each kind that refuses what does not fit its types."""
    return Caller(lenient.client.with_options(_extra_kwargs={"_strict_response_validation": True}))


async def test_chat(call: Caller) -> None:
    """A plain completion has content, a finish reason and a usage that adds up."""
    completion = await call(call.client.chat.completions.create, model=MODEL, messages=ASK)
    choice, usage = completion.choices[0], completion.usage
    assert choice.message.content
    assert ("assistant", "stop") == (choice.message.role, choice.finish_reason)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens > 0


async def test_chat_obeys_max_tokens_and_n(call: Caller) -> None:
    """Two choices, each cut at three tokens, say so."""
    completion = await call(
        call.client.chat.completions.create, model=MODEL, messages=ASK, max_tokens=3, n=2
    )
    assert [(0, "length"), (1, "length")] == [
        (choice.index, choice.finish_reason) for choice in completion.choices
    ]


async def test_chat_stream(call: Caller) -> None:
    """A stream's deltas make up the plain answer; its last chunk holds the same usage."""
    plain = await call(call.client.chat.completions.create, model=MODEL, messages=ASK)
    stream = await call(
        call.client.chat.completions.create,
        model=MODEL,
        messages=ASK,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = await call.items(stream)
    deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert len([delta for delta in deltas if delta]) > 1
    assert plain.choices[0].message.content == "".join(delta or "" for delta in deltas)
    assert ["stop"] == [
        choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason
    ]
    assert plain.usage == chunks[-1].usage
    assert 1 == len({chunk.id for chunk in chunks})


async def test_tools(call: Caller) -> None:
    """A required tool is called with arguments that fit its schema."""
    completion = await call(
        call.client.chat.completions.create,
        model=MODEL,
        messages=ASK,
        tools=[WEATHER],
        tool_choice="required",
    )
    choice = completion.choices[0]
    [tool_call] = choice.message.tool_calls
    arguments = json.loads(tool_call.function.arguments)
    assert ("tool_calls", "weather") == (choice.finish_reason, tool_call.function.name)
    assert {"city": str, "days": int} == {key: type(value) for key, value in arguments.items()}


async def test_tools_in_a_stream(call: Caller) -> None:
    """A tool call comes in pieces, which make up the same name and arguments as the whole one."""
    options = {"model": MODEL, "messages": ASK, "tools": [WEATHER], "tool_choice": "required"}
    plain = await call(call.client.chat.completions.create, **options)
    stream = await call(call.client.chat.completions.create, **options, stream=True)
    pieces = [
        piece
        for chunk in await call.items(stream)
        for choice in chunk.choices
        for piece in choice.delta.tool_calls or ()
    ]
    assert len(pieces) > 1
    [whole] = plain.choices[0].message.tool_calls
    assert whole.function.name == "".join(piece.function.name or "" for piece in pieces)
    assert whole.function.arguments == "".join(piece.function.arguments or "" for piece in pieces)


async def test_tool_result_is_answered(call: Caller) -> None:
    """After a tool's result the model answers with text."""
    function = {"name": "weather", "arguments": '{"city": "Lisbon", "days": 1}'}
    completion = await call(
        call.client.chat.completions.create,
        model=MODEL,
        tools=[WEATHER],
        messages=[
            *ASK,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ],
    )
    assert "stop" == completion.choices[0].finish_reason
    assert completion.choices[0].message.content


class Person(BaseModel):
    """What a structured answer is read into."""

    name: str
    age: int
    friends: list[str]


async def test_structured_output(call: Caller) -> None:
    """``parse`` reads an answer into a pydantic model."""
    completion = await call(
        call.client.chat.completions.parse, model=MODEL, messages=ASK, response_format=Person
    )
    assert isinstance(completion.choices[0].message.parsed, Person)


async def test_embeddings(call: Caller, lenient: Caller) -> None:
    """Base64, which the client asks for by default, and numbers are the same unit vectors."""
    options = {"model": EMBEDDING_MODEL, "input": ["first text", "second text"]}
    packed = await lenient(lenient.client.embeddings.create, **options)
    plain = await call(call.client.embeddings.create, **options, encoding_format="float")
    assert [0, 1] == [item.index for item in plain.data]
    for one, other in zip(plain.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert 1.0 == pytest.approx(math.hypot(*one.embedding), abs=1e-3)
    assert plain.data[0].embedding != plain.data[1].embedding
    assert plain.usage.prompt_tokens > 0


async def test_embeddings_obey_dimensions(call: Caller) -> None:
    """As many numbers come as were asked for."""
    result = await call(
        call.client.embeddings.create,
        model=EMBEDDING_MODEL,
        input="text",
        dimensions=64,
        encoding_format="float",
    )
    assert 64 == len(result.data[0].embedding)


async def test_completions(call: Caller, lenient: Caller) -> None:
    """The older text endpoint answers, whole and streamed, with the same text."""
    options = {"model": MODEL, "prompt": "one two three", "max_tokens": 64}
    plain = await call(call.client.completions.create, **options)
    stream = await lenient(lenient.client.completions.create, **options, stream=True)
    chunks = await lenient.items(stream)
    assert plain.choices[0].text
    assert plain.choices[0].text == "".join(
        choice.text for chunk in chunks for choice in chunk.choices
    )


async def test_models(call: Caller) -> None:
    """The list names models as they are asked for, and each can be looked up."""
    page = await call(call.client.models.list)
    ids = [model.id for model in page.data]
    assert MODEL in ids
    model = await call(call.client.models.retrieve, model=MODEL)
    assert (MODEL, "model") == (model.id, model.object)


async def test_moderations(call: Caller) -> None:
    """Each input has a result of its own."""
    result = await call(call.client.moderations.create, model=MODEL, input=["one", "two"])
    assert [False, False] == [item.flagged for item in result.results]


async def test_images(call: Caller) -> None:
    """As many images come as were asked for, as base64 of a PNG."""
    result = await call(
        call.client.images.generate,
        model=MODEL,
        prompt="a boat",
        n=2,
        response_format="b64_json",
    )
    assert 2 == len(result.data)
    assert all(image.b64_json.startswith("iVBORw0KGgo") for image in result.data)


async def test_speech_and_transcription(call: Caller) -> None:
    """Speech is a sound file, and a sound file is transcribed."""
    speech = await call(
        call.client.audio.speech.create,
        model=MODEL,
        voice="alloy",
        input="Hello there",
        response_format="wav",
    )
    with wave.open(io.BytesIO(speech.content)) as sound:
        assert sound.getnframes() > 0
    text = await call(
        call.client.audio.transcriptions.create,
        model=MODEL,
        file=("speech.wav", speech.content, "audio/wav"),
    )
    assert text.text


async def test_own_request_id_comes_back(call: Caller) -> None:
    """Every answer carries our id, and the client's own beside it."""
    raw = await call(
        call.client.chat.completions.with_raw_response.create,
        model=MODEL,
        messages=ASK,
        extra_headers={"X-Request-ID": "mine-1"},
    )
    assert raw.headers["x-request-id"].startswith("req_")
    assert "mine-1" == raw.headers["x-client-request-id"]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"messages": []}, "messages"),
        ({"temperature": "hot"}, "temperature"),
        (
            {"messages": [*ASK, {"role": "user", "content": [{"type": "odd"}]}]},
            "messages[1].content[0].type",
        ),
    ],
    ids=["no messages", "wrong type", "unknown part"],
)
async def test_refused_requests(call: Caller, options: dict[str, Any], param: str) -> None:
    """What we refuse raises BadRequestError, names the field, and has our request id."""
    with pytest.raises(openai.BadRequestError) as caught:
        await call(
            call.client.chat.completions.create, **{"model": MODEL, "messages": ASK, **options}
        )
    assert param == caught.value.param
    assert str(caught.value.request_id).startswith("req_")


async def test_unknown_model(call: Caller) -> None:
    """A model that no provider lists is a NotFoundError."""
    with pytest.raises(openai.NotFoundError) as caught:
        await call(call.client.models.retrieve, model="nobody/nothing")
    assert ("model_not_found", "model") == (caught.value.code, caught.value.param)


async def test_structured_output_in_a_stream(gateway_origin: str) -> None:
    """The client's own streaming helper ends in a parsed model and the usage."""
    async with (
        asyncio.timeout(30),
        openai.AsyncOpenAI(
            api_key="sk-none",
            base_url=f"{gateway_origin}/v1",
            max_retries=0,
            _strict_response_validation=True,
        ) as client,
        client.chat.completions.stream(
            model=MODEL,
            messages=[{"role": "user", "content": "one two three"}],
            response_format=Person,
            stream_options={"include_usage": True},
        ) as stream,
    ):
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Person)
    assert kinds.count("content.delta") > 1
    assert final.usage is not None
    assert final.usage.completion_tokens > 0

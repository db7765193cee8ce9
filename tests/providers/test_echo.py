"""The echo provider at the level of its transport: what it answers, and how it streams."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asgi_llm import _sse
from asgi_llm._semconv import Operation
from asgi_llm.errors import ConfigurationError
from asgi_llm.providers.echo import Echo
from asgi_llm.transports.base import (
    ConnectionLostError,
    ResponseTooLargeError,
    Timeouts,
    TransportTimeoutError,
    UpstreamResponse,
)
from asgi_llm.types import Deployment

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    for name in ("weather", "time")
]
ECHO = Echo(clock=lambda: 1_700_000_000.5)


async def send(operation: Operation, model: str = "echo", **document: Any) -> UpstreamResponse:
    deployment = Deployment(provider="echo", model=model)
    request = ECHO.translate(operation, document, deployment).request
    assert ECHO.transport is not None
    return await ECHO.transport.send(request, Timeouts(first_byte_seconds=2.0))


async def ask(operation: Operation, model: str = "echo", **document: Any) -> Any:
    response = await send(operation, model, **document)
    assert 200 == response.status
    return json.loads(await response.read(10_000_000))


def user(text: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def chat(text: Any = "one two three", **document: Any) -> Any:
    return await ask("chat", **{"messages": user(text), **document})


async def stream(operation: Operation = "chat", model: str = "echo", **document: Any) -> list[Any]:
    """The events; every chunk is one event."""
    response = await send(operation, model, stream=True, **document)
    events = []
    async for chunk in response:
        (event,) = _sse.Decoder().feed(chunk)
        events.append("[DONE]" if event.done else event.json())
    return events


async def test_it_answers_with_the_last_user_message() -> None:
    """Text parts are joined, and parts that are no text are named."""
    assert "one two three" == (await chat())["choices"][0]["message"]["content"]
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "u"}}]
    assert "see\n[image_url]" == (await chat(parts))["choices"][0]["message"]["content"]


async def test_the_same_request_gets_the_same_bytes() -> None:
    """Ids come from the content and the time from the clock."""
    first, second = [await (await send("chat", messages=user("a"))).read(9999) for _ in range(2)]
    assert first == second
    assert 1_700_000_000 == json.loads(first)["created"]
    assert json.loads(first)["id"] != (await chat("b"))["id"]


async def test_usage_counts_pieces_of_16_characters() -> None:
    """4 a message and one for each piece; every choice counts."""
    answer = await chat("one two three " + "x" * 33, n=2)
    assert (10, 12, 22) == tuple(
        answer["usage"][key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    assert [0, 1] == [choice["index"] for choice in answer["choices"]]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_cuts_the_text(limit: str) -> None:
    """With finish reason length; a limit that is not reached changes nothing."""
    choice = (await chat(**{limit: 2}))["choices"][0]
    assert ("one two", "length") == (choice["message"]["content"], choice["finish_reason"])
    choice = (await chat(**{limit: 3}))["choices"][0]
    assert ("one two three", "stop") == (choice["message"]["content"], choice["finish_reason"])


@pytest.mark.parametrize("stop", [" two", ["", "never", " two", "three"]])
async def test_a_stop_sequence_ends_the_text_before_itself(stop: Any) -> None:
    """A string or a list."""
    choice = (await chat(stop=stop))["choices"][0]
    assert ("one", "stop") == (choice["message"]["content"], choice["finish_reason"])


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("hello", {}, None),
        ("hello", {"tool_choice": "required"}, [("weather", '{"city":"city"}')]),
        (
            "hello",
            {"tool_choice": {"type": "function", "function": {"name": "time"}}},
            [("time", '{"city":"city"}')],
        ),
        ("call time", {}, [("time", '{"city":"city"}')]),
        ('call time {"city": "Rome"}', {}, [("time", '{"city": "Rome"}')]),
        ("call time\ncall weather", {}, [("time", None), ("weather", None)]),
        ("call time\ncall weather", {"parallel_tool_calls": False}, [("time", None)]),
        ("call time", {"tool_choice": "none"}, None),
        ("call nothing", {}, None),
        ("call me tomorrow", {}, None),
        (
            "call time",
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "weather"}}],
                    },
                }
            },
            [("weather", None)],
        ),
    ],
)
async def test_tools_are_called_when_asked(text: str, options: Any, expected: Any) -> None:
    """By the user's words or by tool_choice; the stream says the same as the whole answer."""
    choice = (await chat(text, tools=TOOLS, **options))["choices"][0]
    calls = choice["message"].get("tool_calls")
    events = await stream(messages=user(text), tools=TOOLS, **options)
    deltas = [e["choices"][0]["delta"] for e in events[:-1]]
    if expected is None:
        assert (None, text, "stop") == (
            calls,
            choice["message"]["content"],
            choice["finish_reason"],
        )
        assert text == "".join(delta.get("content") or "" for delta in deltas)
        return
    assert (None, "tool_calls") == (choice["message"]["content"], choice["finish_reason"])
    for call, (name, arguments) in zip(calls, expected, strict=True):
        assert name == call["function"]["name"]
        assert arguments in (None, call["function"]["arguments"])
    assert len(calls) == len({call["id"] for call in calls})
    streamed: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        for part in delta.get("tool_calls") or ():
            call = streamed.setdefault(part["index"], {"arguments": "", **part})
            call["arguments"] += part["function"]["arguments"]
    assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls] == [
        (c["id"], c["function"]["name"], c["arguments"]) for c in streamed.values()
    ]
    assert "tool_calls" == events[-2]["choices"][0]["finish_reason"]


async def test_the_results_of_tools_are_the_next_answer() -> None:
    """All of them since the last user message, in order; an agent's loop ends."""
    messages = [
        *user("call time\ncall weather"),
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "tool_call_id": "a", "content": "noon"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "sunny"}]},
    ]
    answer = await ask("chat", messages=messages, tools=TOOLS)
    assert "noon\nsunny" == answer["choices"][0]["message"]["content"]


async def test_a_named_tool_that_is_not_there_is_a_400() -> None:
    """As OpenAI has it, with the field."""
    choice = {"type": "function", "function": {"name": "gone"}}
    response = await send("chat", messages=user("a"), tools=TOOLS, tool_choice=choice)
    error = json.loads(await response.read(9999))["error"]
    assert (400, "tool_choice") == (response.status, error["param"])


async def test_response_formats_give_json() -> None:
    """An object that echoes, the user's own object, or an instance of the schema."""
    as_object = {"type": "json_object"}
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"],
    }
    by_schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answers = [
        (await chat(text, response_format=wanted))["choices"][0]["message"]["content"]
        for text, wanted in (("hi", as_object), ('{"a": 1}', as_object), ("hi", by_schema))
    ]
    assert [{"echo": "hi"}, {"a": 1}, {"n": 1, "ok": True}] == [json.loads(a) for a in answers]


async def test_a_schema_that_explodes_is_a_400_of_the_schema() -> None:
    """An example provider must not be a way to stop the gateway."""
    schema: Any = {"type": "integer"}
    for _ in range(6):
        schema = {"type": "array", "minItems": 1000, "items": schema}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    response = await send("chat", messages=user("a"), response_format=wanted, stream=True)
    error = json.loads(await response.read(9999))["error"]
    assert (400, "response_format.json_schema.schema") == (response.status, error["param"])


async def test_a_stream_has_the_order_of_openais() -> None:
    """Role, words, finish, usage (asked for), end."""
    events = await stream(messages=user("one two"), stream_options={"include_usage": True})
    choices = [event["choices"] for event in events[:-1]]
    assert [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "one"},
        {"content": " two"},
        {},
    ] == [choice[0]["delta"] for choice in choices[:-1]]
    assert [None, None, None, "stop"] == [choice[0]["finish_reason"] for choice in choices[:-1]]
    assert ([], "[DONE]") == (choices[-1], events[-1])
    assert [None, None, None, None, 8] == [
        event["usage"] and event["usage"]["total_tokens"] for event in events[:-1]
    ]
    assert "usage" not in (await stream(messages=user("a")))[0]


async def test_logprobs_cover_the_text() -> None:
    """Whole and streamed; each token with its bytes."""
    choice = (await chat("one two", logprobs=True, top_logprobs=1))["choices"][0]
    rows = choice["logprobs"]["content"]
    assert [("one", 0.0, 1), (" two", 0.0, 1)] == [
        (row["token"], row["logprob"], len(row["top_logprobs"])) for row in rows
    ]
    events = await stream(messages=user("one two"), logprobs=True)
    assert "one" == events[1]["choices"][0]["logprobs"]["content"][0]["token"]


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("a b", ["a b"]),
        (["a", "b"], ["a", "a", "b", "b"]),
        ([1, 2], ["1 2"]),
        ([[1], [2, 3]], ["1", "1", "2 3", "2 3"]),
    ],
)
async def test_text_completions_echo_each_prompt(prompt: Any, texts: list[str]) -> None:
    """Strings, lists, and tokens; n for each; the stream says the same."""
    n = 2 if len(texts) == 4 else 1
    answer = await ask("text_completion", prompt=prompt, n=n)
    assert texts == [choice["text"] for choice in answer["choices"]]
    events = await stream("text_completion", prompt=prompt, n=n)
    streamed = [""] * len(texts)
    for event in events[:-1]:
        streamed[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert texts == streamed


async def test_a_text_completion_obeys_echo_and_its_limit() -> None:
    """The prompt comes first where ``echo`` asks for it."""
    answer = await ask("text_completion", prompt="one two", echo=True, max_tokens=1)
    choice = answer["choices"][0]
    assert ("one twoone", "length") == (choice["text"], choice["finish_reason"])


async def vectors(*texts: str, **options: Any) -> list[list[float]]:
    answer = await ask("embeddings", input=list(texts), **options)
    assert list(range(len(texts))) == [row["index"] for row in answer["data"]]
    return [row["embedding"] for row in answer["data"]]


async def test_embeddings_are_unit_vectors_near_for_common_words() -> None:
    """The same text gives the same vector; case and punctuation do not count."""
    same, again, near, far = await vectors(
        "What is the capital of France?",
        "what is the capital of france",
        "What is the capital city of France?",
        "Bake bread at 200 degrees",
    )

    def dot(a: list[float], b: list[float]) -> float:
        return math.fsum(x * y for x, y in zip(a, b, strict=True))

    assert same == again
    assert abs(dot(near, near) - 1) < 1e-9
    assert dot(same, near) > 0.8
    assert abs(dot(same, far)) < 0.3


async def test_embeddings_obey_dimensions_and_encoding() -> None:
    """base64 is little-endian float32 of the same figures."""
    (floats,) = await vectors("a", dimensions=8)
    (encoded,) = await vectors("a", dimensions=8, encoding_format="base64")
    decoded = struct.unpack("<8f", base64.b64decode(str(encoded)))
    assert all(abs(a - b) < 1e-6 for a, b in zip(floats, decoded, strict=True))


@pytest.mark.parametrize(("given", "rows"), [("a b", 1), ([1, 2], 1), ([[1], [2, 3]], 2), ("", 1)])
async def test_embeddings_take_strings_and_tokens(given: Any, rows: int) -> None:
    """One vector for each."""
    answer = await ask("embeddings", input=given)
    assert rows == len(answer["data"])


async def test_moderation_flags_what_is_named_in_brackets() -> None:
    """A category's name in brackets; one result an input, one for an input of parts."""
    answer = await ask("moderation", input=["fine", "some [violence] here"])
    assert [False, True] == [result["flagged"] for result in answer["results"]]
    assert answer["results"][1]["categories"]["violence"]
    answer = await ask("moderation", input=[{"type": "text", "text": "[hate]"}])
    assert [True] == [result["flagged"] for result in answer["results"]]


async def test_images_and_speech_are_real_files() -> None:
    """PNG and WAV by their first bytes; pcm has no header."""
    answer = await ask("image_generation", prompt="a cat", n=2)
    assert 2 == len(answer["data"])
    assert base64.b64decode(answer["data"][0]["b64_json"]).startswith(b"\x89PNG\r\n\x1a\n")
    answer = await ask("image_generation", prompt="a cat", response_format="url")
    assert answer["data"][0]["url"].startswith("data:image/png;base64,")
    wav = await send("speech", input="one two", voice="alloy")
    data = await wav.read(99_999)
    assert (b"RIFF", 44 + 2 * 800) == (data[:4], len(data))
    pcm = await send("speech", input="one two", voice="alloy", response_format="pcm")
    assert 2 * 800 == len(await pcm.read(99_999))


@pytest.mark.parametrize(
    ("status", "expected", "code", "retry"),
    [
        (400, 400, "invalid_value", None),
        (401, 502, "provider_authentication_failed", None),
        (404, 404, "model_not_found", None),
        (429, 429, "rate_limit_exceeded", 1.0),
        (500, 502, "provider_unavailable", None),
        (503, 503, "model_overloaded", 1.0),
        (504, 504, "provider_timeout", None),
    ],
)
async def test_a_models_name_can_order_an_error(
    status: int, expected: int, code: str, retry: float | None
) -> None:
    """On every operation, so that error handling can be tried without a provider."""
    for operation, document in (("chat", {"messages": user("a")}), ("embeddings", {"input": "a"})):
        response = await send(operation, f"error-{status}", **document)  # type: ignore[arg-type]
        error = ECHO.parse_error(response.status, response.headers, await response.read(9999))
        assert (status, expected, code, retry) == (
            response.status,
            error.status,
            error.code,
            error.retry_after_seconds,
        )


async def test_a_models_name_can_order_a_timeout() -> None:
    """Raised at once, as the transport's own error."""
    with pytest.raises(TransportTimeoutError, match="no answer within 2 seconds"):
        await send("chat", "timeout", messages=user("a"))


async def test_a_models_name_can_order_a_cut() -> None:
    """A stream and a whole answer both end before they are whole."""
    response = await send("chat", "cut", messages=user("one two three four"), stream=True)
    got = b""
    with pytest.raises(ConnectionLostError):
        async for chunk in response:
            got += chunk
    assert (3, 0) == (got.count(b"data: "), got.count(b'"finish_reason":"'))
    with pytest.raises(ConnectionLostError):
        await (await send("chat", "cut", messages=user("a"))).read(9999)


async def test_a_cut_stream_of_a_short_answer_does_not_finish_either() -> None:
    """With nothing to say there are few events, and none of them is the last."""
    response = await send("chat", "cut", messages=user(""), stream=True)
    with pytest.raises(ConnectionLostError):
        async for chunk in response:
            assert b'"finish_reason":"' not in chunk


async def test_a_models_name_can_order_an_error_in_the_stream() -> None:
    """Three events, then the error."""
    events = await stream(model="error-in-stream", messages=user("one two three four"))
    assert (4, "server_error") == (len(events), events[-1]["error"]["type"])
    answer = await ask("chat", "error-in-stream", messages=user("a"))
    assert ["error"] == list(answer)


async def test_a_body_over_the_readers_cap_is_refused() -> None:
    """The transport keeps the promise of its Protocol."""
    response = await send("chat", messages=user("a" * 1000))
    with pytest.raises(ResponseTooLargeError):
        await response.read(100)


async def test_a_stream_lets_others_run_between_its_events() -> None:
    """Two streams advance together."""
    seen: list[str] = []

    async def follow(name: str) -> None:
        response = await send("chat", messages=user("one two three"), stream=True)
        async for _ in response:
            seen.append(name)

    await asyncio.gather(follow("a"), follow("b"))
    assert ["a", "b"] * 3 == seen[:6]


async def test_the_models_are_listed() -> None:
    """With the orders among them, so that they are found."""
    request = ECHO.build_models_request()
    assert request is not None and ECHO.transport is not None
    response = await ECHO.transport.send(request, Timeouts())
    cards = ECHO.parse_models(await response.read(99_999))
    assert ECHO.models == tuple(card.id for card in cards)
    assert {"echo", "error-429", "cut", "timeout"} <= set(ECHO.models)


@pytest.mark.parametrize("delay", [-1.0, float("inf"), float("nan")])
def test_a_bad_delay_is_refused(delay: float) -> None:
    """By its name."""
    with pytest.raises(ConfigurationError, match="chunk_delay_seconds"):
        Echo(chunk_delay_seconds=delay)


async def test_a_text_completion_stream_reports_usage_when_asked() -> None:
    """As the last event before the end mark."""
    events = await stream(
        "text_completion", prompt="one two", stream_options={"include_usage": True}
    )
    assert ([], 4) == (events[-2]["choices"], events[-2]["usage"]["total_tokens"])
    assert events[0]["usage"] is None


async def test_a_text_completion_without_a_prompt_says_nothing() -> None:
    """As the empty text."""
    assert [""] == [c["text"] for c in (await ask("text_completion"))["choices"]]


async def test_calls_have_no_logprobs_and_a_bad_argument_object_is_replaced() -> None:
    """Arguments that are no JSON are made from the schema."""
    answer = await chat("call time {broken}", tools=TOOLS, logprobs=True, stop=[""])
    choice = answer["choices"][0]
    assert (None, '{"city":"city"}') == (
        choice["logprobs"],
        choice["message"]["tool_calls"][0]["function"]["arguments"],
    )


async def test_without_a_user_message_the_answer_is_empty() -> None:
    """There is nothing to echo."""
    answer = await ask("chat", messages=[{"role": "system", "content": "be kind"}], stop="")
    assert "" == answer["choices"][0]["message"]["content"]


async def upload(*parts: bytes, content_type: bytes = b"multipart/form-data; boundary=b") -> Any:
    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    deployment = Deployment(provider="echo", model="echo")
    request = ECHO.build_upload_request("transcription", deployment, content_type, body())
    assert ECHO.transport is not None
    response = await ECHO.transport.send(request, Timeouts())
    return response.status, await response.read(99_999)


def form(**fields: str) -> bytes:
    parts = [
        f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = '--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\nxyz\r\n'
    return ("".join(parts) + file + "--b--\r\n").encode()


@pytest.mark.parametrize(
    ("kind", "begin"),
    [("text", b"a.wav: 3 bytes; "), ("srt", b"1\n00:00:00,000 --> "), ("vtt", b"WEBVTT\n\n00:")],
)
async def test_a_transcription_has_the_format_that_is_asked_for(kind: str, begin: bytes) -> None:
    """Texts as texts."""
    status, body = await upload(form(response_format=kind))
    assert (200, True) == (status, body.startswith(begin))


async def test_an_upload_can_order_an_error_and_must_be_a_form() -> None:
    """By its model; without a boundary it is refused, and over 25 MiB too."""
    assert 429 == (await upload(form(model="error-429")))[0]
    assert 400 == (await upload(b"x", content_type=b"text/plain"))[0]
    assert 413 == (await upload(*[b"x" * 2**20] * 26))[0]

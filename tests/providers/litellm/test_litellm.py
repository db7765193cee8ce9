"""litellm's own calls, behind our errors, usage and streams, against a server on a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, InvalidRequestError, ModelNotFoundError
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.base import Translation
from asgi_llm.providers.litellm import FIELDS, LiteLLM
from asgi_llm.state import USAGE, enter
from asgi_llm.testing import (
    Close,
    Exchange,
    Reply,
    Reset,
    Signal,
    Step,
    Upstream,
    Wait,
    call,
    chat_answer,
    http_scope,
    json_reply,
    sse_reply,
)
from asgi_llm.testing.recorder import Recorder
from asgi_llm.transports.base import Timeouts
from asgi_llm.types import Deployment, Usage

litellm = pytest.importorskip("litellm", reason="the extra litellm is not installed")

# Its dependencies warn of each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
]

KEY = "sk-litellm-0123456789"
ASKED: dict[str, Any] = {
    "model": "litellm/openai/m",
    "messages": [{"role": "user", "content": "hi"}],
}
SECONDS = 30.0
"""litellm takes its time for the first call."""


def options(upstream: Upstream) -> dict[str, Any]:
    return {"api_key": KEY, "api_base": upstream.url + "/v1"}


@asynccontextmanager
async def app_of(upstream: Upstream, **more: Any) -> AsyncIterator[ProviderApp]:
    adapter = LiteLLM(**{"models": ["openai/*"], "options": options(upstream), **more})
    app = ProviderApp([adapter])
    try:
        yield app
    finally:
        await app.aclose()
        await adapter.aclose()


async def ask(upstream: Upstream, reply: Reply, path: str = "chat/completions", **more: Any) -> Any:
    """What the client gets, and the usage that the app learns of."""
    learned: list[Usage | None] = []
    upstream.script(reply)
    asked = {**(ASKED if path == "chat/completions" else {"model": ASKED["model"]}), **more}
    async with app_of(upstream) as app:

        async def listening(scope: Any, receive: Any, send: Any) -> None:
            scope, state = enter(scope)
            await app(scope, receive, send)
            learned.append(state.get(USAGE))

        recorder = await call(
            listening, http_scope(path=f"/v1/{path}"), json=asked, timeout_seconds=SECONDS
        )
    return recorder, learned[0]


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


TEXT = [chunk({"role": "assistant", "content": "Grüße"}), chunk({"content": ", 世界"})]
END = [
    chunk({}, "stop"),
    {
        **chunk({}),
        "choices": [],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 3},
        },
    },
]
STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def events_of(recorder: Recorder) -> list[dict[str, Any]]:
    *blocks, done, rest = recorder.body.split(b"\n\n")
    assert (b"data: [DONE]", b"") == (done, rest)
    return [json.loads(block.removeprefix(b"data: ")) for block in blocks]


async def test_a_whole_answer_comes_with_its_usage() -> None:
    """The provider gets the document, the configured key, and nothing of litellm's."""
    async with Upstream() as upstream:
        recorder, usage = await ask(
            upstream, json_reply(chat_answer("hi there")), temperature=0.5, seed=7
        )
        (row,) = upstream.ledger
    document = json.loads(recorder.body)
    assert (200, "hi there", "stop") == (
        recorder.status,
        document["choices"][0]["message"]["content"],
        document["choices"][0]["finish_reason"],
    )
    assert {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11} == document["usage"]
    assert Usage(input_uncached=9, output_text=2) == usage
    sent = json.loads(row.request.body)
    assert {
        "model": "m",
        "messages": ASKED["messages"],
        "temperature": 0.5,
        "seed": 7,
    } == sent
    assert f"Bearer {KEY}".encode() == dict(row.request.headers)[b"authorization"]


async def test_a_stream_comes_as_it_is_with_the_providers_usage() -> None:
    """In the OpenAI format, without litellm's fields that say nothing."""
    async with Upstream() as upstream:
        recorder, usage = await ask(upstream, sse_reply([*TEXT, *END]), **STREAM)
    events = events_of(recorder)
    deltas = [one["delta"] for event in events for one in event["choices"]]
    assert [{"role": "assistant", "content": "Grüße"}, {"content": ", 世界"}, {}] == deltas
    assert [None, None, "stop"] == [
        one["finish_reason"] for event in events for one in event["choices"]
    ]
    assert [] == events[-1]["choices"]
    assert Usage(input_uncached=6, input_cached=3, output_text=4) == usage
    assert b"provider_specific_fields" not in recorder.body


async def test_usage_that_litellm_counted_itself_is_not_told_as_the_providers() -> None:
    """A provider that is silent stays silent, whole and streamed."""
    answer = chat_answer("hi")
    del answer["usage"]
    async with Upstream() as upstream:
        recorder, streamed = await ask(upstream, sse_reply([*TEXT, END[0]]), **STREAM)
        _, whole = await ask(upstream, json_reply(answer))
    assert "stop" == events_of(recorder)[-1]["choices"][0]["finish_reason"]
    assert (None, None) == (streamed, whole)
    assert b'"usage"' not in recorder.body


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALLS = [
    {"id": f"call_{n}", "type": "function", "function": {"name": n, "arguments": '{"x": 1}'}}
    for n in "fg"
]


async def test_tool_calls_come_whole_and_in_pieces() -> None:
    """With their ids, names and arguments, in order."""
    whole = chat_answer(None)
    whole["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": CALLS}
    whole["choices"][0]["finish_reason"] = "tool_calls"
    pieces = [
        chunk({"role": "assistant", "content": None, "tool_calls": [{**one, "index": index}]})
        for index, one in enumerate(CALLS)
    ]
    pieces[0]["choices"][0]["delta"]["tool_calls"][0]["function"] = {"name": "f", "arguments": "{"}
    rest = {"index": 0, "function": {"arguments": '"x": 1}'}}
    pieces.insert(1, chunk({"tool_calls": [rest]}))
    pieces.append(chunk({}, "tool_calls"))
    async with Upstream() as upstream:
        recorder, _ = await ask(upstream, json_reply(whole), tools=TOOLS)
        streamed, _ = await ask(upstream, sse_reply(pieces), tools=TOOLS, stream=True)
        assert TOOLS == json.loads(upstream.ledger[0].request.body)["tools"]
    (choice,) = json.loads(recorder.body)["choices"]
    assert (CALLS, "tool_calls") == (choice["message"]["tool_calls"], choice["finish_reason"])
    found = {0: ["", "", ""], 1: ["", "", ""]}
    for event in events_of(streamed):
        for one in event["choices"]:
            for piece in one["delta"].get("tool_calls", ()):
                row, function = found[piece["index"]], piece["function"]
                row[0] += piece.get("id") or ""
                row[1] += function.get("name") or ""
                row[2] += function.get("arguments") or ""
    assert {0: ["call_f", "f", '{"x": 1}'], 1: ["call_g", "g", '{"x": 1}']} == found


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "param": None, "code": None, **more}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, error("bad value"), (400, "provider_rejected")),
        (
            400,
            error("too long", code="context_length_exceeded"),
            (400, "context_length_exceeded"),
        ),
        (400, error("This model's maximum context length is 5"), (400, "context_length_exceeded")),
        (401, error(f"Incorrect API key provided: {KEY}"), (502, "provider_authentication_failed")),
        (404, error("The model `m` does not exist"), (404, "model_not_found")),
        (429, error("slow down"), (429, "rate_limit_exceeded")),
        (500, error("oops"), (502, "provider_unavailable")),
        (503, error("busy"), (503, "model_overloaded")),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_keeps_its_sense(
    status: int, body: dict[str, Any], expected: tuple[int, str], stream: bool
) -> None:
    """In our words, after one attempt, without the key and without litellm's own words."""
    async with Upstream() as upstream:
        recorder, _ = await ask(
            upstream, json_reply(body, status, {"retry-after": "7"}), stream=stream
        )
        assert 1 == len(upstream.ledger)
    found = json.loads(recorder.body)["error"]
    assert expected == (recorder.status, found["code"])
    assert KEY not in found["message"]
    assert "litellm" not in found["message"].replace("provider 'litellm'", "")
    if status == 429:
        assert (b"7", "slow down") == (recorder.header("retry-after"), found["message"])


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    """A 502, after one attempt."""
    async with Upstream() as upstream:
        upstream.stop_listening()
        recorder, _ = await ask(upstream, json_reply({}))
    assert 502 == recorder.status


def ended_early() -> list[tuple[str, Reply]]:
    cut: list[Step | dict[str, Any]] = [*TEXT]
    return [
        ("done without a finish", sse_reply(TEXT)),
        ("no end mark and no finish", sse_reply(TEXT, done=False)),
        ("fin", sse_reply([*cut, Close()], done=False)),
        ("reset", sse_reply([*cut, Reset()], done=False)),
        ("error event", sse_reply([*TEXT, error("it broke")], done=False)),
    ]


@pytest.mark.parametrize(("name", "reply"), ended_early(), ids=[n for n, _ in ended_early()])
async def test_a_stream_that_breaks_off_never_looks_finished(name: str, reply: Reply) -> None:
    """Litellm would make up a stop for some of them, and usage; the client gets an error."""
    async with Upstream() as upstream:
        recorder, usage = await ask(upstream, reply, **STREAM)
    assert "Grüße".encode() in recorder.body
    assert b'"error"' in recorder.body
    assert not any(word in recorder.body for word in (b'"finish_reason":"', b'"usage"'))
    assert usage is not None
    assert usage.estimated
    if name == "error event":
        assert b"it broke" in recorder.body


async def test_a_chunk_leaves_before_the_next_one_comes_and_a_client_that_leaves_ends_it() -> None:
    """Litellm's stream is closed, and with it the connection."""
    never, sent = asyncio.Event(), asyncio.Event()
    async with Upstream() as upstream:
        upstream.script(sse_reply([TEXT[0], Signal(sent), Wait(never)], done=False))
        async with app_of(upstream) as app:
            body = json.dumps({**ASKED, "stream": True}).encode()
            scope = http_scope(headers=[("content-type", "application/json")])
            async with Exchange(app, scope, body=body, timeout_seconds=SECONDS) as exchange:
                assert "Grüße".encode() in await exchange.next_chunk()
                exchange.disconnect()
                (row,) = await upstream.served(1)
    assert row.done


async def test_deadlines_are_kept() -> None:
    """To the first byte, and between two chunks."""
    never = asyncio.Event()
    timeouts = Timeouts(first_byte_seconds=0.3, idle_seconds=0.3)
    async with Upstream() as upstream:
        upstream.script(Reply(before=[Wait(never)]), sse_reply([TEXT[0], Wait(never)], done=False))
        async with app_of(upstream, timeouts=timeouts) as app:
            late = await call(app, http_scope(), json=ASKED, timeout_seconds=SECONDS)
            asked = {**ASKED, "stream": True}
            idle = await call(app, http_scope(), json=asked, timeout_seconds=SECONDS)
    assert (504, "provider_timeout") == (late.status, json.loads(late.body)["error"]["code"])
    assert (200, True) == (idle.status, b'"provider_timeout"' in idle.body)


async def test_embeddings_moderations_and_images_go_the_same_way() -> None:
    """With the usage that the provider reports."""
    vectors = {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    flags = {"id": "modr", "model": "m", "results": [{"flagged": True, "categories": {}}]}
    pictures = {"created": 1, "data": [{"b64_json": "AAAA"}]}
    async with Upstream() as upstream:
        found, usage = await ask(
            upstream, json_reply(vectors), "embeddings", input="a", encoding_format="float"
        )
        assert [0.5, 1.0] == json.loads(found.body)["data"][0]["embedding"]
        assert Usage(input_uncached=2) == usage
        found, _ = await ask(upstream, json_reply(flags), "moderations", input="a")
        assert json.loads(found.body)["results"][0]["flagged"]
        found, _ = await ask(upstream, json_reply(pictures), "images/generations", prompt="a")
        assert "AAAA" == json.loads(found.body)["data"][0]["b64_json"]
        assert ["/v1/embeddings", "/v1/moderations", "/v1/images/generations"] == [
            row.request.path for row in upstream.ledger
        ]


async def test_rerank_goes_the_same_way() -> None:
    """To a provider that has it."""
    answer = {
        "id": "r",
        "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
        "meta": {"billed_units": {"search_units": 1}},
    }
    async with Upstream() as upstream:
        upstream.script(json_reply(answer))
        given = {"api_key": KEY, "api_base": upstream.url}
        async with app_of(upstream, models=["cohere/*"], options=given) as app:
            document = {"model": "litellm/cohere/r", "query": "q", "documents": ["a", "b"]}
            scope = http_scope(path="/v1/rerank")
            found = await call(app, scope, json=document, timeout_seconds=SECONDS)
    assert (200, [1, 0]) == (
        found.status,
        [row["index"] for row in json.loads(found.body)["results"]],
    )


def test_text_completions_are_refused() -> None:
    """Litellm would leak a client for each."""
    with pytest.raises(InvalidRequestError) as caught:
        translated({"prompt": "a"}, "text_completion")
    assert "unsupported_operation" == caught.value.code


async def test_the_last_provider_that_is_closed_closes_litellms_clients() -> None:
    """They are shared, and the others go on with them."""
    async with Upstream() as upstream:
        upstream.script(json_reply(chat_answer("hi")))
        async with app_of(upstream) as first:
            async with app_of(upstream) as second:
                for app in (first, second):
                    await call(app, json=ASKED, timeout_seconds=SECONDS)
            assert upstream.open_connections > 0
            found = await call(first, json=ASKED, timeout_seconds=SECONDS)
            assert 200 == found.status
        await upstream.until(lambda: upstream.open_connections == 0)


# What a client cannot reach


def translated(document: dict[str, Any], operation: Any = "chat", **more: Any) -> Translation:
    adapter = LiteLLM(models=["openai/*"], **more)
    at = Deployment(provider="litellm", model="openai/m")
    return adapter.translate(operation, {**ASKED, **document}, at)


CONTROLS: dict[str, Any] = {
    "api_base": "http://127.0.0.1:1/v1",
    "base_url": "http://127.0.0.1:1/v1",
    "api_key": "sk-client-0123456789",
    "api_version": "1",
    "custom_llm_provider": "ollama",
    "extra_headers": {"x-evil": "1"},
    "headers": {"x-evil": "1"},
    "extra_body": {"evil": 1},
    "mock_response": "made up",
    "mock_tool_calls": CALLS,
    "mock_timeout": True,
    "mock_delay": 9,
    "model_list": [{"model_name": "m"}],
    "fallbacks": ["openai/other"],
    "num_retries": 5,
    "max_retries": 5,
    "timeout": 0.001,
    "drop_params": True,
    "caching": True,
    "metadata": {"a": "b"},
    "litellm_metadata": {"a": "b"},
    "success_callback": ["langfuse"],
    "callbacks": ["langfuse"],
    "langfuse_public_key": "x",
    "aws_secret_access_key": "x",
    "vertex_credentials": "x",
    "proxy_server_request": {"url": "http://127.0.0.1:1"},
    "client": "x",
    "organization": "x",
    "deployment_id": "x",
    "input_cost_per_token": 1,
    "allowed_openai_params": ["evil"],
    "web_search_options": {},
    "x_unknown": 1,
}


async def test_no_argument_of_litellms_own_comes_from_a_client() -> None:
    """All of them at once: the call is the one without them, and they are reported."""
    async with Upstream() as upstream:
        recorder, _ = await ask(upstream, json_reply(chat_answer("real")), **CONTROLS)
        (row,) = upstream.ledger
    assert (200, "real") == (
        recorder.status,
        json.loads(recorder.body)["choices"][0]["message"]["content"],
    )
    assert {"model": "m", "messages": ASKED["messages"]} == json.loads(row.request.body)
    headers = dict(row.request.headers)
    assert (f"Bearer {KEY}".encode(), False) == (headers[b"authorization"], b"x-evil" in headers)
    assert set(CONTROLS) == set(translated(CONTROLS).losses)


@pytest.mark.parametrize("field", sorted(CONTROLS))
def test_strict_translation_refuses_them(field: str) -> None:
    """By name."""
    with pytest.raises(InvalidRequestError) as caught:
        translated({field: CONTROLS[field]}, strict=True)
    assert field == caught.value.param


def test_no_field_that_passes_is_a_control_of_litellms() -> None:
    """Against litellm's own list of them."""
    owned = set(litellm.types.utils.all_litellm_params)
    assert len(owned) > 50
    assert set() == owned & {name for fields in FIELDS.values() for name in fields} - {
        # Sampling, which litellm lists among its own because some providers have it elsewhere.
        "thinking",
    }


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
        {"type": "image_url", "image_url": "HTTPS://example.com/a.png"},
        {"type": "image_url", "image_url": {"url": " gs:bucket"}},
        {"type": "file", "file": {"file_id": "https://example.com/a.pdf"}},
        {"type": "video_url", "video_url": {"url": "file:/etc/passwd"}},
    ],
)
def test_no_address_reaches_litellm(part: dict[str, Any]) -> None:
    """For some providers it would fetch them from here; data URLs pass."""
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "see https://example.com"}
    with pytest.raises(InvalidRequestError) as caught:
        translated({"messages": [{"role": "user", "content": [text, data, part]}]})
    assert "messages[0].content[2]" == caught.value.param
    assert () == translated({"messages": [{"role": "user", "content": [text, data]}]}).losses


def test_no_tool_but_functions_reaches_litellm() -> None:
    """Some others name a server."""
    tool = {"type": "mcp", "server_url": "http://127.0.0.1:1", "server_label": "x"}
    with pytest.raises(InvalidRequestError) as caught:
        translated({"tools": [*TOOLS, tool]})
    assert "tools[1].type" == caught.value.param


@pytest.mark.parametrize(
    "model",
    [
        "huggingface/https://example.com",
        "openai/http://example.com",
        "openai/../../v2",
        "openai//m",
        "openai/a?b",
        "openai/a#b",
        "openai/a%2e%2e",
        "openai/a\r\nb",
        "openai/a b",
        "other/m",
        "ollama/llama3",
        "",
    ],
)
def test_a_model_that_is_an_address_or_not_allowed_does_not_exist(model: str) -> None:
    """Litellm puts names into URLs, and takes some for URLs."""
    adapter = LiteLLM(models=["openai/*", "anthropic/claude-x"])
    with pytest.raises(ModelNotFoundError):
        adapter.translate("chat", ASKED, Deployment(provider="litellm", model=model))


def test_without_models_those_that_litellm_knows_may_be_asked() -> None:
    """With or without their provider's name before them."""
    adapter = LiteLLM()
    for model, known in (
        ("gpt-4o-mini", True),
        ("openai/gpt-4o-mini", True),
        ("groq/gpt-4o-mini", False),
        ("openai/never-heard-of", False),
    ):
        at = Deployment(provider="litellm", model=model)
        if known:
            assert () == adapter.translate("chat", ASKED, at).losses
        else:
            with pytest.raises(ModelNotFoundError):
                adapter.translate("chat", ASKED, at)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"options": {"api_key": KEY}}, "models"),
        ({"options": {"extra_headers": {"x": KEY}}}, "models"),
        ({"models": ["*"]}, "models"),
        ({"models": ["http://x/y"]}, "models"),
        ({"options": {"mock_response": "x"}}, "options"),
        ({"options": {"num_retries": 3}}, "options"),
        ({"options": {"messages": []}}, "options"),
        ({"options": {1: 2}}, "options"),
    ],
)
def test_a_bad_option_is_refused_by_name(given: dict[str, Any], param: str) -> None:
    """At construction."""
    with pytest.raises(ConfigurationError) as caught:
        LiteLLM(**given)
    assert param == caught.value.param


def test_litellm_is_imported_only_when_a_provider_is_made_and_without_the_network() -> None:
    """The module alone does not, and no list of prices is fetched."""
    code = (
        "import sys, socket\n"
        "from asgi_llm.providers.litellm import LiteLLM\n"
        "assert 'litellm' not in sys.modules\n"
        "def no(*a, **k): raise OSError('no network in this test')\n"
        "socket.socket.connect = no\n"
        "socket.getaddrinfo = no\n"
        "LiteLLM()\n"
        "assert 'litellm' in sys.modules\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ},
        check=False,
    )
    assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)

"""Faults of upstreams and clients, over real sockets: what each side sees, and never does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx2
import pytest

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.echo import Echo
from asgi_llm.providers.openai import OpenAI
from asgi_llm.testing import (
    Close,
    Reply,
    Reset,
    Signal,
    Upstream,
    Wait,
    chat_answer,
    chat_events,
    error_answer,
    json_reply,
    raw_reply,
    sse_reply,
)
from asgi_llm.testing.serving import serve
from asgi_llm.transports.base import Timeouts
from tests.threats.conftest import SECRET, Door

TIMEOUTS = Timeouts(
    connect_seconds=2.0, first_byte_seconds=0.4, idle_seconds=0.4, total_seconds=5.0
)
BODY = {"model": "up/m", "messages": [{"role": "user", "content": "canary-prompt"}]}
STREAM = {**BODY, "stream": True}


@contextlib.asynccontextmanager
async def gateway(upstream: Upstream, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A ProviderApp in front of ``upstream``, and a client of it."""
    provider = OpenAI(name="up", api_key=SECRET, base_url=upstream.url + "/v1")
    app = ProviderApp([provider, Echo()], **{"timeouts": TIMEOUTS, **options})
    try:
        async with (
            serve(app, server="uvicorn", http="httptools") as url,
            httpx2.AsyncClient(base_url=url + "/v1", timeout=20) as client,
        ):
            yield client
    finally:
        await app.aclose()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway(upstream) as one:
        yield one


def events_of(answer: httpx2.Response) -> list[Any]:
    datas = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def is_failed_stream(answer: httpx2.Response) -> bool:
    """One error event as the last one, and neither a finish reason nor usage anywhere."""
    *before, error, done = events_of(answer)
    finishes = [c.get("finish_reason") for e in before for c in e.get("choices", ())]
    return (
        done == "[DONE]"
        and "error" in error
        and not any(finishes)
        and not any("error" in e or e.get("usage") for e in before)
    )


# B9 and C: what a body or header says can never move the call, or the key, to another place.
TARGETS = (
    "api_base", "base_url", "api_key", "url", "endpoint", "host", "proxy", "deployment", "provider",
    "organization", "custom_llm_provider", "model_info", "litellm_params", "extra_headers",
    "extra_body", "headers", "timeout", "azure_endpoint", "region", "aws_bedrock_runtime_endpoint",
    "vertex_project", "callback_url", "webhook",
)  # fmt: skip


async def test_b9_cve_2024_6587_no_field_or_header_of_a_request_moves_the_call(
    upstream: Upstream, client: httpx2.AsyncClient
) -> None:
    """A listening canary gets no connection, whatever field or header names it."""
    upstream.script(json_reply(chat_answer()))
    async with Upstream(lambda _: json_reply(chat_answer("from the canary"))) as canary:
        for name in TARGETS:
            answer = await client.post(
                "/chat/completions",
                json={**BODY, name: canary.url + "/v1"},
                headers={"x-" + name.replace("_", "-"): canary.url, "host": canary.url[7:]},
            )
            assert "canary" not in answer.json()["choices"][0]["message"]["content"]
        assert canary.connections == 0
    assert {row.request.header("host") for row in upstream.ledger} == {upstream.url[7:].encode()}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_b9_b21_a_redirect_is_not_followed(
    upstream: Upstream, client: httpx2.AsyncClient, status: int
) -> None:
    """The key would follow it."""
    async with Upstream(lambda _: json_reply(chat_answer())) as canary:
        upstream.script(json_reply({}, status, {"location": canary.url + "/v1/chat/completions"}))
        answer = await client.post("/chat/completions", json=BODY)
        assert answer.status_code == 502
        assert canary.connections == 0


async def test_b17_a_client_that_leaves_a_stream_closes_the_upstream(
    upstream: Upstream, client: httpx2.AsyncClient
) -> None:
    """Within a second, and the connection is not used again."""
    never = asyncio.Event()
    upstream.script(sse_reply([chat_events("Hello")[0], chat_events("Hello")[1], Wait(never)]))
    async with gateway(upstream, timeouts=Timeouts()) as patient:
        async with patient.stream("POST", "/chat/completions", json=STREAM) as answer:
            async for _ in answer.aiter_raw():
                break
        begun = time.monotonic()
        (row,) = await upstream.served(1)
        assert row.client_left
        assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
async def test_b18_a_client_that_leaves_before_the_answer_closes_the_upstream(
    upstream: Upstream, body: dict[str, Any]
) -> None:
    """An abandoned call is cancelled, not paid for."""
    upstream.script(Reply(before=[Wait(asyncio.Event())]))
    async with gateway(upstream, timeouts=Timeouts()) as patient:
        asking = asyncio.ensure_future(patient.post("/chat/completions", json=body))
        await upstream.arrived(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        begun = time.monotonic()
        (row,) = await upstream.served(1)
        assert row.client_left
        assert time.monotonic() - begun < 1.0


def cut(*end: Any) -> Reply:
    return sse_reply([*chat_events("Hello there you")[:3], *end], done=False)


BROKEN_STREAMS = {
    "reset": lambda: cut(Reset()),
    "fin": lambda: cut(Close()),
    "fin in an event": lambda: cut(b'data: {"choices": [{"ind', Close()),
    "stall": lambda: cut(Wait(asyncio.Event())),
    "end without finish": lambda: cut(),
    "end mark without finish": lambda: cut(b"data: [DONE]\n\n"),
    "bad json": lambda: cut(b"data: {nope}\n\n"),
    "half an event, then the end": lambda: cut(b'data: {"choices": ['),
    "an event over the cap": lambda: cut(b"data: " + b"x" * 5_000_000 + b"\n\n"),
    "error event": lambda: cut(b'data: {"error": {"message": "overloaded", "code": 503}}\n\n'),
    "finish, then reset": lambda: sse_reply(
        [*chat_events("Hi", usage_in="none"), Reset()], done=False
    ),
    "finish and usage, then fin": lambda: sse_reply([*chat_events("Hi"), Close()], done=False),
    "unframed end after the finish": lambda: sse_reply(
        chat_events("Hi"), done=False, framing="close"
    ),
}


@pytest.mark.parametrize("case", BROKEN_STREAMS)
async def test_b19_b20_a_broken_stream_ends_with_an_error(
    upstream: Upstream, client: httpx2.AsyncClient, case: str
) -> None:
    """Never with a finish reason or usage; it is tried once; and the next stream works."""
    upstream.script(BROKEN_STREAMS[case](), sse_reply(chat_events("Fine")))
    answer = await client.post("/chat/completions", json=STREAM)
    assert answer.status_code == 200
    assert is_failed_stream(answer)
    assert len(upstream.ledger) == 1
    following = await client.post("/chat/completions", json=STREAM)
    assert events_of(following)[-1] == "[DONE]"
    assert "Fine" in following.text


EARLY: dict[str, tuple[Any, int]] = {
    "reset": (lambda: raw_reply([Reset()]), 502),
    "fin": (lambda: raw_reply(b""), 502),
    "stall": (lambda: Reply(before=[Wait(asyncio.Event())]), 504),
    "an error as the first event": (
        lambda: sse_reply([{"error": {"message": "overloaded", "code": 503}}], done=False),
        503,
    ),
    "an error with status 200": (lambda: error_answer(200, "no", code="server_error"), 502),
    "html": (lambda: Reply(headers={"content-type": "text/html"}, body=b"<html>502</html>"), 502),
    "html with 502": (lambda: Reply(status=502, body=b"<html>bad gateway</html>"), 502),
    "empty": (lambda: Reply(), 502),
    "no content": (lambda: Reply(status=204), 502),
    "json that is no answer": (lambda: json_reply({"hello": 1}), 502),
    "half a document": (lambda: json_reply(b'{"choices": ['), 502),
    "huge headers": (lambda: json_reply(chat_answer(), headers={"x-a": "b" * 200_000}), 502),
    "switching protocols": (lambda: raw_reply(b"HTTP/1.1 101 Switching\r\n\r\n"), 502),
    "two lengths": (
        lambda: raw_reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
        502,
    ),
    "not http": (lambda: raw_reply(b"SSH-2.0-OpenSSH\r\n"), 502),
    "a coding nobody asked for": (
        lambda: json_reply(chat_answer(), headers={"content-encoding": "br"}),
        502,
    ),
}


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("case", EARLY)
async def test_b21_an_answer_that_is_none_is_a_clear_error(
    upstream: Upstream, client: httpx2.AsyncClient, case: str, body: dict[str, Any]
) -> None:
    """With a real status, our error shape, and one call only."""
    reply, status = EARLY[case]
    upstream.script(reply())
    answer = await client.post("/chat/completions", json=body)
    # A stream in place of an answer is no answer, whatever its events say.
    not_asked_for = case == "an error as the first event" and body is BODY
    assert answer.status_code == (502 if not_asked_for else status)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    assert len(upstream.ledger) == 1


async def test_b19_b21_an_upstream_that_is_down_is_a_502(client: httpx2.AsyncClient) -> None:
    """Nothing listens: the answer says that the provider could not be reached, not where it is."""
    async with Upstream() as gone:
        url = gone.url
    async with gateway(gone) as one:
        answer = await one.post("/chat/completions", json=BODY)
    assert answer.status_code == 502
    assert url.rsplit(":", 1)[1] not in answer.text


@pytest.mark.parametrize(
    ("value", "expected"), [("7", "7"), ("-1", None), ("1e9", "3600"), ("99999999", "3600")]
)
async def test_b21_retry_after_is_passed_on_within_reason(
    upstream: Upstream, client: httpx2.AsyncClient, value: str, expected: str | None
) -> None:
    """Nonsense is dropped, and nobody is sent away for a year."""
    upstream.script(error_answer(429, "slow down", headers={"retry-after": value}))
    answer = await client.post("/chat/completions", json=BODY)
    assert answer.status_code == 429
    assert answer.headers.get("retry-after") == expected


@pytest.mark.parametrize("status", [401, 403])
async def test_b22_the_providers_refusal_of_our_key_is_not_the_clients(
    upstream: Upstream, client: httpx2.AsyncClient, status: int
) -> None:
    """502, so that no client drops its own key; and the text shows no key, id or address."""
    text = f"Incorrect API key {SECRET} for org-abcdefgh12345678, see https://platform.example/keys"
    upstream.script(error_answer(status, text))
    answer = await client.post("/chat/completions", json=BODY)
    assert answer.status_code == 502
    for secret in (SECRET, "org-abcdefgh12345678", "platform.example"):
        assert secret not in answer.text


async def test_b13_a13_an_endless_answer_is_cut_at_the_cap(upstream: Upstream) -> None:
    """In plain and as a bomb; no more is read than the cap allows."""

    def endless() -> Iterable[bytes]:
        while True:
            yield b" " * 65536

    async with gateway(upstream, max_response_bytes=1_000_000) as small:
        json_type = {"content-type": "application/json"}
        upstream.script(Reply(headers=json_type, body=endless(), framing="chunked"))
        assert (await small.post("/chat/completions", json=BODY)).status_code == 502
        upstream.script(json_reply(b" " * 50_000_000, gzip=True))
        assert (await small.post("/chat/completions", json=BODY)).status_code == 502


async def test_a14_a_client_that_stops_reading_is_cut_off() -> None:
    """The upstream is paused meanwhile, and closed when the client's time is over."""
    event = b"data: " + json.dumps({"choices": [{"delta": {"content": "x" * 8000}}]}).encode()

    def endless() -> Iterable[bytes]:
        while True:
            yield event + b"\n\n"

    async with Upstream(lambda _: sse_reply(endless(), done=False)) as server:
        provider = OpenAI(name="up", api_key=SECRET, base_url=server.url + "/v1")
        app = ProviderApp([provider], write_timeout_seconds=0.5)
        async with serve(app, server="uvicorn", http="httptools") as url:
            door = Door(url, server)
            _, writer = await asyncio.open_connection("127.0.0.1", door.port)
            data = json.dumps(STREAM).encode()
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json"
                b"\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)
            )
            (row,) = await server.served(1, timeout_seconds=10)
            assert row.client_left
            assert row.sent_bytes < 64 * 1024 * 1024
            writer.close()
        await app.aclose()


async def test_chunks_leave_as_they_come(upstream: Upstream, client: httpx2.AsyncClient) -> None:
    """The first event is at the client while the upstream has not made the second."""
    first, second, *rest = chat_events("Hello there")
    go = asyncio.Event()
    upstream.script(sse_reply([first, Wait(go), second, *rest]))
    seen = b""
    async with (
        asyncio.timeout(5),
        client.stream("POST", "/chat/completions", json=STREAM) as answer,
    ):
        async for chunk in answer.aiter_raw():
            seen += chunk
            go.set()
    assert seen.endswith(b"data: [DONE]\n\n")


ODD_USAGE: dict[str, Any] = {
    "missing": None,
    "negative": {"prompt_tokens": -5, "completion_tokens": -1, "total_tokens": -6},
    "strings": {"prompt_tokens": "5", "completion_tokens": "many"},
    "null": {"prompt_tokens": None, "completion_tokens": None},
    "a list": [1, 2],
    "absurd": {"prompt_tokens": 1e300, "completion_tokens": 2**70},
}


@pytest.mark.parametrize("case", ODD_USAGE)
@pytest.mark.parametrize("choices", [0, 1, 3])
async def test_b42_odd_usage_and_choices_do_not_break_the_answer(
    upstream: Upstream, client: httpx2.AsyncClient, case: str, choices: int
) -> None:
    """What the provider says of usage, or how many choices it gives, is passed on as it came."""
    answer = {**chat_answer("ok"), "usage": ODD_USAGE[case]}
    answer["choices"] = answer["choices"] * choices
    upstream.script(json_reply(answer))
    given = await client.post("/chat/completions", json=BODY)
    assert given.status_code == 200
    assert given.json()["choices"] == answer["choices"]


async def test_b41_no_prompt_answer_or_key_is_logged(
    upstream: Upstream, client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """At any level, in success and in each kind of failure."""
    caplog.set_level(logging.DEBUG)
    upstream.script(
        json_reply(chat_answer("canary-answer")),
        error_answer(500, f"canary-error {SECRET}"),
        error_answer(401, f"canary-error {SECRET}"),
        json_reply(b'{"canary-answer": '),
        raw_reply([Reset()]),
    )
    for _ in range(5):
        await client.post("/chat/completions", json=BODY)
    broken = b'{"model": "up/m", "messages": "canary-prompt"'
    await client.post(
        "/chat/completions", content=broken, headers={"content-type": "application/json"}
    )
    for secret in ("canary", SECRET):
        assert secret not in caplog.text


async def test_b40_no_input_stops_the_event_loop(
    upstream: Upstream, client: httpx2.AsyncClient
) -> None:
    """While each bad body is handled, no callback keeps the loop for long."""
    loop = asyncio.get_running_loop()
    worst = 0.0
    beat = asyncio.Event()

    async def watch() -> None:
        nonlocal worst
        while not beat.is_set():
            begun = time.thread_time()
            await asyncio.sleep(0)
            worst = max(worst, time.thread_time() - begun)

    bodies = [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"{" + b",".join(b'"k%d":1' % n for n in range(1_000_000)) + b"}",
        b'{"model": "up/m", "messages": [' + b"{}," * 500_000 + b"{}]}",
        b'{"seed": ' + b"9" * 1_000_000 + b"}",
        b'{"messages": "' + b"\\u0041" * 1_000_000 + b'"}',
    ]
    assert loop is asyncio.get_running_loop()
    watcher = asyncio.ensure_future(watch())
    try:
        for body in bodies:
            answer = await client.post(
                "/chat/completions", content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code in (400, 413)
    finally:
        beat.set()
        await watcher
    # CPU of this thread in one turn: ours, uvicorn's and the client's together.
    assert worst < 0.25


async def test_a_signalled_stream_is_not_collected(
    upstream: Upstream, client: httpx2.AsyncClient
) -> None:
    """A comment that keeps the connection alive reaches the client before any event does."""
    sent, go = asyncio.Event(), asyncio.Event()
    upstream.script(sse_reply([b": thinking\n\n", Signal(sent), Wait(go), *chat_events("Hi")]))
    async with client.stream("POST", "/chat/completions", json=STREAM) as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b": thinking\n\n"
        go.set()
        rest = b"".join([chunk async for chunk in chunks])
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_b39_a_large_text_is_counted_within_bounds(client: httpx2.AsyncClient) -> None:
    """Ten megabytes, as many words or as one, are answered soon and do not stall the loop."""
    for text in ("word " * 2_000_000, "w" * 10_000_000):
        begun = time.process_time()
        answer = await client.post(
            "/chat/completions",
            json={"model": "echo/echo", "messages": [{"role": "user", "content": text}]},
        )
        assert answer.json()["choices"][0]["finish_reason"] == "length"
        assert answer.json()["usage"]["prompt_tokens"] > 1_000_000
        assert time.process_time() - begun < 5.0

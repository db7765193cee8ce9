from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm.errors import ConfigurationError, RateLimitError
from asgi_llm.gateway.access_log import AccessLogMiddleware, write_to
from asgi_llm.state import (
    ATTEMPTS,
    COST,
    DEPLOYMENT,
    FAILURE,
    LIMIT_STATUS,
    OPERATION,
    PRINCIPAL,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    TRANSLATION_LOSS,
    USAGE,
    enter,
)
from asgi_llm.testing import Exchange, ManualClock, call, http_scope
from asgi_llm.types import Attempt, Cost, Deployment, LimitReport, PriceSource, Principal, Usage

SSE = (b"content-type", b"text/event-stream")
PROMPT = b'{"model": "m", "messages": [{"role": "user", "content": "my secret"}]}'


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Where the access lines go for the length of a test."""
    stream = io.StringIO()
    handler = write_to(stream)
    logger = logging.getLogger("asgi_llm.access")
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def read(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


async def test_a_line_says_what_is_known_of_a_request(lines: io.StringIO) -> None:
    """All fields of a streamed request, from the scope, the response, the clock and the state."""
    timer = ManualClock()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        await receive()
        state.set(OPERATION, "chat")
        state.set(REQUEST_MODEL, "fast")
        state.set(DEPLOYMENT, Deployment(provider="openai", model="gpt-x"))
        state.set(RESPONSE_MODEL, "gpt-x-1")
        state.set(TRANSLATION_LOSS, ("messages.name", "my secret", "seed"))
        attempt = Attempt(
            provider="openai",
            model="gpt-x",
            status=200,
            error_code=None,
            duration_seconds=1,
            time_to_first_byte_seconds=1,
        )
        state.set(ATTEMPTS, (attempt, attempt))
        await send({"type": "http.response.start", "status": 200, "headers": [SSE]})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        timer.advance(0.25)
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        timer.advance(0.5)
        state.set(USAGE, Usage(input_uncached=5, input_cached=2, output_text=3))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    layer = AccessLogMiddleware(app, clock=lambda: 1_700_000_000.5, timer=timer)
    scope = http_scope(headers=[(b"x-request-id", b"trace-1"), (b"authorization", b"Bearer sk-1")])
    await call(layer, scope, body=PROMPT)
    (line,) = read(lines)
    assert line.pop("request_id").startswith("req_")
    assert {
        "event": "request",
        "timestamp": "2023-11-14T22:13:20.500Z",
        "client_request_id": "trace-1",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "outcome": "complete",
        "operation": "chat",
        "model": "fast",
        "provider": "openai",
        "upstream_model": "gpt-x-1",
        "attempts": 2,
        "stream": True,
        "duration_ms": 750.0,
        "time_to_first_byte_ms": 250.0,
        "bytes_in": len(PROMPT),
        "bytes_out": 24,
        "input_tokens": 7,
        "cached_tokens": 2,
        "output_tokens": 3,
        "usage_estimated": False,
        "translation_loss": "messages.name, seed, ...",
    } == line
    assert "secret" not in lines.getvalue()
    assert "sk-1" not in lines.getvalue()


async def test_who_called_and_what_the_limits_said(lines: io.StringIO) -> None:
    """By ids, never by the key; limits that let pass are not worth a word."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        _, state = enter(scope)
        state.set(PRINCIPAL, Principal(key_id="key_1", key_name="mine", team_id="team_1"))
        state.set(LIMIT_STATUS, LimitReport(scope["path"].rpartition("/")[2]))
        await answering(scope, receive, send)

    layer = AccessLogMiddleware(app)
    for verdict in ("would_refuse", "admitted"):
        await call(layer, http_scope("GET", f"/{verdict}"))
    found = [(line["key_id"], line["team_id"], line.get("limits")) for line in read(lines)]
    assert [("key_1", "team_1", "would_refuse"), ("key_1", "team_1", None)] == found


async def test_the_layer_needs_no_other(lines: io.StringIO) -> None:
    """Around any app: fields that nobody knows are left out."""
    await call(AccessLogMiddleware(answering), http_scope("GET", "/somewhere/else"))
    (line,) = read(lines)
    known = {"event", "timestamp", "request_id", "method", "route", "status", "outcome", "stream"}
    measured = {"duration_ms", "time_to_first_byte_ms", "bytes_in", "bytes_out"}
    assert known | measured == set(line)
    assert ("other", "complete", 6) == (line["route"], line["outcome"], line["bytes_out"])


async def test_an_announced_length_is_taken_as_it_is(lines: io.StringIO) -> None:
    """With a length in the header ``receive`` is handed on untouched; a wild one is not logged."""
    await call(AccessLogMiddleware(answering), http_scope(headers=[(b"content-length", b"3")]))
    await call(AccessLogMiddleware(answering), http_scope(headers=[(b"content-length", b"9" * 40)]))
    first, second = read(lines)
    assert (3, False) == (first["bytes_in"], "bytes_in" in second)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RateLimitError("Later."), 429, "rate_limit_exceeded"),
        (ValueError("my secret"), 500, "internal_error"),
        (ConfigurationError("my secret"), 500, "internal_error"),
    ],
)
async def test_an_exception_is_logged_with_the_status_it_will_get(
    error: Exception, status: int, code: str, lines: io.StringIO
) -> None:
    """An error that passes is on the line, by its code alone, and goes on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    with pytest.raises(type(error)):
        await call(AccessLogMiddleware(app))
    (line,) = read(lines)
    assert (status, code, "failed") == (line["status"], line["error"], line["outcome"])
    assert "secret" not in lines.getvalue()


async def test_a_failure_inside_a_whole_response_is_a_failure(lines: io.StringIO) -> None:
    """A stream that ended with an error event did not succeed, though all of it was sent."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        state.set(FAILURE, RateLimitError("Later."))
        await answering(scope, receive, send)

    await call(AccessLogMiddleware(app))
    (line,) = read(lines)
    assert ("failed", "rate_limit_exceeded") == (line["outcome"], line["error"])
    assert 200 == line["status"]


async def test_a_client_that_leaves_is_on_the_line(lines: io.StringIO) -> None:
    """What was sent until then counts, and the outcome says why it ended."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [SSE]})
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        await receive()

    async with Exchange(AccessLogMiddleware(app)) as exchange:
        await exchange.next_chunk()
        exchange.disconnect()
        await exchange.finish()
    (line,) = read(lines)
    assert ("disconnected", 10) == (line["outcome"], line["bytes_out"])


async def test_a_cancelled_request_has_its_line(lines: io.StringIO) -> None:
    """A server that cancels does not make a request vanish from the log."""
    waiting = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(call(AccessLogMiddleware(app)))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "disconnected" == read(lines)[0]["outcome"]


ABUSE = [
    "gpt\n{\"event\": \"forged\"}",
    "gpt\r\x1b[2Kadmin",
    "gpt\x00\x7f\x9b31m",
    "gpt\u2028\u2029\u202eabc\u2066",
    '"}, {"x": "',
    "%s {} ${jndi:x}",
    "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("model", ABUSE)
async def test_a18_no_value_breaks_out_of_its_line(
    model: str, format: Any, lines: io.StringIO
) -> None:
    """One line a request whatever a client sends, without control or direction characters."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        state.set(REQUEST_MODEL, model)
        await answering(scope, receive, send)

    scope = http_scope(
        "GET\n", "/\n", headers=[(b"x-request-id", b"a\nb"), (b"user-agent", b"\x1b")]
    )
    await call(AccessLogMiddleware(app, format=format), scope)
    text = lines.getvalue()
    assert (1, text.rstrip("\n") + "\n") == (text.count("\n"), text)
    assert all(character.isprintable() for character in text[:-1])
    assert len(text) < 1000
    if format == "json":
        logged = json.loads(text)["model"]
        assert logged.startswith("gpt") or logged[:10] == model[:10]


async def test_the_console_format_is_for_people(lines: io.StringIO) -> None:
    """Names and values in a row."""
    await call(AccessLogMiddleware(answering, format="console"))
    assert "status=200" in lines.getvalue()
    assert "route=/v1/chat/completions" in lines.getvalue()


def test_an_unknown_format_is_refused() -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as refused:
        AccessLogMiddleware(answering, format="xml")  # type: ignore[arg-type]
    assert "format" == refused.value.param


async def test_a_disabled_logger_costs_nothing() -> None:
    """Nobody listens: scope, receive and send pass as the same objects; so do other scopes."""
    seen: list[tuple[Any, ...]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    logger = logging.getLogger("test.access.disabled")
    logger.setLevel(logging.WARNING)
    await check_identity(AccessLogMiddleware(app, logger=logger), http_scope(), receive, send, seen)
    logger.setLevel(logging.INFO)
    for kind in ("websocket", "lifespan"):
        layer = AccessLogMiddleware(app, logger=logger)
        await check_identity(layer, {"type": kind}, receive, send, seen)


async def check_identity(
    layer: ASGIApp, scope: Scope, receive: Receive, send: Send, seen: list[tuple[Any, ...]]
) -> None:
    await layer(scope, receive, send)
    given = seen.pop()
    assert (given[0] is scope, given[1] is receive, given[2] is send) == (True, True, True)


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (
            Cost(
                amount_usd=Decimal("0.003215"),
                source=PriceSource(table="genai-prices", version="0.2.3", row="openai/gpt-4o"),
            ),
            {"cost_usd": 0.003215, "price_source": "genai-prices 0.2.3 openai/gpt-4o"},
        ),
        (
            Cost(amount_usd=Decimal(0), estimated=True),
            {"cost_usd": 0.0, "cost_estimated": True},
        ),
        (Cost(amount_usd=None, unknown="no_price"), {"cost_unknown": "no_price"}),
    ],
)
async def test_the_cost_and_where_its_price_is_from_are_told(
    lines: io.StringIO, cost: Cost, expected: dict[str, Any]
) -> None:
    """A number; one that is not known has its reason, and is never zero."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        enter(scope)[1].set(COST, cost)
        await answering(scope, receive, send)

    await call(AccessLogMiddleware(app), http_scope(), body=PROMPT)
    (line,) = read(lines)
    names = ("cost_usd", "cost_unknown", "cost_estimated", "price_source")
    assert expected == {name: line[name] for name in names if name in line}

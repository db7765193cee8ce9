"""Each request is counted once, as what it was, against what a scripted upstream really served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import fastapi
import msgspec
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm.errors import ConfigurationError, RateLimitError
from asgi_llm.integrations.prometheus import PrometheusMetrics
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.middleware.telemetry import TelemetryMiddleware
from asgi_llm.pricing import PriceTable
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.openai import OpenAI
from asgi_llm.state import ATTEMPTS, REQUEST_MODEL, VERDICTS, State, enter
from asgi_llm.testing import (
    Close,
    Exchange,
    ManualClock,
    Recorder,
    Reply,
    Upstream,
    Wait,
    call,
    chat_answer,
    chat_events,
    error_answer,
    http_scope,
    json_reply,
    sse_reply,
)
from asgi_llm.types import Attempt, Deployment, Verdict
from tests.middleware.telemetry.figures import Figures, figures_of

PRICES = PriceTable(overrides={"*": {"*": {"input": 1, "output": 10}}})
ALIASES = {"fast": Deployment(provider="up", model="gpt-4o")}


class World:
    """A stack with telemetry outermost, over one provider behind a scripted upstream."""

    def __init__(self, upstream: Upstream, *inside: Callable[[ASGIApp], ASGIApp]) -> None:
        self.upstream = upstream
        self.metrics = PrometheusMetrics()
        self.provider = OpenAI(name="up", api_key="k", base_url=f"{upstream.url}/v1")
        self.inner = ProviderApp([self.provider], models=ALIASES)
        stack: ASGIApp = self.inner
        for layer in reversed(inside):
            stack = layer(stack)
        self.app = TelemetryMiddleware(
            stack, metrics=self.metrics, models=["fast"], providers=["up"], max_models=3
        )

    async def ask(self, model: str = "fast", **fields: Any) -> Recorder:
        """One chat."""
        return await call(self.app, http_scope(), json=chat(model, **fields))

    @property
    def figures(self) -> Figures:
        """What is told now."""
        return figures_of(self.metrics)


def chat(model: str = "fast", **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello there."}]
    return {"model": model, "messages": messages, "temperature": 0, **fields}


@asynccontextmanager
async def world(
    *replies: Reply, inside: tuple[Callable[[ASGIApp], ASGIApp], ...] = ()
) -> AsyncIterator[World]:
    async with Upstream() as upstream:
        upstream.script(*replies)
        made = World(upstream, *inside)
        try:
            yield made
        finally:
            await made.inner.aclose()


def cost(app: ASGIApp) -> ASGIApp:
    return CostMiddleware(app, prices=PRICES)


async def test_requests_tokens_and_cost_are_what_the_upstream_served() -> None:
    """Answers and streams of several sizes: counts, tokens and USD add up to its ledger."""
    texts = ["one", "one two three", "one two three four five six"]
    replies = [json_reply(chat_answer(text)) for text in texts]
    replies += [sse_reply(chat_events(text)) for text in texts]
    async with world(*replies, inside=(cost,)) as one:
        for _ in texts:
            await one.ask()
        for _ in texts:
            await one.ask(stream=True)
        figures = one.figures
        served = len(one.upstream.ledger)
    labels = {"model": "fast", "provider": "up"}
    assert 6.0 == served
    assert served == figures("llm_requests_total", **labels, status="200", cache_status="none")
    assert served == figures("llm_request_duration_seconds_count", **labels)
    assert served == figures("llm_provider_api_duration_seconds_count", provider="up")
    assert 3.0 == figures("llm_time_to_first_token_seconds_count", **labels)
    # The kit's answers report 9 tokens of input, and a token for each word.
    output = 2 * (1 + 3 + 6)
    assert 54.0 == figures("llm_token_count_sum", model="fast", type="input_uncached")
    assert output == figures("llm_token_count_sum", model="fast", type="output_text")
    assert {"input_uncached", "output_text"} == figures.values_of("type")
    usd = (Decimal(54) + 10 * output) / 1_000_000
    told = figures("llm_cost_usd_total", model="fast")
    assert told is not None
    assert usd == pytest.approx(Decimal(told))
    assert 0.0 == figures("llm_active_requests")


async def test_a_bucket_of_usage_is_a_type_of_its_own() -> None:
    """Cached tokens and reasoning are not counted a second time in the others."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    async with world(json_reply(chat_answer("x", usage=usage))) as one:
        await one.ask()
        figures = one.figures
    sums = {
        kind: figures("llm_token_count_sum", model="fast", type=kind)
        for kind in figures.values_of("type")
    }
    assert sums == {
        "input_uncached": 40.0,
        "input_cached": 60.0,
        "output_text": 30.0,
        "reasoning": 20.0,
    }


async def test_failures_are_counted_by_their_status() -> None:
    """An upstream's refusal, its failure, a model that is none, a body that is no JSON."""
    async with world(error_answer(422), error_answer(500)) as one:
        statuses = [(await one.ask()).status, (await one.ask()).status]
        statuses.append((await one.ask("nobody/knows")).status)
        headers = [(b"content-type", b"application/json")]
        statuses.append((await call(one.app, http_scope(headers=headers), body=b"{")).status)
        figures = one.figures
    names = [("fast", "up"), ("fast", "up"), ("other", "none"), ("none", "none")]
    for status, (model, provider) in zip(statuses, names, strict=True):
        assert status >= 400
        assert 1.0 == figures(
            "llm_requests_total",
            model=model,
            provider=provider,
            status=str(status),
            cache_status="none",
        )
    assert 4.0 == figures.sum("llm_requests_total")
    assert {} == figures.all("llm_token_count_sum")


async def test_a_stream_that_breaks_off_has_the_failures_status() -> None:
    """It began with 200; what is counted is what became of it."""
    events = chat_events("one two three")
    async with world(sse_reply([events[0], events[1], Close()])) as one:
        answer = await one.ask(stream=True)
        figures = one.figures
    assert 200 == answer.status
    assert b'"error"' in answer.body
    (place,) = figures.all("llm_requests_total")
    assert "502" == dict(place)["status"]


@pytest.mark.parametrize("messages", [0, 2])
async def test_a_client_that_leaves_is_counted_as_499(messages: int) -> None:
    """Before the answer has begun, and in the middle of a stream; nothing stays under way."""
    stuck = [Wait(asyncio.Event())]
    events = chat_events("one two three")
    reply = sse_reply([*events[:2], *stuck] if messages else stuck)
    headers = [(b"content-type", b"application/json")]
    async with world(reply) as one:
        body = msgspec.json.encode(chat(stream=True))
        async with Exchange(one.app, http_scope(headers=headers), body=body) as exchange:
            await one.upstream.until(lambda: len(one.upstream.ledger) == 1)
            for _ in range(messages):
                await exchange.next_message()
            assert 1.0 == one.figures("llm_active_requests")
            await exchange.until_receiving()
            exchange.disconnect()
            await exchange.finish()
        figures = one.figures
    assert 1.0 == figures.sum("llm_requests_total", status="499", model="fast", provider="up")
    assert 1.0 == figures.sum("llm_requests_total")
    assert 0.0 == figures("llm_active_requests")


async def test_hits_are_hits_and_cost_no_tokens() -> None:
    """A stored answer has its model, no provider, and no usage; a miss has all three."""

    def cache(app: ASGIApp) -> ASGIApp:
        return ExactCacheMiddleware(app, without_principal="share")

    async with world(json_reply(chat_answer("one two")), inside=(cache,)) as one:
        for _ in range(4):
            await one.ask()
        figures = one.figures
        assert 1 == len(one.upstream.ledger)
    hit = {"cache_status": "hit", "provider": "none"}
    miss = {"cache_status": "miss", "provider": "up"}
    assert 3.0 == figures("llm_requests_total", model="fast", status="200", **hit)
    assert 1.0 == figures("llm_requests_total", model="fast", status="200", **miss)
    assert 3.0 == figures("llm_cache_hits_total", cache_type="exact")
    assert 1.0 == figures("llm_cache_misses_total")
    assert 2.0 == figures("llm_token_count_sum", model="fast", type="output_text")
    assert 1.0 == figures("llm_provider_api_duration_seconds_count", provider="up")


async def test_limits_are_counted_and_a_refusal_knows_its_model() -> None:
    """Two of three requests are within the limit; the third has never reached a provider."""

    def limits(app: ASGIApp) -> ASGIApp:
        limits = ["2 requests/minute", "1000000 tokens/minute"]
        return RateLimitMiddleware(app, limits=limits)

    async with world(json_reply(chat_answer("x")), inside=(limits,)) as one:
        assert [200, 200, 429] == [(await one.ask()).status for _ in range(3)]
        figures = one.figures
    assert 3.0 == figures("llm_rate_limit_checks_total")
    assert 1.0 == figures("llm_rate_limit_exceeded_total")
    assert 1.0 == figures(
        "llm_requests_total", model="fast", provider="none", status="429", cache_status="none"
    )


def app_of(
    tell: Callable[[State], None] = lambda _: None,
    *,
    status: int = 200,
    error: BaseException | None = None,
) -> ASGIApp:
    """Tells something in the state, then answers, or raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tell(enter(scope)[1])
        if error is not None:
            raise error
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


async def test_every_attempt_is_timed() -> None:
    """A request that was tried at two providers is one request and two calls."""

    def attempt(provider: str, status: int | None, seconds: float) -> Attempt:
        return Attempt(
            provider=provider,
            model="m",
            status=status,
            error_code=None if status == 200 else "down",
            duration_seconds=seconds,
            time_to_first_byte_seconds=None,
        )

    def tell(state: State) -> None:
        state.set(ATTEMPTS, (attempt("a", None, 3.0), attempt("b", 200, 0.75)))
        state.set(REQUEST_MODEL, "m")

    metrics = PrometheusMetrics()
    await call(TelemetryMiddleware(app_of(tell), metrics=metrics), json={})
    figures = figures_of(metrics)
    assert 3.0 == figures("llm_provider_api_duration_seconds_sum", provider="a")
    assert 0.75 == figures("llm_provider_api_duration_seconds_sum", provider="b")
    assert 1.0 == figures(
        "llm_requests_total", model="m", provider="b", status="200", cache_status="none"
    )


async def test_verdicts_are_counted_by_guard_and_action() -> None:
    """What is only observed is told as that, whatever would have become of it."""

    def verdict(guard: str, action: Any, *, enforced: bool = True) -> Verdict:
        return Verdict(
            guard=guard,
            action=action,
            category="pii.email",
            score=1.0,
            reason="",
            direction="input",
            path="messages[0].content",
            enforced=enforced,
        )

    def tell(state: State) -> None:
        found = (
            verdict("pii", "redact"),
            verdict("pii", "redact"),
            verdict("words", "block", enforced=False),
        )
        state.set(VERDICTS, found)

    metrics = PrometheusMetrics()
    await call(TelemetryMiddleware(app_of(tell), metrics=metrics), json={})
    figures = figures_of(metrics)
    assert 2.0 == figures("llm_guardrail_verdicts_total", guard="pii", action="redact")
    assert 1.0 == figures("llm_guardrail_verdicts_total", guard="words", action="observe")
    assert 3.0 == figures.sum("llm_guardrail_verdicts_total")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("a bug"), "500"),
        (ConfigurationError("hidden"), "500"),
        (RateLimitError("slow down"), "429"),
        (ClientDisconnect(), "499"),
        (asyncio.CancelledError(), "499"),
    ],
)
async def test_an_exception_that_passes_is_counted(error: BaseException, status: str) -> None:
    """As what whoever stands outside will make of it, and it passes as it is."""
    metrics = PrometheusMetrics()
    layer = TelemetryMiddleware(app_of(error=error), metrics=metrics)
    with pytest.raises(type(error)):
        await layer(http_scope(), no_message, no_message)
    figures = figures_of(metrics)
    assert 1.0 == figures.sum("llm_requests_total", status=status)
    assert 0.0 == figures("llm_active_requests")


async def no_message(*_: Any) -> Any:
    raise AssertionError("nothing is sent or received here")


@pytest.mark.parametrize(("status", "label"), [(418, "4xx"), (599, "5xx"), (299, "2xx")])
async def test_an_odd_status_is_its_class(status: int, label: str) -> None:
    """However many statuses an upstream makes up, they are few values."""
    metrics = PrometheusMetrics()
    await call(TelemetryMiddleware(app_of(status=status), metrics=metrics), json={})
    assert 1.0 == figures_of(metrics).sum("llm_requests_total", status=label)


async def test_times_are_those_of_the_timer() -> None:
    """From the arrival to the first event, and to the last byte."""
    clock = ManualClock()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        clock.advance(0.25)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        clock.advance(0.5)
        await send({"type": "http.response.body", "body": b"data: a\n\n", "more_body": True})
        clock.advance(2)
        await send({"type": "http.response.body", "body": b"data: b\n\n"})

    metrics = PrometheusMetrics()
    await call(TelemetryMiddleware(app, metrics=metrics, timer=clock), json={})
    figures = figures_of(metrics)
    labels = {"model": "none", "provider": "none"}
    assert 0.75 == figures("llm_time_to_first_token_seconds_sum", **labels)
    assert 2.75 == figures("llm_request_duration_seconds_sum", **labels)
    buckets = "llm_time_to_first_token_seconds_bucket"
    # A value on a border belongs below it.
    assert (0.0, 1.0) == (
        figures(buckets, **labels, le="0.5"),
        figures(buckets, **labels, le="0.75"),
    )


async def test_only_posts_to_models_are_counted() -> None:
    """Health checks, lists, pages and other methods are none of its business."""
    metrics = PrometheusMetrics()
    layer = TelemetryMiddleware(app_of(), metrics=metrics)
    for method, path in [
        ("GET", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("POST", "/v1/models"),
        ("GET", "/health/ready"),
        ("GET", "/metrics"),
        ("POST", "/admin/keys"),
        ("POST", "/"),
    ]:
        await call(layer, http_scope(method=method, path=path))
    assert 0.0 == figures_of(metrics).sum("llm_requests_total")
    await call(layer, http_scope(path="/host/v1/embeddings", root_path="/host"))
    assert 1.0 == figures_of(metrics).sum("llm_requests_total")


def endpoint() -> fastapi.FastAPI:
    """A plain endpoint of somebody's own, in OpenAI's form."""
    host = fastapi.FastAPI()

    @host.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: dict[str, Any]) -> Any:
        if not body.get("stream"):
            return chat_answer("one two three", model="mine")
        events = chat_events("one two", model="mine")
        pieces = [f"data: {msgspec.json.encode(event).decode()}\n\n" for event in events]
        return fastapi.responses.StreamingResponse(
            iter([*pieces, "data: [DONE]\n\n"]), media_type="text/event-stream"
        )

    return host


async def test_around_a_plain_endpoint_the_answer_tells() -> None:
    """Where no layer of ours is inside, model and usage are read from what passes."""
    metrics = PrometheusMetrics()
    app = TelemetryMiddleware(endpoint(), metrics=metrics)
    await call(app, json=chat("x"))
    await call(app, json=chat("x", stream=True))
    figures = figures_of(metrics)
    assert 2.0 == figures(
        "llm_requests_total", model="mine", provider="none", status="200", cache_status="none"
    )
    assert 18.0 == figures("llm_token_count_sum", model="mine", type="input_uncached")
    assert 5.0 == figures("llm_token_count_sum", model="mine", type="output_text")
    assert 1.0 == figures("llm_time_to_first_token_seconds_count", model="mine", provider="none")


@pytest.mark.parametrize(
    ("body", "media", "model"),
    [
        (b'{"id":"x","model":"m-1","choices":[]}', b"application/json; charset=utf-8", "m-1"),
        (b'{ "model" : "m-1" }', b"application/json", "m-1"),
        (b'data: {"model":"m-1"}\n\n', b"text/event-stream", "m-1"),
        (b'{"text":"he said \\"model\\":\\"evil\\""}', b"application/json", "none"),
        (b'{"model":null,"x":"evil"}', b"application/json", "none"),
        (b'{"model":"a\\u0062"}', b"application/json", "none"),
        (b'{"model":"\xc3\xa9"}', b"application/json", "none"),
        (b'{"model":"m', b"application/json", "none"),
        (b'{"model":"m x"}', b"application/json", "other"),
        (b'"model":"m-1"', b"audio/mpeg", "none"),
        (b"[" + b" " * 5000 + b'{"model":"m-1"}]', b"application/json", "none"),
        (b"", b"application/json", "none"),
    ],
)
async def test_what_a_foreign_answer_calls_its_model(body: bytes, media: bytes, model: str) -> None:
    """It is read from the beginning alone, as it is written there."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", media)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    metrics = PrometheusMetrics()
    await call(TelemetryMiddleware(app, metrics=metrics), json={})
    assert {model} == figures_of(metrics).values_of("model")


async def test_a_cost_that_is_not_known_is_told_as_that() -> None:
    """It is no cost of zero."""

    def unpriced(app: ASGIApp) -> ASGIApp:
        return CostMiddleware(app, prices=PriceTable(overrides={}), unknown_price="flag")

    async with world(json_reply(chat_answer("x", model="zzz")), inside=(unpriced,)) as one:
        await one.ask("up/zzz-unheard-of")
        figures = one.figures
    assert 1.0 == figures.sum("llm_cost_unknown_total", cause="no_price")
    assert {} == figures.all("llm_cost_usd_total")


@pytest.mark.parametrize("option", ["max_models", "max_users"])
def test_a_negative_bound_is_refused(option: str) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=option):
        TelemetryMiddleware(app_of(), metrics=PrometheusMetrics(), **{option: -1})  # type: ignore[arg-type]

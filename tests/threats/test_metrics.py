"""Names that a client makes up make no series, whatever it sends and however often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from asgi_llm.gateway.build import load_gateway
from asgi_llm.gateway.compose import compose
from asgi_llm.gateway.metrics import MetricsEndpoint
from asgi_llm.integrations.prometheus import PrometheusMetrics
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.middleware.telemetry import TelemetryMiddleware
from asgi_llm.pricing import PriceTable
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.echo import Echo
from asgi_llm.providers.openai import OpenAI
from asgi_llm.testing import Upstream, call, chat_answer, error_answer, http_scope, json_reply
from asgi_llm.testing.serving import serve
from asgi_llm.types import Principal
from tests.middleware.telemetry.figures import Figures, figures_of
from tests.threats.conftest import read_answer

MANY = 10_000
CONNECTIONS = 8
DEADLINE_SECONDS = 120
PRICES = PriceTable(overrides={"*": {"*": {"input": 1, "output": 1}}})


def chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}]}


async def flood(url: str, requests: Iterable[tuple[str, str]]) -> set[int]:
    """Send a chat for each model and key over a few real connections; the statuses that came."""
    waiting = iter(list(requests))
    statuses: set[int] = set()

    async def send_some() -> None:
        port = int(url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for model, key in waiting:
            body = json.dumps(chat(model)).encode()
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
                b"content-type: application/json\r\nauthorization: Bearer %b\r\n"
                b"content-length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
            )
            statuses.add((await read_answer(reader)).status)
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(*(send_some() for _ in range(CONNECTIONS)))
    return statuses


async def ask(app: ASGIApp, model: str, **headers: str) -> int:
    """One chat in process, by a client that never leaves; the status that came."""
    incoming = [{"type": "http.request", "body": json.dumps(chat(model)).encode()}]
    sent: list[Any] = []

    async def receive() -> Any:
        return incoming.pop() if incoming else await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [("content-type", "application/json"), *headers.items()]
    await app(http_scope(headers=pairs), receive, send)
    return int(sent[0]["status"])


async def told(url: str) -> Figures:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{url}/metrics")
    assert 200 == answer.status_code
    return Figures(answer.text)


def count(figures: Figures) -> int:
    return len(figures.samples)


async def test_a19_ten_thousand_model_names_add_no_series() -> None:
    """A provider answers all of them; what is above the cap is one value more, and no further."""
    metrics = PrometheusMetrics()
    app = TelemetryMiddleware(
        ProviderApp([Echo()]), metrics=metrics, models=["echo/echo"], max_models=5
    )
    for number in range(6):
        assert 200 == await ask(app, f"echo/made-up-{number}")
    assert 200 == await ask(app, "echo/echo")
    full = count(figures_of(metrics))
    for number in range(MANY):
        assert 200 == await ask(app, f"echo/other-{number}")
    figures = figures_of(metrics)
    assert full == count(figures)
    assert {*(f"echo/made-up-{number}" for number in range(5)), "echo/echo", "other"} == (
        figures.values_of("model")
    )
    assert MANY + 1 == figures.sum("llm_requests_total", model="other")


async def test_a19_ten_thousand_model_names_over_a_socket() -> None:
    """Half of them are answered and half are none at all; the gateway tells as many as it may."""
    gateway = load_gateway(
        {
            "providers": {"e": {"type": "echo"}},
            "stack": [{"telemetry": {"max_models": 3}}],
        }
    )
    async with serve(gateway) as url:
        known = [(f"e/known-{number}", "none") for number in range(4)]
        assert {200} == await flood(url, known)
        assert {404} == await flood(url, [("nobody/knows", "none")])
        full = count(await told(url))
        made_up = ((f"{'e' if n % 2 else 'x'}/n-{n}", "none") for n in range(MANY))
        assert {200, 404} == await flood(url, made_up)
        figures = await told(url)
    assert full == count(figures)
    assert {*(name for name, _ in known[:3]), "other"} >= figures.values_of("model")
    assert 4 == len(figures.values_of("model"))
    assert {"e", "none"} == figures.values_of("provider")
    assert MANY + 5 == figures.sum("llm_requests_total")


async def who(key: str) -> Principal:
    """Each key is another user's."""
    return Principal(key_id=key, user_id=f"user-{key}")


def users_stack(metrics: PrometheusMetrics) -> list[Middleware]:
    return [
        Middleware(TelemetryMiddleware, metrics=metrics, models=["echo/echo"], max_users=5),
        Middleware(AuthMiddleware, keys=who, public_paths=["/metrics"]),
        Middleware(CostMiddleware, prices=PRICES),
    ]


async def test_a19_ten_thousand_users_add_no_series() -> None:
    """As many as the option says are told apart, the others together."""
    metrics = PrometheusMetrics()
    app: ASGIApp = ProviderApp([Echo()])
    for cls, args, options in reversed(users_stack(metrics)):
        app = cls(app, *args, **options)
    full = 0
    for number in range(MANY):
        assert 200 == await ask(app, "echo/echo", authorization=f"Bearer key-{number}")
        if number == 5:
            full = count(figures_of(metrics))
    figures = figures_of(metrics)
    assert full == count(figures)
    assert {*(f"user-key-{number}" for number in range(5)), "other"} == (
        figures.values_of("user_id")
    )


async def test_a19_ten_thousand_users_over_a_socket() -> None:
    """The same with real connections, and the sum is what all of them cost."""
    metrics = PrometheusMetrics()
    endpoint = Middleware(MetricsEndpoint, exposition=metrics.exposition, refresh=lambda: None)
    gateway = compose([*users_stack(metrics), endpoint], ProviderApp([Echo()]))
    async with serve(gateway) as url:
        assert {200} == await flood(url, [("echo/echo", f"key-{n}") for n in range(6)])
        full = count(await told(url))
        assert {200} == await flood(url, [("echo/echo", f"more-{n}") for n in range(MANY)])
        figures = await told(url)
    assert full == count(figures)
    assert 6 == len(figures.values_of("user_id"))
    assert MANY + 6 == figures.sum("llm_requests_total")
    tokens = figures.sum("llm_token_count_sum")
    assert tokens / 1_000_000 == pytest.approx(figures.sum("llm_cost_usd_total"))


ODD = [
    "a\r\nllm_requests_total 9",
    "a\nllm_requests_total 9",
    'a",model="b',
    "a\\",
    "nul\0",
    "../../etc",
    "{}",
    "%s",
    "\u202emodel",
    "\u0430dmin",
    " ",
    "none",
    "other",
    "x" * 300,
    "x" * 100_000,
]


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
async def test_a17_an_odd_name_is_no_value(name: str) -> None:
    """It is none even where a provider answers it, and the exposition can still be read."""
    async with Upstream(lambda _: json_reply(chat_answer("x"))) as upstream:
        inner = ProviderApp([OpenAI(name="up", api_key="k", base_url=f"{upstream.url}/v1")])
        metrics = PrometheusMetrics()
        app = TelemetryMiddleware(inner, metrics=metrics)
        await call(app, http_scope(), json=chat(name))
        await call(app, http_scope(), json=chat(f"up/{name}"))
        await inner.aclose()
    figures = figures_of(metrics)
    fine = {"up/../../etc", "up/none", "up/other"}
    assert figures.values_of("model") - fine <= {"other", "none"}
    assert 2.0 == figures.sum("llm_requests_total")


async def test_a19_statuses_that_an_upstream_makes_up_are_few_values() -> None:
    """All of the 4xx come through, and the rare ones share a value."""
    statuses = range(400, 500)
    async with Upstream() as upstream:
        upstream.script(*(error_answer(status) for status in statuses))
        inner = ProviderApp([OpenAI(name="up", api_key="k", base_url=f"{upstream.url}/v1")])
        metrics = PrometheusMetrics()
        app = TelemetryMiddleware(inner, metrics=metrics)
        for _ in statuses:
            await call(app, http_scope(), json=chat("up/m"))
        await inner.aclose()
    figures = figures_of(metrics)
    assert len(statuses) == figures.sum("llm_requests_total")
    assert "4xx" in figures.values_of("status")
    assert len(figures.values_of("status")) < 20

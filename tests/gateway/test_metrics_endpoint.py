"""``/metrics``: who may read it, what it tells, and in which words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._reload_carried import Carried
from asgi_llm.gateway.build import build, load_gateway
from asgi_llm.gateway.config import load
from asgi_llm.gateway.metrics import MetricsEndpoint, Reading, Readings, ReadingsTask
from asgi_llm.integrations.prometheus import PrometheusMetrics
from asgi_llm.middleware._telemetry_metrics import LEDGER_PENDING, METRICS, STORE_ERRORS
from asgi_llm.stores.key_material import new_key
from asgi_llm.testing import Recorder, Upstream, call, http_scope, json_reply
from asgi_llm.testing.conformance import Check, checks
from tests.middleware.telemetry.figures import Figures, figures_of

MASTER, TOKEN, KEY = new_key(), new_key(), new_key()
CHAT = {"model": "e/echo", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}


def configuration(*stack: Any, **more: Any) -> dict[str, Any]:
    return {"providers": {"e": {"type": "echo"}}, "stack": list(stack), **more}


def auth(**options: Any) -> dict[str, Any]:
    return {"auth": {"keys": [{"name": "a", "key": KEY}], "database": False, **options}}


def scope(
    token: str | None = None, *, method: str = "GET", path: str = "/metrics", **more: Any
) -> Any:
    headers = more.pop("headers", [])
    if token is not None:
        headers = [*headers, ("authorization", f"Bearer {token}")]
    return http_scope(method=method, path=path, headers=headers, **more)


def code(answer: Recorder) -> str:
    return str(json.loads(answer.body)["error"]["code"])


REMOTE: dict[str, Any] = {"client": ("203.0.113.9", 1)}
RULES: dict[str, tuple[list[Any], Any, int]] = {
    "this machine, where nobody is asked for a key": ([{"telemetry": {}}], scope(), 200),
    "over IPv6": ([{"telemetry": {}}], scope(client=("::1", 1)), 200),
    "another machine": ([{"telemetry": {}}], scope(**REMOTE), 403),
    "a proxy on this machine": (
        [{"telemetry": {}}],
        scope(headers=[("x-forwarded-for", "203.0.113.9")]),
        403,
    ),
    "a socket without an address": ([{"telemetry": {}}], scope(client=None), 403),
    "public": ([{"telemetry": {"public": True}}], scope(**REMOTE), 200),
    "public, with keys": ([{"telemetry": {"public": True}}, auth()], scope(**REMOTE), 200),
    "no token, with keys": ([{"telemetry": {}}, auth()], scope(), 403),
    "a key is no token": ([{"telemetry": {}}, auth()], scope(KEY), 403),
    "the master key": ([{"telemetry": {}}, auth(master_key=MASTER)], scope(MASTER), 200),
    "from elsewhere too": (
        [{"telemetry": {}}, auth(master_key=MASTER)],
        scope(MASTER, **REMOTE),
        200,
    ),
    "nothing": ([{"telemetry": {}}, auth(master_key=MASTER)], scope(), 401),
    "a key in its place": ([{"telemetry": {}}, auth(master_key=MASTER)], scope(KEY), 401),
    "a token": ([{"telemetry": {"token": TOKEN}}], scope(TOKEN, **REMOTE), 200),
    "a token, with keys": ([{"telemetry": {"token": TOKEN}}, auth()], scope(TOKEN), 200),
    "no token here": ([{"telemetry": {"token": TOKEN}}], scope(), 401),
    "another token": ([{"telemetry": {"token": TOKEN}}], scope(TOKEN + "x"), 401),
    "the master key where a token is named": (
        [{"telemetry": {"token": TOKEN}}, auth(master_key=MASTER)],
        scope(MASTER),
        401,
    ),
    "another scheme": (
        [{"telemetry": {"token": TOKEN}}],
        scope(headers=[("authorization", f"Basic {TOKEN}")]),
        401,
    ),
    "two tokens": (
        [{"telemetry": {"token": TOKEN}}],
        scope(TOKEN, headers=[("authorization", f"Bearer {TOKEN}")]),
        401,
    ),
    "another method": ([{"telemetry": {}}], scope(method="POST"), 405),
    "another path": ([{"telemetry": {"path": "/own/figures"}}], scope(path="/own/figures"), 200),
    "not where it would be": ([{"telemetry": {"path": "/own"}}], scope(), 404),
    "no such layer": (["access_log"], scope(), 404),
}


@pytest.mark.parametrize("name", RULES)
async def test_who_may_read(name: str) -> None:
    """A token, else the master key, else this machine alone; and nothing is told in a refusal."""
    stack, asked, status = RULES[name]
    gateway = load_gateway(configuration(*stack))
    answer = await call(gateway, asked)
    await gateway.aclose()
    assert status == answer.status
    assert (b"llm_" in answer.body) == (status == 200)
    assert answer.header("x-request-id") is not None
    for secret in (MASTER, TOKEN, KEY):
        assert secret.encode() not in answer.body


@pytest.mark.parametrize(
    ("telemetry", "place"),
    [
        ({"token": "short"}, "stack[0].telemetry.token: it has fewer than 16 characters"),
        ({"token": TOKEN, "public": True}, "stack[0].telemetry.public: a token, or public"),
        ({"path": "/v1/chat/completions"}, "stack[0].telemetry.path: /v1 is taken"),
        ({"path": "/health"}, "stack[0].telemetry.path: /health is taken"),
        ({"path": "/a/../v1/models"}, "stack[0].telemetry.path: "),
        ({"path": "metrics"}, "stack[0].telemetry.path: "),
        ({"max_users": -1}, "stack[0].telemetry.max_users: "),
    ],
)
def test_a_wrong_option_is_named(telemetry: dict[str, Any], place: str) -> None:
    """With its place, and without the token; no path of the API can be opened by it."""
    with pytest.raises(ConfigurationError) as caught:
        load_gateway(configuration({"telemetry": telemetry}))
    assert caught.value.message.startswith(place)
    assert TOKEN not in caught.value.message


def test_metrics_that_nobody_can_read_are_noted() -> None:
    """``check`` says so before anyone looks for them."""
    note = "stack[0].telemetry: nobody may read the metrics: give it a token, or auth a master_key"
    assert (note,) == load(configuration({"telemetry": {}}, auth())).notes
    assert () == load(configuration({"telemetry": {}}, auth(master_key=MASTER))).notes


async def test_both_formats_tell_the_same() -> None:
    """Prometheus's own text by default, OpenMetrics where it is asked for; each is well-formed."""
    gateway = load_gateway(configuration("telemetry", "exact_cache"))
    for _ in range(3):
        assert 200 == (await call(gateway, json=CHAT)).status
    plain = await call(gateway, scope())
    wanted = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    other = await call(gateway, scope(headers=[("accept", wanted)]))
    unwanted = await call(gateway, scope(headers=[("accept", "application/openmetrics-text;q=0")]))
    head = await call(gateway, scope(method="HEAD"))
    await gateway.aclose()
    assert b"text/plain; version=0.0.4; charset=utf-8" == plain.header("content-type")
    assert (other.header("content-type") or b"").startswith(b"application/openmetrics-text; ")
    assert plain.header("content-type") == unwanted.header("content-type")
    assert (200, b"") == (head.status, head.body)
    assert b"no-store" == plain.header("cache-control")
    figures = Figures(plain.body.decode())
    assert figures.samples == Figures(other.body.decode(), openmetrics=True).samples
    assert 3.0 == figures.sum("llm_requests_total")
    # Nothing but what is promised, and each with a word on what it is.
    assert {name for name in figures.families if not name.startswith("llm_")} == set()
    assert "" not in figures.helps.values()
    assert {*figures.families} <= {metric.name.removesuffix("_total") for metric in METRICS}


async def test_the_gateways_own_paths_are_no_requests() -> None:
    """Nor is the scrape itself."""
    gateway = load_gateway(configuration("telemetry"))
    for path in ("/health", "/health/live", "/health/ready", "/v1/models", "/docs", "/metrics"):
        assert 200 == (await call(gateway, scope(path=path))).status
    figures = Figures((await call(gateway, scope())).body.decode())
    await gateway.aclose()
    assert 0.0 == figures.sum("llm_requests_total")
    assert 0.0 == figures("llm_active_requests")


async def test_what_stores_and_the_ledger_count_is_told(tmp_path: Path) -> None:
    """A Redis that is not there makes errors of both who ask it, and rows wait for nobody."""
    layers = [
        "telemetry",
        {"rate_limit": {"limits": ["100 requests/minute"]}},
        {"cost": {"budget_store": "database"}},
        {"exact_cache": {"without_principal": "share", "store": "redis"}},
    ]
    storage = {
        "database": f"sqlite:///{tmp_path}/gateway.db",
        "redis": "redis://127.0.0.1:1/0",
    }
    gateway = load_gateway(configuration(*layers, storage=storage))
    async with gateway.lifespan():
        for _ in range(2):
            assert 200 == (await call(gateway, json=CHAT)).status
        figures = Figures((await call(gateway, scope())).body.decode())
    lookups = figures("llm_cache_lookup_duration_seconds_count", cache_type="exact")
    assert (lookups or 0) >= 1
    errors = "llm_store_errors_total"
    assert (figures(errors, store="limits", layer="rate_limit") or 0) >= 1
    assert (figures(errors, store="answers", layer="exact_cache") or 0) >= 1
    assert 0.0 == figures(errors, store="budgets", layer="cost")
    assert figures("llm_ledger_pending") is not None
    assert 2.0 == figures("llm_rate_limit_checks_total")


async def test_figures_go_on_when_the_configuration_changes() -> None:
    """Counts, and the names that were learned, outlive the gateway that began them."""
    carried = Carried()
    mapping = configuration({"telemetry": {"max_models": 1}})
    first = build(load(mapping), hold=carried.hold()).gateway
    second = build(load(mapping | {"server": {"docs": False}}), hold=carried.hold()).gateway
    for gateway, model in ((first, "e/one"), (second, "e/one"), (second, "e/two")):
        assert 200 == (await call(gateway, json=CHAT | {"model": model})).status
    await first.aclose()
    figures = Figures((await call(second, scope())).body.decode())
    await second.aclose()
    assert 2.0 == figures.sum("llm_requests_total", model="e/one")
    assert 1.0 == figures.sum("llm_requests_total", model="other")


async def test_embeddings_of_the_semantic_cache_are_timed() -> None:
    """One value for each call of the embedder."""

    def vectors(request: Any) -> Any:
        texts = json.loads(request.body)["input"]
        data = [{"index": i, "embedding": [1.0, 0.5, 0.25]} for i, _ in enumerate(texts)]
        return json_reply({"data": data, "model": "m", "usage": {"prompt_tokens": 1}})

    async with Upstream(vectors) as upstream:
        embedder = {"http": {"base_url": f"{upstream.url}/v1", "model": "m"}}
        semantic = {"embedder": embedder, "without_principal": "share"}
        gateway = load_gateway(configuration("telemetry", {"semantic_cache": semantic}))
        async with gateway.lifespan():
            assert 200 == (await call(gateway, json=CHAT)).status
            figures = Figures((await call(gateway, scope())).body.decode())
        calls = len(upstream.ledger)
    assert calls >= 1
    assert calls == figures("llm_embedding_generation_duration_seconds_count")
    assert 1.0 == figures("llm_cache_lookup_duration_seconds_count", cache_type="semantic")
    assert 0.0 == figures(
        "llm_store_errors_total", store="index_or_embedder", layer="semantic_cache"
    )


# What others keep


def told(metrics: PrometheusMetrics) -> Callable[..., float | None]:
    return figures_of(metrics)


def test_readings_follow_what_they_read() -> None:
    """Counters by what was added, gauges both ways; both are told while they are zero."""
    metrics = PrometheusMetrics()
    readings = Readings(metrics)
    values = {"errors": 0.0, "pending": 0.0}
    sources = [
        Reading(STORE_ERRORS, ("s", "l"), lambda: values["errors"]),
        Reading(LEDGER_PENDING, (), lambda: values["pending"]),
    ]
    turn = readings.next_turn()
    for errors, pending in [(0, 0), (3, 7), (3, 2), (5, 0)]:
        values.update(errors=errors, pending=pending)
        readings.refresh(sources, turn)
        assert errors == told(metrics)("llm_store_errors_total", store="s", layer="l")
        assert pending == told(metrics)("llm_ledger_pending")


def test_readings_of_a_new_configuration_take_the_place_of_the_old() -> None:
    """A counter that begins anew goes on; a gauge that is gone is zero; the old is not heard."""
    metrics = PrometheusMetrics()
    readings = Readings(metrics)
    old = [
        Reading(STORE_ERRORS, ("s", "l"), lambda: 5.0),
        Reading(LEDGER_PENDING, (), lambda: 7.0),
    ]
    new = [Reading(STORE_ERRORS, ("s", "l"), lambda: 2.0)]
    first, second = readings.next_turn(), readings.next_turn()
    readings.refresh(old, first)
    readings.refresh(new, second)
    readings.refresh(old, first)
    readings.refresh(new, second)
    assert 7.0 == told(metrics)("llm_store_errors_total", store="s", layer="l")
    assert 0.0 == told(metrics)("llm_ledger_pending")


async def test_a_task_copies_for_those_who_are_not_asked() -> None:
    """From the start to the end, and once more at the end."""
    copied = 0
    again = asyncio.Event()

    def refresh() -> None:
        nonlocal copied
        copied += 1
        again.set()

    task = ReadingsTask(refresh, seconds=0.001)
    await task.aclose()
    assert 0 == copied
    task.start()
    task.start()
    async with asyncio.timeout(5):
        await again.wait()
    before = copied
    await task.aclose()
    await task.aclose()
    assert before + 1 == copied


# The driver


def test_one_metric_is_one_metric() -> None:
    """Whoever asks for it; with other labels it is refused, as is one of somebody else's."""
    metrics = PrometheusMetrics()
    metrics.instrument(LEDGER_PENDING)(())(2)
    metrics.instrument(LEDGER_PENDING)(())(1)
    assert 3.0 == told(metrics)("llm_ledger_pending")
    with pytest.raises(ConfigurationError, match="with other labels"):
        metrics.instrument(type(LEDGER_PENDING)(kind="gauge", name="llm_ledger_pending", help="x"))
    registry = CollectorRegistry()
    Counter("llm_store_errors_total", "Somebody's own.", registry=registry)
    with pytest.raises(ConfigurationError, match="has a llm_store_errors_total already"):
        PrometheusMetrics(registry).instrument(STORE_ERRORS)


def test_a_registry_of_the_hosts_is_told_as_well() -> None:
    """Its own metrics stand beside ours."""
    registry = CollectorRegistry()
    Counter("own_total", "Somebody's own.", registry=registry).inc(4)
    metrics = PrometheusMetrics(registry)
    metrics.instrument(LEDGER_PENDING)(())(1)
    assert 4.0 == told(metrics)("own_total")
    assert 1.0 == told(metrics)("llm_ledger_pending")


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_the_endpoint_keeps_the_promises_of_a_layer(check: Check) -> None:
    """Everything but its path passes untouched."""
    metrics = PrometheusMetrics()
    await check(
        lambda app: MetricsEndpoint(app, exposition=metrics.exposition, refresh=lambda: None)
    )


@pytest.mark.parametrize("path", ["", "/", "metrics", "/metrics/", "/a//b", "/a?b", "/a/../b"])
def test_an_odd_path_is_refused(path: str) -> None:
    """It would never be asked for, or open another."""
    with pytest.raises(ConfigurationError, match="no plain path"):
        MetricsEndpoint(load_gateway, exposition=lambda _: ("", b""), refresh=int, path=path)  # type: ignore[arg-type]

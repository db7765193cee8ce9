from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import asgi_llm
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.health import Check, Health
from asgi_llm.gateway.openapi import document, route_template
from asgi_llm.gateway.system import SystemMiddleware
from asgi_llm.testing import Recorder, call, http_scope, websocket_scope

SYSTEM_PATHS = ("/health", "/health/live", "/health/ready", "/openapi.json", "/docs")


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def layer(app: ASGIApp = inside, health: Health | None = None, **options: Any) -> SystemMiddleware:
    return SystemMiddleware(app, health=health or Health(), **options)


async def get(app: ASGIApp, path: str, **extra: Any) -> Recorder:
    return await call(app, http_scope("GET", path, **extra))


@pytest.mark.parametrize("path", SYSTEM_PATHS)
async def test_each_endpoint_answers_get_and_head(path: str) -> None:
    """HEAD has the headers of GET and no body; each answer names its request."""
    app = layer()
    answer = await get(app, path)
    head = await call(app, http_scope("HEAD", path))
    assert (200, 200, b"") == (answer.status, head.status, head.body)
    assert b"%d" % len(answer.body) == answer.header("content-length")
    assert answer.header("content-length") == head.header("content-length")
    assert (answer.header("x-request-id") or b"").startswith(b"req_")


@pytest.mark.parametrize("path", SYSTEM_PATHS)
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "TRACE"])
async def test_a8_other_methods_are_refused(path: str, method: str) -> None:
    """405 in our error form, with the methods that are allowed."""
    answer = await call(layer(), http_scope(method, path))
    assert (405, b"GET, HEAD") == (answer.status, answer.header("allow"))
    assert "method_not_allowed" == answer.json()["error"]["code"]


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/models", "/healthy", "/health/other", "/docs/x", "//health", "/Health", "/health;a"],
)
async def test_every_other_path_passes(path: str) -> None:
    """Only the exact paths are ours; the rest goes on as identical objects."""
    seen: list[tuple[Any, ...]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Message:
        raise AssertionError

    for scope in (http_scope(path=path), websocket_scope(path), {"type": "lifespan"}):
        send = Recorder()
        await layer(app)(scope, receive, send)
        assert all(
            given is kept for given, kept in zip((scope, receive, send), seen[-1], strict=True)
        )
    assert 3 == len(seen)


@pytest.mark.parametrize(
    ("path", "extra"),
    [
        ("/llm/health", {"root_path": "/llm"}),
        ("/llm/health", {"root_path": "/app/llm", "app_root_path": "/app"}),
        ("/health/", {}),
    ],
)
async def test_the_endpoints_are_there_under_any_prefix(path: str, extra: dict[str, Any]) -> None:
    """Paths are read below the mount point, in each form that hosts use."""
    assert asgi_llm.__version__ == (await get(layer(), path, **extra)).json()["version"]


async def test_health_tells_version_parts_and_summary() -> None:
    """``/health`` sums up what is known."""
    health = Health(checks={"redis": lambda: True}, summary={"providers": ["echo"]})
    expected = {
        "providers": ["echo"],
        "status": "ready",
        "version": asgi_llm.__version__,
        "parts": {"redis": "ok"},
    }
    answer = await get(layer(health=health), "/health")
    assert (200, expected) == (answer.status, answer.json())
    assert b"no-store" == answer.header("cache-control")


URL = "redis://:password@host"


async def failing() -> bool:
    raise OSError(f"{URL} is away")


async def hanging() -> bool:
    await asyncio.Event().wait()
    return True


@pytest.mark.parametrize("check", [lambda: False, failing, hanging])
async def test_a_failing_part_makes_it_not_ready(
    check: Check, caplog: pytest.LogCaptureFixture
) -> None:
    """False, an exception or silence: 503 that names the part; it is alive all the same."""
    health = Health(checks={"good": lambda: True, "bad": check}, check_timeout_seconds=0.01)
    app = layer(health=health)
    ready = await get(app, "/health/ready")
    assert (503, {"status": "not_ready", "failing": ["bad"]}) == (ready.status, ready.json())
    summary = await get(app, "/health")
    assert (503, {"good": "ok", "bad": "failing"}) == (summary.status, summary.json()["parts"])
    live = await get(app, "/health/live")
    assert (200, {"status": "alive"}) == (live.status, live.json())
    assert "password" not in caplog.text
    assert 1 >= len(caplog.records)


async def test_a_part_that_it_does_without_makes_it_degraded() -> None:
    """200, so that a balancer does not take out all instances for what they share; and told."""
    checks: dict[str, Check] = {"shared": failing, "own": lambda: True}
    health = Health(checks=checks, dispensable=["shared"])
    ready = await get(layer(health=health), "/health/ready")
    assert (200, {"status": "degraded", "failing": ["shared"]}) == (ready.status, ready.json())
    summary = await get(layer(health=health), "/health")
    assert (200, "degraded") == (summary.status, summary.json()["status"])
    checks["own"] = failing
    both = Health(checks=checks, dispensable=["shared"])
    ready = await get(layer(health=both), "/health/ready")
    assert (503, "not_ready") == (ready.status, ready.json()["status"])


async def test_parts_tell_their_figures() -> None:
    """Beside what is well and what is not; a part that has nothing to tell is left out."""
    health = Health(checks={"ledger": lambda: True})
    health.facts |= {"ledger": lambda: {"pending_rows": 3}, "quiet": dict}
    ready = await get(layer(health=health), "/health/ready")
    assert {"status": "ready", "details": {"ledger": {"pending_rows": 3}}} == ready.json()
    summary = await get(layer(health=health), "/health")
    assert {"ledger": {"pending_rows": 3}} == summary.json()["details"]


async def test_a_draining_process_is_not_ready() -> None:
    """From ``drain()`` on no new requests are asked for, while the process stays alive."""
    health = Health()
    app = layer(health=health)
    assert 200 == (await get(app, "/health/ready")).status
    health.drain()
    ready = await get(app, "/health/ready")
    assert (503, {"status": "draining"}) == (ready.status, ready.json())
    assert 200 == (await get(app, "/health/live")).status


def test_a_check_needs_a_deadline() -> None:
    """A deadline that is not above 0 is a configuration error."""
    with pytest.raises(ConfigurationError) as refused:
        Health(check_timeout_seconds=0)
    assert "check_timeout_seconds" == refused.value.param


@pytest.mark.parametrize(
    ("path", "extra", "url"),
    [
        ("/openapi.json", {}, "/"),
        ("/llm/openapi.json", {"root_path": "/llm"}, "/llm"),
        ("/llm/openapi.json", {"root_path": "/app/llm", "app_root_path": "/app"}, "/app/llm"),
        ("/openapi.json/", {"raw_path": b"/llm/openapi.json"}, "/llm"),
    ],
)
async def test_the_document_says_where_it_is_served(
    path: str, extra: dict[str, Any], url: str
) -> None:
    """``servers`` holds the prefix as it is seen from outside."""
    answer = await get(layer(), path, **extra)
    assert ([{"url": url}], "3.1.0") == (answer.json()["servers"], answer.json()["openapi"])


async def test_the_docs_can_be_left_out() -> None:
    """Without docs neither page nor document is there; health still is."""
    app = layer(docs=False)
    assert b"inside" == (await get(app, "/docs")).body
    assert b"inside" == (await get(app, "/openapi.json")).body
    assert 200 == (await get(app, "/health")).status


async def test_the_page_loads_nothing_from_elsewhere() -> None:
    """Everything the page names is relative and served by us; a strict policy says the same."""
    app = layer()
    page = await get(app, "/docs")
    html = page.body.decode()
    assert ["docs/docs.css", "docs/docs.js"] == re.findall(r'(?:src|href)="(docs/[^"]+)"', html)
    for path in ("/docs/docs.css", "/docs/docs.js"):
        asset = await get(app, path)
        assert (200, b"nosniff") == (asset.status, asset.header("x-content-type-options"))
        assert not re.search(rb"https?://|@import|innerHTML|eval\(", asset.body)
    assert not re.search(r"https?://|style=|onclick|<script>", html)
    policy = (page.header("content-security-policy") or b"").decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_the_page_with_a_slash_leads_to_the_page() -> None:
    """``/docs/`` redirects, since the page's links are relative to ``/docs``."""
    answer = await get(layer(), "/llm/docs/", root_path="/llm")
    assert (307, b"../docs") == (answer.status, answer.header("location"))


# The document


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    if isinstance(value, list):
        return set().union(*map(references, value))
    return set()


def test_every_reference_of_the_document_resolves() -> None:
    """No ``$ref`` leads nowhere, and the document is JSON."""
    described = document()
    json.dumps(described, allow_nan=False)
    for reference in references(described):
        part: Any = described
        for name in reference.removeprefix("#/").split("/"):
            part = part[name.replace("~1", "/").replace("~0", "~")]
        assert isinstance(part, dict)


def test_the_document_holds_every_route_of_the_api() -> None:
    """All routes of the provider app and the gateway's own, each with an id of its own."""
    paths = document()["paths"]
    from_routes = {f"/v1/{name}" for name in (
        "chat/completions", "completions", "embeddings", "moderations", "images/generations",
        "audio/speech", "audio/transcriptions", "rerank", "models", "models/{model}",
    )}  # fmt: skip
    assert from_routes | {"/health", "/health/live", "/health/ready"} == set(paths)
    operations = [
        operation
        for methods in paths.values()
        for name, operation in methods.items()
        if name in ("get", "post")
    ]
    assert len(paths) == len({operation["operationId"] for operation in operations})
    for operation in operations:
        assert {"200"} <= set(operation["responses"])


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/admin/keys", "/admin/keys"),
        ("/admin/keys/key_1/rotate", "/admin/keys/{id}/rotate"),
        ("/admin/keys/key_1/break", "other"),
        ("/admin/nothing", "other"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/models", "/v1/models"),
        ("/v1/models/openai/gpt-4o", "/v1/models/{model}"),
        ("/health", "/health"),
        ("/v1/chat/completions/", "other"),
        ("/\x1b[31m", "other"),
        ("/", "other"),
    ],
)
def test_a_path_has_one_of_few_templates(path: str, template: str) -> None:
    """What a client may put into a path never becomes a label."""
    assert template == route_template(path)

"""The conformance suite with a host between the server and the layer, or the stack of layers.

What a host does to a scope, a lifespan or an exception is its own affair, so those checks compare
it with and without the layer. Everything else has to hold in every host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import fastapi
import litestar
import pytest
import quart
from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody, Observer, observe
from asgi_llm.integrations.mount import beside
from asgi_llm.integrations.prometheus import PrometheusMetrics
from asgi_llm.middleware._model_access import INFERENCE_PATHS
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.middleware.router import RouterMiddleware
from asgi_llm.middleware.telemetry import TelemetryMiddleware
from asgi_llm.stores.keys_memory import MemoryKeys
from asgi_llm.testing import call
from asgi_llm.testing.conformance import Check, Example, Layer, checks
from asgi_llm.types import Principal


class Reading:
    """Reads the body, watches the response, and changes nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = await BufferedBody.read(scope, receive, max_bytes=4 * 1024 * 1024)
        if body is not None:
            await observe(self.app, scope, body.receive, send, Observer())


class Nothing:
    """A layer that is not there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


KEY = "sk-test-0123456789abcdef"
EXAMPLE = Example(headers=((b"authorization", b"Bearer " + KEY.encode()),))
# Under the prefix /v1 that is the rest of the example's path.
PATHS = (*INFERENCE_PATHS, "/chat/completions")
LIMITS = ("1000 requests/minute", "1000000000 tokens/minute", "1000 concurrent requests")


def auth(app: ASGIApp) -> ASGIApp:
    keys = MemoryKeys({KEY: Principal(key_id="key", team_id="team")})
    return AuthMiddleware(app, keys=keys, inference_paths=PATHS)


def rate_limit(app: ASGIApp) -> ASGIApp:
    return RateLimitMiddleware(app, limits=LIMITS, inference_paths=PATHS)


def auth_and_rate_limit(app: ASGIApp) -> ASGIApp:
    return auth(rate_limit(app))


def router(app: ASGIApp) -> ASGIApp:
    return RouterMiddleware(app, inference_paths=PATHS)


def telemetry(app: ASGIApp) -> ASGIApp:
    return TelemetryMiddleware(app, metrics=PrometheusMetrics(), inference_paths=PATHS)


LAYERS: Mapping[str, Layer] = {
    "reading": Reading,
    "router": router,
    "auth": auth,
    "rate_limit": rate_limit,
    "both": auth_and_rate_limit,
    "telemetry": telemetry,
}


def starlette_mount(app: ASGIApp, layer: Layer) -> ASGIApp:
    return Starlette(routes=[Mount("/", layer(app))])


def starlette_added(app: ASGIApp, layer: Layer) -> ASGIApp:
    return Starlette(routes=[Mount("/", app)], middleware=[Middleware(layer)])


def fastapi_mount(app: ASGIApp, layer: Layer) -> ASGIApp:
    host = fastapi.FastAPI(openapi_url=None)
    host.mount("/", layer(app))
    return host


def fastapi_added(app: ASGIApp, layer: Layer) -> ASGIApp:
    host = fastapi.FastAPI(openapi_url=None)
    host.mount("/", app)
    host.add_middleware(layer)
    return host


def litestar_host(app: ASGIApp) -> Any:
    @litestar.asgi("/", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return litestar.Litestar([mounted], openapi_config=None)


def litestar_mount(app: ASGIApp, layer: Layer) -> ASGIApp:
    return cast("ASGIApp", litestar_host(layer(app)))


def litestar_around(app: ASGIApp, layer: Layer) -> ASGIApp:
    host = litestar_host(app)
    host.asgi_handler = layer(host.asgi_handler)
    return cast("ASGIApp", host)


def django_beside(app: ASGIApp, layer: Layer) -> ASGIApp:
    return beside(get_asgi_application(), "/v1", layer(app))


def quart_beside(app: ASGIApp, layer: Layer) -> ASGIApp:
    host: Any = quart.Quart(__name__)
    host.asgi_app = beside(host.asgi_app, "/v1", layer(app))
    return cast("ASGIApp", host)


Host = Callable[[ASGIApp, Layer], ASGIApp]

HOSTS: Mapping[str, Host] = {
    host.__name__: host
    for host in (
        starlette_mount,
        starlette_added,
        fastapi_mount,
        fastapi_added,
        litestar_mount,
        litestar_around,
        django_beside,
        quart_beside,
    )
}

HOSTS_OWN = frozenset(
    (
        "lifespan_passes_as_the_same_objects",  # answered by the host itself
        "websocket_passes_as_the_same_objects",  # routed, on a scope of the host's
        "unknown_scope_passes_as_the_same_objects",  # refused
        "callers_scope_is_unchanged",  # Starlette and Litestar write into it
        "scope_arrives_unchanged",  # Litestar rewrites the path, `beside` says where the app is
        "works_under_any_mount",  # as above
        "other_requests_pass",  # those beyond the prefix are the host's
        "exceptions_pass_once",  # Starlette answers 500 and raises, Litestar only answers
        "errors_of_send_reach_the_app",  # Litestar makes its own exception of it
    )
)

every_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


@every_host
@every_layer
@pytest.mark.parametrize(
    "check",
    [check for check in checks if check.__name__ not in HOSTS_OWN],
    ids=lambda check: check.__name__,
)
async def test_a_promise_holds_in_every_host(host: Host, layer: Layer, check: Check) -> None:
    """What the layer promises holds with the host around it or inside it."""
    await check(lambda app: host(app, layer), EXAMPLE)


@every_host
@every_layer
@pytest.mark.parametrize(
    "check",
    [check for check in checks if check.__name__ in HOSTS_OWN],
    ids=lambda check: check.__name__,
)
async def test_what_a_host_keeps_is_kept_with_the_layer(
    host: Host, layer: Layer, check: Check
) -> None:
    """The host passes or fails a check by itself; the layer makes no difference."""
    alone = await passes(check, lambda app: host(app, Nothing))
    assert alone == await passes(check, lambda app: host(app, layer))


async def passes(check: Check, layer: Layer) -> bool:
    try:
        await check(layer, EXAMPLE)
    except AssertionError:
        return False
    return True


@every_host
async def test_the_layers_do_their_work_in_every_host(host: Host) -> None:
    """Without a key there is no answer, and with one the limits are counted and told."""
    app = host(PlainTextResponse("inside"), auth_and_rate_limit)
    left = []
    for example in (Example(), EXAMPLE, EXAMPLE):
        body = example.body()
        answer = await call(app, example.scope(body), body=body)
        left.append((answer.status, answer.header("x-ratelimit-remaining-requests")))
    assert [(401, None), (200, b"999"), (200, b"998")] == left


def test_the_hosts_own_checks_exist() -> None:
    """No name in the list of exceptions is stale."""
    assert HOSTS_OWN <= {check.__name__ for check in checks}

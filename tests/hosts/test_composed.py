"""What ``compose`` makes, in every place that a host has for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastapi
import pytest
from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import route_path
from asgi_llm.gateway.compose import compose
from asgi_llm.integrations.mount import Lifespan, MountableGateway, beside, mount_gateway
from asgi_llm.testing.exchange import call
from asgi_llm.testing.scopes import http_scope

COMPLETE = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


class Closing:
    """An app that says when it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse(route_path(scope))(scope, receive, send)

    async def aclose(self) -> None:
        self.closed += 1


def mounted_in_starlette(gateway: MountableGateway) -> ASGIApp:
    app = Starlette()
    mount_gateway(app, "/llm", gateway)
    return app


def mounted_in_fastapi(gateway: MountableGateway) -> ASGIApp:
    app = fastapi.FastAPI()
    mount_gateway(app, "/llm", gateway)
    return app


def beside_django(gateway: MountableGateway) -> ASGIApp:
    return beside(get_asgi_application(), "/llm", gateway)


def wrapped(gateway: MountableGateway) -> ASGIApp:
    return Lifespan(Starlette(routes=[Mount("/llm", gateway)]), gateway)


@pytest.mark.parametrize(
    "place", [mounted_in_starlette, mounted_in_fastapi, beside_django, wrapped]
)
async def test_a_composed_gateway_is_closed_with_its_host(
    place: Callable[[MountableGateway], ASGIApp], lifespan_server: Callable[..., Any]
) -> None:
    """What ``compose`` made serves in every place, and closes when the server stops, once."""
    inner = Closing()
    app = place(compose([], app=inner))
    server = lifespan_server(app)
    assert COMPLETE == await server.start()
    recorder = await call(app, http_scope("GET", "/llm/v1/x", state={}))
    assert ("/v1/x", 0) == (recorder.json(), inner.closed)
    assert STOPPED == await server.stop()
    assert 1 == inner.closed


async def test_a_composed_gateway_needs_no_lifespan() -> None:
    """A plain mount in a host that passes no lifespan serves all the same."""
    app = Starlette(routes=[Mount("/llm", compose([], app=Closing()))])
    recorder = await call(app, http_scope("GET", "/llm/v1/x"))
    assert (200, "/v1/x") == (recorder.status, recorder.json())


def dangling(value: Any, document: dict[str, Any]) -> list[str]:
    """References in ``value`` that lead nowhere in ``document``."""
    if isinstance(value, list):
        return [one for item in value for one in dangling(item, document)]
    if not isinstance(value, dict):
        return []
    missing = [one for item in value.values() for one in dangling(item, document)]
    reference = value.get("$ref")
    if isinstance(reference, str):
        part: Any = document
        for name in reference.removeprefix("#/").split("/"):
            part = part.get(name, {})
        if not part:
            missing.append(reference)
    return missing


async def test_fastapi_documents_the_composed_gateway() -> None:
    """All paths of the gateway are in the host's document, and no reference dangles."""
    app = fastapi.FastAPI()
    gateway = compose([], app=Closing())
    mount_gateway(app, "/llm", gateway)
    merged = (await call(app, http_scope("GET", "/openapi.json"))).json()
    assert {f"/llm{path}" for path in gateway.openapi()["paths"]} == set(merged["paths"])
    assert "/llm/v1/chat/completions" in merged["paths"]
    assert [] == dangling(merged, merged)

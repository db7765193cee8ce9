"""``mount_gateway``, ``Lifespan`` and the plain ways: when a gateway is up, and what reaches it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import fastapi
import pytest
from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm._asgi import route_path
from asgi_llm.errors import ConfigurationError
from asgi_llm.integrations.mount import Lifespan, mount_gateway
from asgi_llm.testing.exchange import call
from asgi_llm.testing.recorder import Recorder
from asgi_llm.testing.scopes import http_scope, websocket_scope

COMPLETE = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


class Gateway:
    """A gateway that logs when it is up and answers with the route that it sees."""

    def __init__(self, log: list[str], **fails: Exception) -> None:
        self.log = log
        self.fails = fails

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            self.log.append(f"websocket {route_path(scope)}")
            return
        await JSONResponse([route_path(scope), scope["root_path"]])(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        if "start" in self.fails:
            raise self.fails["start"]
        self.log.append("gateway up")
        yield
        self.log.append("gateway down")
        if "stop" in self.fails:
            raise self.fails["stop"]


async def own(request: Request) -> Response:
    return PlainTextResponse(f"own {request.url.path}")


def starlette_host(log: list[str]) -> Any:
    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[dict[str, str]]:
        log.append("host up")
        yield {"name": "host"}
        log.append("host down")

    return Starlette(routes=[Route("/own", own), Route("/llm/own", own)], lifespan=lifespan)


def fastapi_host(log: list[str]) -> Any:
    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[dict[str, str]]:
        log.append("host up")
        yield {"name": "host"}
        log.append("host down")

    app = fastapi.FastAPI(lifespan=lifespan)
    app.add_route("/own", own)
    app.add_route("/llm/own", own)
    return app


hosts = pytest.mark.parametrize("host", [starlette_host, fastapi_host])
ORDER = ["host up", "gateway up", "gateway down", "host down"]


@hosts
async def test_a_mounted_gateway_lives_inside_the_hosts_lifespan(
    host: Callable[[list[str]], Any], lifespan_server: Callable[..., Any]
) -> None:
    """Host up, gateway up, gateway down, host down; the host's state is kept."""
    log: list[str] = []
    app = host(log)
    mount_gateway(app, "/llm", Gateway(log))
    server = lifespan_server(app)
    assert COMPLETE == await server.start()
    assert ({"name": "host"}, ORDER[:2]) == (server.state, log)
    assert STOPPED == await server.stop()
    assert ORDER == log


@hosts
async def test_a_gateway_that_fails_to_start_stops_the_host(
    host: Callable[[list[str]], Any], lifespan_server: Callable[..., Any]
) -> None:
    """The server is told why, and the host's own lifespan is unwound."""
    log: list[str] = []
    app = host(log)
    mount_gateway(app, "/llm", Gateway(log, start=ConfigurationError("no such provider")))
    with pytest.raises(ConfigurationError):  # Starlette tells the server, and raises, too
        server = lifespan_server(app)
        answer = await server.start()
        assert "lifespan.startup.failed" == answer["type"]
        assert "no such provider" in answer["message"]
        await server.communicator.wait(5)
    assert ["host up"] == log


@hosts
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/llm", ["/", "/llm"]),
        ("/llm/", ["/", "/llm"]),
        ("/llm/v1/x", ["/v1/x", "/llm"]),
        ("/llm/v1/x/", ["/v1/x", "/llm"]),
        ("/llm//v1/x", ["//v1/x", "/llm"]),
    ],
)
async def test_the_bare_prefix_is_not_redirected(
    host: Callable[[list[str]], Any], path: str, expected: list[str]
) -> None:
    """A GET of the prefix reaches the gateway with its slash and without."""
    app = host([])
    mount_gateway(app, "/llm", Gateway([]))
    recorder = await call(app, http_scope("GET", path))
    assert (200, expected) == (recorder.status, recorder.json())


@hosts
async def test_a6_behind_a_stripping_proxy_the_mount_is_found(
    host: Callable[[list[str]], Any],
) -> None:
    """A ``root_path`` that ``path`` does not hold changes no route."""
    app = host([])
    mount_gateway(app, "/llm", Gateway([]))
    recorder = await call(app, http_scope("GET", "/llm/v1/x", root_path="/myapp"))
    assert ["/v1/x", "/myapp/llm"] == recorder.json()


@hosts
@pytest.mark.parametrize("path", ["/own", "/llm/own"])
async def test_a6_the_hosts_own_routes_go_first(
    host: Callable[[list[str]], Any], path: str
) -> None:
    """Routes that the host had before the mount stay its own, even below the prefix."""
    app = host([])
    mount_gateway(app, "/llm", Gateway([]))
    recorder = await call(app, http_scope("GET", path))
    assert (200, f"own {path}".encode()) == (recorder.status, recorder.body)


@hosts
async def test_a6_what_only_begins_like_the_prefix_is_the_hosts(
    host: Callable[[list[str]], Any],
) -> None:
    """``/llmx`` is no path of the gateway."""
    app = host([])
    mount_gateway(app, "/llm", Gateway([]))
    recorder = await call(app, http_scope("GET", "/llmx"))
    assert 404 == recorder.status


@hosts
async def test_a_websocket_reaches_the_mounted_gateway(host: Callable[[list[str]], Any]) -> None:
    """WebSockets below the prefix are the gateway's."""
    log: list[str] = []
    app = host([])
    mount_gateway(app, "/llm/", Gateway(log))

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    await app(websocket_scope("/llm/v1/realtime"), receive, Recorder())
    assert ["websocket /v1/realtime"] == log


@pytest.mark.parametrize("prefix", ["", "/", "llm", "/{tenant}"])
def test_a_bad_prefix_is_refused(prefix: str) -> None:
    """The error names the option, and the host is left as it was."""
    app = Starlette()
    with pytest.raises(ConfigurationError) as caught:
        mount_gateway(app, prefix, Gateway([]))
    assert ("prefix", []) == (caught.value.param, app.routes)


async def test_starlettes_own_lifespan_option_will_do(lifespan_server: Callable[..., Any]) -> None:
    """``Starlette(lifespan=gateway.lifespan)`` with a plain mount needs nothing more."""
    log: list[str] = []
    gateway = Gateway(log)
    app = Starlette(routes=[Mount("/llm", gateway)], lifespan=gateway.lifespan)
    server = lifespan_server(app)
    assert (COMPLETE, STOPPED) == (await server.start(), await server.stop())
    assert ["gateway up", "gateway down"] == log


def django_host() -> ASGIApp:
    application: ASGIApp = get_asgi_application()
    return application


async def test_lifespan_speaks_for_a_host_without_one(lifespan_server: Callable[..., Any]) -> None:
    """Around Django, the server's lifespan is the gateway's."""
    log: list[str] = []
    gateway = Gateway(log)
    server = lifespan_server(Lifespan(django_host(), gateway))
    assert COMPLETE == await server.start()
    assert ["gateway up"] == log
    assert STOPPED == await server.stop()
    assert ["gateway up", "gateway down"] == log


async def test_lifespan_keeps_the_hosts_own(lifespan_server: Callable[..., Any]) -> None:
    """Around a host that has a lifespan, both run, and the host's state reaches its requests."""
    log: list[str] = []
    states: list[Any] = []
    host = starlette_host(log)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            states.append(scope["state"])
        await host(scope, receive, send)

    wrapped = Lifespan(app, Gateway(log))
    server = lifespan_server(wrapped)
    assert COMPLETE == await server.start()
    recorder = await call(wrapped, http_scope("GET", "/own", state={}))
    assert (b"own /own", [{"name": "host"}]) == (recorder.body, states)
    assert STOPPED == await server.stop()
    assert ORDER == log


@pytest.mark.parametrize("phase", ["start", "stop"])
async def test_lifespan_tells_what_went_wrong(
    phase: str, lifespan_server: Callable[..., Any]
) -> None:
    """An error of the gateway's reaches the server with its type and text."""
    gateway = Gateway([], **{phase: RuntimeError("no store")})
    server = lifespan_server(Lifespan(django_host(), gateway))
    answer = await server.start()
    if phase == "stop":
        assert COMPLETE == answer
        answer = await server.stop()
    kind = {"start": "startup", "stop": "shutdown"}[phase]
    told = f"the gateway did not {phase}: RuntimeError: no store"
    assert {"type": f"lifespan.{kind}.failed", "message": told} == answer


async def test_lifespan_passes_requests_as_the_same_objects() -> None:
    """Everything but the lifespan goes to the app as it came."""
    seen: list[tuple[Any, ...]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    send = Recorder()
    for scope in (http_scope(), websocket_scope("/ws")):
        await Lifespan(app, Gateway([]))(scope, receive, send)
        inside = seen.pop()
        assert [True, True, True] == [
            a is b for a, b in zip(inside, (scope, receive, send), strict=True)
        ]


def test_importing_the_module_imports_no_host() -> None:
    """Neither a host nor any optional package comes with it."""
    code = (
        "import sys, asgi_llm.integrations.mount; "
        "hosts = ('fastapi', 'django', 'litestar', 'quart', 'starlette.applications', 'httpx2'); "
        "print([name for name in hosts if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ("[]", "") == (ran.stdout.strip(), ran.stderr)

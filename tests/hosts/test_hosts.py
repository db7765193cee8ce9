"""A layer and the app in it behave alike in every host: mounted in it, added to it, around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import fastapi
import litestar
import pytest
import quart
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from litestar.handlers import WebsocketListener
from litestar.response import Stream
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from asgi_llm._asgi import BufferedBody, Observer, observe, route_path
from asgi_llm.integrations.mount import beside
from asgi_llm.testing.exchange import Exchange, call
from asgi_llm.testing.scopes import http_scope, lifespan_scope, websocket_scope

# FastAPI calls its own option deprecated since 0.16x; set-ups with it are still out there.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The `root_path` parameter is deprecated:fastapi.exceptions.FastAPIDeprecationWarning"
)

CHUNKS = 20
DEADLINE_SECONDS = 5


class Ledger:
    """What the app inside has seen and done."""

    def __init__(self) -> None:
        self.made = 0
        self.left = asyncio.Event()
        self.lifespan: list[str] = []

    async def stream(self) -> AsyncIterator[bytes]:
        for number in range(CHUNKS):
            self.made += 1
            yield b"data: %d\n\n" % number

    async def wait(self) -> AsyncIterator[bytes]:
        try:
            yield b"data: first\n\n"
            await asyncio.Event().wait()
        finally:
            self.left.set()

    @asynccontextmanager
    async def run(self, app: object = None) -> AsyncIterator[None]:
        self.lifespan.append("up")
        yield
        self.lifespan.append("down")


class Layer:
    """Reads the body, watches the response, and changes nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = await BufferedBody.read(scope, receive, max_bytes=2**20)
        if body is not None:
            await observe(self.app, scope, body.receive, send, Observer())


def probe(ledger: Ledger) -> ASGIApp:
    """The app that is mounted; the hosts' own routes do the same in their words."""

    async def echo(receive: Receive, send: Send) -> None:
        body = await BufferedBody.read({"headers": []}, receive, max_bytes=2**20)
        assert body is not None
        headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body.data})

    async def stream(chunks: AsyncIterator[bytes], send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    async def wait(receive: Receive, send: Send) -> None:
        streaming = asyncio.create_task(stream(ledger.wait(), send))
        while (await receive())["type"] != "http.disconnect":
            pass
        streaming.cancel()
        await asyncio.wait({streaming})

    async def websocket(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "got " + (await receive())["text"]})
        await send({"type": "websocket.close"})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"], route_path(scope):
            case "http", "/echo":
                await echo(receive, send)
            case "http", "/stream":
                await stream(ledger.stream(), send)
            case "http", "/wait":
                await wait(receive, send)
            case "websocket", "/ws":
                await websocket(receive, send)
            case other:
                raise LookupError(other)

    return app


def bare(ledger: Ledger) -> ASGIApp:
    """No host: a function that knows its prefix."""
    mounted = Layer(probe(ledger))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with ledger.run():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["path"].startswith("/llm/"):
            await mounted({**scope, "root_path": "/llm"}, receive, send)
        else:
            await PlainTextResponse(f"own {scope['path']}")(scope, receive, send)

    return app


async def own(request: Request) -> Response:
    return PlainTextResponse(f"own {request.url.path}")


def mounted_routes(ledger: Ledger) -> list[Any]:
    return [Route("/own", own), Route("/llmx", own), Mount("/llm", Layer(probe(ledger)))]


def starlette_mount(ledger: Ledger) -> ASGIApp:
    return Starlette(routes=mounted_routes(ledger), lifespan=ledger.run)


def fastapi_mount(ledger: Ledger) -> ASGIApp:
    app = fastapi.FastAPI(lifespan=ledger.run, routes=mounted_routes(ledger))
    return app


def fastapi_root_path(ledger: Ledger) -> ASGIApp:
    """Behind a proxy that takes ``/myapp`` off."""
    return fastapi.FastAPI(lifespan=ledger.run, routes=mounted_routes(ledger), root_path="/myapp")


def fastapi_function_middleware(ledger: Ledger) -> ASGIApp:
    """With middleware of the host's that runs the app in another task."""
    app = fastapi.FastAPI(lifespan=ledger.run, routes=mounted_routes(ledger))

    @app.middleware("http")
    async def add_header(request: Request, call_next: Callable[[Request], Any]) -> Response:
        response: Response = await call_next(request)
        response.headers["x-host"] = "here"
        return response

    return app


def endpoints(ledger: Ledger) -> tuple[Callable[..., Any], ...]:
    """The probe in the words of Starlette and FastAPI."""

    async def echo(request: Request) -> Response:
        response = Response(await request.body())
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async def stream(request: Request) -> Response:
        return StreamingResponse(ledger.stream(), media_type="text/event-stream")

    async def wait(request: Request) -> Response:
        return StreamingResponse(ledger.wait(), media_type="text/event-stream")

    async def websocket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("got " + await websocket.receive_text())
        await websocket.close()

    return echo, stream, wait, websocket


def starlette_added(ledger: Ledger) -> ASGIApp:
    echo, stream, wait, websocket = endpoints(ledger)
    return Starlette(
        routes=[
            Route("/own", own),
            Route("/llmx", own),
            Route("/llm/echo", echo, methods=["POST"]),
            Route("/llm/stream", stream, methods=["POST"]),
            Route("/llm/wait", wait, methods=["POST"]),
            WebSocketRoute("/llm/ws", websocket),
        ],
        middleware=[Middleware(Layer)],
        lifespan=ledger.run,
    )


def fastapi_added(ledger: Ledger) -> ASGIApp:
    echo, stream, wait, websocket = endpoints(ledger)
    app = fastapi.FastAPI(lifespan=ledger.run)
    app.add_middleware(Layer)
    app.add_route("/own", own)
    app.add_route("/llmx", own)
    for name, endpoint in {"echo": echo, "stream": stream, "wait": wait}.items():
        app.add_api_route(f"/llm/{name}", endpoint, methods=["POST"])
    app.add_api_websocket_route("/llm/ws", websocket)
    return app


def django_handler(ledger: Ledger) -> ASGIApp:
    """Django as it comes out of an ``asgi.py``; its views, in conftest, use the scope's ledger."""
    application = get_asgi_application()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await application({**scope, "test.ledger": ledger}, receive, send)

    return app


def django_around(ledger: Ledger) -> ASGIApp:
    return Layer(django_handler(ledger))


def django_beside(ledger: Ledger) -> ASGIApp:
    return beside(django_handler(ledger), "/llm", Layer(probe(ledger)))


@litestar.get("/own", media_type="text/plain")
async def litestar_own(request: litestar.Request[Any, Any, Any]) -> str:
    return f"own {request.scope['path']}"


@litestar.get("/llmx", media_type="text/plain")
async def litestar_llmx(request: litestar.Request[Any, Any, Any]) -> str:
    return f"own {request.scope['path']}"


def litestar_mount(ledger: Ledger) -> ASGIApp:
    mounted = Layer(probe(ledger))

    @litestar.asgi("/llm", is_mount=True, copy_scope=True)
    async def mount(scope: Any, receive: Any, send: Any) -> None:
        await mounted(scope, receive, send)

    app: Any = litestar.Litestar(
        [litestar_own, litestar_llmx, mount], lifespan=[ledger.run], openapi_config=None
    )
    return cast("ASGIApp", app)


def litestar_around(ledger: Ledger) -> ASGIApp:
    @litestar.post("/llm/echo", status_code=200, media_type="application/octet-stream")
    async def echo(request: litestar.Request[Any, Any, Any]) -> litestar.Response[bytes]:
        response = litestar.Response(await request.body())
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @litestar.post("/llm/stream", status_code=200)
    async def stream() -> Stream:
        return Stream(ledger.stream(), media_type="text/event-stream")

    @litestar.post("/llm/wait", status_code=200)
    async def wait() -> Stream:
        return Stream(ledger.wait(), media_type="text/event-stream")

    class Echo(WebsocketListener):
        path = "/llm/ws"

        def on_receive(self, data: str) -> str:
            return "got " + data

    app: Any = litestar.Litestar(
        [litestar_own, litestar_llmx, echo, stream, wait, Echo],
        lifespan=[ledger.run],
        openapi_config=None,
    )
    app.asgi_handler = Layer(app.asgi_handler)
    return cast("ASGIApp", app)


def quart_around(ledger: Ledger) -> ASGIApp:
    app = quart.Quart(__name__)

    @app.get("/own")
    @app.get("/llmx")
    async def own() -> tuple[str, dict[str, str]]:
        return f"own {quart.request.path}", {"content-type": "text/plain"}

    @app.post("/llm/echo")
    async def echo() -> quart.Response:
        response = quart.Response(await quart.request.get_data(as_text=False))
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.post("/llm/stream")
    async def stream() -> quart.Response:
        return quart.Response(ledger.stream(), content_type="text/event-stream")

    @app.post("/llm/wait")
    async def wait() -> quart.Response:
        return quart.Response(ledger.wait(), content_type="text/event-stream")

    @app.websocket("/llm/ws")
    async def websocket() -> None:
        await quart.websocket.send(f"got {await quart.websocket.receive()!s}")

    @app.while_serving
    async def run() -> AsyncGenerator[None, None]:
        async with ledger.run():
            yield

    app.asgi_app = Layer(app.asgi_app)  # type: ignore[method-assign, assignment, arg-type]
    return cast("ASGIApp", app)


def communicate(app: ASGIApp, scope: Scope) -> Any:
    return ApplicationCommunicator(app, scope)  # type: ignore[no-untyped-call]


Host = Callable[[Ledger], ASGIApp]

HOSTS: dict[str, Host] = {
    "bare ASGI": bare,
    "Starlette mount": starlette_mount,
    "Starlette add_middleware": starlette_added,
    "FastAPI mount": fastapi_mount,
    "FastAPI mount, root_path": fastapi_root_path,
    "FastAPI mount, function middleware": fastapi_function_middleware,
    "FastAPI add_middleware": fastapi_added,
    "Django around": django_around,
    "Django beside": django_beside,
    "Litestar mount": litestar_mount,
    "Litestar around": litestar_around,
    "Quart around": quart_around,
}

every_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
hosts_with_websocket = pytest.mark.parametrize(
    "host",
    [HOSTS[name] for name in HOSTS if name != "Django around"],
    ids=[name for name in HOSTS if name != "Django around"],
)
hosts_with_lifespan = pytest.mark.parametrize(
    "host",
    [HOSTS[name] for name in HOSTS if not name.startswith("Django")],
    ids=[name for name in HOSTS if not name.startswith("Django")],
)


@every_host
async def test_a_body_arrives_and_two_cookies_leave(host: Host) -> None:
    """The app gets the body that the client sent, and both Set-Cookie headers leave, in order."""
    body = bytes(range(256)) * 40
    scope = http_scope(path="/llm/echo", headers={"content-length": str(len(body))})
    async with Exchange(host(Ledger()), scope, body=None) as exchange:
        exchange.send_body(body[:3], more=True)
        exchange.send_body(b"", more=True)
        exchange.send_body(body[3:])
        recorder = await exchange.finish()
    cookies = [value.partition(b"=")[0] for value in recorder.header_values("set-cookie")]
    assert (200, body, [b"a", b"b"]) == (recorder.status, recorder.body, cookies)


@every_host
async def test_a_stream_leaves_chunk_by_chunk(host: Host) -> None:
    """The app makes a chunk when the client takes those before, and not at once, in any host."""
    ledger = Ledger()
    async with Exchange(host(ledger), http_scope(path="/llm/stream")) as exchange:
        for number in range(CHUNKS):
            assert await exchange.next_chunk() == b"data: %d\n\n" % number
            await exchange.settle()
            # The next one waits to be taken; Starlette's function middleware holds one more.
            assert ledger.made <= number + 3
        recorder = await exchange.finish()
    assert recorder.complete


@every_host
async def test_a_client_that_leaves_ends_the_stream(host: Host) -> None:
    """When the client leaves, the app's generator is closed at once."""
    ledger = Ledger()
    async with Exchange(host(ledger), http_scope(path="/llm/wait")) as exchange:
        assert await exchange.next_chunk() == b"data: first\n\n"
        await exchange.settle()
        assert not ledger.left.is_set()
        exchange.disconnect()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await ledger.left.wait()


@every_host
@pytest.mark.parametrize("path", ["/own", "/llmx"])
async def test_the_hosts_own_routes_are_untouched(host: Host, path: str) -> None:
    """The host answers its own routes, one that begins like the prefix among them."""
    recorder = await call(host(Ledger()), http_scope("GET", path))
    assert (200, f"own {path}".encode()) == (recorder.status, recorder.body)


@hosts_with_websocket
async def test_a_websocket_passes(host: Host) -> None:
    """A WebSocket is accepted and answered through the layer."""
    socket = communicate(host(Ledger()), websocket_scope("/llm/ws"))
    await socket.send_input({"type": "websocket.connect"})
    assert "websocket.accept" == (await socket.receive_output(DEADLINE_SECONDS))["type"]
    await socket.send_input({"type": "websocket.receive", "text": "hello"})
    assert "got hello" == (await socket.receive_output(DEADLINE_SECONDS))["text"]
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(DEADLINE_SECONDS)


@hosts_with_lifespan
async def test_the_hosts_lifespan_still_runs(host: Host) -> None:
    """The host's own startup and shutdown run with the layer there."""
    ledger = Ledger()
    server = communicate(host(ledger), lifespan_scope())
    await server.send_input({"type": "lifespan.startup"})
    started = await server.receive_output(DEADLINE_SECONDS)
    assert ({"type": "lifespan.startup.complete"}, ["up"]) == (started, ledger.lifespan)
    await server.send_input({"type": "lifespan.shutdown"})
    stopped = await server.receive_output(DEADLINE_SECONDS)
    assert ({"type": "lifespan.shutdown.complete"}, ["up", "down"]) == (stopped, ledger.lifespan)
    await server.wait(DEADLINE_SECONDS)


async def test_django_says_that_it_has_no_lifespan() -> None:
    """The layer passes on what Django raises for a lifespan, by which servers know."""
    with pytest.raises(ValueError, match="lifespan"):
        await call(django_around(Ledger()), lifespan_scope())

"""An app for real servers: a Starlette host, and another app beside it, each with a lifespan.

The layers around both are those that the header ``x-layer`` of a request names.

Steps are made from outside, by further requests, so that nothing here has to wait for time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from asgi_llm._asgi import BufferedBody, Observer, observe, route_path
from asgi_llm.integrations.mount import beside
from asgi_llm.integrations.prometheus import PrometheusMetrics
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.middleware.telemetry import TelemetryMiddleware
from asgi_llm.stores.keys_memory import MemoryKeys
from asgi_llm.testing.conformance import Layer
from asgi_llm.types import Principal

KEY = "sk-test-0123456789abcdef"
LIMITED = ("/echo", "/stream", "/wait")


class Reading:
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


def auth(app: ASGIApp) -> ASGIApp:
    return AuthMiddleware(app, keys=MemoryKeys({KEY: Principal(key_id="key")}))


def rate_limit(app: ASGIApp) -> ASGIApp:
    return RateLimitMiddleware(
        app,
        limits=["1000 requests/minute", "1 concurrent requests"],
        inference_paths=LIMITED,
    )


def telemetry(app: ASGIApp) -> ASGIApp:
    return TelemetryMiddleware(app, metrics=PrometheusMetrics(), inference_paths=LIMITED)


def auth_and_rate_limit(app: ASGIApp) -> ASGIApp:
    return auth(rate_limit(app))


LAYERS: dict[str, Layer] = {
    "reading": Reading,
    "auth": auth,
    "rate_limit": rate_limit,
    "both": auth_and_rate_limit,
    "telemetry": telemetry,
}


class Named:
    """Whichever of the layers the header ``x-layer`` names."""

    def __init__(self, app: ASGIApp) -> None:
        self._apps = {name: layer(app) for name, layer in LAYERS.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = dict(scope.get("headers", ())).get(b"x-layer", b"reading").decode()
        await self._apps[name](scope, receive, send)


@asynccontextmanager
async def host_lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
    yield {"name": "host"}


@asynccontextmanager
async def app_lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"name": "app", "steps": asyncio.Semaphore(0), "left": asyncio.Event()}


async def name(request: Request) -> Response:
    return PlainTextResponse(request.state.name)


async def echo(request: Request) -> Response:
    response = Response(await request.body())
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def route(request: Request) -> Response:
    return JSONResponse([route_path(request.scope), request.scope["root_path"]])


async def stream(request: Request) -> Response:
    """Makes a chunk for each ``/step``."""

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(5):
            await request.state.steps.acquire()
            yield b"data: %d\n\n" % number

    return StreamingResponse(chunks(), media_type="text/event-stream")


async def step(request: Request) -> Response:
    request.state.steps.release()
    return Response()


async def wait(request: Request) -> Response:
    """Streams one chunk and then nothing, until the client leaves."""

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"data: first\n\n"
            await asyncio.Event().wait()
        finally:
            request.state.left.set()

    return StreamingResponse(chunks(), media_type="text/event-stream")


async def left(request: Request) -> Response:
    """Answers when the client of ``/wait`` has left."""
    await request.state.left.wait()
    return PlainTextResponse("left")


async def websocket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(f"{websocket.state.name} got {await websocket.receive_text()}")
    await websocket.close()


host = Starlette(routes=[Route("/own", name), Route("/llmx", name)], lifespan=host_lifespan)
inner = Starlette(
    routes=[
        Route("/name", name),
        Route("/echo", echo, methods=["POST"]),
        Route("/route", route),
        Route("/stream", stream, methods=["POST"]),
        Route("/step", step, methods=["POST"]),
        Route("/wait", wait, methods=["POST"]),
        Route("/left", left),
        WebSocketRoute("/ws", websocket),
    ],
    lifespan=app_lifespan,
)
app = Named(beside(host, "/llm", Named(inner)))

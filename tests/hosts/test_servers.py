"""Layers, ``beside`` and the app in it over real sockets, under every server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from websockets.asyncio.client import connect

from asgi_llm.integrations.mount import beside
from asgi_llm.testing.serving import ServerName, serve_in_thread

DEADLINE_SECONDS = 10

SERVERS: dict[str, dict[str, Any]] = {
    "uvicorn, httptools": {"server": "uvicorn", "http": "httptools"},
    "uvicorn, h11": {"server": "uvicorn", "http": "h11"},
    "hypercorn": {"server": "hypercorn"},
    "granian": {"server": "granian"},
}


@pytest.fixture(scope="module")
def importable() -> Iterator[None]:
    """Servers take the app by its module's name, since one of them runs in another process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        yield


@pytest.fixture(scope="module", params=SERVERS.values(), ids=list(SERVERS))
def url(request: pytest.FixtureRequest, importable: None) -> Iterator[str]:
    """Where one of the servers serves ``served.app``."""
    with serve_in_thread("served:app", **request.param) as url:
        yield url


@pytest.fixture(params=["reading", "auth", "rate_limit", "both", "telemetry"])
def headers(request: pytest.FixtureRequest) -> dict[str, str]:
    """What names the layers, and lets in."""
    return {"x-layer": request.param, "x-api-key": "sk-test-0123456789abcdef"}


@pytest.fixture
async def client(url: str, headers: dict[str, str]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of that server; every wait of it has a deadline."""
    async with httpx2.AsyncClient(
        base_url=url, headers=headers, timeout=DEADLINE_SECONDS
    ) as client:
        yield client


async def test_a_body_arrives_and_two_cookies_leave(client: httpx2.AsyncClient) -> None:
    """The app gets a chunked upload whole, and both Set-Cookie headers leave, in order."""

    async def upload() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(range(256))

    response = await client.post("/llm/echo", content=upload())
    cookies = [cookie[:3] for cookie in response.headers.get_list("set-cookie")]
    assert (200, ["a=1", "b=2"]) == (response.status_code, cookies)
    assert bytes(range(256)) * 100 == response.content


async def test_each_chunk_leaves_before_the_next_is_made(client: httpx2.AsyncClient) -> None:
    """A chunk that is made only when the client has read the one before does arrive."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        await client.post("/llm/step")
        async with client.stream("POST", "/llm/stream") as response:
            chunks = response.aiter_raw()
            for number in range(5):
                assert b"data: %d\n\n" % number == await anext(chunks)
                await client.post("/llm/step")
            assert [] == [chunk async for chunk in chunks]


async def test_a_client_that_leaves_is_noticed(client: httpx2.AsyncClient) -> None:
    """When the client closes its connection, the app's generator is closed."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        async with client.stream("POST", "/llm/wait") as response:
            assert b"data: first\n\n" == await anext(response.aiter_raw())
        assert "left" == (await client.get("/llm/left")).text


@pytest.mark.parametrize("headers", ["rate_limit", "both"], indirect=True)
async def test_a_place_is_held_to_the_end_of_a_stream(client: httpx2.AsyncClient) -> None:
    """A second request at the same time is refused, and let through when the client has left."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        async with client.stream("POST", "/llm/wait") as response:
            chunks = response.aiter_raw()
            assert b"data: first\n\n" == await anext(chunks)
            assert 429 == (await client.post("/llm/echo")).status_code
        while (answer := await client.post("/llm/echo")).status_code == 429:
            assert "at the same time" in answer.text
        assert 200 == answer.status_code
        assert "1000" == answer.headers["x-ratelimit-limit-requests"]


@pytest.mark.parametrize("headers", ["auth", "both"], indirect=True)
async def test_without_a_key_nobody_is_let_in(client: httpx2.AsyncClient) -> None:
    """Neither to the host nor to what is beside it."""
    del client.headers["x-api-key"]
    statuses = [(await client.get(path)).status_code for path in ("/own", "/llm/name", "/none")]
    assert [401] * 3 == statuses


async def test_both_lifespans_run_and_keep_their_state_apart(client: httpx2.AsyncClient) -> None:
    """Host and app each see the state of their own lifespan, under one key."""
    names = [(await client.get(path)).text for path in ("/own", "/llmx", "/llm/name")]
    assert ["host", "host", "app"] == names


async def test_a_websocket_passes(url: str, headers: dict[str, str]) -> None:
    """A WebSocket below the prefix reaches the app, with its state."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        address = url.replace("http", "ws") + "/llm/ws"
        async with connect(address, additional_headers=headers) as socket:
            await socket.send("hello")
            assert "app got hello" == await socket.recv()


async def test_the_hosts_missing_routes_are_the_hosts(client: httpx2.AsyncClient) -> None:
    """What neither has is answered by the one whose prefix it is."""
    statuses = [(await client.get(path)).status_code for path in ("/none", "/llm/none", "/LLM")]
    assert [404, 404, 404] == statuses


@pytest.mark.parametrize("options", SERVERS.values(), ids=SERVERS)
def test_the_route_is_the_same_under_a_root_path(options: dict[str, Any], importable: None) -> None:
    """Told of a prefix that a proxy takes off, every server hands over the same route."""
    with serve_in_thread("served:app", **options, root_path="/myapp") as url:
        response = httpx2.get(f"{url}/llm/route", timeout=DEADLINE_SECONDS)
    assert ["/route", "/myapp/llm"] == response.json()


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_django_is_served_beside_an_app_with_a_lifespan(server: ServerName) -> None:
    """Django refuses the lifespan; the app beside it has one, and both answer."""
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
        log.append("up")
        yield {"name": "app"}
        log.append("down")

    async def name(request: Request) -> Response:
        return PlainTextResponse(request.state.name)

    app = Starlette(routes=[Route("/name", name)], lifespan=lifespan)
    with serve_in_thread(beside(get_asgi_application(), "/llm", app), server) as url:
        assert ["up"] == log
        answers = [
            httpx2.get(url + path, timeout=DEADLINE_SECONDS).text for path in ("/own", "/llm/name")
        ]
    assert (["own /own", "app"], ["up", "down"]) == (answers, log)

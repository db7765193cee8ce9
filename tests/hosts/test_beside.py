"""``beside``: which app gets what, and both lifespans behind one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm._asgi import route_path
from asgi_llm.errors import ConfigurationError
from asgi_llm.integrations.mount import beside
from asgi_llm.testing.recorder import Recorder
from asgi_llm.testing.scopes import http_scope, lifespan_scope, websocket_scope

COMPLETE = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


def recorded(name: str, log: list[str], **fails: Exception) -> ASGIApp:
    """A Starlette app that logs its lifespan and fails in it where it is told to."""

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        if "start" in fails:
            raise fails["start"]
        log.append(f"{name} up")
        try:
            yield
        finally:
            log.append(f"{name} down")
        if "stop" in fails:
            raise fails["stop"]

    return Starlette(lifespan=lifespan)


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    """Django's way to have no lifespan."""
    raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    """Another way: nothing happens."""


async def reads_and_returns(scope: Scope, receive: Receive, send: Send) -> None:
    """Another way: the message is taken and not answered."""
    await receive()


async def test_up_in_order_and_down_in_reverse(lifespan_server: Callable[..., Any]) -> None:
    """The host is up before the app and down after it."""
    log: list[str] = []
    server = lifespan_server(beside(recorded("host", log), "/llm", recorded("app", log)))
    assert COMPLETE == await server.start()
    assert ["host up", "app up"] == log
    assert STOPPED == await server.stop()
    assert ["host up", "app up", "app down", "host down"] == log


async def test_an_app_that_fails_to_start_is_named_and_the_host_stopped(
    lifespan_server: Callable[..., Any],
) -> None:
    """The server is told which one failed and why, after what had started was stopped."""
    log: list[str] = []
    app = recorded("app", log, start=RuntimeError("no database"))
    answer = await lifespan_server(beside(recorded("host", log), "/llm", app)).start()
    assert "lifespan.startup.failed" == answer["type"]
    assert answer["message"].startswith("the app under /llm did not start: ")
    assert "RuntimeError: no database" in answer["message"]
    assert ["host up", "host down"] == log


async def test_a_host_that_fails_to_start_is_named_and_the_app_left_alone(
    lifespan_server: Callable[..., Any],
) -> None:
    """Nothing else is started when the host fails."""
    log: list[str] = []
    host = recorded("host", log, start=RuntimeError("no port"))
    answer = await lifespan_server(beside(host, "/llm", recorded("app", log))).start()
    assert "lifespan.startup.failed" == answer["type"]
    assert answer["message"].startswith("the host did not start: ")
    assert [] == log


async def test_both_failures_of_one_start_are_told(lifespan_server: Callable[..., Any]) -> None:
    """A host that cannot stop after the app failed to start is told, too."""
    host = recorded("host", [], stop=RuntimeError("stuck"))
    app = recorded("app", [], start=RuntimeError("no database"))
    answer = await lifespan_server(beside(host, "/llm", app)).start()
    assert "no database" in answer["message"]
    assert "the host did not stop: " in answer["message"]
    assert "stuck" in answer["message"]


async def test_every_failure_of_the_shutdown_is_told(lifespan_server: Callable[..., Any]) -> None:
    """One that fails to stop keeps the other from nothing, and both are named."""
    log: list[str] = []
    host = recorded("host", log, stop=RuntimeError("host stuck"))
    app = recorded("app", log, stop=RuntimeError("app stuck"))
    server = lifespan_server(beside(host, "/llm", app))
    assert COMPLETE == await server.start()
    answer = await server.stop()
    assert "lifespan.shutdown.failed" == answer["type"]
    assert "the app under /llm did not stop: " in answer["message"]
    assert "the host did not stop: " in answer["message"]
    assert "app stuck" in answer["message"]
    assert "host stuck" in answer["message"]
    assert ["host up", "app up", "app down", "host down"] == log


@pytest.mark.parametrize("host", [refuses, returns, reads_and_returns])
async def test_a_host_without_lifespan_is_fine(
    host: ASGIApp, lifespan_server: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The app's lifespan runs beside a host that has none, and the log says so."""
    log: list[str] = []
    caplog.set_level(logging.INFO, "asgi_llm")
    server = lifespan_server(beside(host, "/llm", recorded("app", log)))
    assert COMPLETE == await server.start()
    assert STOPPED == await server.stop()
    assert ["app up", "app down"] == log
    assert ["the host has no lifespan"] == [line.split(":")[0] for line in caplog.messages]


async def test_an_app_without_lifespan_is_fine(lifespan_server: Callable[..., Any]) -> None:
    """The host's lifespan runs beside an app that has none; two without one are answered, too."""
    log: list[str] = []
    for host in (recorded("host", log), refuses):
        server = lifespan_server(beside(host, "/llm", refuses))
        assert COMPLETE == await server.start()
        assert STOPPED == await server.stop()
    assert ["host up", "host down"] == log


async def test_a_lifespan_that_ends_early_ends_well(lifespan_server: Callable[..., Any]) -> None:
    """An app may return once it has started; one that raises then is told at the shutdown."""

    async def starts(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    async def returning(scope: Scope, receive: Receive, send: Send) -> None:
        await starts(receive, send)

    async def raising(scope: Scope, receive: Receive, send: Send) -> None:
        await starts(receive, send)
        raise RuntimeError("lost")

    server = lifespan_server(beside(returning, "/llm", refuses))
    assert (COMPLETE, STOPPED) == (await server.start(), await server.stop())
    server = lifespan_server(beside(raising, "/llm", refuses))
    assert COMPLETE == await server.start()
    failed = {
        "type": "lifespan.shutdown.failed",
        "message": "the host did not stop: RuntimeError('lost')",
    }
    assert failed == await server.stop()


async def test_an_app_that_never_returns_does_not_hang(lifespan_server: Callable[..., Any]) -> None:
    """An app that goes on asking after its shutdown is ended."""

    async def loops(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            await send({"type": (await receive())["type"] + ".complete"})

    server = lifespan_server(beside(loops, "/llm", loops))
    assert COMPLETE == await server.start()
    assert STOPPED == await server.stop()


async def test_a_failure_without_a_reason_is_told(lifespan_server: Callable[..., Any]) -> None:
    """A ``startup.failed`` needs no message."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})

    answer = await lifespan_server(beside(fails, "/llm", refuses)).start()
    assert "the host did not start: it gave no reason" == answer["message"]


async def test_a_cancelled_server_unwinds_both(lifespan_server: Callable[..., Any]) -> None:
    """A server that cancels the lifespan, as on a second Ctrl-C, leaves nothing open."""
    log: list[str] = []
    app = beside(recorded("host", log), "/llm", recorded("app", log))
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()

    async def serve() -> None:
        await app(lifespan_scope(), inbox.get, outbox.put)

    inbox.put_nowait({"type": "lifespan.startup"})
    before = asyncio.all_tasks()
    serving = asyncio.create_task(serve())
    async with asyncio.timeout(5):
        assert COMPLETE == await outbox.get()
        serving.cancel()
        await asyncio.wait({serving})
    assert serving.cancelled()
    assert ["host up", "app up", "app down", "host down"] == log
    assert before == asyncio.all_tasks()


async def test_a_server_cancelled_while_it_starts_unwinds_what_began() -> None:
    """A start that hangs, and is given up, leaves neither host nor app behind."""
    log: list[str] = []
    waiting = asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        try:
            waiting.set()
            await asyncio.Event().wait()
            yield
        finally:
            log.append("app gave up")

    app = beside(recorded("host", log), "/llm", Starlette(lifespan=lifespan))
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    inbox.put_nowait({"type": "lifespan.startup"})

    async def serve() -> None:
        await app(lifespan_scope(), inbox.get, Recorder())

    before = asyncio.all_tasks()
    serving = asyncio.create_task(serve())
    async with asyncio.timeout(5):
        await waiting.wait()
        serving.cancel()
        await asyncio.wait({serving})
    assert ["host up", "app gave up", "host down"] == log
    assert before == asyncio.all_tasks()


def keeping(name: str) -> Callable[[object], AbstractAsyncContextManager[dict[str, str]]]:
    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[dict[str, str]]:
        yield {"name": name, name: "here"}

    return lifespan


async def test_each_sees_the_state_of_its_own_lifespan(lifespan_server: Callable[..., Any]) -> None:
    """What one puts into ``scope["state"]`` is not the other's, and the server's own stays."""
    seen: list[dict[str, Any]] = []

    def stateful(name: str) -> ASGIApp:
        starlette = Starlette(lifespan=keeping(name))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await starlette(scope, receive, send)
            else:
                seen.append(scope["state"])

        return app

    both = beside(stateful("host"), "/llm", stateful("app"))
    server = lifespan_server(both, lifespan_scope(state={"server": 1}))
    assert COMPLETE == await server.start()
    for path in ("/", "/llm/"):
        await both(http_scope("GET", path, state={**server.state}), _nothing, Recorder())
    assert [
        {"server": 1, "name": "host", "host": "here"},
        {"server": 1, "name": "app", "app": "here"},
    ] == seen
    assert {"server": 1} == server.state
    assert STOPPED == await server.stop()


async def test_no_state_is_made_up(lifespan_server: Callable[..., Any]) -> None:
    """Where the server keeps no state, the apps are told so."""
    scopes: list[Scope] = []

    async def keeps(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    scope = lifespan_scope()
    del scope["state"]
    assert COMPLETE == await lifespan_server(beside(keeps, "/llm", keeps), scope).start()
    assert [False, False] == ["state" in scope for scope in scopes]


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


PATHS = {
    "/llm/v1/x": ("app", "/v1/x"),
    "/llm": ("app", "/"),
    "/llm/": ("app", "/"),
    "/llm//v1/x": ("app", "//v1/x"),
    "/llm/llm/v1": ("app", "/llm/v1"),
    "/": ("host", "/"),
    "/llmx": ("host", "/llmx"),
    "/llmx/v1": ("host", "/llmx/v1"),
    "/LLM/v1": ("host", "/LLM/v1"),
    "//llm/v1": ("host", "//llm/v1"),
    "/a/llm/v1": ("host", "/a/llm/v1"),
    "/./llm/v1": ("host", "/./llm/v1"),
}

ROOTS: dict[str, dict[str, str]] = {
    "no root_path": {"path": "{path}", "root_path": ""},
    "path holds root_path": {"path": "/myapp{path}", "root_path": "/myapp"},
    "path does not": {"path": "{path}", "root_path": "/myapp"},
    "in a mount": {"path": "/a{path}", "root_path": "/a", "app_root_path": ""},
    "in a mount, path does not": {
        "path": "/a{path}",
        "root_path": "/myapp/a",
        "app_root_path": "/myapp",
    },
}


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("keys", ROOTS.values(), ids=ROOTS)
@pytest.mark.parametrize(("path", "expected"), PATHS.items())
async def test_the_prefix_decides(
    path: str, expected: tuple[str, str], keys: dict[str, str], kind: str
) -> None:
    """The app gets what is below the prefix, in any form of ``root_path``, and no more."""
    seen: list[tuple[str, str]] = []
    inside: list[Scope] = []

    def app(name: str) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append((name, route_path(scope)))
            inside.append(scope)

        return app

    changes: dict[str, Any] = {key: value.format(path=path) for key, value in keys.items()}
    scope = http_scope(**changes) if kind == "http" else websocket_scope(**changes)
    before = {**scope}
    both = beside(app("host"), "/llm/", app("app"))
    await both(scope, _nothing, Recorder())
    assert [expected] == seen
    assert before == scope
    if expected[0] == "host":
        assert inside[0] is scope
    else:
        root = keys["root_path"]
        assert f"{root}/llm" == inside[0]["root_path"]
        assert inside[0]["path"].startswith(f"{root}/llm")


@pytest.mark.parametrize("prefix", ["", "/", "llm", "//", "/llm//", "/{tenant}"])
def test_a_bad_prefix_is_refused(prefix: str) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        beside(refuses, prefix, refuses)
    assert "prefix" == caught.value.param

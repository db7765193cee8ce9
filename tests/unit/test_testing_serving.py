"""Real servers around an app."""

from __future__ import annotations

import asyncio
import http.client
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm import errors
from asgi_llm.testing.serving import ServerName, serve, serve_in_thread

SERVERS: tuple[ServerName, ...] = ("uvicorn", "hypercorn", "granian")

SOURCE = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if os.environ.get("KIT_HANG"):
            await asyncio.Event().wait()
        if os.environ.get("KIT_FAIL"):
            await send({"type": "lifespan.startup.failed", "message": "as asked"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        with open(os.environ["KIT_LOG"], "a") as log:
            log.write("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    text = scope["root_path"] + " " + scope["path"]
    await send({"type": "http.response.body", "body": text.encode()})
"""


def ask(url: str, path: str) -> bytes:
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)) as client:
        client.request("GET", path)
        return client.getresponse().read()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module with ``app``, which logs its lifespan's end."""
    name = f"kit_app_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("KIT_LOG", str(tmp_path / "log"))
    return name


@pytest.mark.parametrize("server", SERVERS)
async def test_a_server_serves_while_the_block_runs(
    server: ServerName, module: str, tmp_path: Path
) -> None:
    """The app is reached, told its prefix, and its lifespan is ended; then the port is closed."""
    async with serve(f"{module}:app", server, root_path="/root") as url:
        answer = await asyncio.to_thread(ask, url, "/root/x")
        assert answer.startswith(b"/root ")
        assert answer.endswith(b"/x")
    assert "shutdown" == (tmp_path / "log").read_text()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(ask, url, "/")


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_in_a_thread_serves_a_blocking_client(
    server: ServerName, module: str, tmp_path: Path
) -> None:
    """The same for synchronous tests, and no thread is left."""
    before = set(threading.enumerate())
    with serve_in_thread(f"{module}:app", server) as url:
        assert b" /x" == ask(url, "/x")
    assert "shutdown" == (tmp_path / "log").read_text()
    left = set(threading.enumerate()) - before
    assert not [one for one in left if one.name.startswith("asgi-llm-")]


@pytest.mark.parametrize("server", SERVERS)
async def test_a_lifespan_that_fails_is_told(
    server: ServerName, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entering raises instead of waiting for a port that will never open."""
    monkeypatch.setenv("KIT_FAIL", "1")
    with pytest.raises(Exception, match=r"(?i)lifespan|granian ended"):
        async with asyncio.timeout(20), serve(f"{module}:app", server):
            pytest.fail("the server started")
    sys.modules.pop(module, None)


@pytest.mark.parametrize("server", SERVERS)
async def test_a_lifespan_that_hangs_meets_the_deadline(
    server: ServerName, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Startup has a deadline of its own, and the server is gone after it."""
    monkeypatch.setenv("KIT_HANG", "1")
    started = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError, match="did not start within"):
        async with serve(f"{module}:app", server, startup_seconds=1.0):
            pytest.fail("the server started")
    assert asyncio.get_running_loop().time() - started < 5


@pytest.mark.parametrize("http_parser", ["httptools", "h11"])
async def test_uvicorn_uses_the_parser_that_is_named(http_parser: Any) -> None:
    """The ``receive`` that the app gets is that of the parser's own protocol class."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        seen.append(type(receive.__self__).__module__)  # type: ignore[attr-defined]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async with serve(app, http=http_parser) as url:
        assert b"ok" == await asyncio.to_thread(ask, url, "/")
    assert [f"uvicorn.protocols.http.{http_parser}_impl"] == seen


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
async def test_a_request_that_does_not_end_is_ended(server: ServerName) -> None:
    """The end of the block does not wait longer than asked for a stuck request."""
    entered = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        entered.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(8):
        async with serve(app, server, shutdown_seconds=1) as url:
            host, port = url.removeprefix("http://").split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await entered.wait()
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("server", "options", "param"),
    [
        ("granian", {}, "app"),
        ("hypercorn", {"http": "h11"}, "http"),
        ("uvicorn", {"environment": {}}, "environment"),
        ("apache", {}, "server"),
    ],
)
def test_what_a_server_cannot_do_is_refused(server: Any, options: Any, param: str) -> None:
    """Before anything is started, naming the argument."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("never served")

    with pytest.raises(errors.ConfigurationError) as caught:
        serve(app, server, **options)
    assert param == caught.value.param


def test_an_app_without_a_module_is_refused() -> None:
    """An import string has two parts."""
    with pytest.raises(errors.ConfigurationError, match="module:attribute"):
        serve("nothing")

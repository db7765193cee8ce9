"""Real ASGI servers around an app, on a free local port: uvicorn, hypercorn and granian.

Not imported by ``asgi_llm.testing`` itself, since the servers are optional.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import IO, Any, Literal

from starlette.types import ASGIApp

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.testing._thread import LoopThread

__all__ = ["ServerName", "serve", "serve_in_thread"]

ServerName = Literal["uvicorn", "hypercorn", "granian"]

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.01


def serve(
    app: ASGIApp | str,
    server: ServerName = "uvicorn",
    *,
    http: Literal["httptools", "h11"] | None = None,
    root_path: str = "",
    startup_seconds: float = 20.0,
    shutdown_seconds: float = 5.0,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> AbstractAsyncContextManager[str]:
    """Serve ``app`` while the block runs; gives the url, ``http://127.0.0.1:PORT``.

    Args:
        app: The app, or ``module:attribute``. granian runs in a process of its own and takes only
            the latter; it finds what this process can import.
        server: uvicorn and hypercorn run as a task on this event loop.
        http: uvicorn's parser; None leaves it to uvicorn.
        root_path: The prefix that the server is told it is mounted at.
        startup_seconds: Deadline until the port accepts and the app's lifespan has begun.
        shutdown_seconds: How long requests that are under way may go on at the end.
        environment: Further environment variables, for granian only.
        **options: For the server as they are: arguments of ``uvicorn.Config``, attributes of
            hypercorn's ``Config``, or granian's long flags (``log_level="info"``).

    Raises:
        ConfigurationError: The server is not installed, or cannot do what is asked.
        RuntimeError: The server, or the app's lifespan, did not start.
        TimeoutError: It did not start in time.
    """
    if http is not None and server != "uvicorn":
        raise ConfigurationError("http chooses a parser of uvicorn only", param="http")
    if environment is not None and server != "granian":
        raise ConfigurationError(
            "environment is for granian only; the others run in this process", param="environment"
        )
    if server == "uvicorn":
        settings = {"http": http or "auto", "root_path": root_path, **options}
        return _uvicorn(_load(app), startup_seconds, shutdown_seconds, settings)
    if server == "hypercorn":
        settings = {"root_path": root_path, **options}
        return _hypercorn(_load(app), startup_seconds, shutdown_seconds, settings)
    if server == "granian":
        if not isinstance(app, str):
            raise ConfigurationError("granian takes an app as module:attribute only", param="app")
        settings = {"url_path_prefix": root_path, **options} if root_path else options
        return _granian(app, startup_seconds, shutdown_seconds, environment or {}, settings)
    raise ConfigurationError("server must be uvicorn, hypercorn or granian", param="server")


@contextlib.contextmanager
def serve_in_thread(
    app: ASGIApp | str, server: ServerName = "uvicorn", **options: Any
) -> Iterator[str]:
    """``serve`` for a synchronous test: the app runs on an event loop in a thread."""
    thread = LoopThread(f"asgi-llm-{server}")
    manager = serve(app, server, **options)
    thread.start()
    try:
        url = thread.enter(manager)
        try:
            yield url
        finally:
            thread.leave(manager)
    finally:
        thread.stop()


@contextlib.asynccontextmanager
async def _uvicorn(
    app: ASGIApp, startup: float, shutdown: float, settings: Mapping[str, Any]
) -> AsyncIterator[str]:
    uvicorn = require("uvicorn", extra="gateway")
    # uvicorn reads whole seconds.
    graceful = max(1, round(shutdown))
    config = uvicorn.Config(
        app,
        **{
            "log_config": None,
            "log_level": "warning",
            "access_log": False,
            "timeout_graceful_shutdown": graceful,
            **settings,
        },
    )
    server = uvicorn.Server(config)
    # The signals of the process belong to the test runner.
    server.capture_signals = contextlib.nullcontext

    async def run(listener: socket.socket) -> None:
        try:
            await server.serve(sockets=[listener])
        except SystemExit as error:
            raise RuntimeError("uvicorn did not start: the app's lifespan failed") from error

    def stop() -> None:
        server.should_exit = True

    with _listener() as listener:
        task = asyncio.create_task(run(listener))
        async with _running(task, lambda: bool(server.started), stop, startup, shutdown):
            yield _url(listener)


@contextlib.asynccontextmanager
async def _hypercorn(
    app: ASGIApp, startup: float, shutdown: float, settings: Mapping[str, Any]
) -> AsyncIterator[str]:
    hypercorn = _separate("hypercorn.asyncio")
    configuration = _separate("hypercorn.config")
    config = configuration.Config()
    config.loglevel = "WARNING"
    config.graceful_timeout = shutdown
    for name, value in settings.items():
        setattr(config, name, value)
    over = asyncio.Event()
    with _listener() as listener:
        config.create_sockets = lambda: configuration.Sockets([], [listener], [])
        task = asyncio.create_task(
            hypercorn.serve(app, config, shutdown_trigger=over.wait, mode="asgi")
        )

        def started() -> bool:
            return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

        async with _running(task, started, over.set, startup, shutdown):
            yield _url(listener)


@contextlib.asynccontextmanager
async def _granian(
    app: str,
    startup: float,
    shutdown: float,
    environment: Mapping[str, str],
    settings: Mapping[str, Any],
) -> AsyncIterator[str]:
    _separate("granian")
    # granian binds by itself; the port is free at this moment, and nothing can hold it for it.
    with _listener() as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", _HOST]
    command += ["--port", str(port), "--log-level", "warning", "--workers", "1"]
    command += ["--workers-kill-timeout", str(max(1, round(shutdown)))]
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            command.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            command += [f"--{flag}", str(value)]
    with tempfile.TemporaryFile() as output:
        process = _spawn([*command, app], environment, output)
        try:
            await _answers(process, port, output, startup)
        except BaseException:
            await _kill(process)
            raise
        try:
            yield f"http://{_HOST}:{port}"
        finally:
            await _end(process, shutdown)


def _spawn(
    command: list[str], environment: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return subprocess.Popen(  # noqa: S603  our own interpreter and the test's arguments
        command,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        # A group of its own, so that its workers can be ended with it.
        start_new_session=True,
    )


async def _answers(
    process: subprocess.Popen[bytes], port: int, output: Any, seconds: float
) -> None:
    try:
        async with asyncio.timeout(seconds):
            while process.poll() is None:
                try:
                    _, writer = await asyncio.open_connection(_HOST, port)
                except OSError:
                    await asyncio.sleep(_POLL_SECONDS)
                    continue
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return
    except TimeoutError as error:
        raise TimeoutError(f"granian did not start within {seconds:g} s") from error
    output.seek(0)
    told = output.read().decode("utf-8", "replace")
    raise RuntimeError(f"granian ended with {process.returncode}: {told[-2000:]}")


async def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, seconds + 5)
        except subprocess.TimeoutExpired:
            await _kill(process)


async def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait)


@contextlib.asynccontextmanager
async def _running(
    task: asyncio.Task[None],
    started: Callable[[], bool],
    stop: Callable[[], None],
    startup: float,
    shutdown: float,
) -> AsyncIterator[None]:
    """Wait for a server's task to have started, and at the end for it to be over."""
    try:
        try:
            async with asyncio.timeout(startup):
                # The servers have no event to wait for.
                while not started() and not task.done():  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            task.cancel()
            raise TimeoutError(f"the server did not start within {startup:g} s") from error
        if task.done():
            raise task.exception() or RuntimeError("the server ended before it had started")
        yield
    finally:
        stop()
        # A server waits for its requests by itself; this is for one that does not come back.
        await asyncio.wait([task], timeout=shutdown + 5)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        failure = None if task.cancelled() else task.exception()
    if failure is not None:
        raise failure


@contextlib.contextmanager
def _listener() -> Iterator[socket.socket]:
    # Named, since asyncio sends small pieces at once only where the protocol says that it is TCP.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, 0))
        listener.setblocking(False)
        yield listener


def _url(listener: socket.socket) -> str:
    return f"http://{_HOST}:{listener.getsockname()[1]}"


def _load(app: ASGIApp | str) -> ASGIApp:
    if not isinstance(app, str):
        return app
    module, _, attribute = app.partition(":")
    if not module or not attribute:
        raise ConfigurationError("app must be an app or module:attribute", param="app")
    found: Any = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    loaded: ASGIApp = found
    return loaded


def _separate(module: str) -> Any:
    """Import a server that no extra of the package brings."""
    try:
        return require(module, extra="gateway")
    except ConfigurationError as error:
        name = module.partition(".")[0]
        raise ConfigurationError(
            f"{name} is not installed; run: pip install {name}", param="server"
        ) from error

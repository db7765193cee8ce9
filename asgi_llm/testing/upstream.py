"""A scripted HTTP upstream on a real socket, and a ledger of what it really served."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Self

from asgi_llm.errors import ConfigurationError
from asgi_llm.testing._server import Connection
from asgi_llm.testing.ledger import ReceivedRequest, Served
from asgi_llm.testing.replies import (
    Close,
    Reply,
    Reset,
    Signal,
    Step,
    Wait,
    json_reply,
    raw_reply,
    sse_reply,
)
from asgi_llm.testing.threaded import ThreadedUpstream

__all__ = [
    "Close",
    "Handler",
    "ReceivedRequest",
    "Reply",
    "Reset",
    "Served",
    "Signal",
    "Step",
    "ThreadedUpstream",
    "Upstream",
    "Wait",
    "json_reply",
    "raw_reply",
    "sse_reply",
]

Handler = Callable[[ReceivedRequest], Reply | Awaitable[Reply]]
"""Chooses the reply to a request. May be a coroutine function; it is cancelled when the client
leaves. Its exceptions become a 500, and are raised again when the upstream is closed."""


class Upstream:
    """An HTTP/1.1 server that answers as it is told, for tests of what calls an upstream.

    Use it as an async context manager. Replies come from the script, then from the handler; with
    no handler, the last reply of the script is repeated. Errors of the test itself (no reply left,
    a handler that raised, malformed HTTP from the client) are kept in ``failures`` and raised when
    the block ends, unless it ends with an exception of its own.

    Args:
        handler: Chooses the reply to each request that the script has none for.
        ssl_context: A server's context, for https.
        host: Address to listen on, IPv4 or IPv6.
        port: Port to listen on; 0 takes a free one.
        record_bodies: Keep request bodies.
        repeat_last: Without a handler, go on with the script's last reply when it has run out
            (unless its body is an iterator).
        answer_early: Ask for a reply as soon as a request's headers are there, not its body.
        send_buffer_bytes: The operating system's send buffer of each connection, so that a client
            that does not read blocks the upstream soon; None leaves it to the system.

    Streaming: a reply is taken step by step; what the client does not read is not produced.
    """

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        record_bodies: bool = True,
        repeat_last: bool = True,
        answer_early: bool = False,
        send_buffer_bytes: int | None = None,
    ) -> None:
        if send_buffer_bytes is not None and send_buffer_bytes < 1:
            raise ConfigurationError(
                "send_buffer_bytes must be at least 1", param="send_buffer_bytes"
            )
        self.host = host
        self.port = port
        self.record_bodies = record_bodies
        self.answer_early = answer_early
        self.ledger: list[Served] = []
        """One row a request, in order of arrival."""
        self.connections = 0
        """Connections accepted so far."""
        self.failures: list[Exception] = []
        """Errors of the test itself."""
        self._handler = handler
        self._context = ssl_context
        self._repeat_last = repeat_last
        self._send_buffer = send_buffer_bytes
        self._queue: deque[Reply] = deque()
        self._last: Reply | None = None
        self._socket: socket.socket | None = None
        self._open: set[Connection] = set()
        self._waiting: list[asyncio.Future[None]] = []

    @classmethod
    def in_thread(cls, handler: Handler | None = None, **options: Any) -> ThreadedUpstream:
        """The same server in a thread of its own, as a synchronous context manager.

        Args:
            handler: Runs in that thread.
            **options: As for the class.
        """
        return ThreadedUpstream(cls(handler, **options))

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, or https; no trailing slash."""
        if not self.port:
            raise RuntimeError("an Upstream has its url once it is entered: async with upstream")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._context else 'http'}://{host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    def script(self, *replies: Reply) -> None:
        """Queue ``replies``: each request takes the next one."""
        self._queue.extend(replies)

    async def until(self, condition: Callable[[], object], *, timeout_seconds: float = 5.0) -> None:
        """Wait until ``condition`` holds; asked again whenever a row or a connection changes.

        Raises:
            TimeoutError: It did not come true; the message shows the ledger.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while not condition():
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiting.append(waiter)
                    await waiter
        except TimeoutError as error:
            raise TimeoutError(
                f"not so within {timeout_seconds:g} s; {self.open_connections} connections are "
                f"open, the ledger is {self.ledger}, failures are {self.failures}"
            ) from error

    async def arrived(self, n: int, *, timeout_seconds: float = 5.0) -> list[Served]:
        """Wait until ``n`` requests have come in; the first ``n`` rows."""
        await self.until(lambda: len(self.ledger) >= n, timeout_seconds=timeout_seconds)
        return self.ledger[:n]

    async def served(self, n: int, *, timeout_seconds: float = 5.0) -> list[Served]:
        """Wait until ``n`` requests are complete, left or cut; those rows."""
        await self.until(
            lambda: sum(row.done for row in self.ledger) >= n, timeout_seconds=timeout_seconds
        )
        return [row for row in self.ledger if row.done]

    async def drop_connections(self) -> None:
        """Close every idle connection, as a server does whose keep-alive time is over."""
        idle = [connection for connection in self._open if connection.idle]
        await _shut(idle)

    async def __aenter__(self) -> Self:
        self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
        if error is None and self.failures:
            raise self.failures[0]

    def listen(self) -> None:
        """Accept connections: at first on a free port, later on the same one again."""
        if self._socket is not None:
            return
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.create_server((self.host, self.port), family=family, backlog=1024)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._socket = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def stop_listening(self) -> None:
        """Refuse new connections, as a server that is down; those that are open go on."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def aclose(self) -> None:
        """Stop listening and end every connection and task. Idempotent."""
        self.stop_listening()
        await _shut(list(self._open))

    async def reply_to(self, request: ReceivedRequest) -> Reply:
        """The reply that the script or the handler has for ``request``."""
        if self._queue:
            self._last = self._queue.popleft()
            return self._last
        if self._handler is not None:
            reply = self._handler(request)
            return await reply if inspect.isawaitable(reply) else reply
        if self._last is None:
            raise LookupError(f"no handler and no script for {request!r}; call upstream.script()")
        if not self._repeat_last or isinstance(self._last.body, Iterator):
            raise LookupError(f"the script has run out before {request!r}, and does not repeat")
        return self._last

    def failed(self, error: Exception) -> None:
        """Keep an error of the test itself."""
        self.failures.append(error)

    def changed(self) -> None:
        """Let those who wait look again."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def ended(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        self.changed()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self.failed(error)
                self.stop_listening()
                return
            if self._send_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
            self.connections += 1
            connection = Connection(self, sock, self.connections, self._context)
            self._open.add(connection)
            self.changed()


async def _shut(connections: list[Connection]) -> None:
    for connection in connections:
        connection.shut()
    await asyncio.gather(*(one.task for one in connections), return_exceptions=True)

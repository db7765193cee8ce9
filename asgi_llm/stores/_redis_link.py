"""Ways to one Redis: commands out, and each reply handed to whoever its command belongs to."""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from asgi_llm._optional import require

__all__ = ["Link", "open_link"]

IDLE_SECONDS = 0.002
"""A connection that was silent for so long is looked at before it is used again."""

Command = tuple[Any, ...]
OnReply = Callable[[Any, Any], None]
"""Called with what a command was sent for, and its reply: an exception where it failed."""


class Link(Protocol):
    """A way to send commands. ``what`` names each, and its reply comes with it."""

    def send(self, what: Hashable, command: Command) -> None:
        """Send a command; the reply is handed over later, and never from within this call."""
        ...

    def give_up(self, what: Hashable) -> None:
        """Await the reply no more. It is not handed over."""
        ...

    async def aclose(self) -> None:
        """Close what was opened here."""
        ...


def open_link(client: Any, on_reply: OnReply) -> Link:
    """A link for a client of ``redis.asyncio``. It opens nothing before it is used."""
    cluster = require("redis.asyncio.cluster", extra="redis").RedisCluster
    return (_ClusterLink if isinstance(client, cluster) else _WireLink)(client, on_reply)


class _ClusterLink:
    """Commands through the cluster's own client, which follows keys that have moved."""

    def __init__(self, client: Any, on_reply: OnReply) -> None:
        self._client = client
        self._on_reply = on_reply
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    def send(self, what: Hashable, command: Command) -> None:
        self._tasks[what] = asyncio.get_running_loop().create_task(self._run(what, command))

    def give_up(self, what: Hashable) -> None:
        task = self._tasks.pop(what, None)
        if task is not None:
            task.cancel()

    async def aclose(self) -> None:
        for what in list(self._tasks):
            self.give_up(what)

    async def _run(self, what: Hashable, command: Command) -> None:
        try:
            reply = await self._client.execute_command(*command)
        except Exception as error:
            reply = error
        del self._tasks[what]
        self._on_reply(what, reply)


class _WireLink:
    """One connection, on which commands follow each other without waiting for replies.

    ``redis.asyncio`` connects: it knows TLS, credentials and sentinels. Then the connection is read
    and written here, because a call through its streams and locks costs ten times as much.
    """

    def __init__(self, client: Any, on_reply: OnReply) -> None:
        self._pool = client.connection_pool
        self._on_reply = on_reply
        self._pack: Callable[[Command], bytes] = require("hiredis", extra="redis").pack_command
        self._connecting: asyncio.Task[None] | None = None
        self._queued: dict[Hashable, Command] = {}
        """Waits for the connection."""
        self._wire: _Wire | None = None

    def send(self, what: Hashable, command: Command) -> None:
        wire = self._wire
        if wire is not None:
            if wire.awaited or not wire.was_closed_unheard():
                wire.awaited.append(what)
                wire.transport.write(self._pack(command))
                return
            wire.close()
        self._queued[what] = command
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def give_up(self, what: Hashable) -> None:
        """Also closes the connection that the reply is awaited on.

        A server that answers none of several commands in time may be another one's by now.
        """
        if self._queued.pop(what, None) is not None:
            if not self._queued and self._connecting is not None:
                self._connecting.cancel()
                self._connecting = None
            return
        wire = self._wire
        if wire is not None and what in wire.awaited:
            wire.awaited.remove(what)
            wire.close()

    async def aclose(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._queued.clear()
        if self._wire is not None:
            await self._wire.aclose()

    async def _connect(self) -> None:
        connection = self._pool.make_connection()
        try:
            await connection.connect()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if not isinstance(error, Exception):
                raise
            self._connecting = None
            queued, self._queued = self._queued, {}
            for what in queued:
                self._on_reply(what, error)
            return
        self._connecting = None
        self._wire = _Wire(connection, self._on_reply, self._lost)
        queued, self._queued = self._queued, {}
        for what, command in queued.items():
            self.send(what, command)

    def _lost(self, wire: _Wire) -> None:
        if self._wire is wire:
            self._wire = None


class _Wire(asyncio.Protocol):
    """A connection that ``redis.asyncio`` has made.

    Attributes:
        transport: Where commands are written.
        awaited: What the commands were for whose replies are still to come, in their order.
    """

    def __init__(
        self, connection: Any, on_reply: OnReply, on_lost: Callable[[_Wire], None]
    ) -> None:
        hiredis = require("hiredis", extra="redis")
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._reader = hiredis.Reader()
        self._push: type[Any] = hiredis.PushNotification
        self._error_reply: type[Any] = hiredis.ReplyError
        self._protocol_error: type[Exception] = hiredis.ProtocolError
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.awaited: deque[Hashable] = deque()
        # From here on it is ours; whoever made it is to close or to report nothing.
        self._writer: Any = connection._writer
        connection._reader = connection._writer = None
        self.transport: asyncio.Transport = self._writer.transport
        self.transport.set_protocol(self)
        self._poll = select.poll()
        self._poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)

    def was_closed_unheard(self) -> bool:
        """Whether there is something to read that nobody waits for, such as the end."""
        return self._loop.time() - self._heard > IDLE_SECONDS and bool(self._poll.poll(0))

    def data_received(self, data: bytes) -> None:
        reader, awaited = self._reader, self.awaited
        self._heard = self._loop.time()
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if isinstance(reply, self._push):
                    continue
                if isinstance(reply, self._error_reply) and str(reply).startswith("READONLY"):
                    # A replica by now: the master is elsewhere.
                    self.close()
                if awaited:
                    self._on_reply(awaited.popleft(), reply)
        except self._protocol_error as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionError("Redis closed the connection"))
        if not self._closed.done():
            self._closed.set_result(None)

    def close(self) -> None:
        """Close the connection; the replies that are awaited on it will not come."""
        self._on_lost(self)
        self.transport.abort()

    async def aclose(self) -> None:
        """Close the connection, and wait until it is."""
        self.close()
        await self._closed

    def _fail(self, error: Exception) -> None:
        self.close()
        while self.awaited:
            self._on_reply(self.awaited.popleft(), error)

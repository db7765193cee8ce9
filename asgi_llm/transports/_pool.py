"""The connections to one origin: last in, first out, with caps."""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from asgi_llm.transports._connection import Connection
from asgi_llm.transports._dial import Resolve, dial
from asgi_llm.transports._target import Origin
from asgi_llm.transports.base import ConnectError, Timeouts, TransportTimeoutError

_LEAST_SWEEP_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolOptions:
    """What all pools of a transport share; see ``Http1Transport``."""

    max_connections_per_origin: int
    max_idle_per_origin: int
    idle_expiry_seconds: float
    max_header_bytes: int
    high_water_bytes: int
    clock: Callable[[], float]
    resolver: Resolve | None = None


class Keeper:
    """Knows every open socket of a transport on one loop, and closes those idle for too long.

    One timer serves all pools, and only while a connection is idle.
    """

    __slots__ = ("_emptied", "closed", "loop", "open", "options", "pools", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, options: PoolOptions) -> None:
        self.loop = loop
        self.options = options
        self.pools: dict[Origin, Pool] = {}
        self.open: set[Connection] = set()
        self.closed = False
        self.timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def pool(self, origin: Origin, context: ssl.SSLContext | None) -> Pool:
        """The pool of ``origin``."""
        pool = self.pools.get(origin)
        if pool is None:
            pool = self.pools[origin] = Pool(self, origin, context)
        return pool

    def prune(self) -> None:
        """Forget the pools that nothing is open in and nobody waits for."""
        self.pools = {origin: pool for origin, pool in self.pools.items() if not pool.is_empty}

    def watch(self) -> None:
        """A connection has become idle."""
        if self.timer is None:
            self.timer = self.loop.call_later(self.options.idle_expiry_seconds, self._sweep)

    def lost(self, connection: Connection) -> None:
        """A socket is closed."""
        self.open.discard(connection)
        if not self.open and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def close(self) -> None:
        """Close everything; whoever waits for a connection is told."""
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for pool in self.pools.values():
            pool.close()
        for connection in list(self.open):
            connection.fail(ConnectError("the transport was closed"))

    async def aclose(self) -> None:
        """Close everything and wait until the sockets are gone."""
        self.close()
        while self.open:
            self._emptied = self.loop.create_future()
            await self._emptied

    def _sweep(self) -> None:
        self.timer = None
        wait = min((pool.expire() for pool in self.pools.values()), default=math.inf)
        if wait < math.inf:
            self.timer = self.loop.call_later(wait, self._sweep)


class Pool:
    """Places for connections to one origin, and the idle ones."""

    __slots__ = (
        "_clock",
        "_context",
        "_expiry",
        "_idle",
        "_keeper",
        "_max_idle",
        "_origin",
        "_places",
        "_waiters",
    )

    def __init__(self, keeper: Keeper, origin: Origin, context: ssl.SSLContext | None) -> None:
        self._keeper = keeper
        self._origin = origin
        self._context = context
        self._clock = keeper.options.clock
        self._expiry = keeper.options.idle_expiry_seconds
        self._max_idle = keeper.options.max_idle_per_origin
        self._idle: list[Connection] = []
        self._places = 0
        # Each gets a connection, or None with a place to open one.
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is open or being opened."""
        return not self._places

    def take(self) -> Connection | None:
        """The connection that was used last and still stands; None: one has to be opened.

        A connection that died while idle, or that something unasked has come on, is found here,
        before anything is written to it, and the next is taken. Once bytes are handed to the socket
        nothing is tried again.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            age = self._clock() - connection.idle_since
            # The loop may be behind the socket, however short the connection was idle.
            if age <= self._expiry and connection.is_usable() and not connection.has_news():
                return connection
            connection.close()
        return None

    async def open(self, timeouts: Timeouts, connect_at: float, total_at: float) -> Connection:
        """A connection when ``take`` has none: a new one, or one that another request gives back.

        Args:
            timeouts: For the text of the error.
            connect_at: When it has to stand, on the loop's clock.
            total_at: When the whole call has to be over.

        Raises:
            ConnectError: As drawn in ``base``.
            TransportTimeoutError: ``connect`` or ``total``.
        """
        due = min(connect_at, total_at)
        deadline = asyncio.timeout_at(None if due == math.inf else due)
        try:
            async with deadline:
                return await self._open()
        except TimeoutError as error:
            if not deadline.expired():
                raise ConnectError(f"cannot connect to {self._origin}: {error}") from error
            if connect_at <= total_at:
                raise TransportTimeoutError("connect", timeouts.connect_seconds or 0) from error
            raise TransportTimeoutError("total", timeouts.total_seconds or 0) from error
        except (OSError, UnicodeError) as error:
            raise ConnectError(f"cannot connect to {self._origin}: {error}") from error

    async def _open(self) -> Connection:
        cap = self._keeper.options.max_connections_per_origin
        first = True
        while self._places >= cap:
            connection = await self._wait(first)
            if connection is None:
                break
            if connection.is_usable() and not connection.has_news():
                return connection
            # It died on its way here, and gave its place up. This request keeps its turn.
            connection.close()
            first = False
        else:
            self._places += 1
        try:
            return await self._connect()
        except BaseException:
            self._free_place()
            raise

    async def _connect(self) -> Connection:
        if self._keeper.closed:
            raise ConnectError("the transport is closed")
        origin = self._origin
        resolver = self._keeper.options.resolver
        connection = await dial(self._make, origin.host, origin.port, self._context, resolver)
        if self._keeper.closed or not connection.is_usable():
            connection.close()
            raise ConnectError(f"the connection to {origin} was closed at once")
        protocol = connection.negotiated()
        if protocol not in (None, "http/1.1"):
            connection.close()
            raise ConnectError(f"{origin} does not speak HTTP/1.1 but {protocol}")
        # Not from `connection_made` on: uvloop does not tell the loss of a connection whose
        # `create_connection` is cancelled in the moment when it stands.
        self._keeper.open.add(connection)
        connection.has_place = True
        return connection

    def _make(self) -> Connection:
        options = self._keeper.options
        return Connection(
            self._keeper.loop,
            self,
            max_header_bytes=options.max_header_bytes,
            high_water_bytes=options.high_water_bytes,
        )

    async def _wait(self, first: bool) -> Connection | None:
        waiter: asyncio.Future[Connection | None] = self._keeper.loop.create_future()
        if first:
            self._waiters.append(waiter)
        else:
            self._waiters.appendleft(waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.cancelled():
                # Unless somebody has passed it over already.
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
            elif (connection := waiter.result()) is None:
                self._free_place()
            elif connection.is_usable():
                self.release(connection)
            raise

    # What connections and the keeper call

    def lost(self, connection: Connection) -> None:
        """A socket is closed."""
        self._keeper.lost(connection)

    def release(self, connection: Connection) -> None:
        """``connection`` is free: the one who waits longest gets it, else it becomes idle."""
        if self._waiters and (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
            return
        connection.idle_since = self._clock()
        idle = self._idle
        idle.append(connection)
        if len(idle) > self._max_idle:
            idle[0].close()
        if self._keeper.timer is None:
            self._keeper.watch()

    def forget(self, connection: Connection) -> None:
        """``connection`` is given up."""
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.has_place:
            connection.has_place = False
            self._free_place()

    def expire(self) -> float:
        """Close what is idle for too long; seconds until the next will be."""
        now = self._clock()
        while self._idle:
            left = self._idle[0].idle_since + self._expiry - now
            if left >= 0:
                return max(left, _LEAST_SWEEP_SECONDS)
            self._idle[0].close()
        return math.inf

    def close(self) -> None:
        """Give everyone who waits a place, in which they will find the transport closed."""
        while (waiter := self._next_waiter()) is not None:
            self._places += 1
            waiter.set_result(None)

    def _free_place(self) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(None)
        else:
            self._places -= 1

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        """Who is due; one that was cancelled in this turn of the loop may still stand in line."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

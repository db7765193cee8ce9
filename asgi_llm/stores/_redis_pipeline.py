"""Calls of one script that are made in one turn of the loop leave for Redis together.

A call through ``redis.asyncio`` costs some 90 us of CPU; here its share of a batch costs a few: one
command, one packet and one reply for all calls of a turn. Order is kept: what was called first is
done first, in one batch or in two.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from asgi_llm._optional import require
from asgi_llm.errors import StoreError

__all__ = ["Batch", "ScriptPipeline"]

MAX_OPERATIONS = 128
"""In one batch: Redis serves nobody else while it runs one."""
STOOD_STILL_SECONDS = 0.005
"""A timer that is so late tells that the loop was held up, or the whole process."""


class Batch:
    """Operations that go to Redis in one command.

    Attributes:
        keys: The keys of all operations; an operation names them by their place, from 1.
    """

    __slots__ = ("deadline", "futures", "keys", "operations", "task", "timer")

    def __init__(self, deadline: float) -> None:
        self.keys: list[str] = []
        self.operations: list[Any] = []
        self.futures: list[asyncio.Future[Any] | None] = []
        self.deadline = deadline
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def call(self, operation: Any, future: asyncio.Future[Any] | None) -> int:
        """Add an operation; nobody waits for the answer where ``future`` is None."""
        self.operations.append(operation)
        self.futures.append(future)
        return len(self.operations) - 1

    def answer(self, replies: list[Any]) -> None:
        for future, reply in zip(self.futures, replies, strict=True):
            if future is not None and not future.done():
                future.set_result(reply)

    def fail(self, cause: str, error: BaseException | None = None) -> None:
        for future in self.futures:
            if future is not None and not future.done():
                failure = StoreError(cause)
                failure.__cause__ = error
                future.set_exception(failure)


class _Link(Protocol):
    """One way to send a command and to await its reply."""

    async def ask(self, command: tuple[Any, ...]) -> Any: ...

    async def aclose(self) -> None: ...


class ScriptPipeline:
    """Runs one Lua script with the operations of each loop turn.

    Args:
        client: Of ``redis.asyncio``: one server's, Sentinel's or a Cluster's. It stays the
            caller's. For all but a Cluster the pipeline has one connection of its own.
        script: Takes the keys, and a MessagePack list of operations as its one argument; replies
            with one answer for each.
        timeout_seconds: After this a call fails with StoreError, wherever it is. Above 0.
        max_in_flight: How many batches may await their reply; later ones gather until one came.
    """

    def __init__(
        self, client: Any, script: str, *, timeout_seconds: float, max_in_flight: int = 4
    ) -> None:
        self._client = client
        self._script = script
        self._digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._timeout_seconds = timeout_seconds
        self._max_in_flight = max_in_flight
        self._encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
        errors = require("redis.exceptions", extra="redis")
        self._no_script: type[Exception] = errors.NoScriptError
        self._redis_error: type[Exception] = errors.RedisError
        self._begin(None)

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Start anew on ``loop``: a connection cannot follow to another."""
        self.loop = loop
        self._link = _link(self._client)
        self._open: Batch | None = None
        self._waiting: deque[Batch] = deque()
        self._in_flight: set[Batch] = set()

    def batch(self) -> Batch:
        """The batch that the next call goes into."""
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self._begin(loop)
        batch = self._open
        if batch is not None and len(batch.operations) < MAX_OPERATIONS:
            return batch
        if batch is None:
            loop.call_soon(self._flush)
        else:
            self._waiting.append(batch)
        deadline = loop.time() + self._timeout_seconds
        batch = self._open = Batch(deadline)
        batch.timer = loop.call_at(deadline, self._run_out, batch)
        return batch

    async def aclose(self) -> None:
        """Fail what is under way, and close the connection."""
        batches = [*self._in_flight, *self._waiting]
        if self._open is not None:
            batches.append(self._open)
        for batch in batches:
            self._expire(batch, "the store was closed")
        await self._link.aclose()

    def _flush(self) -> None:
        if self._open is not None:
            self._waiting.append(self._open)
            self._open = None
        self._send()

    def _send(self) -> None:
        while self._waiting and len(self._in_flight) < self._max_in_flight:
            batch = self._waiting.popleft()
            self._in_flight.add(batch)
            assert self.loop is not None  # noqa: S101  a batch has a loop
            batch.task = self.loop.create_task(self._run(batch))

    def _run_out(self, batch: Batch) -> None:
        """The deadline has passed. A loop that stood still then looks once for the reply.

        It may have come in time and lie there unread, for all batches alike: not Redis was late.
        """
        assert self.loop is not None  # noqa: S101  a batch has a loop
        if self.loop.time() - batch.deadline < STOOD_STILL_SECONDS:
            self._expire(batch)
        else:
            batch.timer = self.loop.call_later(STOOD_STILL_SECONDS, self._expire, batch)

    def _expire(self, batch: Batch, cause: str = "") -> None:
        batch.fail(cause or f"Redis did not answer within {self._timeout_seconds} seconds")
        if batch.task is not None:
            batch.task.cancel()
        elif batch in self._waiting:
            self._waiting.remove(batch)
        elif batch is self._open:
            self._open = None

    async def _run(self, batch: Batch) -> None:
        try:
            blob = self._encode(batch.operations)
            batch.answer(await self._evaluate(batch.keys, blob))
        except asyncio.CancelledError:
            batch.fail("the call to Redis was cancelled")
            raise
        except (self._redis_error, OSError) as error:
            batch.fail(f"Redis failed: {type(error).__name__}: {error}", error)
        except Exception as error:
            batch.fail(f"the answer of Redis is none: {type(error).__name__}", error)
        finally:
            if batch.timer is not None:
                batch.timer.cancel()
            self._in_flight.discard(batch)
            self._send()

    async def _evaluate(self, keys: list[str], blob: bytes) -> list[Any]:
        try:
            replies = await self._link.ask(("EVALSHA", self._digest, len(keys), *keys, blob))
        except self._no_script:
            replies = await self._link.ask(("EVAL", self._script, len(keys), *keys, blob))
        return list(replies)


def _link(client: Any) -> _Link:
    cluster = require("redis.asyncio.cluster", extra="redis").RedisCluster
    return _ClusterLink(client) if isinstance(client, cluster) else _ConnectionLink(client)


class _ClusterLink:
    """Commands through the cluster's own client, which follows keys that have moved."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def ask(self, command: tuple[Any, ...]) -> Any:
        return await self._client.execute_command(*command)

    async def aclose(self) -> None:
        """The connections are the client's."""


class _ConnectionLink:
    """One connection on which several commands may await their replies, in order."""

    def __init__(self, client: Any) -> None:
        self._pool = client.connection_pool
        errors = require("redis.exceptions", extra="redis")
        self._error_reply: type[Exception] = errors.ResponseError
        self._read_only: type[Exception] = errors.ReadOnlyError
        self._pack: Callable[[tuple[Any, ...]], bytes] = require(
            "hiredis", extra="redis"
        ).pack_command
        self._connection: Any = None
        self._awaited = 0  # replies, on this connection
        self._sending = asyncio.Lock()
        self._reading = asyncio.Lock()

    async def ask(self, command: tuple[Any, ...]) -> Any:
        packed = self._pack(command)
        connection = None
        try:
            # Both locks are first come, first served, so that replies are read in the order of
            # their commands.
            async with self._sending:
                connection = await self._usable()
                self._awaited += 1
                await connection.send_packed_command(packed, check_health=False)
            async with self._reading:
                reply = await connection.read_response(disable_decoding=True)
        except self._error_reply as error:
            self._was_answered(connection)
            if isinstance(error, self._read_only):  # a replica by now: the master is elsewhere
                await self._drop(connection)
            raise
        except BaseException:
            await self._drop(connection)
            raise
        self._was_answered(connection)
        return reply

    async def _usable(self) -> Any:
        """The connection; another one where the server has closed it meanwhile."""
        connection = self._connection
        if connection is not None and self._awaited == 0:
            if connection.is_connected and not await connection.can_read():
                return connection
            await self._drop(connection)
        if self._connection is None:
            connection = self._pool.make_connection()
            try:
                await connection.connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            self._connection, self._awaited = connection, 0
        return self._connection

    def _was_answered(self, connection: Any) -> None:
        if connection is self._connection:
            self._awaited -= 1

    async def _drop(self, connection: Any) -> None:
        """Close a connection whose replies can no longer be told apart."""
        if connection is not None:
            if connection is self._connection:
                self._connection = None
            await connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect()

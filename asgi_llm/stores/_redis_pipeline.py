"""Calls of one script that are made in one turn of the loop leave for Redis together.

A call through ``redis.asyncio`` costs some 90 us of CPU; here its share of a batch costs a few: one
command, one packet and one reply for all calls of a turn. While as many batches as may be are under
way, what is called gathers for the next: the more there is to do, the less each call costs. Order
is kept: what was called first is done first, in one batch or in two.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from asgi_llm.errors import StoreError
from asgi_llm.stores._redis_link import open_link

__all__ = ["Batch", "ScriptPipeline"]

MAX_OPERATIONS = 128
"""In one batch: Redis serves nobody else while it runs one."""
STOOD_STILL_SECONDS = 0.005
"""A timer that is so late tells that the loop was held up, or the whole process."""


_decode = msgspec.msgpack.Decoder(list[list[Any]]).decode


class Batch:
    """Operations that go to Redis in one command.

    Attributes:
        keys: The keys of all operations, each with its place, from 1, by which they name it.
        repeated: Operations that may be asked for again in the same words, by whatever tells them.
        is_sent: Whether it has left: operations cannot be changed any more.
    """

    __slots__ = ("_loop", "deadline", "futures", "is_sent", "keys", "operations", "repeated")

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        self._loop = loop
        self.keys: dict[str, int] = {}
        self.operations: list[Any] = []
        self.repeated: dict[int, tuple[Any, msgspec.Raw]] = {}
        self.futures: list[asyncio.Future[Any] | None] = []
        self.deadline = deadline
        self.is_sent = False

    def places(self, keys: list[str]) -> list[int]:
        """The places of ``keys``. What several operations have in common is sent once."""
        known = self.keys
        return [known.setdefault(key, len(known) + 1) for key in keys]

    def call(self, operation: Any) -> asyncio.Future[Any]:
        """Add an operation, or one that is encoded already; its answer."""
        self.operations.append(operation)
        future = self._loop.create_future()
        self.futures.append(future)
        return future

    def tell(self, operation: Any) -> None:
        """Add an operation whose answer nobody waits for."""
        self.operations.append(operation)
        self.futures.append(None)

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


class ScriptPipeline:
    """Runs one Lua script with the operations of each loop turn.

    Args:
        client: Of ``redis.asyncio``: one server's, Sentinel's or a Cluster's. It stays the
            caller's. For all but a Cluster the pipeline has one connection of its own.
        script: Takes the keys, and a MessagePack list of operations as its one argument; replies
            with one answer for each, as a list or in MessagePack too, which is read in less time.
        timeout_seconds: After this a call fails with StoreError, wherever it is. Above 0.
        max_in_flight: How many batches may await their reply; later ones gather until one came.
    """

    def __init__(
        self, client: Any, script: str, *, timeout_seconds: float, max_in_flight: int = 2
    ) -> None:
        self._client = client
        self._script = script
        self._digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._timeout_seconds = timeout_seconds
        self._max_in_flight = max_in_flight
        self._encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
        self._begin(None)

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Start anew on ``loop``: a connection cannot follow to another."""
        self.loop = loop
        self._link = open_link(self._client, self._take_reply)
        self._open: Batch | None = None
        self._waiting: deque[Batch] = deque()
        # In the order of their deadlines.
        self._in_flight: dict[Batch, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def batch(self) -> Batch:
        """The batch that the next call goes into."""
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self._begin(loop)
        batch = self._open
        if batch is not None:
            if len(batch.operations) < MAX_OPERATIONS:
                return batch
            self._waiting.append(batch)
        elif len(self._in_flight) < self._max_in_flight:
            loop.call_soon(self._flush)
        deadline = loop.time() + self._timeout_seconds
        batch = self._open = Batch(loop, deadline)
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._look, deadline)
        return batch

    async def aclose(self) -> None:
        """Fail what is under way, and close the connection."""
        for batch in self._pending():
            self._expire(batch, "the store was closed")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._link.aclose()

    def _pending(self) -> list[Batch]:
        """All batches that are not answered, oldest first."""
        batches = [*self._in_flight, *self._waiting]
        if self._open is not None:
            batches.append(self._open)
        return batches

    def _flush(self) -> None:
        """Send what there is, as far as it may be sent."""
        while len(self._in_flight) < self._max_in_flight:
            if self._waiting:
                batch = self._waiting.popleft()
            elif self._open is not None:
                batch, self._open = self._open, None
            else:
                return
            batch.is_sent = True
            self._in_flight[batch] = None
            blob = self._encode(batch.operations)
            keys = batch.keys
            self._link.send(batch, ("EVALSHA", self._digest, len(keys), *keys, blob))

    def _look(self, deadline: float, *, again: bool = False) -> None:
        """The oldest deadline may have passed. A loop that stood still then looks once more.

        The reply may have come in time and lie there unread, for all batches alike: not Redis was
        late.
        """
        loop = self.loop
        assert loop is not None  # noqa: S101  a timer has a loop
        now = loop.time()
        if not again and now - deadline >= STOOD_STILL_SECONDS:
            self._timer = loop.call_later(
                STOOD_STILL_SECONDS, lambda: self._look(deadline, again=True)
            )
            return
        self._timer = None
        for batch in self._pending():
            if batch.deadline > now:
                self._timer = loop.call_at(batch.deadline, self._look, batch.deadline)
                return
            self._expire(batch, f"Redis did not answer within {self._timeout_seconds} seconds")

    def _expire(self, batch: Batch, cause: str) -> None:
        batch.fail(cause)
        if batch is self._open:
            self._open = None
        elif batch.is_sent:
            self._in_flight.pop(batch, None)
            self._link.give_up(batch)
            self._flush()
        elif batch in self._waiting:
            self._waiting.remove(batch)

    def _take_reply(self, batch: Batch, reply: Any) -> None:
        if batch not in self._in_flight:
            return
        if isinstance(reply, Exception):
            text = str(reply)
            if text.startswith("NOSCRIPT") or type(reply).__name__ == "NoScriptError":
                keys, blob = batch.keys, self._encode(batch.operations)
                self._link.send(batch, ("EVAL", self._script, len(keys), *keys, blob))
                return
            batch.fail(f"Redis failed: {type(reply).__name__}: {text}", reply)
        else:
            try:
                batch.answer(_decode(reply) if type(reply) is bytes else reply)
            except (TypeError, ValueError, msgspec.DecodeError) as error:
                batch.fail(f"the answer of Redis is none: {type(error).__name__}", error)
        del self._in_flight[batch]
        if self._waiting or self._open is not None:
            self._flush()

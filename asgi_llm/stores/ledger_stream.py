"""The ledger by way of Redis Streams: many workers hand their rows to a few that write them.

A shipper gives batches to ``StreamLedger``, which adds them to a stream; ``run_worker`` takes them
out and records them. A batch counts as recorded when its worker says so, after the commit, and not
when Redis has it: until then the rows stay in the journal of the process that they are from. So
nothing is lost with a Redis that forgets everything, and the stream never holds more than the batch
that each shipper waits for: it needs no trimming, and none is done.

Keys, for the name ``asgi-llm:ledger`` (the braces keep them on one node of a Cluster)::

    {asgi-llm:ledger}:stream        entries of rows, removed when they are recorded
    {asgi-llm:ledger}:done:<id>     that a batch is recorded; expires
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._journal_format import decode_rows, encode_rows
from asgi_llm.stores._ledger_values import clean_row
from asgi_llm.stores._redis_client import connect
from asgi_llm.stores.ledger import Ledger, LedgerRow

__all__ = ["StreamLedger", "run_worker"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_NAME: Final = "asgi-llm:ledger"
_GROUP: Final = "recorders"
_DONE_SECONDS: Final = 3600


def _stream(name: str) -> str:
    return f"{{{name}}}:stream"


async def _ask(answer: Awaitable[T], seconds: float) -> T:
    """The answer of Redis.

    Raises:
        StoreError: There was none in time, or it was an error.
    """
    errors = require("redis.exceptions", extra="redis")
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except (errors.RedisError, OSError, TimeoutError) as error:
        raise StoreError(f"Redis failed ({type(error).__name__}).") from error


class StreamLedger:
    """A ``Ledger`` whose rows are recorded by another process, ``run_worker``.

    Args:
        server: An address, or a client of ``redis.asyncio`` that decodes no answers, which stays
            open when this is closed.
        name: What its keys begin with; the workers have the same.
        timeout_seconds: How long to wait until a batch is recorded, above 0. A batch that is not
            is waited for again where it is given again; it is not added twice.
        command_timeout_seconds: For one answer of Redis, above 0.

    Raises:
        ConfigurationError: An option is out of range, or the package redis is missing.
    """

    def __init__(
        self,
        server: Any,
        *,
        name: str = _NAME,
        timeout_seconds: float = 10.0,
        command_timeout_seconds: float = 2.0,
    ) -> None:
        for option, seconds in (
            ("timeout_seconds", timeout_seconds),
            ("command_timeout_seconds", command_timeout_seconds),
        ):
            if not (0 < seconds < float("inf")):
                raise ConfigurationError(f"{option} must be a number above 0", param=option)
        self._owned = isinstance(server, str)
        self._client = connect(server) if isinstance(server, str) else server
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._command_timeout_seconds = command_timeout_seconds
        # The batch that was not recorded in time: its rows' ids, its own, and its entry's.
        self._waiting: tuple[tuple[str, ...], str, bytes] | None = None

    async def record(self, rows: Sequence[LedgerRow]) -> None:
        """Have the rows recorded, and wait for it. One call at a time, as a shipper makes them.

        Raises:
            StoreError: They are not known to be recorded; they may be given again.
        """
        if not rows:
            return
        ids = tuple(row.id for row in rows)
        batch, entry = await self._entry(ids, rows)
        self._waiting = (ids, batch, entry)
        done = f"{{{self._name}}}:done:{batch}"
        seconds = self._timeout_seconds
        found = await _ask(
            self._client.blpop([done], timeout=seconds), seconds + self._command_timeout_seconds
        )
        if found is None:
            raise StoreError("No worker has recorded the rows in time.")
        self._waiting = None

    async def _entry(self, ids: tuple[str, ...], rows: Sequence[LedgerRow]) -> tuple[str, bytes]:
        """The batch of the rows and its entry in the stream: still there, recorded, or new."""
        stream = _stream(self._name)
        waiting = self._waiting
        if waiting is not None and waiting[0] == ids:
            _, batch, entry = waiting
            there = await self._command(self._client.xrange(stream, min=entry, max=entry))
            if there or await self._command(self._client.exists(f"{{{self._name}}}:done:{batch}")):
                return batch, entry
        batch = secrets.token_hex(16)
        fields = {"batch": batch, "rows": _encode(rows)}
        return batch, await self._command(self._client.xadd(stream, fields))

    async def _command(self, answer: Awaitable[T]) -> T:
        return await _ask(answer, self._command_timeout_seconds)

    async def aclose(self) -> None:
        """Close the client, if it is this ledger's own."""
        if self._owned:
            await self._client.aclose()


def _encode(rows: Sequence[LedgerRow]) -> bytes:
    try:
        return encode_rows(rows)
    except (ValueError, OverflowError):
        return encode_rows([clean_row(row) for row in rows])


class _Worker:
    """One consumer of the stream."""

    def __init__(
        self,
        client: Any,
        ledger: Ledger,
        *,
        name: str,
        block_seconds: float,
        claim_seconds: float,
        command_timeout_seconds: float,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._name = name
        self._stream = _stream(name)
        self._consumer = f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
        self._block_seconds = block_seconds
        self._claim_seconds = claim_seconds
        self._command_timeout_seconds = command_timeout_seconds
        self._claim_at = 0.0
        # Where to go on among the entries that are in our hands already; None: with new ones.
        self._since: bytes | None = None

    async def begin(self) -> None:
        """Make the group, which is gone when Redis lost everything."""
        errors = require("redis.exceptions", extra="redis")
        try:
            await self._command(
                self._client.xgroup_create(self._stream, _GROUP, id="0", mkstream=True)
            )
        except StoreError as error:
            cause = error.__cause__
            if not (isinstance(cause, errors.ResponseError) and "BUSYGROUP" in str(cause)):
                raise

    async def turn(self) -> None:
        """Record a few entries: of dead workers, if it is time, else our own, or new ones."""
        now = asyncio.get_running_loop().time()
        entries: list[Any] = []
        if now >= self._claim_at:
            claimed = await self._command(
                self._client.xautoclaim(
                    self._stream,
                    _GROUP,
                    self._consumer,
                    min_idle_time=int(self._claim_seconds * 1000),
                    count=10,
                )
            )
            entries = [entry for entry in claimed[1] if entry[1]]
            if not entries:
                self._claim_at = now + self._claim_seconds
        if not entries:
            entries = await self._read()
        for entry, fields in entries:
            if fields:
                await self._record(entry, fields)

    def go_back(self) -> None:
        """After a failure: begin with the entries that were in our hands by then."""
        self._since = b"0"

    async def _read(self) -> list[Any]:
        since = self._since
        found = await _ask(
            self._client.xreadgroup(
                _GROUP,
                self._consumer,
                {self._stream: b">" if since is None else since},
                count=10,
                block=max(1, int(self._block_seconds * 1000)),
            ),
            self._block_seconds + self._command_timeout_seconds,
        )
        entries = _entries(found)
        if since is not None:
            self._since = entries[-1][0] if entries else None
        return entries

    async def _record(self, entry: bytes, fields: dict[bytes, bytes]) -> None:
        try:
            rows = decode_rows(fields[b"rows"])
            done = f"{{{self._name}}}:done:{fields[b'batch'].decode()}"
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            # It stays with the group, and the rows with the journal that they are from.
            logger.error("an entry of the stream cannot be read: %s", type(error).__name__)
            return
        await self._ledger.record(rows)
        # Only now: a worker that dies before leaves the entry to be claimed by another.
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.xack(self._stream, _GROUP, entry)
            pipeline.xdel(self._stream, entry)
            pipeline.rpush(done, b"1")
            pipeline.expire(done, _DONE_SECONDS)
            await self._command(pipeline.execute())

    async def end(self) -> None:
        """Take the consumer off the group, unless entries are still its own."""
        pending = await self._command(
            self._client.xpending_range(
                self._stream, _GROUP, min="-", max="+", count=1, consumername=self._consumer
            )
        )
        if not pending:
            await self._command(
                self._client.xgroup_delconsumer(self._stream, _GROUP, self._consumer)
            )

    async def _command(self, answer: Awaitable[T]) -> T:
        return await _ask(answer, self._command_timeout_seconds)


def _entries(found: Any) -> list[Any]:
    """The entries of the one stream that was read, in either form that clients give them."""
    if not found:
        return []
    if isinstance(found, dict):
        (batches,) = found.values()
        return [entry for batch in batches for entry in batch]
    return list(found[0][1])


async def run_worker(
    redis: Any,
    ledger: Ledger,
    *,
    stop: asyncio.Event,
    name: str = _NAME,
    block_seconds: float = 1.0,
    claim_seconds: float = 30.0,
    command_timeout_seconds: float = 2.0,
    min_retry_seconds: float = 0.1,
    max_retry_seconds: float = 10.0,
) -> None:
    """Record what comes through the stream, until ``stop`` is set; any number of these may run.

    An entry is acknowledged and removed after the ledger has its rows. Entries of workers that died
    are taken over. A Redis or a ledger that is away is asked again.

    Args:
        redis: An address, or a client of ``redis.asyncio`` that decodes no answers, which stays
            open.
        ledger: Where the rows go.
        stop: Ends the worker after the entries in its hands.
        name: As that of the ``StreamLedger``.
        block_seconds: How long one call waits for entries, and a stop may take, above 0.
        claim_seconds: How long another worker may take for an entry before it counts as dead; more
            than the ledger takes for a batch.
        command_timeout_seconds: For one answer of Redis, above 0.
        min_retry_seconds: The wait after a first failure; it doubles with each.
        max_retry_seconds: The longest wait.

    Raises:
        ConfigurationError: The address is wrong, or the package redis is missing.
    """
    owned = isinstance(redis, str)
    client = connect(redis) if isinstance(redis, str) else redis
    worker = _Worker(
        client,
        ledger,
        name=name,
        block_seconds=block_seconds,
        claim_seconds=claim_seconds,
        command_timeout_seconds=command_timeout_seconds,
    )
    begun = False
    wait = min_retry_seconds
    try:
        while not stop.is_set():
            try:
                if not begun:
                    await worker.begin()
                    begun = True
                await worker.turn()
                wait = min_retry_seconds
            except StoreError as error:
                begun = False
                worker.go_back()
                logger.warning("the worker cannot go on, and tries again: %s", error.message)
                try:
                    async with asyncio.timeout(wait):
                        await stop.wait()
                except TimeoutError:
                    wait = min(2 * wait, max_retry_seconds)
        if begun:
            try:
                await worker.end()
            except StoreError as error:
                logger.warning("the worker could not take itself off: %s", error.message)
    finally:
        if owned:
            await client.aclose()

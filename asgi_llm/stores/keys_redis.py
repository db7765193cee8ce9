"""Keys that all workers share in Redis, and the word that one of them was changed."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from asgi_llm._tasks import end
from asgi_llm._traceback import describe
from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._key_guard import KeyGuard
from asgi_llm.stores._redis_client import connect
from asgi_llm.stores.base import KeyRecord, KeyStore
from asgi_llm.stores.keys_cached import MAX_FRESH_SECONDS

__all__ = ["RedisKeyCache"]

logger = logging.getLogger(__name__)

_DIGEST_BYTES: Final = 32
_TELL_SECONDS: Final = 1.0
_RECONNECT_SECONDS: Final = 1.0

# The time is Redis's own, so that workers with other clocks agree on an age.
_READ: Final = """
local now = redis.call('TIME')
return {redis.call('GET', KEYS[1]), now[1] * 1000 + math.floor(now[2] / 1000)}
"""

# What was read too long ago, as a command that a frozen server runs when it wakes, is not kept, and
# neither is what may have been read before the key was changed: an empty value stands for that.
_WRITE: Final = """
local now = redis.call('TIME')
local age = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(ARGV[2])
if age < 0 or age >= tonumber(ARGV[3]) or redis.call('GET', KEYS[1]) == '' then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', tonumber(ARGV[4]) - age)
return 1
"""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    read_at: int
    """Milliseconds of Redis's clock, from before the record was read."""
    record: KeyRecord


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


class RedisKeyCache:
    """The second level of the cache: what one worker has looked up, all use.

    Put ``CachedKeys`` before it. A record is kept under the digest of its key, never the key, and
    is fresh for as long as it is in the first level, counted from when it was read at its source:
    the two levels do not add up. Unknown keys are not kept. Who may write to this Redis can make
    himself an identity: guard it as you guard the database.

    ``invalidate`` reaches every worker at once through a channel. A worker that does not hear it,
    because its connection is lost, finds out within ``fresh_seconds`` by itself.

    Without Redis everything is looked up at the source; the source has its own deadline. Without
    the source a record serves up to ``stale_seconds``, also a worker that never saw the key, unless
    Redis says that it was changed, which it remembers for ``fresh_seconds``.

    Memory: Redis takes some 400 bytes for a record, for ``stale_seconds``.

    Args:
        store: The source.
        redis: An address, as ``redis://127.0.0.1:6379/0``, or a client of ``redis.asyncio``, which
            is then not closed here.
        prefix: What the names in Redis begin with, and the channel.
        fresh_seconds: Above 0 and at most 5.
        stale_seconds: At least ``fresh_seconds``.
        timeout_seconds: Deadline of a command on the way of a request, above 0.
        store_timeout_seconds: Deadline of the source, above 0.
        ping_seconds: After so long without a word, above 0, the channel's connection is tried.
        clock: Seconds, monotonic.

    Raises:
        ConfigurationError: A number out of range, no address, or the package redis is missing.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        redis: str | Any,
        prefix: str = "asgi_llm:keys:1:",
        fresh_seconds: float = 4.0,
        stale_seconds: float = 600.0,
        timeout_seconds: float = 0.05,
        store_timeout_seconds: float = 1.0,
        ping_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < fresh_seconds <= MAX_FRESH_SECONDS:
            raise ConfigurationError(
                f"fresh_seconds must be above 0 and at most {MAX_FRESH_SECONDS:g}",
                param="fresh_seconds",
            )
        if not fresh_seconds <= stale_seconds < math.inf:
            raise ConfigurationError(
                "stale_seconds must be at least fresh_seconds", param="stale_seconds"
            )
        if not 0 < ping_seconds < math.inf:
            raise ConfigurationError("ping_seconds must be above 0", param="ping_seconds")
        self._owns = isinstance(redis, str)
        self._client: Any = connect(redis) if isinstance(redis, str) else redis
        if not hasattr(self._client, "pubsub"):
            raise ConfigurationError(
                "redis: keys need one server, or Sentinel, for their channel", param="redis"
            )
        if self._client.get_encoder().decode_responses:
            raise ConfigurationError("redis: decode_responses must be off", param="redis")
        self._store = store
        self._ping_seconds = ping_seconds
        self._prefix = prefix
        self._channel = prefix + "changed"
        self._fresh_ms = int(fresh_seconds * 1000)
        self._stale_ms = int(stale_seconds * 1000)
        self._redis = KeyGuard("Redis (keys)", timeout_seconds=timeout_seconds, clock=clock)
        self._source = KeyGuard("the key store", timeout_seconds=store_timeout_seconds, clock=clock)
        self._forget: list[Callable[[bytes], None]] = []
        self._listening: asyncio.Task[None] | None = None

    @property
    def available(self) -> bool:
        """Whether Redis answered when it was last asked; for a readiness check."""
        return self._redis.available

    @property
    def failures(self) -> int:
        """Commands to Redis that failed or came too late so far."""
        return self._redis.failures

    def on_forget(self, forget: Callable[[bytes], None]) -> None:
        """Call ``forget`` with each digest that is invalidated, here or by another worker."""
        self._forget.append(forget)

    async def find(self, digest: bytes) -> KeyRecord | None:
        """The record of a key; None: no such key.

        Raises:
            StoreError: It is not known whether there is such a key.
        """
        record, _ = await self.find_aged(digest)
        return record

    async def find_aged(self, digest: bytes) -> tuple[KeyRecord | None, float]:
        """The record of a key, and the seconds since it was read at the source.

        Raises:
            StoreError: It is not known whether there is such a key.
        """
        self._listen()
        name = self._name(digest)
        kept, now, changed = await self._read(name)
        age = math.inf if kept is None or now is None else now - kept.read_at
        if kept is not None and 0 <= age < self._fresh_ms:
            return kept.record, age / 1000
        try:
            record = await self._source.ask(lambda: self._store.find(digest))
        except StoreError:
            if changed:
                # What a first level has may be from before: this worker may have missed the word.
                self._forget_here(digest)
            if kept is None or not 0 <= age < self._stale_ms:
                raise
            # Never younger than what a first level takes for fresh.
            return kept.record, max(age / 1000, MAX_FRESH_SECONDS)
        if now is not None:
            await self._write(name, record, now, gone=record is None and kept is not None)
        return record, 0.0

    async def invalidate(self, digests: Sequence[bytes]) -> None:
        """Make every worker forget keys that were changed.

        Raises:
            StoreError: The other workers were not told.
        """
        for digest in digests:
            self._forget_here(digest)
        if not digests:
            return
        try:
            async with asyncio.timeout(_TELL_SECONDS):
                await self._tell(digests)
        except Exception as error:
            raise StoreError("other workers were not told of a changed key") from error

    async def _tell(self, digests: Sequence[bytes]) -> None:
        # Longer than what was read before now could still be written.
        pause = self._fresh_ms + 100
        left = 3
        while True:
            pipeline = self._client.pipeline(transaction=False)
            for digest in digests:
                pipeline.set(self._name(digest), b"", px=pause)
            pipeline.publish(self._channel, b"".join(digests))
            try:
                await pipeline.execute()
                return
            except Exception:
                # A connection from before a restart of the server fails once. All of this may be
                # done twice.
                left -= 1
                if not left:
                    raise

    async def aclose(self) -> None:
        """Stop listening, and close the client if it was made here. Idempotent."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await end(listening)
        if self._owns:
            await self._client.aclose()

    def _name(self, digest: bytes) -> str:
        return self._prefix + digest.hex()

    async def _read(self, name: str) -> tuple[_Kept | None, int | None, bool]:
        """What is kept, Redis's time in milliseconds, and whether the key was changed just now.

        No time: Redis did not answer.
        """
        try:
            value, now = await self._redis.ask(lambda: self._client.eval(_READ, 1, name))
        except StoreError:
            return None, None, False
        if not value:
            return None, now, value is not None
        try:
            return _decode(value), now, False
        except msgspec.DecodeError:
            # Of another version.
            return None, now, False

    async def _write(self, name: str, record: KeyRecord | None, now: int, *, gone: bool) -> None:
        """Keep what was read. If that fails the guard counts it, and the next one tries again."""
        if record is None and not gone:
            return
        value = b"" if record is None else _encode(_Kept(now, record))
        keep_ms = self._fresh_ms if record is None else self._stale_ms
        try:
            await self._redis.ask(
                lambda: self._client.eval(_WRITE, 1, name, value, now, self._fresh_ms, keep_ms)
            )
        except StoreError as error:
            logger.debug("a key was not kept: %s", error.message)

    def _forget_here(self, digest: bytes) -> None:
        for forget in self._forget:
            forget(digest)

    def _listen(self) -> None:
        task = self._listening
        if task is None or task.done():
            self._listening = asyncio.get_running_loop().create_task(self._hear_for_ever())

    async def _hear_for_ever(self) -> None:
        while True:
            try:
                await self._hear()
            except Exception as error:
                logger.warning("changed keys are not heard of:\n%s", describe(error))
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _hear(self) -> None:
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(self._channel)
            asked = False
            while True:
                message = await pubsub.get_message(timeout=self._ping_seconds)
                if message is None:
                    if asked:
                        raise ConnectionError("the channel is dead")
                    # A connection that is lost without a word looks like one that is quiet.
                    await pubsub.ping()
                    asked = True
                    continue
                asked = False
                if message["type"] == "message":
                    self._hear_of(message["data"])

    def _hear_of(self, data: bytes) -> None:
        for at in range(0, len(data), _DIGEST_BYTES):
            self._forget_here(data[at : at + _DIGEST_BYTES])

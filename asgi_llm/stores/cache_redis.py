"""Answers that all processes share, in Redis."""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final

import msgspec

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._breaker import Breaker
from asgi_llm.stores._cache_codec import AnswerCodec, read_encryption_keys
from asgi_llm.stores._redis_client import connect, disconnect
from asgi_llm.stores._redis_pipeline import ScriptPipeline
from asgi_llm.stores.cache import CacheStatistics, Claim, Found, Selection, StoredAnswer

__all__ = ["RedisCache", "read_encryption_keys"]

SCRIPT: Final = Path(__file__).with_name("cache.lua")
KIB: Final = 1024

_HEAD: Final = struct.Struct(">dd")
_AT_ONCE: Final = 128
_PURGED_AT_ONCE: Final = 250
# Redis refuses a time at which its clock cannot be.
_LONGEST_SECONDS: Final = 100 * 365 * 86400.0
_PROBE_KEY: Final = bytes(32)

_packed = msgspec.msgpack.Encoder().encode


class RedisCache:
    """A ``CacheStore`` in Redis, in Redis' own time, with a deadline and a breaker.

    All calls of a loop turn share one round trip. Who makes an answer that is missing holds a
    lease, so that one process asks for all. Entries run out by themselves; what a full Redis throws
    out (``maxmemory-policy allkeys-lru`` or ``volatile-lru``) is a miss. Every partition has an
    index by which it is purged: nothing is searched for among all keys.

    Three failures in a row, timeouts included, and Redis is left alone until a probe succeeds; till
    then every call raises StoreError at once.

    Memory: Redis takes some 300 bytes for an entry besides its body.

    Args:
        server: An address (see ``asgi_llm.stores._redis_client.connect``), or a client of
            ``redis.asyncio``, which stays open when the store is closed.
        timeout_seconds: After this a call fails with StoreError. Above 0.
        prefix: What every key begins with.
        tag: The hash tag of every key: all entries lie on one node of a Cluster.
        compress_over_bytes: Larger entries are compressed with zstd (extra ``cache``); None: none.
        max_value_bytes: What is larger after that is not kept: it could not be had in time. Above
            0.
        encryption_keys: AES-GCM keys by id (see ``read_encryption_keys``); without them entries lie
            in Redis as they are.
        failure_threshold: So many failures in a row open the breaker.
        probe_seconds: How often a Redis that failed is tried again, above 0 and below 5.
        clock: Seconds that never go back.
        sleep: Waits between probes.

    Attributes:
        timeout_seconds: The deadline: whoever calls this store needs none of their own.

    Raises:
        ConfigurationError: An option is out of range, or a package is missing.
    """

    def __init__(
        self,
        server: Any,
        *,
        timeout_seconds: float = 0.05,
        prefix: str = "asgi-llm:cache",
        tag: str = "asgi-llm-cache",
        compress_over_bytes: int | None = None,
        max_value_bytes: int = 1024 * KIB,
        encryption_keys: Mapping[str, bytes] | None = None,
        failure_threshold: int = 3,
        probe_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not 0 < timeout_seconds < inf:
            raise ConfigurationError("timeout_seconds must be above 0", param="timeout_seconds")
        if not max_value_bytes > 0:
            raise ConfigurationError("max_value_bytes must be above 0", param="max_value_bytes")
        self.timeout_seconds = timeout_seconds
        self._codec = AnswerCodec(
            compress_over_bytes=compress_over_bytes, encryption_keys=encryption_keys
        )
        self._max_value_bytes = max_value_bytes
        self._owned = isinstance(server, str)
        self._client = connect(server) if isinstance(server, str) else server
        self._pipeline = ScriptPipeline(
            self._client, SCRIPT.read_text(encoding="utf-8"), timeout_seconds=timeout_seconds
        )
        start = f"{prefix}:{{{tag}}}:"
        self._entry = start + "e:"
        self._lease = start + "l:"
        self._index = start + "i:"
        self._scopes = start + "scopes"
        self._breaker = Breaker(
            "Redis (cache)",
            self._probe,
            failure_threshold=failure_threshold,
            probe_seconds=probe_seconds,
            clock=clock,
            sleep=sleep,
        )
        self._hits = self._misses = self._writes = self._failures = 0

    async def get(self, keys: Sequence[bytes]) -> list[Found | None]:
        """The answers of ``keys`` in their order; None: there is none.

        Raises:
            StoreError: Redis refused, failed, did not answer in time, or is left alone.
        """
        found: list[Found | None] = []
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            replies = await self._ask(
                lambda names, some=some: (
                    "g",
                    [self._place(names, self._entry, key) for key in some],
                )
            )
            found += [
                self._found(key, value, age)
                for key, (value, age) in zip(some, replies, strict=True)
            ]
        return found

    async def claim(
        self,
        key: bytes,
        *,
        owner: str,
        lease_seconds: float,
        max_age_seconds: float | None = None,
    ) -> Claim:
        """The answer of ``key`` and, where there is none or an old one, the right to make it.

        Raises:
            StoreError: Redis refused, failed, did not answer in time, or is left alone.
        """
        lease_ms = int(lease_seconds * 1000)
        value, age, leased = await self._ask(
            lambda names: (
                "c",
                self._place(names, self._entry, key),
                self._place(names, self._lease, key),
                owner,
                lease_ms,
                -1 if max_age_seconds is None else int(max_age_seconds * 1000),
            )
        )
        found = self._found(key, value, age)
        if found is None and value is not None and not leased:
            # Fresh, but not for this worker, which has other keys or another version.
            leased = await self._ask(
                lambda names: ("t", self._place(names, self._lease, key), owner, lease_ms)
            )
        return Claim(found, leased == 1)

    async def renew(self, key: bytes, *, owner: str, lease_seconds: float) -> None:
        """Keep the right to make the answer; one that has run out stays out.

        Raises:
            StoreError: Redis refused, failed, did not answer in time, or is left alone.
        """
        await self._ask(
            lambda names: (
                "r",
                self._place(names, self._lease, key),
                owner,
                int(lease_seconds * 1000),
            )
        )

    async def release(self, key: bytes, *, owner: str) -> None:
        """Give the right back.

        Raises:
            StoreError: Redis refused, failed, did not answer in time, or is left alone.
        """
        await self._ask(lambda names: ("x", self._place(names, self._lease, key), owner))

    async def set(
        self,
        entries: Sequence[tuple[bytes, StoredAnswer]],
        *,
        owner: str | None = None,
        age_seconds: float = 0.0,
    ) -> None:
        """Keep answers; one that is too large is left out.

        Raises:
            StoreError: Redis refused, failed, did not answer in time, or is left alone.
        """
        if not entries:
            return
        first = entries[0][0] if owner is not None else None
        coded = [
            (key, answer, blob)
            for key, answer in entries
            if len(blob := self._codec.encode(key, answer)) <= self._max_value_bytes
        ]
        for at in range(0, max(len(coded), 1), _AT_ONCE):
            await self._set(
                coded[at : at + _AT_ONCE], age_seconds, first if at == 0 else None, owner
            )
        self._writes += len(coded)

    async def _set(
        self,
        coded: Sequence[tuple[bytes, StoredAnswer, bytes]],
        age_seconds: float,
        lease: bytes | None,
        owner: str | None,
    ) -> None:
        def operation(names: dict[str, int]) -> tuple[Any, ...]:
            rows = []
            for key, answer, blob in coded:
                entry = self._place(names, self._entry, key)
                index = self._place_of_index(names, answer.scope)
                member = (key.hex(), answer.namespace, answer.model, answer.written_by)
                rows.append(
                    (
                        entry,
                        index,
                        answer.scope,
                        _as_text(_packed(member)),
                        answer.fresh_seconds * 1000,
                        min(answer.keep_seconds, _LONGEST_SECONDS) * 1000,
                        _as_text(blob),
                    )
                )
            scopes = self._place_of(names, self._scopes)
            place = 0 if lease is None else self._place(names, self._lease, lease)
            return ("s", rows, age_seconds * 1000, scopes, place, owner or "")

        await self._ask(operation)

    async def delete(self, keys: Sequence[bytes]) -> int:
        """Forget the answers of ``keys``; how many there were.

        Raises:
            StoreError: Redis refused, failed, did not answer in time, or is left alone.
        """
        gone = 0
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            gone += await self._ask(
                lambda names, some=some: (
                    "d",
                    [self._place(names, self._entry, key) for key in some],
                )
            )
        return gone

    async def purge(self, selection: Selection) -> int:
        """Forget the answers that are meant, a few hundred in a step; how many there were.

        Raises:
            StoreError: Redis refused, failed, did not answer in time, or is left alone. What was
                done till then is done.
        """
        scopes = [selection.scope] if selection.scope is not None else await self._all_scopes()
        wanted = [
            False if one is None else one
            for one in (selection.namespace, selection.model, selection.written_by)
        ]
        older = selection.older_than_seconds
        older_ms = -1 if older is None else int(older * 1000)
        purged = 0
        for scope in scopes:
            cursor, more = b"0", True
            while more:
                cursor, gone = await self._ask(
                    lambda names, scope=scope, cursor=cursor: (
                        "p",
                        self._place_of_index(names, scope),
                        self._entry,
                        cursor.decode(),
                        _PURGED_AT_ONCE,
                        wanted,
                        older_ms,
                    )
                )
                purged += gone
                more = cursor != b"0"
        return purged

    async def statistics(self) -> CacheStatistics:
        """How the store is doing. Entries that a full Redis threw out count until they run out.

        Raises:
            StoreError: Redis refused, failed, did not answer in time, or is left alone.
        """
        scopes = await self._all_scopes()
        entries = 0
        for at in range(0, len(scopes), _AT_ONCE):
            some = scopes[at : at + _AT_ONCE]
            entries += await self._ask(
                lambda names, some=some: (
                    "n",
                    [self._place_of_index(names, scope) for scope in some],
                )
            )
        return CacheStatistics(
            entries=entries,
            bytes=None,
            hits=self._hits,
            misses=self._misses,
            writes=self._writes,
            evictions=0,
            failures=self._failures,
        )

    def health(self) -> dict[str, Any]:
        """For ``/health/ready``: the breaker's state."""
        return self._breaker.health()

    async def aclose(self) -> None:
        """Stop probing, and close the connection, and the client if it was made here."""
        await self._breaker.aclose()
        await self._pipeline.aclose()
        if self._owned:
            await disconnect(self._client)

    async def _all_scopes(self) -> list[str]:
        scopes: set[str] = set()
        cursor = b"0"
        while True:
            cursor, some = await self._ask(
                lambda names, cursor=cursor: (
                    "l",
                    self._place_of(names, self._scopes),
                    cursor.decode(),
                    _PURGED_AT_ONCE,
                )
            )
            scopes.update(scope.decode() for scope in some)
            if cursor == b"0":
                return list(scopes)

    async def _ask(self, operation: Callable[..., tuple[Any, ...]]) -> Any:
        """The script's answer to one operation; ``operation`` adds the names of its keys."""
        breaker = self._breaker
        if breaker.is_open:
            breaker.watch()
            raise StoreError("Redis (cache) is left alone: it did not answer")
        try:
            reply = await self._call(operation)
        except StoreError as error:
            self._failures += 1
            breaker.failed(error)
            raise
        breaker.succeeded()
        return reply

    async def _call(self, operation: Callable[..., tuple[Any, ...]]) -> Any:
        batch = self._pipeline.batch()
        return await batch.call(operation(batch.keys))

    async def _probe(self) -> None:
        """Take and give back a lease: that needs Redis to write."""
        await self._call(
            lambda names: (
                "c",
                self._place(names, self._entry, _PROBE_KEY),
                self._place(names, self._lease, _PROBE_KEY),
                "probe",
                1,
                -1,
            )
        )

    def _found(self, key: bytes, value: bytes | None, age_ms: float) -> Found | None:
        answer = None
        if value is not None:
            answer = self._codec.decode(key, value[_HEAD.size :])
        if answer is None:
            self._misses += 1
            return None
        self._hits += 1
        return Found(answer, max(0.0, age_ms / 1000))

    def _index_of(self, scope: str) -> str:
        return self._index + hashlib.sha256(scope.encode()).hexdigest()[:32]

    def _place_of_index(self, names: dict[str, int], scope: str) -> int:
        return self._place_of(names, self._index_of(scope))

    @staticmethod
    def _place(names: dict[str, int], start: str, key: bytes) -> int:
        return RedisCache._place_of(names, start + key.hex())

    @staticmethod
    def _place_of(names: dict[str, int], name: str) -> int:
        return names.setdefault(name, len(names) + 1)


def _as_text(data: bytes) -> msgspec.Raw:
    """``data`` for the script's argument: Redis reads MessagePack's texts, of any bytes, alone."""
    return msgspec.Raw(b"\xdb" + len(data).to_bytes(4, "big") + data)

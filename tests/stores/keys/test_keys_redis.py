"""The second level of the cache, on a real Redis: what it keeps, tells, and does in an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import redis.asyncio
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.key_material import digest_key
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.stores.keys_redis import RedisKeyCache
from asgi_llm.testing import ManualClock
from asgi_llm.types import Limit, Principal
from tests.services.redis_server import RedisServer

KEY = "sk-a-key-that-must-not-be-seen-in-redis"
A, B = digest_key(KEY), digest_key("sk-b")
FULL = KeyRecord(
    principal=Principal(
        key_id="key_1", key_name="laptop", user_id="ada", team_id="t", organization_id="o",
        role="team_admin", tier="pro", models=("gpt-*",), scopes=frozenset({"a", "b"}),
        limits=(Limit(unit="tokens", amount=5, window_seconds=60, burst=7),),
        metadata={"cost center": "é"},
    ),
    expires_at=2e9,
)  # fmt: skip
REVOKED = KeyRecord(principal=FULL.principal, active=False)
CHANNEL = "asgi_llm:keys:1:changed"


class Source:
    """The store behind: it counts, and fails or waits as told."""

    def __init__(self) -> None:
        self.records = {A: FULL}
        self.asked: list[bytes] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def find(self, digest: bytes) -> KeyRecord | None:
        self.asked.append(digest)
        record = self.records.get(digest)
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return record


class Worker:
    """Both levels of the cache in one process, with clocks that stand still."""

    def __init__(self, source: Source, url: str, **options: Any) -> None:
        self.clock = ManualClock()
        # Wide deadlines: the machine of the tests is slower than any network.
        given = {"timeout_seconds": 2.0, "store_timeout_seconds": 5.0, **options}
        self.shared = RedisKeyCache(source, redis=url, clock=self.clock, **given)
        self.keys = CachedKeys(self.shared, clock=self.clock)


@asynccontextmanager
async def workers(
    source: Source, url: str, count: int = 2, **options: Any
) -> AsyncIterator[list[Worker]]:
    made = [Worker(source, url, **options) for _ in range(count)]
    try:
        async with asyncio.timeout(30):
            yield made
    finally:
        for worker in made:
            await worker.shared.aclose()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process or thread does."""
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def until_heard(server: RedisServer, count: int) -> None:
    """Wait until so many workers listen."""
    await until(lambda: server.command("PUBSUB", "NUMSUB", CHANNEL)[1] == count)


def name_of(digest: bytes) -> str:
    return f"asgi_llm:keys:1:{digest.hex()}"


def make_older(server: RedisServer, digest: bytes, seconds: float) -> None:
    """Let what Redis keeps have been read so much earlier."""
    read_at, record = msgspec.msgpack.decode(server.command("GET", name_of(digest)))
    value = msgspec.msgpack.encode([read_at - int(seconds * 1000), record])
    server.command("SET", name_of(digest), value, "KEEPTTL")


def is_available(worker: Worker) -> tuple[bool, bool]:
    """Whether the source, as far as the worker knows, and Redis answer."""
    return worker.keys.available, worker.shared.available


async def test_what_one_has_looked_up_all_use(redis_server: RedisServer) -> None:
    """The source is asked once for all workers, and every field of a record survives."""
    source = Source()
    async with workers(source, redis_server.url, 4) as all_of_them:
        assert [FULL] * 4 == [await worker.keys.find(A) for worker in all_of_them]
        assert [A] == source.asked
        assert FULL == await all_of_them[0].shared.find(A)


async def test_the_key_is_not_in_redis(redis_server: RedisServer) -> None:
    """A record is found under the digest; it goes away by itself; the key is nowhere."""
    source = Source()
    async with workers(source, redis_server.url, 1) as (worker,):
        await worker.keys.find(A)
    (name,) = redis_server.keys()
    assert f"asgi_llm:keys:1:{A.hex()}".encode() == name
    value = redis_server.command("GET", name)
    assert KEY.encode() not in name + value
    assert 0 < redis_server.command("PTTL", name) <= 600_000


class DeafPubSub(PubSub):
    """Takes no notice of the first cancellation, as while it is connecting."""

    async def get_message(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().get_message(*arguments, **options)
        except asyncio.CancelledError:
            return await super().get_message(*arguments, **options)


class DeafRedis(Redis):
    """Whose listeners are that."""

    def pubsub(self, **options: Any) -> PubSub:
        return DeafPubSub(self.connection_pool, **options)


async def test_a_listener_that_misses_its_end_is_told_again(redis_server: RedisServer) -> None:
    """What closes the cache does not wait for ever."""
    client = DeafRedis.from_url(redis_server.url)
    cache = RedisKeyCache(Source(), redis=client)
    assert FULL == await cache.find(A)
    await until_heard(redis_server, 1)
    async with asyncio.timeout(20):
        await cache.aclose()
    await client.aclose()


async def test_unknown_keys_are_not_kept(redis_server: RedisServer) -> None:
    """A flood of made-up keys leaves nothing in Redis."""
    source = Source()
    async with workers(source, redis_server.url, 1) as (worker,):
        for number in range(50):
            assert None is await worker.keys.find(number.to_bytes(32, "big"))
    assert [] == redis_server.keys()


async def test_the_levels_do_not_add_up(redis_server: RedisServer) -> None:
    """What another worker read a while ago is as old in the first level as it really is."""
    source = Source()
    async with workers(source, redis_server.url) as (one, two):
        await one.keys.find(A)
        make_older(redis_server, A, 2)
        source.records[A] = REVOKED
        record, age = await two.shared.find_aged(A)
        assert FULL == record == await two.keys.find(A)
        assert 2 <= age < 4
        assert FULL == two.keys.peek(A)
        two.clock.advance(2)
        assert None is two.keys.peek(A)
        make_older(redis_server, A, 2)
        assert REVOKED == await two.keys.find(A)
        assert [A, A] == source.asked


async def test_b3_a_revoked_key_stops_everywhere_at_once(redis_server: RedisServer) -> None:
    """One worker revokes, and no other takes the key any more, without any time going by."""
    source = Source()
    async with workers(source, redis_server.url, 3) as all_of_them:
        for worker in all_of_them:
            assert FULL == await worker.keys.find(A)
        await until_heard(redis_server, 3)
        source.records[A] = REVOKED
        await all_of_them[0].keys.invalidate([B, A])
        assert None is all_of_them[0].keys.peek(A)
        await until(lambda: all(worker.keys.peek(A) is None for worker in all_of_them))
        assert [REVOKED] * 3 == [await worker.keys.find(A) for worker in all_of_them]


async def test_b3_a_read_that_began_before_the_change_is_not_kept(
    redis_server: RedisServer,
) -> None:
    """A worker that is still reading the old record puts it into neither level."""
    source = Source()
    async with workers(source, redis_server.url) as (slow, other):
        await other.keys.find(B)
        await slow.keys.find(B)
        await until_heard(redis_server, 2)
        source.gate = asyncio.Event()
        source.entered.clear()
        reading = asyncio.create_task(slow.keys.find(A))
        await source.entered.wait()
        source.records[A] = REVOKED
        await other.keys.invalidate([B, A])
        # The word came in order: where B is forgotten, so is what is being read.
        await until(lambda: len(slow.keys) == 0)
        source.gate.set()
        assert FULL == await reading
        assert [REVOKED] * 2 == [await other.keys.find(A), await slow.keys.find(A)]


async def test_b3_an_old_write_that_comes_late_is_not_kept(redis_server: RedisServer) -> None:
    """What was read longer ago than it would be fresh is not put into Redis any more."""
    source = Source()
    async with workers(source, redis_server.url, 1, fresh_seconds=0.001) as (worker,):
        source.gate = asyncio.Event()
        reading = asyncio.create_task(worker.shared.find(A))
        await source.entered.wait()
        began = redis_server.command("TIME")
        await until(lambda: _microseconds(redis_server) > 1000 + _sum(began))
        source.gate.set()
        assert FULL == await reading
        assert [] == redis_server.keys()


def _microseconds(server: RedisServer) -> int:
    return _sum(server.command("TIME"))


def _sum(parts: list[bytes]) -> int:
    return int(parts[0]) * 1_000_000 + int(parts[1])


async def test_a_key_that_is_gone_is_gone_from_redis(redis_server: RedisServer) -> None:
    """A record whose key the source has no more is not kept for an outage."""
    source = Source()
    async with workers(source, redis_server.url, 1) as (worker,):
        await worker.shared.find(A)
        make_older(redis_server, A, 4)
        source.records.clear()
        assert None is await worker.shared.find(A)
        source.error = OSError("refused")
        with pytest.raises(StoreError):
            await worker.shared.find(A)


async def test_b28_without_the_source(redis_server: RedisServer) -> None:
    """What any worker knew serves all up to its age, told as old; unknown keys are a StoreError."""
    source = Source()
    async with workers(source, redis_server.url) as (one, two):
        await one.keys.find(A)
        source.error = OSError("refused")
        make_older(redis_server, A, 4)
        record, age = await two.shared.find_aged(A)
        assert (FULL, True) == (record, age >= 5)
        assert FULL == await two.keys.find(A) == two.keys.peek(A)
        assert (False, True) == is_available(two)
        with pytest.raises(StoreError):
            await two.keys.find(B)
        two.clock.advance(1)
        assert FULL == await two.keys.find(A)
        make_older(redis_server, A, 596)
        with pytest.raises(StoreError):
            await two.shared.find(A)
        source.error = None
        two.clock.advance(1)
        assert FULL == await two.keys.find(A)
        assert (True, True) == is_available(two)


async def test_b28_a_changed_key_does_not_go_on_where_the_word_was_missed(
    redis_server: RedisServer,
) -> None:
    """Redis remembers the change; the old record in the first level is for no outage any more."""
    source = Source()
    async with workers(source, redis_server.url) as (one, deaf):
        assert FULL == await one.keys.find(A) == await deaf.keys.find(A)
        await until_heard(redis_server, 2)
        # It listens to nobody when the word goes out.
        await deaf.shared.aclose()
        source.records[A] = REVOKED
        await one.keys.invalidate([A])
        source.error = OSError("refused")
        deaf.clock.advance(4)
        with pytest.raises(StoreError):
            await deaf.keys.find(A)
        redis_server.flush()
        deaf.clock.advance(1)
        with pytest.raises(StoreError):
            await deaf.keys.find(A)
        assert 0 == deaf.keys.stale_uses


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_b27_without_redis(redis_server: RedisServer, how: str) -> None:
    """The source answers every look-up, within the deadlines; Redis is used when it is back."""
    source = Source()
    async with workers(source, redis_server.url, 1, timeout_seconds=0.2) as (worker,):
        await worker.shared.find(A)
        if how == "stopped":
            redis_server.stop()
        else:
            redis_server.freeze()
        for number in range(20):
            source.records[bytes([number]) * 32] = FULL
            async with asyncio.timeout(2.0):
                assert FULL == await worker.shared.find(bytes([number]) * 32)
        assert (True, False) == is_available(worker)
        assert 3 == worker.shared.failures
        with pytest.raises(StoreError):
            await worker.keys.invalidate([A])
        if how == "stopped":
            redis_server.start()
        else:
            redis_server.thaw()
        for _ in range(3):
            worker.clock.advance(2)
            await worker.shared.find(B)
        assert (True, True) == is_available(worker)
        await until_heard(redis_server, 1)


async def test_b27_invalidation_works_again_after_a_restart(redis_server: RedisServer) -> None:
    """Workers listen again by themselves, within five seconds."""
    source = Source()
    async with workers(source, redis_server.url) as (one, two):
        await one.keys.find(A)
        await two.keys.find(A)
        await until_heard(redis_server, 2)
        redis_server.restart()
        async with asyncio.timeout(5):
            await until_heard(redis_server, 2)
        two.clock.advance(4)
        assert FULL == await two.keys.find(A)
        source.records[A] = REVOKED
        await one.keys.invalidate([A])
        await until(lambda: two.keys.peek(A) is None)
        assert REVOKED == await two.keys.find(A)


async def test_b27_a_channel_that_is_lost_without_a_word(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A quiet connection is tried: one that answers is kept, one that does not is made anew."""
    source = Source()
    async with workers(source, redis_server.url, 1, ping_seconds=0.05) as (worker,):
        await worker.keys.find(A)
        await until_heard(redis_server, 1)
        pings = "cmdstat_ping"
        await until(lambda: pings in redis_server.command("INFO", "commandstats"))
        assert "the channel" not in caplog.text
        redis_server.freeze()
        await until(lambda: "changed keys are not heard of" in caplog.text)
        redis_server.thaw()
        await until_heard(redis_server, 1)
        await worker.keys.invalidate([A])
        await until(lambda: worker.keys.peek(A) is None)


async def test_a_record_that_cannot_be_kept(redis_server: RedisServer) -> None:
    """A server that is full answers reads and refuses writes: the caller is known all the same."""
    source = Source()
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    async with workers(source, redis_server.url, 1) as (worker,):
        assert FULL == await worker.keys.find(A)
        assert 1 == worker.shared.failures
        with pytest.raises(StoreError):
            await worker.keys.invalidate([A])
        await worker.keys.invalidate([])
    assert [] == redis_server.keys()


async def test_values_of_others(redis_server: RedisServer) -> None:
    """What cannot be read, or comes from the future, is looked up anew and replaced."""
    source = Source()
    name = name_of(A)
    future = msgspec.msgpack.encode([2**50, FULL])
    admin = msgspec.msgpack.encode([0, {"principal": {"role": "root"}}])
    async with workers(source, redis_server.url, 1) as (worker,):
        for value in (b"\xff", b"{}", msgspec.msgpack.encode([1]), admin, future):
            redis_server.command("SET", name, value)
            assert FULL == await worker.shared.find(A)
            assert value != redis_server.command("GET", name)


async def test_a_client_of_ones_own(redis_server: RedisServer) -> None:
    """It is used, and not closed; closing twice, or before any use, does nothing more."""
    client = redis.asyncio.Redis.from_url(redis_server.url)
    keys = RedisKeyCache(Source(), redis=client, timeout_seconds=2.0)
    assert FULL == await keys.find(A)
    await keys.aclose()
    await keys.aclose()
    assert await client.ping()
    await client.aclose()
    unused = RedisKeyCache(Source(), redis=redis_server.url)
    await unused.aclose()


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"fresh_seconds": 0}, "fresh_seconds"),
        ({"fresh_seconds": 6}, "fresh_seconds"),
        ({"stale_seconds": 1}, "stale_seconds"),
        ({"stale_seconds": float("inf")}, "stale_seconds"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"store_timeout_seconds": 0}, "timeout_seconds"),
        ({"ping_seconds": 0}, "ping_seconds"),
        ({"redis": "http://127.0.0.1"}, "url"),
        ({"redis": 6379}, "redis"),
        ({"redis": "redis://127.0.0.1:1/0?decode_responses=True"}, "redis"),
    ],
    ids=str,
)
def test_wrong_options(options: dict[str, Any], param: str) -> None:
    """They are found before anything is opened."""
    with pytest.raises(ConfigurationError) as raised:
        RedisKeyCache(Source(), **{"redis": "redis://127.0.0.1:1/0", **options})
    assert param == raised.value.param

"""What is particular about answers in Redis: leases, trouble, seals, and what is left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._cache_codec import AnswerCodec, read_encryption_keys
from asgi_llm.stores.cache import Selection
from asgi_llm.stores.cache_levels import CacheLevels
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.stores.cache_redis import RedisCache
from asgi_llm.testing import ManualClock
from tests.services.redis_server import RedisServer
from tests.stores.cache.conftest import PATIENT_SECONDS, SECRET, answer, key, redis_cache

START = b"asgi-llm:cache:{asgi-llm-cache}:"


async def test_one_of_many_gets_the_lease(shared_redis: RedisServer) -> None:
    """Of fifty that ask at once, in two processes' stores, one; then nobody until it ends."""
    shared_redis.flush()
    stores = [redis_cache(shared_redis) for _ in range(2)]
    claims = await asyncio.gather(
        *(
            stores[number % 2].claim(key(1), owner=f"o{number}", lease_seconds=30.0)
            for number in range(50)
        )
    )
    assert 1 == sum(claim.leased for claim in claims)
    owner = f"o{[claim.leased for claim in claims].index(True)}"
    await stores[0].release(key(1), owner=owner)
    assert (await stores[1].claim(key(1), owner="new", lease_seconds=30.0)).leased
    for store in stores:
        await store.aclose()


async def test_a_lease_ends_by_itself_unless_it_is_renewed(shared_redis: RedisServer) -> None:
    """Redis holds it for the time that was asked for, from the last renewal on."""
    shared_redis.flush()
    store = redis_cache(shared_redis)
    await store.claim(key(1), owner="a", lease_seconds=30.0)
    lease = START + b"l:" + key(1).hex().encode()
    assert 25_000 < shared_redis.command("PTTL", lease) <= 30_000
    await store.renew(key(1), owner="a", lease_seconds=300.0)
    assert 250_000 < shared_redis.command("PTTL", lease) <= 300_000
    await store.renew(key(1), owner="b", lease_seconds=900.0)
    assert shared_redis.command("PTTL", lease) <= 300_000
    await store.aclose()


async def test_an_answer_is_fresh_to_its_last_millisecond(shared_redis: RedisServer) -> None:
    """Who is told that it is old is told an age at which it is: the right is not taken for less."""
    store = redis_cache(shared_redis)
    for number in range(20):
        shared_redis.flush()
        await store.set([(key(number), answer(fresh_seconds=0.02))])
        leased = False
        while not leased:
            claim = await store.claim(key(number), owner="a", lease_seconds=30.0)
            leased = claim.leased
        assert claim.found is not None
        assert claim.found.age_seconds > 0.02
    await store.aclose()


async def test_one_gets_the_lease_of_an_entry_that_none_of_them_can_read(
    shared_redis: RedisServer,
) -> None:
    """It was sealed with a key that they do not have yet; what is made takes its place."""
    shared_redis.flush()
    ahead = redis_cache(shared_redis, encryption_keys={"new": SECRET, "old": bytes(32)})
    behind = [redis_cache(shared_redis, encryption_keys={"old": bytes(32)}) for _ in range(2)]
    await ahead.set([(key(1), answer(b"unread"))])
    claims = [
        await store.claim(key(1), owner=f"o{number}", lease_seconds=30.0)
        for number, store in enumerate(behind)
    ]
    assert [(None, True), (None, False)] == [(claim.found, claim.leased) for claim in claims]
    await behind[0].set([(key(1), answer(b"read"))], owner="o0")
    found = [(await store.get([key(1)]))[0] for store in (ahead, *behind)]
    assert [b"read"] * 3 == [one and one.answer.body for one in found]
    await behind[1].delete([key(1)])
    assert (await behind[1].claim(key(1), owner="o1", lease_seconds=30.0)).leased
    for store in (ahead, *behind):
        await store.aclose()


async def test_nothing_is_left_for_ever(shared_redis: RedisServer) -> None:
    """Every key of Redis runs out by itself, the indexes with what they know of."""
    shared_redis.flush()
    store = redis_cache(shared_redis)
    await store.set([(key(one), answer(scope=f"user:{one}")) for one in range(5)])
    await store.claim(key(9), owner="a", lease_seconds=30.0)
    ttls = [shared_redis.command("PTTL", name) for name in shared_redis.keys()]  # noqa: SIM118
    assert 12 == len(ttls)
    assert all(0 < ttl <= 120_000 for ttl in ttls)
    await store.aclose()


async def test_an_index_forgets_what_has_run_out(shared_redis: RedisServer) -> None:
    """Writing to a partition lets go of its old entries."""
    shared_redis.flush()
    store = redis_cache(shared_redis)
    await store.set([(key(5), answer())])
    await store.set([(key(1), answer(keep_seconds=0.001))])
    (index,) = [name for name in shared_redis.keys() if b":i:" in name]  # noqa: SIM118
    async with asyncio.timeout(5):
        while (await store.get([key(1)]))[0] is not None:
            continue
    await store.set([(key(2), answer())])
    assert 2 == shared_redis.command("ZCARD", index)
    await store.aclose()


async def test_what_redis_threw_out_is_a_miss(shared_redis: RedisServer) -> None:
    """An entry that is gone without its index's knowledge is counted by no purge."""
    shared_redis.flush()
    store = redis_cache(shared_redis)
    await store.set([(key(1), answer()), (key(2), answer())])
    shared_redis.command("DEL", START + b"e:" + key(1).hex().encode())
    assert 1 == await store.purge(Selection(scope="organization:acme"))
    await store.aclose()


class Busy(RedisCache):
    """One beside which another call is made between the first two steps of a purge."""

    def __init__(self, server: RedisServer, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(server.url, timeout_seconds=PATIENT_SECONDS)
        self._meanwhile: Callable[[], Awaitable[None]] | None = meanwhile

    async def _ask(self, operation: Callable[..., tuple[Any, ...]]) -> Any:
        reply = await super()._ask(operation)
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return reply


async def test_a_purge_passes_nothing_over_that_others_move(shared_redis: RedisServer) -> None:
    """While good answers are made anew, and so run out later than those that are meant."""
    shared_redis.flush()
    store = redis_cache(shared_redis)
    good = [(key(one), answer(written_by="good", keep_seconds=100.0)) for one in range(300)]
    bad = [key(1000 + one) for one in range(300)]
    await store.set(good)
    await store.set([(one, answer(written_by="bad", keep_seconds=200.0)) for one in bad])

    async def make_anew() -> None:
        later = answer(written_by="good", keep_seconds=300.0)
        await store.set([(one, later) for one, _ in good[:200]])

    purging = Busy(shared_redis, make_anew)
    selection = Selection(scope="organization:acme", written_by="bad")
    assert 300 == await purging.purge(selection)
    assert [None] * 300 == await store.get(bad)
    await purging.aclose()
    await store.aclose()


async def test_a_purge_of_all_partitions_passes_none_over(shared_redis: RedisServer) -> None:
    """While others of them are written to, and so run out later."""
    shared_redis.flush()
    store = redis_cache(shared_redis)
    keys = [key(one) for one in range(400)]
    await store.set(
        [
            (one, answer(scope=f"user:{place}", keep_seconds=100.0 + place))
            for place, one in enumerate(keys)
        ]
    )

    async def write_to_some() -> None:
        later: dict[str, Any] = {"model": "other", "keep_seconds": 900.0}
        await store.set(
            [(key(1000 + one), answer(scope=f"user:{one}", **later)) for one in range(50)]
        )

    purging = Busy(shared_redis, write_to_some)
    assert 400 == await purging.purge(Selection(model="gpt-4o"))
    assert [None] * 400 == await store.get(keys)
    assert 50 == (await store.statistics()).entries
    await purging.aclose()
    await store.aclose()


async def test_a_value_that_is_too_large_is_left_out(shared_redis: RedisServer) -> None:
    """It is not kept, its neighbours are, and the right to make it comes back all the same."""
    shared_redis.flush()
    store = redis_cache(shared_redis, max_value_bytes=1000)
    await store.claim(key(1), owner="a", lease_seconds=30.0)
    await store.set([(key(1), answer(b"x" * 2000)), (key(2), answer())], owner="a")
    assert [None, True] == [one and True for one in await store.get([key(1), key(2)])]
    assert (await store.claim(key(1), owner="b", lease_seconds=30.0)).leased
    await store.aclose()


@pytest.mark.parametrize("trouble", ["stopped", "frozen"])
async def test_b27_redis_in_trouble_is_left_alone(
    redis_server: RedisServer, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every call fails within its deadline, at once after three; and it is found by itself."""
    caplog.set_level(logging.CRITICAL)
    clock = ManualClock()
    store = RedisCache(redis_server.url, timeout_seconds=0.05, sleep=clock.sleep)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        await store.set([(key(1), answer())])
        if trouble == "stopped":
            redis_server.stop()
        else:
            redis_server.freeze()
        for _ in range(3):
            begun = loop.time()
            with pytest.raises(StoreError):
                await store.get([key(1)])
            assert loop.time() - begun < 1.0
        assert "open" == store.health()["state"]
        with pytest.raises(StoreError, match="left alone"):
            await store.claim(key(1), owner="a", lease_seconds=1.0)
        if trouble == "stopped":
            redis_server.start()
        else:
            redis_server.thaw()
        while store.health()["state"] == "open":
            if clock.sleeping:
                clock.advance(1.0)
            await asyncio.sleep(0)
        found = await store.get([key(1)])
    assert (trouble == "frozen") == (found[0] is not None)
    await store.aclose()


async def test_sealed_entries_hold_no_text(shared_redis: RedisServer) -> None:
    """What lies in Redis is neither the answer nor its headers."""
    shared_redis.flush()
    store = redis_cache(shared_redis, encryption_keys={"one": SECRET})
    await store.set([(key(1), answer(b'{"secret": "canary"}'))])
    value = shared_redis.command("GET", START + b"e:" + key(1).hex().encode())
    assert not any(word in value for word in (b"canary", b"application/json", b"openai"))
    await store.aclose()


def test_keys_are_replaced_one_by_one() -> None:
    """The first key writes, all read; without its key an entry is not there."""
    old, new = bytes(32), SECRET
    codecs = [
        AnswerCodec(compress_over_bytes=None, encryption_keys=keys)
        for keys in ({"old": old}, {"new": new, "old": old}, {"new": new})
    ]
    before, after = codecs[0].encode(key(1), answer()), codecs[1].encode(key(1), answer())
    assert [[True, False], [True, True], [False, True]] == [
        [codec.decode(key(1), data) is not None for data in (before, after)] for codec in codecs
    ]


def test_an_entry_is_worth_nothing_elsewhere() -> None:
    """Copied to another key, or written without a seal, it is not read."""
    sealed = AnswerCodec(compress_over_bytes=None, encryption_keys={"one": SECRET})
    plain = AnswerCodec(compress_over_bytes=None, encryption_keys=None)
    data = sealed.encode(key(1), answer())
    assert answer() == sealed.decode(key(1), data)
    assert sealed.decode(key(2), data) is None
    assert sealed.decode(key(1), plain.encode(key(1), answer())) is None
    assert plain.decode(key(1), data) is None


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans(), st.integers(0, 3))
def test_nonsense_is_no_answer(data: bytes, seals: bool, flags: int) -> None:
    """Whatever lies in the store, reading it raises nothing."""
    codec = AnswerCodec(compress_over_bytes=10, encryption_keys={"one": SECRET} if seals else None)
    assert codec.decode(key(1), bytes((flags,)) + data) is None


def test_large_entries_are_compressed() -> None:
    """And come back as they were, also to one who compresses nothing."""
    packs = AnswerCodec(compress_over_bytes=1000, encryption_keys=None)
    plain = AnswerCodec(compress_over_bytes=None, encryption_keys=None)
    large, small = answer(b"word " * 2000), answer(b"word")
    assert len(packs.encode(key(1), large)) < 1000
    assert large == plain.decode(key(1), packs.encode(key(1), large))
    assert plain.encode(key(1), small) == packs.encode(key(1), small)


@pytest.mark.parametrize(
    "text", ["not base64!", "a:AAAA", f"a:{'A' * 43}=,a:{'A' * 43}=", f"{'x' * 300}:{'A' * 43}="]
)
def test_bad_keys_are_refused(text: str) -> None:
    """By the name of the option, and without the text."""
    with pytest.raises(ConfigurationError) as caught:
        AnswerCodec(compress_over_bytes=None, encryption_keys=read_encryption_keys(text))
    assert "encryption_keys" == caught.value.param
    assert text not in caught.value.message


def test_keys_as_text() -> None:
    """With ids or, a single one, without."""
    encoded = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert {"new": SECRET, "old": bytes(16)} == read_encryption_keys(
        f"new:{encoded}, old:{'A' * 22}=="
    )
    assert {"1": SECRET} == read_encryption_keys(encoded)


@pytest.mark.parametrize(
    ("option", "value"),
    [("timeout_seconds", 0), ("max_value_bytes", 0), ("compress_over_bytes", -1)],
)
def test_bad_options_are_named(option: str, value: int) -> None:
    """A value out of range names its option."""
    options = {option: value}
    with pytest.raises(ConfigurationError) as caught:
        RedisCache("redis://127.0.0.1:1", **options)  # type: ignore[arg-type]
    assert option == caught.value.param


async def test_near_answers_serve_for_seconds_without_the_far_store(
    redis_server: RedisServer,
) -> None:
    """What one process deleted another serves until its own copy has run out, and no longer."""
    clock = ManualClock(1_000.0)
    levels = CacheLevels(MemoryCache(clock=clock), redis_cache(redis_server), near_seconds=10.0)
    far = redis_cache(redis_server)
    await levels.set([(key(1), answer(b"kept"))])
    await far.delete([key(1)])
    clock.advance(9.0)
    (near,) = await levels.get([key(1)])
    claim = await levels.claim(key(1), owner="a", lease_seconds=30.0)
    assert near is not None
    assert b"kept" == near.answer.body
    assert claim.found is not None
    clock.advance(1.0)
    assert [None] == await levels.get([key(1)])
    await far.aclose()
    await levels.aclose()


async def test_ages_do_not_add_up_over_levels(shared_redis: RedisServer) -> None:
    """What comes from further away keeps the age that it has there."""
    shared_redis.flush()
    clock = ManualClock(1_000.0)
    levels = CacheLevels(MemoryCache(clock=clock), redis_cache(shared_redis), near_seconds=50.0)
    far = redis_cache(shared_redis)
    await far.set([(key(1), answer())], age_seconds=30.0)
    await levels.get([key(1)])
    clock.advance(20.0)
    (near,) = await levels.get([key(1)])
    assert near is not None
    assert 50.0 <= near.age_seconds < 60.0
    await far.aclose()
    await levels.aclose()

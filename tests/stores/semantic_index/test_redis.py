"""What the index in Redis does beyond the others."""

from __future__ import annotations

import asyncio
from typing import Any

import fakeredis
import pytest

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.semantic_index import Selection
from asgi_llm.stores.semantic_index_redis import RedisSemanticIndex
from tests.services.redis_server import RedisServer, has_vector_sets, redis_server
from tests.stores.semantic_index.conftest import (
    DIMENSION,
    PATIENT_SECONDS,
    START,
    SetClock,
    at_angle,
    entry,
    unit,
)

__all__ = ["redis_server"]

FIRST = unit(1)
HERE = b"P" * 32


def index_at(server: Any, **options: Any) -> RedisSemanticIndex:
    return RedisSemanticIndex(
        server,
        **{
            "dimension": DIMENSION,
            "timeout_seconds": PATIENT_SECONDS,
            "clock": SetClock(),
            **options,
        },
    )


@pytest.fixture
def stand_in() -> Any:
    """A Redis in Python, which knows vector sets by their documentation alone."""
    return fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(version=(8, 0)))


async def test_an_older_redis_says_what_is_needed(redis_server: RedisServer) -> None:
    """At the first search, and at the first entry."""
    if has_vector_sets(redis_server):
        pytest.skip("this Redis has vector sets")
    index = index_at(redis_server.url)
    for work in (index.search(HERE, FIRST), index.add(entry(), FIRST)):
        with pytest.raises(StoreError, match="Redis 8 or later"):
            await work
    await index.aclose()


async def test_a_redis_that_is_gone_or_frozen_is_an_error_in_time(
    redis_server: RedisServer,
) -> None:
    """Of every call."""
    index = index_at(redis_server.url, timeout_seconds=0.2)
    assert None is await index.get("one")
    calls = (
        lambda: index.search(HERE, FIRST),
        lambda: index.add(entry(), FIRST),
        lambda: index.get("one"),
        lambda: index.find(Selection()),
        lambda: index.remove(Selection()),
        lambda: index.touch("one"),
        lambda: index.update_learning("one", expected_version=0, state=b""),
        lambda: index.statistics(),
    )
    redis_server.freeze()
    async with asyncio.timeout(PATIENT_SECONDS):
        results = await asyncio.gather(*[ask() for ask in calls], return_exceptions=True)
    redis_server.thaw()
    assert [StoreError] * len(calls) == [type(one) for one in results]
    redis_server.stop()
    for ask in calls:
        with pytest.raises(StoreError):
            await ask()
    await index.aclose()


async def test_a_client_of_ones_own_stays_open(stand_in: Any) -> None:
    """Who opened it closes it."""
    index = index_at(stand_in)
    await index.add(entry(), FIRST)
    await index.aclose()
    assert await stand_in.ping()


async def test_keys_carry_the_prefix_and_the_hash_tag(stand_in: Any) -> None:
    """All of them lie in one slot of a Cluster; nothing is left when the last entry goes."""
    index = index_at(stand_in, prefix="here", tag="slot")
    await index.add(entry("one", expires=START + 60), FIRST)
    keys = await stand_in.keys("*")
    assert keys
    assert all(key.startswith(b"here:{slot}:") for key in keys)
    await index.remove(Selection())
    assert [] == await stand_in.keys("*")


async def test_what_redis_evicted_is_a_miss(stand_in: Any) -> None:
    """An entry whose hash is gone is not found, and what is behind it in the set is."""
    index = index_at(stand_in)
    for id, cosine in (("near", 1.0), ("next", 0.9), ("far", 0.5)):
        await index.add(entry(id), at_angle(cosine))
    await stand_in.delete("asgi-llm:semantic:{asgi-llm}:enear")
    assert ["next"] == [one.entry.id for one in await index.search(HERE, FIRST, 1)]
    assert None is await index.get("near")
    assert 2 == await index.remove(Selection())
    assert [] == await stand_in.keys("*")


async def test_what_could_not_be_removed_is_a_miss(stand_in: Any) -> None:
    """An entry whose name is gone is not found in any way; the search clears it away."""
    index = index_at(stand_in)
    for id, cosine in (("near", 1.0), ("next", 0.9)):
        await index.add(entry(id), at_angle(cosine))
    await stand_in.delete("asgi-llm:semantic:{asgi-llm}:names")
    await index.add(entry("new"), at_angle(0.5))
    assert None is await index.get("near")
    assert ["new"] == [one.entry.id for one in await index.search(HERE, FIRST, 1)]
    assert not any(b"near" in key for key in await stand_in.keys())
    await index.add(entry("near"), FIRST)
    assert ["near", "new"] == [one.entry.id for one in await index.search(HERE, FIRST)]
    assert 2 == await index.remove(Selection())
    assert [] == await stand_in.keys("*")


async def test_what_ran_out_is_cleared_away_by_the_next_entry(stand_in: Any) -> None:
    """Also from the sets; its hash has a life of its own in Redis."""
    clock = SetClock()
    index = index_at(stand_in, clock=clock)
    await index.add(entry("short", expires=START + 30), FIRST)
    left = await stand_in.pttl("asgi-llm:semantic:{asgi-llm}:eshort")
    assert 0 < left <= 30_000
    clock.now = START + 30
    await index.add(entry("next", b"Q"), FIRST)
    assert not any(b"short" in key or HERE.hex().encode() in key for key in await stand_in.keys())
    assert 1 == (await index.statistics()).entries


async def test_the_whole_index_has_a_bound(stand_in: Any) -> None:
    """What was used least recently goes, of whichever partition."""
    clock = SetClock()
    index = index_at(stand_in, max_entries=3, clock=clock)
    for number in range(3):
        clock.now += 1
        await index.add(entry(f"e{number}", b"%d" % number, created=clock.now), FIRST)
    clock.now += 1
    await index.touch("e0")
    await index.add(entry("e3", created=clock.now), FIRST)
    assert ["e0", "e2", "e3"] == [one.id for one in await index.find(Selection())]
    assert 1 == (await index.statistics()).evicted


async def test_a_value_that_something_else_wrote_is_an_error_of_ours(stand_in: Any) -> None:
    """Nonsense under one of its keys is told as such."""
    index = index_at(stand_in)
    await index.add(entry(), FIRST)
    await stand_in.hset("asgi-llm:semantic:{asgi-llm}:eone", "created", "yesterday")
    with pytest.raises(StoreError, match="nonsense"):
        await index.search(HERE, FIRST)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"method": "magic"}, "method"),
        ({"dimension": 0}, "dimension"),
        ({"ef": 0}, "ef"),
        ({"max_entries_per_partition": 0}, "max_entries_per_partition"),
        ({"max_entries": 0}, "max_entries"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
def test_wrong_options_are_refused(stand_in: Any, options: dict[str, Any], param: str) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        index_at(stand_in, **options)
    assert param == caught.value.param

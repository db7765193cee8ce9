"""The memory store keeps its bound, and forgets in order."""

from __future__ import annotations

import os
import tracemalloc

import msgspec
import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.cache import Selection
from asgi_llm.stores.cache_memory import MemoryCache, answer_size
from asgi_llm.testing import ManualClock
from asgi_llm.types import Usage
from tests.stores.cache.conftest import answer, key

MIB = 1024 * 1024


def test_a_million_keys_stay_under_the_bound() -> None:
    """So many different answers, and the store never holds more than it may."""
    store = MemoryCache(max_bytes=8 * MIB)
    highest = 0
    like = answer(usage=None)
    tracemalloc.start()
    try:
        for number in range(1_000_000):
            if number == 20_000:
                # By then it has long been full; to trace all of it would take minutes.
                highest = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            store.put(key(number), msgspec.structs.replace(like, body=b"%0200d" % number))
    finally:
        tracemalloc.stop()
    assert 0 < highest <= 8 * MIB + 512 * 1024
    assert 4_000 < len(store) < 8_000
    assert store.look(key(0)) is None
    assert store.look(key(999_999)) is not None


@pytest.mark.parametrize("body_bytes", [0, 700, 20_000])
async def test_sizes_are_honest(body_bytes: int) -> None:
    """What is counted for an entry is what it takes, and at most so much more."""
    count = 5_000
    store = MemoryCache(max_bytes=1024 * MIB)
    tracemalloc.start()
    try:
        for number in range(count):
            store.put(
                os.urandom(32),
                answer(
                    os.urandom(body_bytes),
                    scope=f"organization:{number:08}",
                    model=f"model-{number:08}",
                    written_by=f"key_{number:08}",
                    headers=((b"content-type", b"application/json; %08d" % number),),
                    usage=Usage(input_uncached=1000 + number, output_text=2000 + number),
                ),
            )
        taken = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    counted = ((await store.statistics()).bytes or 0) / count
    assert taken <= counted <= taken + 700


async def test_the_least_recently_used_go_first() -> None:
    """An answer that was asked for stays, and one that was not goes."""
    size = answer_size(answer())
    store = MemoryCache(max_bytes=8 * size)
    for number in range(8):
        store.put(key(number), answer())
    assert store.look(key(0)) is not None
    store.put(key(8), answer())
    assert [True, False] == [store.look(key(one)) is not None for one in (0, 1)]
    assert 1 == (await store.statistics()).evictions


async def test_what_is_too_large_is_not_kept() -> None:
    """One answer does not push out all others; and what it would replace is gone."""
    store = MemoryCache(max_bytes=64 * 1024)
    store.put(key(1), answer())
    store.put(key(1), answer(b"x" * 10_000))
    assert store.look(key(1)) is None
    assert 0 == (await store.statistics()).bytes


async def test_time_runs_out() -> None:
    """By its own clock; what has run out goes when it is met, and is no purged answer."""
    clock = ManualClock(1_000.0)
    store = MemoryCache(clock=clock)
    for number in range(3):
        store.put(key(number), answer(keep_seconds=10.0 * (number + 1)))
    clock.advance(10.0)
    found = store.look(key(2))
    assert store.look(key(0)) is None
    assert found is not None and 10.0 == found.age_seconds
    clock.advance(10.0)
    store.put(key(9), answer())
    assert 2 == len(store)
    assert 2 == await store.purge(Selection())


def test_a_bound_is_above_0() -> None:
    """A store of no bytes is refused by name."""
    with pytest.raises(ConfigurationError) as caught:
        MemoryCache(max_bytes=0)
    assert "max_bytes" == caught.value.param


async def test_who_becomes_the_least_recently_used_is_looked_at() -> None:
    """What has run out goes with the next answer, also if it was not the first in line before."""
    clock = ManualClock(1_000.0)
    store = MemoryCache(clock=clock)
    store.put(key(0), answer(keep_seconds=100.0))
    store.put(key(1), answer(keep_seconds=10.0))
    store.put(key(2), answer(keep_seconds=100.0))
    clock.advance(20.0)
    store.put(key(3), answer(keep_seconds=100.0))
    assert 4 == len(store)
    assert store.look(key(0)) is not None
    store.put(key(4), answer(keep_seconds=100.0))
    assert 4 == len(store)
    assert 0 == await store.delete([key(1)])

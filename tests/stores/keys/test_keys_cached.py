"""The first level of the cache: how long it holds, how much, and what it does in an outage."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.testing import ManualClock
from asgi_llm.types import Limit, Principal

A, B, C = (bytes([byte]) * 32 for byte in b"abc")


def record(name: str = "a", **fields: Any) -> KeyRecord:
    return KeyRecord(principal=Principal(key_id=name), **fields)


class Store:
    """A key store that counts, fails and waits as told."""

    def __init__(self, **records: KeyRecord) -> None:
        self.records = {name.encode() * 32: known for name, known in records.items()}
        self.asked: list[bytes] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def find(self, digest: bytes) -> KeyRecord | None:
        self.asked.append(digest)
        known = self.records.get(digest)
        error = self.error
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if error is not None:
            raise error
        return known


def is_available(keys: CachedKeys) -> bool:
    """For a type checker that takes a property for a constant."""
    return keys.available


async def started(*asking: Any) -> list[asyncio.Task[Any]]:
    """Tasks that have gone as far as they get."""
    tasks = [asyncio.ensure_future(one) for one in asking]
    for _ in range(20):
        await asyncio.sleep(0)
    return tasks


async def test_an_answer_holds_for_its_time() -> None:
    """A key is asked for once in ``fresh_seconds``, and then what is new is used."""
    clock, store = ManualClock(), Store(a=record())
    keys = CachedKeys(store, clock=clock)
    assert None is keys.peek(A)
    assert record() == await keys.find(A) == keys.peek(A)
    clock.advance(3.9)
    assert record() == keys.peek(A) == await keys.find(A)
    assert [A] == store.asked
    store.records[A] = record(active=False)
    clock.advance(0.1)
    assert None is keys.peek(A)
    assert record(active=False) == await keys.find(A) == keys.peek(A)
    del store.records[A]
    clock.advance(4)
    assert None is await keys.find(A)
    assert [A] * 3 == store.asked


async def test_the_age_counts_from_the_question() -> None:
    """A slow answer is as old as its question: it says what was true then."""
    clock, store = ManualClock(), Store(a=record())
    store.gate = asyncio.Event()
    keys = CachedKeys(store, clock=clock)
    (task,) = await started(keys.find(A))
    clock.advance(3)
    store.gate.set()
    assert record() == await task == keys.peek(A)
    clock.advance(1)
    assert None is keys.peek(A)


async def test_b3_a_revoked_key_stops_on_each_worker_within_five_seconds() -> None:
    """Whenever it was read before: at the age of ``fresh_seconds`` no worker takes it any more."""
    clock, store = ManualClock(), Store(a=record())
    workers = [CachedKeys(store, fresh_seconds=5.0, clock=clock) for _ in range(4)]
    for worker in workers:
        await worker.find(A)
        clock.advance(1)
    revoked = store.records[A] = record(active=False)
    clock.advance(5)
    assert [revoked] * 4 == [await worker.find(A) for worker in workers]


async def test_one_look_up_for_all_who_ask() -> None:
    """200 requests at once ask the store once, for good and for unknown keys."""
    store = Store(a=record())
    store.gate = asyncio.Event()
    keys = CachedKeys(store)
    tasks = await started(*[keys.find(A) for _ in range(200)], *[keys.find(B) for _ in range(200)])
    store.gate.set()
    assert [record()] * 200 + [None] * 200 == await asyncio.gather(*tasks)
    assert [A, B] == store.asked


async def test_a_cancelled_leader_fails_nobody() -> None:
    """If who asks for all is cancelled, another takes its place; the others never notice."""
    store = Store(a=record())
    store.gate = asyncio.Event()
    keys = CachedKeys(store)
    leader, *others = await started(*[keys.find(A) for _ in range(5)])
    leader.cancel()
    others[0].cancel()
    await asyncio.sleep(0)
    store.gate.set()
    done = await asyncio.gather(leader, *others, return_exceptions=True)
    assert [True, True] == [isinstance(one, asyncio.CancelledError) for one in done[:2]]
    assert [record()] * 3 == done[2:]
    assert [A, A] == store.asked


async def test_a_failure_fails_those_who_waited() -> None:
    """All who waited for a look-up that failed are told; nothing of it is kept."""
    store = Store(a=record())
    store.gate, store.error = asyncio.Event(), StoreError("away")
    keys = CachedKeys(store)
    tasks = await started(*[keys.find(A) for _ in range(3)])
    store.gate.set()
    failed = await asyncio.gather(*tasks, return_exceptions=True)
    assert [True] * 3 == [isinstance(one, StoreError) for one in failed]
    assert 3 == len(set(map(id, failed)))
    store.error = None
    assert record() == await keys.find(A)


async def test_b28_known_keys_go_on_while_the_store_is_away() -> None:
    """A known key goes on up to ``stale_seconds``, an unknown one is a StoreError all the time."""
    clock, store = ManualClock(), Store(a=record(), b=record("b", active=False))
    keys = CachedKeys(store, stale_seconds=60, clock=clock)
    await keys.find(A)
    await keys.find(B)
    assert None is await keys.find(C)
    assert is_available(keys)
    clock.advance(4)
    store.error = OSError("refused")
    for _ in range(55):
        assert record() == await keys.find(A)
        assert record("b", active=False) == await keys.find(B)
        with pytest.raises(StoreError):
            await keys.find(C)
        clock.advance(1)
    assert not is_available(keys)
    assert keys.stale_uses >= 50
    clock.advance(1)
    for digest in (A, B, C):
        with pytest.raises(StoreError):
            await keys.find(digest)


async def test_a_stale_key_is_warm() -> None:
    """In an outage a known key costs one failed look-up a second and is peeked at in between."""
    clock, store = ManualClock(), Store(a=record())
    keys = CachedKeys(store, clock=clock)
    await keys.find(A)
    clock.advance(4)
    store.error = OSError("refused")
    assert record() == await keys.find(A)
    assert 2 == len(store.asked)
    clock.advance(0.9)
    assert record() == keys.peek(A)
    clock.advance(0.1)
    assert None is keys.peek(A)


async def test_b28_a_store_that_is_away_is_left_alone() -> None:
    """After three failures it is asked once a second by one alone, until it is back."""
    clock, store = ManualClock(), Store(a=record())
    store.error = OSError("refused")
    keys = CachedKeys(store, clock=clock)
    for _ in range(50):
        with pytest.raises(StoreError):
            await keys.find(A)
    assert 3 == len(store.asked)
    clock.advance(1)
    store.gate = asyncio.Event()
    probing, *others = await started(*[keys.find(bytes([n]) * 32) for n in range(9)])
    assert 4 == len(store.asked)
    assert [StoreError] * 8 == [type(other.exception()) for other in others]
    store.gate.set()
    with pytest.raises(StoreError):
        await probing
    store.error = store.gate = None
    clock.advance(1)
    assert record() == await keys.find(A)
    assert None is await keys.find(B)
    assert is_available(keys)


async def test_b28_a_store_that_hangs_costs_its_deadline() -> None:
    """A look-up without an answer is a StoreError at the deadline, or what was known before."""
    clock, store = ManualClock(), Store(a=record())
    keys = CachedKeys(store, timeout_seconds=0.02, clock=clock)
    await keys.find(A)
    store.gate = asyncio.Event()
    clock.advance(4)
    async with asyncio.timeout(5):
        assert record() == await keys.find(A)
        with pytest.raises(StoreError):
            await keys.find(B)


async def test_unknown_keys_push_no_known_one_out() -> None:
    """A flood of made-up keys is bounded, and takes no place of a good one."""
    clock, store = ManualClock(), Store(a=record())
    keys = CachedKeys(store, max_entries=10, max_unknown=100, clock=clock)
    await keys.find(A)
    for number in range(1000):
        assert None is await keys.find(number.to_bytes(32, "big"))
    assert 101 == len(keys)
    assert record() == keys.peek(A)
    asked = len(store.asked)
    assert None is await keys.find((999).to_bytes(32, "big"))
    assert asked == len(store.asked)
    clock.advance(4)
    store.records[(999).to_bytes(32, "big")] = record("new")
    assert record("new") == await keys.find((999).to_bytes(32, "big"))


async def test_known_keys_are_bounded() -> None:
    """Over ``max_entries`` the one that was not read for longest goes."""
    clock = ManualClock()
    keys = CachedKeys(Store(a=record(), b=record("b"), c=record("c")), max_entries=2, clock=clock)
    await keys.find(A)
    await keys.find(B)
    clock.advance(4)
    await keys.find(A)
    await keys.find(C)
    assert [True, False, True] == [keys.peek(digest) is not None for digest in (A, B, C)]


async def test_forgetting() -> None:
    """A forgotten key is looked up anew: known, unknown, or in an outage, where it is gone."""
    store = Store(a=record())
    keys = CachedKeys(store)
    await keys.find(A)
    await keys.find(B)
    store.records = {A: record(active=False), B: record("b")}
    keys.forget(A)
    keys.forget(B)
    keys.forget(C)
    assert [record(active=False), record("b")] == [await keys.find(A), await keys.find(B)]
    store.error = OSError("refused")
    keys.forget(A)
    with pytest.raises(StoreError):
        await keys.find(A)


async def test_b3_what_was_read_before_it_was_forgotten_is_not_kept() -> None:
    """A look-up that began before a revocation neither fills the cache nor serves newcomers."""
    store = Store(a=record())
    store.gate = asyncio.Event()
    keys = CachedKeys(store)
    (old,) = await started(keys.find(A))
    revoked = store.records[A] = record(active=False)
    await keys.invalidate([A])
    (new,) = await started(keys.find(A))
    store.gate.set()
    assert [record(), revoked] == [await old, await new]
    assert revoked == keys.peek(A)


async def test_what_it_holds() -> None:
    """A full cache stays below the memory that its documentation names."""
    limits = (Limit(unit="requests", amount=60, window_seconds=60),)

    class Everybody:
        async def find(self, digest: bytes) -> KeyRecord | None:
            number = int.from_bytes(digest, "big")
            if number % 2:
                return None
            principal = Principal(
                key_id=f"key_{number:032}", key_name=f"laptop {number}", user_id=f"user_{number}",
                team_id=f"team_{number}", organization_id=f"org_{number}", tier="pro",
                models=("gpt-4o*",), limits=limits,
            )  # fmt: skip
            return KeyRecord(principal=principal, expires_at=2e9)

    keys = CachedKeys(Everybody(), max_entries=2000, max_unknown=2000)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(10_000):
            await keys.find(number.to_bytes(32, "big"))
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 4000 == len(keys)
    assert used < 2000 * (1792 + 768)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"fresh_seconds": 0}, "fresh_seconds"),
        ({"fresh_seconds": 5.1}, "fresh_seconds"),
        ({"fresh_seconds": float("nan")}, "fresh_seconds"),
        ({"stale_seconds": -1}, "stale_seconds"),
        ({"stale_seconds": float("inf")}, "stale_seconds"),
        ({"max_entries": 0}, "max_entries"),
        ({"max_unknown": 0}, "max_unknown"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
def test_wrong_options(options: dict[str, Any], param: str) -> None:
    """Numbers out of range are refused; no option can make a revoked key last."""
    with pytest.raises(ConfigurationError) as raised:
        CachedKeys(Store(), **options)
    assert param == raised.value.param

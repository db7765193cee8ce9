"""What is special about the package ``limits``: its bounds are refused by name, its waits hold."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from limits.aio.storage import MemoryStorage

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.base import Demand
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.stores.limits_package import PackageLimits
from asgi_llm.types import Limit
from tests.services.redis_server import RedisServer
from tests.stores.limits.conftest import STRATEGIES

SECOND = Limit(unit="requests", amount=2, window_seconds=1)
HOUR = Limit(unit="requests", amount=3, window_seconds=3600)


@pytest.mark.parametrize(
    ("demand", "named"),
    [
        (Demand("a", Limit(unit="concurrent_requests", amount=1), 1, True), "leases"),
        (Demand("a", Limit(unit="tokens", amount=1, window_seconds=60), 1, True), "leases"),
        (
            Demand("a", Limit(unit="requests", amount=9, window_seconds=60, burst=3), 1, False),
            "burst",
        ),
        (Demand("a", Limit(unit="requests", amount=9), 1, False), "window_seconds"),
    ],
)
async def test_what_the_package_cannot_do_is_refused(demand: Demand, named: str) -> None:
    """Leases without a store for them, bursts, no window: a ConfigurationError names it."""
    store = PackageLimits("memory://")
    with pytest.raises(ConfigurationError) as caught:
        await store.take([demand], lease="a", lease_seconds=1.0)
    assert named == caught.value.param
    await store.aclose()


@pytest.mark.parametrize(
    ("uri", "options", "named"),
    [
        ("memory://", {"strategy": "no-window"}, "strategy"),
        ("floppy://a", {}, "storage_uri"),
        ("memcached://127.0.0.1:1", {"strategy": "moving-window"}, "storage_uri"),
    ],
)
def test_wrong_options_are_named(uri: str, options: dict[str, Any], named: str) -> None:
    """An unknown strategy or storage, or two that do not go together, is refused at once."""
    with pytest.raises(ConfigurationError) as caught:
        PackageLimits(uri, **options)
    assert named == caught.value.param


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("storage", ["memory", "redis"])
async def test_after_the_wait_the_demand_is_met(
    redis_server: RedisServer, storage: str, strategy: Any
) -> None:
    """Each strategy's announced wait is long enough, and no longer than two windows."""
    store = PackageLimits(
        "memory://" if storage == "memory" else redis_server.url, strategy=strategy
    )
    demand = [Demand("a", SECOND, 1, False)]
    async with asyncio.timeout(30):
        for _ in range(3):
            while (decision := await store.take(demand, lease="a", lease_seconds=1.0)).admitted:
                assert 0 < decision.statuses[0].reset_seconds <= 2
            wait = decision.statuses[0].retry_after_seconds
            assert 0 < wait <= 2
            await asyncio.sleep(wait + 0.02)  # the package knows no other clock
            assert (await store.take(demand, lease="a", lease_seconds=1.0)).admitted
    await store.aclose()


async def test_processes_that_race_give_back_what_they_took(redis_server: RedisServer) -> None:
    """Two stores on one Redis at once: what the loser of a race took of its first limit is back."""
    stores = [PackageLimits(redis_server.url) for _ in range(2)]
    wide = Limit(unit="requests", amount=100, window_seconds=3600)
    demands = [Demand("wide", wide, 1, False), Demand("narrow", HOUR, 1, False)]
    async with asyncio.timeout(20):
        decisions = await asyncio.gather(
            *(
                stores[number % 2].take(demands, lease=f"{number}", lease_seconds=1.0)
                for number in range(40)
            )
        )
        look = [Demand("wide", wide, 0, False), Demand("narrow", HOUR, 0, False)]
        seen = await stores[0].take(look, lease="look", lease_seconds=1.0)
        for store in stores:
            await store.aclose()
    admitted = sum(decision.admitted for decision in decisions)
    assert 1 <= admitted <= 3
    assert [100 - admitted, 3 - admitted] == [status.remaining for status in seen.statuses]


async def test_a_storage_that_fails_is_a_store_error(redis_server: RedisServer) -> None:
    """Nothing of the driver gets out, and a reservation beside it is given back."""
    leases = MemoryLimits()
    store = PackageLimits(redis_server.url, leases=leases)
    slot = Demand("s", Limit(unit="concurrent_requests", amount=1), 1, True)
    redis_server.stop()
    began = time.monotonic()
    async with asyncio.timeout(30):
        with pytest.raises(StoreError):
            await store.take([slot, Demand("a", HOUR, 1, False)], lease="a", lease_seconds=60.0)
        assert (await leases.take([slot], lease="b", lease_seconds=60.0)).admitted
        assert time.monotonic() - began < 20
        await store.aclose()


class Forgetful(MemoryStorage):
    """Counts, and cannot say until when."""

    STORAGE_SCHEME = ["async+forgetful"]  # noqa: RUF012  as the package has it

    async def get_expiry(self, key: str) -> float:
        raise OSError("gone")


async def test_who_gets_no_answer_holds_nothing() -> None:
    """Also where the storage fails after it has counted."""
    leases = MemoryLimits()
    store = PackageLimits("forgetful://", leases=leases)
    slot = Demand("s", Limit(unit="concurrent_requests", amount=1), 1, True)
    with pytest.raises(StoreError):
        await store.take([slot, Demand("a", HOUR, 1, False)], lease="a", lease_seconds=60.0)
    assert (await leases.take([slot], lease="b", lease_seconds=60.0)).admitted
    await store.aclose()


async def test_odd_keys_are_counted_apart() -> None:
    """Long keys, spaces and other scripts are keys like any other."""
    store = PackageLimits("memory://")
    keys = ["a" * 512, "a" * 511 + "b", "a b", "a\tb", "ключ", "a/b"]
    for key in keys:
        decision = await store.take([Demand(key, HOUR, 1, False)], lease="a", lease_seconds=1.0)
        assert 2 == decision.statuses[0].remaining
    await store.aclose()

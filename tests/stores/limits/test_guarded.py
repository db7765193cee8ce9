"""A store that fails: its deadline, the breaker, the policy, and the way back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.base import Decision, Demand, LimitStore
from asgi_llm.stores.limits_guarded import GuardedLimits
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.stores.limits_redis import RedisLimits
from asgi_llm.testing import ManualClock
from asgi_llm.types import Limit
from tests.services.redis_server import RedisServer

REQUESTS = Limit(unit="requests", amount=8, window_seconds=3600)
SLOTS = Limit(unit="concurrent_requests", amount=8)
ASK = (Demand("a", REQUESTS, 1, False), Demand("s", SLOTS, 1, True))
Policy = Literal["allow", "deny", "share"]


class FragileLimits:
    """Counts in memory; fails or hangs as long as the test wants it to.

    Attributes:
        trouble: What happens in place of an answer.
        asked: How many operations were begun.
    """

    def __init__(self) -> None:
        self._inner = MemoryLimits()
        self.trouble: Literal["none", "fails", "hangs"] = "none"
        self.asked = 0
        self.closed = False

    async def _suffer(self) -> None:
        self.asked += 1
        if self.trouble == "fails":
            raise StoreError("it failed")
        if self.trouble == "hangs":
            await asyncio.get_running_loop().create_future()

    async def take(
        self, demands: Sequence[Demand], *, lease: str, lease_seconds: float, enforce: bool = True
    ) -> Decision:
        await self._suffer()
        return await self._inner.take(
            demands, lease=lease, lease_seconds=lease_seconds, enforce=enforce
        )

    async def renew(self, demands: Sequence[Demand], *, lease: str, lease_seconds: float) -> None:
        await self._suffer()
        await self._inner.renew(demands, lease=lease, lease_seconds=lease_seconds)

    async def settle(self, demands: Sequence[Demand], *, lease: str, costs: Sequence[int]) -> None:
        await self._suffer()
        await self._inner.settle(demands, lease=lease, costs=costs)

    async def aclose(self) -> None:
        self.closed = True


def guarded(store: LimitStore, policy: Policy, **options: Any) -> GuardedLimits:
    share = MemoryLimits(share=0.25) if policy == "share" else None
    return GuardedLimits(store, on_store_error=policy, share=share, **options)


async def ask(store: LimitStore, lease: str = "x") -> Decision:
    return await store.take(ASK, lease=lease, lease_seconds=30.0)


async def test_a_store_that_works_is_just_passed_on() -> None:
    """Decisions are the store's, and nothing counts as a failure."""
    store = FragileLimits()
    guard = guarded(store, "deny")
    assert [7, 6] == [(await ask(guard, f"{n}")).statuses[1].remaining for n in range(2)]
    await guard.settle(ASK, lease="0", costs=[1, 0])
    assert 6 == (await ask(guard, "2")).statuses[1].remaining
    health = guard.health()
    assert ("closed", 0, 0) == (
        health["state"],
        health["failures"],
        health["decided_without_store"],
    )
    await guard.aclose()
    assert store.closed


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_b27_each_policy_while_the_store_is_away(trouble: Literal["fails", "hangs"]) -> None:
    """Allow admits all, deny refuses with StoreError, share lets a quarter pass."""
    for policy, admitted in (("allow", 6), ("deny", 0), ("share", 2)):
        store = FragileLimits()
        store.trouble = trouble
        guard = guarded(store, policy, timeout_seconds=0.01)  # type: ignore[arg-type]
        count = 0
        async with asyncio.timeout(5):
            for number in range(6):
                try:
                    count += (await ask(guard, f"{number}")).admitted
                except StoreError:
                    assert "deny" == policy
        assert admitted == count, policy
        assert 3 == store.asked  # three failures in a row open the breaker
        health = guard.health()
        assert ("open", 3, 6) == (
            health["state"],
            health["failures"],
            health["decided_without_store"],
        )
        await guard.aclose()


async def test_failures_that_do_not_follow_each_other_open_nothing() -> None:
    """The breaker counts failures in a row."""
    store = FragileLimits()
    guard = guarded(store, "allow")
    for _ in range(4):
        store.trouble = "fails"
        await ask(guard)
        await ask(guard)
        store.trouble = "none"
        await ask(guard)
    assert ("closed", 8) == (guard.health()["state"], guard.health()["failures"])
    await guard.aclose()


async def test_settlements_and_renewals_count_and_never_raise() -> None:
    """Their failures open the breaker like any other, and their callers go on."""
    store = FragileLimits()
    guard = guarded(store, "deny")
    store.trouble = "fails"
    await guard.settle(ASK, lease="a", costs=[1, 0])
    await guard.renew(ASK, lease="a", lease_seconds=1.0)
    await guard.settle(ASK, lease="a", costs=[1, 0])
    assert "open" == guard.health()["state"]
    await guard.settle(ASK, lease="a", costs=[1, 0])
    assert 3 == store.asked
    await guard.aclose()


async def test_b27_an_open_breaker_probes_alone_until_the_store_is_back() -> None:
    """One probe each second, whoever asks or nobody; the first that succeeds closes it."""
    clock = ManualClock()
    store = FragileLimits()
    guard = guarded(store, "allow", clock=clock, sleep=clock.sleep)
    store.trouble = "fails"
    for _ in range(50):
        await ask(guard)
    assert 3 == store.asked
    for probes in (1, 2, 3):
        await clock.until_sleeping()
        clock.advance(0.999)
        await asyncio.sleep(0)
        assert 3 + probes - 1 == store.asked
        clock.advance(0.001)
        await clock.until_sleeping()
        assert 3 + probes == store.asked
    assert ("open", 3.0) == (guard.health()["state"], guard.health()["since_seconds"])
    store.trouble = "none"
    clock.advance(1.0)
    async with asyncio.timeout(5):
        await until_closed(guard)
    assert 7 == (await ask(guard)).statuses[0].remaining
    assert 6 == guard.health()["failures"]
    await guard.aclose()


async def test_a_late_answer_does_not_close_the_breaker() -> None:
    """Only a probe does: an answer to an older question says nothing about now."""
    store = FragileLimits()
    guard = guarded(store, "allow", timeout_seconds=0.2)
    release = asyncio.Event()

    class Late(FragileLimits):
        async def _suffer(self) -> None:
            await release.wait()

    late = Late()
    guard._store = late
    slow = asyncio.ensure_future(ask(guard))
    await asyncio.sleep(0)
    guard._store = store
    store.trouble = "fails"
    for _ in range(3):
        await ask(guard)
    release.set()
    assert (await slow).admitted
    assert "open" == guard.health()["state"]
    await guard.aclose()


async def test_a_callers_own_deadline_counts_as_a_failure() -> None:
    """One who gives up at the same deadline, and so first, is seen; one who just left is not."""
    store = FragileLimits()
    guard = guarded(store, "allow", timeout_seconds=0.05)
    store.trouble = "hangs"
    leaving = asyncio.ensure_future(ask(guard))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert 0 == guard.health()["failures"]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.048):
            await ask(guard)
    assert 1 == guard.health()["failures"]
    await guard.aclose()


async def test_what_the_share_holds_is_settled_there() -> None:
    """A slot of the share comes back to the share, also when the store is back by then."""
    clock = ManualClock()
    store = FragileLimits()
    guard = guarded(store, "share", clock=clock, sleep=clock.sleep)
    store.trouble = "fails"
    slot = (ASK[1],)
    for number in range(4):
        decision = await guard.take(slot, lease=f"{number}", lease_seconds=30.0)
        assert (number < 2) == decision.admitted
    await guard.renew(slot, lease="0", lease_seconds=60.0)
    await guard.settle(slot, lease="0", costs=[0])
    assert (await guard.take(slot, lease="5", lease_seconds=30.0)).admitted
    store.trouble = "none"
    asked = store.asked
    await guard.settle(slot, lease="5", costs=[0])
    await guard.settle(slot, lease="1", costs=[0])
    assert asked == store.asked
    await guard.aclose()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"on_store_error": "perhaps"}, "on_store_error"),
        ({"on_store_error": "share"}, "share"),
        ({"share": MemoryLimits()}, "share"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"failure_threshold": 0}, "failure_threshold"),
        ({"probe_seconds": 5.0}, "probe_seconds"),
        ({"probe_seconds": 0}, "probe_seconds"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], named: str) -> None:
    """Each bad value is a ConfigurationError that names its option."""
    with pytest.raises(ConfigurationError) as caught:
        GuardedLimits(MemoryLimits(), **options)
    assert named == caught.value.param


# Over a real Redis


@pytest.mark.parametrize("trouble", ["stopped", "frozen", "slow", "read-only"])
async def test_b27_the_policy_holds_while_redis_is_in_trouble(
    redis_server: RedisServer, trouble: str
) -> None:
    """None waits beyond the deadline, a quarter passes, and Redis decides again by itself."""
    with redis_server.proxy() as proxy:
        store = RedisLimits(proxy.url, timeout_seconds=0.2)
        guard = guarded(store, "share", timeout_seconds=0.2, probe_seconds=0.2)
        async with asyncio.timeout(20):
            await until_closed(guard)
            began: dict[str, Callable[[], object]] = {
                "stopped": redis_server.stop,
                "frozen": redis_server.freeze,
                "slow": lambda: setattr(proxy, "delay_seconds", 0.5),
                "read-only": lambda: redis_server.command("REPLICAOF", "127.0.0.1", "1"),
            }
            ended: dict[str, Callable[[], object]] = {
                "stopped": redis_server.start,
                "frozen": redis_server.thaw,
                "slow": lambda: setattr(proxy, "delay_seconds", 0.0),
                "read-only": lambda: redis_server.command("REPLICAOF", "NO", "ONE"),
            }
            began[trouble]()
            longest, admitted = 0.0, 0
            for number in range(40):
                at = time.monotonic()
                admitted += (await ask(guard, f"{number}")).admitted
                longest = max(longest, time.monotonic() - at)
            assert 2 == admitted
            assert longest < 1.0  # the deadline is 0.2; the rest is for a busy machine
            assert "open" == guard.health()["state"]
            ended[trouble]()
            async with asyncio.timeout(5):
                await until_closed(guard)
            # What was given up may have reached Redis all the same; then it counts there.
            assert 4 <= (await ask(guard, "again")).statuses[0].remaining <= 7
        await guard.aclose()


async def until_closed(guard: GuardedLimits) -> None:
    """Until the store itself decides: the first connection may be slower than the deadline."""
    look = (Demand("look", REQUESTS, 0, False),)
    while True:
        without = guard.health()["decided_without_store"]
        await guard.take(look, lease="look", lease_seconds=1.0)
        if without == guard.health()["decided_without_store"]:
            return
        await asyncio.sleep(0.001)

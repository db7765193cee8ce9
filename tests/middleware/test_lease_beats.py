"""Leases that are kept alive by one heartbeat for each event loop, in a time that we make pass."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from asgi_llm.middleware._lease_beats import LeaseBeats


class TimedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes when it is told to."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that is due by then."""
        self.now += seconds
        self.run_until_complete(_some_rounds())

    @property
    def timers(self) -> int:
        """How many are set."""
        return len(self._scheduled)  # type: ignore[attr-defined]


async def _some_rounds() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


class Store:
    """Notes what is renewed.

    Attributes:
        renewed: Lease and what it is on, in order.
        fails: Leases whose renewals fail.
        most: How many renewals were under way at once.
    """

    def __init__(self) -> None:
        self.renewed: list[tuple[str, int]] = []
        self.fails: set[str] = set()
        self.most = 0
        self._now = 0

    async def renew(self, lease: str, held: int) -> bool:
        self.renewed.append((lease, held))
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        return lease not in self.fails


@pytest.fixture
def loop() -> Iterator[TimedLoop]:
    made = TimedLoop()
    yield made
    made.close()


def hold(loop: TimedLoop, beats: LeaseBeats[int], *leases: str) -> None:
    async def now() -> None:
        for number, lease in enumerate(leases):
            beats.hold(lease, number)

    loop.run_until_complete(now())


def drop(loop: TimedLoop, beats: LeaseBeats[int], lease: str) -> None:
    async def now() -> None:
        beats.drop(lease)

    loop.run_until_complete(now())


def test_a_lease_that_ends_within_a_third_of_its_time_is_never_renewed(loop: TimedLoop) -> None:
    """Nor one that has seen one beat only; and with the last of them the timer goes."""
    store = Store()
    beats = LeaseBeats(store.renew, 3.0)
    hold(loop, beats, "a", "b")
    drop(loop, beats, "a")
    loop.advance(1.0)
    drop(loop, beats, "b")
    loop.advance(1.0)
    assert ([], 0) == (store.renewed, loop.timers)


def test_a_lease_is_renewed_with_every_beat_from_its_second_on(loop: TimedLoop) -> None:
    """With what it is on, by one timer, and no more once it is dropped."""
    store = Store()
    beats = LeaseBeats(store.renew, 3.0)
    hold(loop, beats, "a", "b")
    loop.advance(1.0)
    assert ([], 1) == (store.renewed, loop.timers)
    loop.advance(1.0)
    assert ([("a", 0), ("b", 1)], 1) == (store.renewed, loop.timers)
    drop(loop, beats, "a")
    loop.advance(1.0)
    assert [("a", 0), ("b", 1), ("b", 1)] == store.renewed
    drop(loop, beats, "b")
    loop.advance(1.0)
    loop.advance(1.0)
    assert (3, 0) == (len(store.renewed), loop.timers)


def test_a_lease_after_a_pause_is_renewed_as_well(loop: TimedLoop) -> None:
    """The timer that has ended is set again."""
    store = Store()
    beats = LeaseBeats(store.renew, 3.0)
    hold(loop, beats, "a")
    drop(loop, beats, "a")
    loop.advance(1.0)
    assert 0 == loop.timers
    hold(loop, beats, "b")
    loop.advance(1.0)
    loop.advance(1.0)
    assert [("b", 0)] == store.renewed


def test_a_store_in_trouble_is_asked_for_64_at_once_and_then_left_alone(loop: TimedLoop) -> None:
    """The rest waits for the next beat, and so does what failed."""
    store = Store()
    beats = LeaseBeats(store.renew, 3.0)
    store.fails.add("lease 0")
    hold(loop, beats, *(f"lease {number}" for number in range(200)))
    loop.advance(1.0)
    loop.advance(1.0)
    assert (64, 64) == (len(store.renewed), store.most)
    store.fails.clear()
    loop.advance(1.0)
    assert (264, 64) == (len(store.renewed), store.most)


def test_what_is_dropped_while_others_are_renewed_is_not_renewed(loop: TimedLoop) -> None:
    """A beat goes by what is held when its turn comes."""
    store = Store()
    beats: LeaseBeats[int]

    async def renew(lease: str, held: int) -> bool:
        beats.drop("lease 64")
        return await store.renew(lease, held)

    beats = LeaseBeats(renew, 3.0)
    hold(loop, beats, *(f"lease {number}" for number in range(65)))
    loop.advance(1.0)
    loop.advance(1.0)
    assert [(f"lease {number}", number) for number in range(64)] == store.renewed


def test_after_close_nothing_is_renewed(loop: TimedLoop) -> None:
    """The leases end by themselves."""
    store = Store()
    beats = LeaseBeats(store.renew, 3.0)
    hold(loop, beats, "a")
    beats.close()
    loop.advance(1.0)
    loop.advance(1.0)
    assert ([], 0) == (store.renewed, loop.timers)


def test_each_loop_has_its_own_beat_and_none_of_them_is_kept() -> None:
    """A lease is renewed in the loop that holds it, and a loop that is gone is let go."""
    store = Store()
    beats = LeaseBeats(store.renew, 3.0)
    one, other = TimedLoop(), TimedLoop()
    hold(one, beats, "a")
    hold(other, beats, "b")
    drop(other, beats, "a")
    for _ in range(2):
        one.advance(1.0)
    assert [("a", 0)] == store.renewed
    gone = [weakref.ref(loop) for loop in (one, other)]
    one.close()
    other.close()
    del one, other
    gc.collect()
    assert [None, None] == [ref() for ref in gone]


def test_a_loop_that_is_closed_in_the_midst_of_a_renewal_ends_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told of, and no timer is set in a loop that is gone, which would be an error."""

    async def never(lease: str, held: int) -> bool:
        await asyncio.get_running_loop().create_future()
        return True

    beats = LeaseBeats(never, 3.0)
    loop = TimedLoop()
    hold(loop, beats, "a")
    loop.advance(1.0)
    loop.advance(1.0)
    assert (2, 0) == (len(asyncio.all_tasks(loop)), loop.timers)
    loop.close()
    del beats, loop
    # What is raised there fails this test, as every warning does.
    gc.collect()
    assert "Task was destroyed but it is pending!" in caplog.text

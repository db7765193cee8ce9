"""The shipper brings rows to the ledger: all of them, and again until they are there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._journal_lane import lanes_of
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.journal_shipper import JournalShipper
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.testing import ManualClock
from tests.stores.ledger.rows import make_row
from tests.stores.ledger.waiting import until


class FlakyLedger:
    """A ledger in memory that fails as often as it is told, and says when it was called."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.batches: list[list[str]] = []
        self.calls = asyncio.Condition()
        self.made = 0
        self.hold: asyncio.Event | None = None

    @property
    def ids(self) -> list[str]:
        return [id for batch in self.batches for id in batch]

    async def record(self, rows: Sequence[LedgerRow]) -> None:
        async with self.calls:
            self.made += 1
            self.calls.notify_all()
        if self.hold is not None:
            await self.hold.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append([row.id for row in rows])

    async def called(self, times: int) -> None:
        async with self.calls, asyncio.timeout(10):
            await self.calls.wait_for(lambda: self.made >= times)


def settle(journal: FileJournal, *ids: str) -> None:
    for id in ids:
        journal.intend(make_row(id))
        journal.settle((make_row(id),), intent=id)


def leave_behind(folder: Path, *ids: str, open: str | None = None) -> None:
    """What a worker leaves that dies before any of its rows is recorded."""
    journal = FileJournal(folder, fsync="never", worker="dead")
    settle(journal, *ids)
    if open is not None:
        journal.intend(make_row(open))
    assert journal._writer is not None
    os.close(journal._writer._lock)


async def test_it_starts_by_itself_and_ends_with_everything_recorded(tmp_path: Path) -> None:
    """The first outcome starts the task; ``aclose`` records what is left and removes the lane."""
    ledger = FlakyLedger()
    journal = FileJournal(tmp_path)
    shipper = JournalShipper(journal, ledger, max_batch_rows=3, interval_seconds=30)
    settle(journal, *(f"r{number}" for number in range(8)))
    await shipper.aclose(timeout_seconds=10)
    assert [f"r{number}" for number in range(8)] == ledger.ids
    assert [3, 3, 2] == [len(batch) for batch in ledger.batches]
    assert (0, 0.0, 8) == (
        shipper.pending_rows,
        shipper.oldest_age_seconds,
        shipper.recorded_rows,
    )
    assert [] == os.listdir(tmp_path)


async def test_a_batch_that_fails_is_given_again_with_growing_waits(tmp_path: Path) -> None:
    """Each wait is between half and all of a bound that doubles up to its cap."""
    clock = ManualClock()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await clock.sleep(seconds)

    ledger = FlakyLedger(*(StoreError("away") for _ in range(6)))
    journal = FileJournal(tmp_path)
    shipper = JournalShipper(journal, ledger, min_retry_seconds=1, max_retry_seconds=8, sleep=sleep)
    settle(journal, "a")
    for attempt in range(6):
        await ledger.called(attempt + 1)
        await clock.until_sleeping()
        assert (1, attempt + 1) == (shipper.pending_rows, shipper.failures)
        clock.advance(8)
    await ledger.called(7)
    await shipper.aclose()
    bounds = [1, 2, 4, 8, 8, 8]
    assert 6 == len(waits)
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert [["a"]] == ledger.batches


async def test_an_error_of_the_ledgers_own_ends_nothing(tmp_path: Path) -> None:
    """Whatever it raises, the rows stay and are given again."""
    ledger = FlakyLedger(ValueError("a bug"), RuntimeError("another"))
    journal = FileJournal(tmp_path)
    shipper = JournalShipper(journal, ledger, min_retry_seconds=0.001, max_retry_seconds=0.001)
    settle(journal, "a")
    await ledger.called(3)
    await shipper.aclose()
    assert [["a"]] == ledger.batches


async def test_what_the_deadline_cuts_off_stays_on_disk(tmp_path: Path) -> None:
    """A shipper that is closed while the ledger is away leaves its rows to the next one."""
    away = FlakyLedger(*(StoreError("away") for _ in range(10_000)))
    journal = FileJournal(tmp_path)
    shipper = JournalShipper(journal, away, min_retry_seconds=0.01, max_retry_seconds=0.01)
    settle(journal, "a", "b")
    await shipper.aclose(timeout_seconds=0.1)
    assert 1 == len(lanes_of(tmp_path))
    back = FlakyLedger()
    after = JournalShipper(FileJournal(tmp_path), back)
    after.start()
    await back.called(1)
    await after.aclose()
    assert ["a", "b"] == back.ids


async def test_a_close_in_the_midst_of_a_record_loses_nothing(tmp_path: Path) -> None:
    """A batch that hangs is cut off, and given again by the next worker."""
    hangs = FlakyLedger()
    hangs.hold = asyncio.Event()
    journal = FileJournal(tmp_path)
    shipper = JournalShipper(journal, hangs)
    settle(journal, "a")
    await hangs.called(1)
    await shipper.aclose(timeout_seconds=0.05)
    assert ["a"] == [row.id for row in FileJournal(tmp_path).replay()]


async def test_lanes_of_the_dead_are_recorded_and_removed(tmp_path: Path) -> None:
    """At the start, without a request; open calls are flagged, a live worker is left alone."""
    leave_behind(tmp_path, "a", "b", open="c")
    leave_behind(tmp_path, "d")
    live = FileJournal(tmp_path, worker="live")
    settle(live, "e")
    ledger = FlakyLedger()
    shipper = JournalShipper(FileJournal(tmp_path), ledger, max_batch_rows=2)
    shipper.start()
    await ledger.called(3)
    await until(lambda: shipper.taken_over_lanes == 2)
    await shipper.aclose()
    assert ["a", "b", "c", "d"] == sorted(ledger.ids)
    assert ["live"] == [path.name.split(".")[0] for path in lanes_of(tmp_path)]
    live.close()


async def test_own_rows_do_not_wait_behind_those_of_the_dead(tmp_path: Path) -> None:
    """Between two batches of a long lane the worker's own rows are recorded."""
    leave_behind(tmp_path, *(f"dead{number}" for number in range(10)))
    ledger = FlakyLedger()
    ledger.hold = asyncio.Event()
    journal = FileJournal(tmp_path)
    shipper = JournalShipper(journal, ledger, max_batch_rows=2)
    shipper.start()
    await ledger.called(1)
    settle(journal, "own")
    assert 11 == shipper.pending_rows
    ledger.hold.set()
    await ledger.called(6)
    await until(lambda: shipper.taken_over_lanes == 1)
    await shipper.aclose()
    assert 1 == ledger.ids.index("own") // 2
    assert 11 == len(set(ledger.ids))


async def test_a_lane_that_cannot_be_read_stops_nobody(tmp_path: Path) -> None:
    """Its rows stay where they are; the worker's own and another's are recorded."""
    leave_behind(tmp_path, "a")
    (lane,) = lanes_of(tmp_path)
    lane = lane.rename(tmp_path / "a.first")
    (lane / "00000002.journal").mkdir()
    leave_behind(tmp_path, "b")
    ledger = FlakyLedger()
    journal = FileJournal(tmp_path)
    shipper = JournalShipper(journal, ledger)
    settle(journal, "own")
    await until(lambda: shipper.taken_over_lanes == 1)
    await shipper.aclose()
    assert ["own", "b"] == ledger.ids
    assert [lane] == lanes_of(tmp_path)


def test_a_loop_that_ended_is_followed_by_the_next(tmp_path: Path) -> None:
    """Rows that one loop left are recorded by another of the same process, or at the close."""
    ledger = FlakyLedger()
    journal = FileJournal(tmp_path)
    shipper = JournalShipper(journal, ledger, interval_seconds=30)

    async def one_request(id: str) -> None:
        settle(journal, id)

    asyncio.run(one_request("a"))
    asyncio.run(one_request("b"))
    settle(journal, "c")
    asyncio.run(shipper.aclose())
    assert ["a", "b", "c"] == sorted(set(ledger.ids))
    assert 0 == shipper.pending_rows


@pytest.mark.parametrize(
    "option",
    [
        {"max_batch_rows": 0},
        {"interval_seconds": -1},
        {"takeover_seconds": 0},
        {"min_retry_seconds": 0},
    ],
)
def test_bad_options_are_named(tmp_path: Path, option: dict[str, float]) -> None:
    """An option out of its range is an error at once."""
    with pytest.raises(ConfigurationError) as caught:
        JournalShipper(FileJournal(tmp_path), FlakyLedger(), **option)  # type: ignore[arg-type]
    assert next(iter(option)) == caught.value.param

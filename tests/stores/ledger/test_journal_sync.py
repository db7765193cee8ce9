"""What a failed sync means: what was not brought onto the disk is not taken for brought there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from asgi_llm.stores._journal_lane import lanes_of, segment_path, segments_of
from asgi_llm.stores._journal_sync import GroupSync
from asgi_llm.stores.journal import FileJournal
from tests.stores.ledger.rows import make_row
from tests.stores.ledger.waiting import until


def settle(journal: FileJournal, *ids: str) -> None:
    for id in ids:
        journal.settle((make_row(id),), intent=id)


def drain(journal: FileJournal) -> None:
    """Acknowledge all rows."""
    while (batch := journal.read(100)) is not None:
        journal.acknowledge(batch)


def refuse_sync(path: Path) -> None:
    """Put in the place of this process's descriptor of a file one that cannot be synced."""
    pipe, other = os.pipe()
    for name in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{name}") and os.path.samefile(
            f"/proc/self/fd/{name}", path
        ):
            os.dup2(pipe, int(name))
    os.close(pipe)
    os.close(other)


async def test_the_thread_goes_on_when_a_file_can_be_neither_synced_nor_closed(
    tmp_path: Path,
) -> None:
    """It is counted, and what is written later is synced."""
    group = GroupSync(0.001)
    opened = os.open(tmp_path / "a", os.O_CREAT | os.O_RDWR)
    # A number that nobody else gets.
    file = fcntl.fcntl(opened, fcntl.F_DUPFD, 500)
    os.close(opened)
    os.close(file)
    group.adopt(file, tmp_path)
    group.retire()
    await until(lambda: group.failures >= 1)
    group.adopt(os.open(tmp_path / "b", os.O_CREAT | os.O_RDWR), tmp_path)
    await until(lambda: group.is_due)
    assert group.wrote()
    group.close()


def test_an_intent_that_could_not_be_carried_safely_is_carried_again(tmp_path: Path) -> None:
    """Its old segment is deleted when a copy was synced, and not because there is one."""
    journal = FileJournal(tmp_path, max_segment_bytes=4096, fsync_interval_seconds=60)
    journal.intend(make_row("long"))
    (lane,) = lanes_of(tmp_path)
    numbers = iter(range(1000))
    while segments_of(lane) == [1]:
        settle(journal, f"r{next(numbers)}")
    refuse_sync(segment_path(lane, 2))
    batch = journal.read(1000)
    assert batch is not None
    journal.acknowledge(batch)
    assert journal.is_failing
    assert [1, 2] == segments_of(lane)
    settle(journal, "last")
    drain(journal)
    assert [3] == segments_of(lane)
    assert journal._writer is not None
    os.close(journal._writer._lock)
    (row,) = FileJournal(tmp_path).replay()
    assert ("long", "unknown_after_crash") == (row.id, row.outcome)

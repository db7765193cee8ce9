"""The journal of one worker, and what others make of it when it is dead."""

from __future__ import annotations

import multiprocessing
import os
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores._journal_format import INTENT, MAGIC, OUTCOME, encode_rows, pack
from asgi_llm.stores._journal_lane import lanes_of, segment_path, segments_of
from asgi_llm.stores._journal_writer import Sync
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.testing import ManualClock
from asgi_llm.types import Cost
from tests.stores.ledger.rows import make_row

FORK = multiprocessing.get_context("fork")


def drain(journal: FileJournal, max_rows: int = 100) -> list[LedgerRow]:
    """All rows that are not acknowledged, acknowledged."""
    rows: list[LedgerRow] = []
    while (batch := journal.read(max_rows)) is not None:
        rows += batch.rows
        journal.acknowledge(batch)
    return rows


def die(journal: FileJournal) -> None:
    """What the kernel does at a SIGKILL: the lock is gone, and nothing is tidied up."""
    assert journal._writer is not None
    os.close(journal._writer._lock)


def outcomes(rows: list[LedgerRow]) -> list[tuple[str, str]]:
    return [(row.id, row.outcome) for row in rows]


@pytest.mark.parametrize("map_segments", [True, False])
@pytest.mark.parametrize("fsync", ["always", "group", "never"])
def test_rows_come_back_in_order_and_once(tmp_path: Path, fsync: Sync, map_segments: bool) -> None:
    """What was settled is read as it was, in batches, and not again once it is acknowledged."""
    journal = FileJournal(tmp_path, fsync=fsync, map_segments=map_segments)
    rows = [make_row(f"r{number}", attempt=number) for number in range(1, 8)]
    for row in rows:
        journal.intend(row)
        journal.settle((row,), intent=row.id)
    assert (7, 0) == (journal.pending_rows, journal.open_intents)
    first = journal.read(3)
    assert first is not None and rows[:3] == first.rows
    again = journal.read(3)
    assert again is not None and first.rows == again.rows
    journal.acknowledge(again)
    assert 4 == journal.pending_rows
    assert rows[3:] == drain(journal)
    assert 0 == journal.pending_rows
    journal.close()
    assert [] == list(tmp_path.iterdir())


def test_every_field_survives(tmp_path: Path) -> None:
    """Decimals to the last digit, times to the microsecond, unknown costs as unknown."""
    exact = make_row(
        "exact",
        cost=Cost(amount_usd=Decimal("0.000000000000000000000123")),
        saved_usd=Decimal("1E-24"),
    )
    unknown = make_row("unknown", cost=Cost(amount_usd=None, unknown="no_price"), cached=True)
    journal = FileJournal(tmp_path)
    journal.settle((exact, unknown), intent="exact")
    assert [exact, unknown] == drain(journal)
    journal.close()


def test_an_intent_without_outcome_is_found_and_flagged(tmp_path: Path) -> None:
    """Of a dead worker's calls the settled ones are rows as they were, the others unknown."""
    journal = FileJournal(tmp_path)
    for id in ("done", "refused", "open"):
        journal.intend(make_row(id))
    journal.settle((make_row("done"),), intent="done")
    journal.settle((), intent="refused")
    die(journal)
    rows = list(FileJournal(tmp_path).replay())
    assert [("done", "complete"), ("open", "unknown_after_crash")] == outcomes(rows)
    assert (True, True) == (rows[1].usage.estimated, rows[1].cost.estimated)
    assert (False, False) == (rows[0].usage.estimated, rows[0].cost.estimated)
    assert rows == list(FileJournal(tmp_path).replay())


def test_only_the_dead_are_taken_over_and_by_one_alone(tmp_path: Path) -> None:
    """A live worker's lane is left alone; a dead one's is locked by who reads it."""
    live, dead = FileJournal(tmp_path, worker="live"), FileJournal(tmp_path, worker="dead")
    for journal in (live, dead):
        journal.settle((make_row("r"),), intent="r")
    other = FileJournal(tmp_path)
    assert [] == list(other.take_over())
    die(dead)
    (lane,) = other.take_over()
    assert lane.path.name.startswith("dead.")
    assert [] == list(FileJournal(tmp_path).take_over())
    assert 1 == lane.pending_rows
    lane.close()
    (lane,) = FileJournal(tmp_path).take_over()
    batch = lane.read(10)
    assert batch is not None
    lane.acknowledge(batch)
    assert lane.read(10) is None
    assert 0 == lane.pending_rows
    lane.remove()
    assert ["live"] == [path.name.split(".")[0] for path in lanes_of(tmp_path)]
    live.close()


def test_a_taken_over_lane_is_resumed_where_it_was_acknowledged(tmp_path: Path) -> None:
    """Who dies while it sends a dead worker's rows leaves only the rest to the next."""
    journal = FileJournal(tmp_path)
    rows = [make_row(f"r{number}") for number in range(6)]
    for row in rows:
        journal.settle((row,), intent=row.id)
    first = journal.read(2)
    assert first is not None
    journal.acknowledge(first)
    die(journal)
    (lane,) = FileJournal(tmp_path).take_over()
    assert 4 == lane.pending_rows
    batch = lane.read(2)
    assert batch is not None and rows[2:4] == batch.rows
    lane.acknowledge(batch)
    lane.close()
    assert rows[4:] == list(FileJournal(tmp_path).replay())
    (lane,) = FileJournal(tmp_path).take_over()
    (lane.path / "position").write_bytes(b"torn")
    lane.close()
    assert rows == list(FileJournal(tmp_path).replay())


@pytest.mark.parametrize("map_segments", [True, False])
def test_segments_go_when_their_rows_are_acknowledged(tmp_path: Path, map_segments: bool) -> None:
    """The disk holds what the ledger does not have, and one segment."""
    journal = FileJournal(tmp_path, max_segment_bytes=4096, map_segments=map_segments)
    rows = [make_row(f"r{number}") for number in range(60)]
    for row in rows:
        journal.intend(row)
        journal.settle((row,), intent=row.id)
    (lane,) = lanes_of(tmp_path)
    assert len(segments_of(lane)) > 10
    batch = journal.read(5)
    assert batch is not None
    before = segments_of(lane)
    journal.acknowledge(batch)
    assert 0 < len(segments_of(lane)) < len(before)
    assert rows[5:] == drain(journal)
    assert 1 == len(segments_of(lane))
    journal.close()


def test_a_call_of_hours_keeps_no_segments(tmp_path: Path) -> None:
    """An open intent is carried on into the newest segment, and still found after a death."""
    journal = FileJournal(tmp_path, max_segment_bytes=4096)
    journal.intend(make_row("long"))
    for number in range(50):
        row = make_row(f"r{number}")
        journal.intend(row)
        journal.settle((row,), intent=row.id)
        drain(journal)
    (lane,) = lanes_of(tmp_path)
    assert len(segments_of(lane)) <= 2
    assert 1 == journal.open_intents
    die(journal)
    rows = list(FileJournal(tmp_path).replay())
    assert [("long", "unknown_after_crash")] == outcomes(rows)


def test_a_carried_intent_is_closed_by_its_outcome(tmp_path: Path) -> None:
    """No unknown row is made of a call whose intent was carried on and then settled."""
    journal = FileJournal(tmp_path, max_segment_bytes=4096)
    journal.intend(make_row("long"))
    for number in range(20):
        journal.settle((make_row(f"r{number}"),), intent=f"r{number}")
        drain(journal)
    journal.settle((make_row("long"),), intent="long")
    die(journal)
    assert [("long", "complete")] == outcomes(list(FileJournal(tmp_path).replay()))


def test_torn_tails_of_a_lane_are_cut_and_the_rest_is_read(tmp_path: Path) -> None:
    """A power cut may leave any part of the last record; those before it are rows."""
    journal = FileJournal(tmp_path, fsync="never")
    journal.settle((make_row("whole"),), intent="whole")
    (lane,) = lanes_of(tmp_path)
    end = journal._writer.end.offset if journal._writer is not None else 0
    journal.settle((make_row("torn"),), intent="torn")
    path = segment_path(lane, 1)
    data = path.read_bytes()
    stop = journal._writer.end.offset if journal._writer is not None else 0
    die(journal)
    for length in range(end, stop):
        path.write_bytes(data[:length])
        assert ["whole"] == [row.id for row in FileJournal(tmp_path).replay()]
    path.write_bytes(data)
    assert ["whole", "torn"] == [row.id for row in FileJournal(tmp_path).replay()]


def test_damaged_segments_are_kept_for_people(tmp_path: Path) -> None:
    """Whole records around a damaged one are recorded; the segment is not deleted with the lane."""
    journal = FileJournal(tmp_path, fsync="never")
    for id in ("a", "b", "c"):
        journal.settle((make_row(id),), intent=id)
    (lane,) = lanes_of(tmp_path)
    path = segment_path(lane, 1)
    die(journal)
    data = bytearray(path.read_bytes())
    data[data.index(b"request-b")] ^= 0xFF
    path.write_bytes(data)
    (taken,) = FileJournal(tmp_path).take_over()
    batch = taken.read(10)
    assert batch is not None
    assert ["a", "c"] == [row.id for row in batch.rows]
    taken.acknowledge(batch)
    assert taken.read(10) is None
    taken.remove()
    assert [] == lanes_of(tmp_path)
    assert [f"{lane.name}.00000001.journal"] == os.listdir(tmp_path / "damaged")


@pytest.mark.parametrize("segment", [1, 2])
def test_what_a_worker_cannot_read_of_its_own_is_kept_for_people(
    tmp_path: Path, segment: int
) -> None:
    """Its other rows are recorded, none stays pending, and the segment outlives the lane."""
    journal = FileJournal(tmp_path, fsync="never", max_segment_bytes=4096)
    lane: Path | None = None
    ids: list[str] = []
    while lane is None or segments_of(lane) == [1]:
        ids.append(f"r{len(ids)}")
        journal.settle((make_row(ids[-1]),), intent=ids[-1])
        (lane,) = lanes_of(tmp_path)
    broken = ids[0] if segment == 1 else ids[-1]
    path = segment_path(lane, segment)
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(f"request-{broken}".encode()))
        file.write(b"R")
    assert [id for id in ids if id != broken] == [row.id for row in drain(journal)]
    assert (0, 0.0) == (journal.pending_rows, journal.oldest_age_seconds)
    journal.settle((make_row("later"),), intent="later")
    assert ["later"] == [row.id for row in drain(journal)]
    journal.close()
    assert [] == lanes_of(tmp_path)
    assert [f"{lane.name}.{path.name}"] == os.listdir(tmp_path / "damaged")


def test_a_record_of_another_version_is_kept_for_people(tmp_path: Path) -> None:
    """What this version cannot read neither stops the others nor is deleted."""
    journal = FileJournal(tmp_path, fsync="never")
    newer = make_row("newer", outcome="from_the_future")
    journal.settle((make_row("a"),), intent="a")
    journal.settle((newer,), intent="newer")
    journal.intend(newer)
    die(journal)
    (lane,) = FileJournal(tmp_path).take_over()
    batch = lane.read(10)
    assert batch is not None and ["a"] == [row.id for row in batch.rows]
    lane.acknowledge(batch)
    while (rest := lane.read(10)) is not None:
        assert [] == rest.rows
        lane.acknowledge(rest)
    lane.remove()
    assert 1 == len(os.listdir(tmp_path / "damaged"))


def test_a_lane_of_the_format_before_is_kept_for_people(tmp_path: Path) -> None:
    """Its rows, of two parts, are not guessed at, neither outcomes nor intents."""
    journal = FileJournal(tmp_path, fsync="never")
    journal.settle((make_row("a"),), intent="a")
    die(journal)
    (lane,) = lanes_of(tmp_path)
    ((shared, own, _),) = msgspec.msgpack.decode(encode_rows([make_row("b")]))
    row = msgspec.msgpack.encode([[shared, own]])
    records = pack(OUTCOME, "a", 1, row, 1.0) + pack(INTENT, "b", 0, row, 1.0)
    segment_path(lane, 1).write_bytes(b"asgi-llm journal 1\n" + records)
    (taken,) = FileJournal(tmp_path).take_over()
    while (batch := taken.read(10)) is not None:
        assert [] == batch.rows
        taken.acknowledge(batch)
    taken.remove()
    assert [f"{lane.name}.00000001.journal"] == os.listdir(tmp_path / "damaged")


def test_the_age_is_that_of_the_oldest_pending_row(tmp_path: Path) -> None:
    """It grows while rows wait, and is zero when none does."""
    clock = ManualClock(1_000_000.0)
    journal = FileJournal(tmp_path, clock=clock)
    assert 0.0 == journal.oldest_age_seconds
    journal.settle((make_row("a"),), intent="a")
    clock.advance(30)
    journal.settle((make_row("b"),), intent="b")
    assert 30.0 == journal.oldest_age_seconds
    batch = journal.read(1)
    assert batch is not None
    journal.acknowledge(batch)
    second = journal.read(1)
    assert second is not None
    assert 0.0 == journal.oldest_age_seconds
    clock.advance(5)
    assert 5.0 == journal.oldest_age_seconds
    journal.acknowledge(second)
    assert 0.0 == journal.oldest_age_seconds
    journal.close()


def test_texts_that_are_not_utf8_are_written_all_the_same(tmp_path: Path) -> None:
    """A lone surrogate of a client's JSON becomes U+FFFD; the call has its row."""
    journal = FileJournal(tmp_path)
    odd = make_row("odd\ud800", tags={"t": "\ud800"})
    journal.intend(odd)
    journal.settle((odd,), intent=odd.id)
    assert 0 == journal.open_intents
    (row,) = drain(journal)
    assert {"t": "\ufffd"} == row.tags
    journal.close()


def _write_in_child(journal: FileJournal) -> None:
    journal.intend(make_row("child"))
    os.kill(os.getpid(), 9)


def test_a_forked_child_writes_a_lane_of_its_own(tmp_path: Path) -> None:
    """Parent and child of a fork never write the same segment, and the child's death is seen."""
    journal = FileJournal(tmp_path, fsync="never")
    journal.intend(make_row("parent"))
    child = FORK.Process(target=_write_in_child, args=(journal,))
    child.start()
    child.join(30)
    assert 2 == len(lanes_of(tmp_path))
    assert [("child", "unknown_after_crash")] == outcomes(list(FileJournal(tmp_path).replay()))
    journal.settle((make_row("parent"),), intent="parent")
    assert [make_row("parent")] == drain(journal)
    journal.close()


def test_a_file_that_is_no_segment_is_no_harm(tmp_path: Path) -> None:
    """Foreign files and folders beside the lanes are left alone."""
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "README").write_bytes(MAGIC)
    assert [] == list(FileJournal(tmp_path).replay())
    assert [] == list(FileJournal(tmp_path / "missing").replay())
    assert {"README", "lost+found"} == set(os.listdir(tmp_path))


@pytest.mark.parametrize(
    "option",
    [
        {"worker": "a/b"},
        {"worker": ""},
        {"max_segment_bytes": 10},
        {"fsync": "sometimes"},
        {"fsync_interval_seconds": 0},
        {"on_full": "panic"},
        {"max_unwritten_rows": 0},
    ],
)
def test_bad_options_are_named(tmp_path: Path, option: dict[str, object]) -> None:
    """An option out of its range is an error at once."""
    with pytest.raises(ConfigurationError) as caught:
        FileJournal(tmp_path, **option)  # type: ignore[arg-type]
    assert next(iter(option)) == caught.value.param

"""Short records: what they name in the segment is found, or that it is lost is seen."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import msgspec
import pytest

from asgi_llm.stores._journal_format import (
    INTENT,
    MAX_SHARED_BYTES,
    OUTCOME,
    SPAN_BYTES,
    encode_rows,
    pack,
)
from asgi_llm.stores._journal_lane import lanes_of, segment_path, segments_of
from asgi_llm.stores._journal_writer import Sync
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.types import Usage
from tests.stores.ledger.rows import make_row
from tests.stores.ledger.short import head_of, intend, make_short, settle

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


def end_of(journal: FileJournal) -> int:
    assert journal._writer is not None
    return int(journal._writer.end.offset)


def take_over(folder: Path) -> list[LedgerRow]:
    """The rows of the one dead lane, which is removed then."""
    (lane,) = FileJournal(folder).take_over()
    rows: list[LedgerRow] = []
    while (batch := lane.read(7)) is not None:
        rows += batch.rows
        lane.acknowledge(batch)
    lane.remove()
    return rows


@pytest.mark.parametrize("map_segments", [True, False])
@pytest.mark.parametrize("fsync", ["always", "group", "never"])
def test_short_rows_come_back_as_they_were(tmp_path: Path, fsync: Sync, map_segments: bool) -> None:
    """Field by field, among rows of the long form, in order and once."""
    journal = FileJournal(tmp_path, fsync=fsync, map_segments=map_segments)
    rows = [
        make_short(0),
        make_short(1, time_to_first_token_seconds=None, streamed=False),
        make_row("long"),
        make_short(2, tags={"note": "naïve"}, latency_seconds=0.0),
        make_short(3, usage=Usage(input_uncached=2**32 - 1, output_text=2**32 - 1)),
        make_short(4),
    ]
    for row in rows:
        if row.id == "long":
            journal.intend(row)
            journal.settle((row,), intent=row.id)
        else:
            intend(journal, row)
            settle(journal, row)
    assert (6, 0) == (journal.pending_rows, journal.open_intents)
    assert rows == drain(journal, 2)
    journal.close()
    assert [] == list(tmp_path.iterdir())


def test_a_usual_call_takes_a_few_bytes(tmp_path: Path) -> None:
    """What its rows share is not written again with each."""
    journal = FileJournal(tmp_path)
    intend(journal, make_short(0))
    settle(journal, make_short(0))
    before = end_of(journal)
    for number in range(1, 101):
        intend(journal, make_short(number))
        settle(journal, make_short(number))
    assert (104 + 132) * 100 == end_of(journal) - before
    journal.close()


def test_each_segment_is_read_by_itself(tmp_path: Path) -> None:
    """What rows share is written anew in each, so that those before it can be gone."""
    journal = FileJournal(tmp_path, max_segment_bytes=4096)
    rows = [make_short(number) for number in range(200)]
    for row in rows:
        intend(journal, row)
        settle(journal, row)
    die(journal)
    (lane,) = lanes_of(tmp_path)
    numbers = segments_of(lane)
    assert len(numbers) > 10
    assert rows == list(FileJournal(tmp_path).replay())
    for number in numbers[:-1]:
        segment_path(lane, number).unlink()
    rest = list(FileJournal(tmp_path).replay())
    assert 0 < len(rest) < 50
    assert rows[-len(rest) :] == rest


def test_what_is_shared_is_written_anew_after_a_span(tmp_path: Path) -> None:
    """So the table of it is bounded, and damage to it costs no more than a span."""
    journal = FileJournal(tmp_path, fsync="never")
    rows = [make_short(number, tags={"of": f"{number % 3000}"}) for number in range(6000)]
    for row in rows:
        settle(journal, row)
    die(journal)
    (lane,) = lanes_of(tmp_path)
    path = segment_path(lane, 1)
    data = path.read_bytes()
    assert rows == list(FileJournal(tmp_path).replay())
    # 3000 of them do not fit a span, and each serves in its own alone.
    found, place = [], -1
    while (place := data.find(head_of(rows[0]), place + 1)) >= 0:
        found.append(place)
    assert 2 == len(found)
    endings = data.count(b"overrides")
    assert end_of(journal) // SPAN_BYTES <= endings <= end_of(journal) // SPAN_BYTES + 2


def test_damage_to_what_is_shared_is_seen(tmp_path: Path) -> None:
    """The rows that name it are not made up, the others are told, and the segment is kept."""
    journal = FileJournal(tmp_path, fsync="never")
    blue = [make_short(number, tags={"team": "blue"}) for number in range(4)]
    red = [make_short(number + 100, tags={"team": "red"}) for number in range(4)]
    for row in (*blue, *red):
        intend(journal, row)
    for row in (*blue[1:], *red[1:]):
        settle(journal, row)
    die(journal)
    (lane,) = lanes_of(tmp_path)
    path = segment_path(lane, 1)
    data = bytearray(path.read_bytes())
    data[data.index(b"blue")] ^= 0xFF
    path.write_bytes(data)
    (taken,) = FileJournal(tmp_path).take_over()
    assert 5 == taken.pending_rows
    taken.close()
    assert [*outcomes(red[1:]), (red[0].id, "unknown_after_crash")] == outcomes(take_over(tmp_path))
    assert [f"{lane.name}.00000001.journal"] == os.listdir(tmp_path / "damaged")


def test_a_tail_torn_at_any_byte_is_cut(tmp_path: Path) -> None:
    """In what is shared, or in the records that name it: the rows before it are whole."""
    journal = FileJournal(tmp_path, fsync="never")
    first, second = make_short(0), make_short(1, tags={"another": "kind"})
    intend(journal, first)
    settle(journal, first)
    begin = end_of(journal)
    intend(journal, second)
    middle = end_of(journal)
    settle(journal, second)
    end = end_of(journal)
    die(journal)
    (lane,) = lanes_of(tmp_path)
    path = segment_path(lane, 1)
    data = path.read_bytes()
    for zeros in (b"", bytes(1000)):
        for length in range(begin, end + 1):
            path.write_bytes(data[:length] + zeros)
            expected = [(first.id, "complete")]
            if length >= middle:
                outcome = "complete" if length == end else "unknown_after_crash"
                expected.append((second.id, outcome))
            assert expected == outcomes(list(FileJournal(tmp_path).replay()))


def test_the_format_before_is_read(tmp_path: Path) -> None:
    """Its records are of the long form: outcomes are rows, and open intents are flagged."""
    journal = FileJournal(tmp_path, fsync="never")
    journal.settle((make_row("a"),), intent="a")
    die(journal)
    (lane,) = lanes_of(tmp_path)
    records = pack(OUTCOME, "a", 1, encode_rows([make_row("a")]), 1.0) + pack(
        INTENT, "b", 0, encode_rows([make_row("b")]), 1.0
    )
    segment_path(lane, 1).write_bytes(b"asgi-llm journal 2\n" + records + bytes(100))
    rows = take_over(tmp_path)
    assert make_row("a") == rows[0]
    assert [("a", "complete"), ("b", "unknown_after_crash")] == outcomes(rows)
    assert [] == list(tmp_path.iterdir())


def test_what_no_short_record_holds_is_written_in_full(tmp_path: Path) -> None:
    """A count of more than 32 bits, and what is shared by nobody because it is too long."""
    journal = FileJournal(tmp_path)
    large = make_short(0, usage=Usage(input_uncached=2**32, output_text=2**40))
    wide = make_short(1, tags={"t": "x" * MAX_SHARED_BYTES})
    for row in (large, wide):
        intend(journal, row)
    assert 2 == journal.open_intents
    for row in (large, wide):
        settle(journal, row)
    assert (2, 0) == (journal.pending_rows, journal.open_intents)
    assert [large, wide] == drain(journal)
    journal.close()
    assert [] == list(tmp_path.iterdir())


def test_what_is_beyond_all_bounds_is_told(tmp_path: Path) -> None:
    """A number that no form holds: nothing is written, and the caller brings it into bounds."""
    journal = FileJournal(tmp_path)
    with pytest.raises(OverflowError):
        intend(journal, make_short(0, usage=Usage(input_uncached=2**64)))
    with pytest.raises(OverflowError):
        settle(journal, make_short(0, usage=Usage(input_uncached=1, output_text=2**64)))
    assert (0, 0) == (journal.pending_rows, journal.open_intents)
    journal.close()


def test_a_call_of_hours_is_carried_on(tmp_path: Path) -> None:
    """Its intent is written in full into the newest segment, and what it shared can go."""
    journal = FileJournal(tmp_path, max_segment_bytes=4096)
    long = make_short(0, tags={"long": "call"})
    intend(journal, long)
    for number in range(1, 100):
        row = make_short(number)
        intend(journal, row)
        settle(journal, row)
        drain(journal)
    (lane,) = lanes_of(tmp_path)
    assert len(segments_of(lane)) <= 2
    assert 1 == journal.open_intents
    (lane,) = lanes_of(tmp_path)
    settled = FileJournal(tmp_path / "copy")
    settled.settle((long,), intent=long.id)
    die(journal)
    (row,) = FileJournal(tmp_path).replay()
    assert (long.id, "unknown_after_crash") == (row.id, row.outcome)
    assert (long.tags, long.at) == (row.tags, row.at)
    settled.close()


def test_a_carried_intent_is_closed_by_its_outcome(tmp_path: Path) -> None:
    """No unknown row is made of it."""
    journal = FileJournal(tmp_path, max_segment_bytes=4096)
    long = make_short(0)
    intend(journal, long)
    for number in range(1, 60):
        settle(journal, make_short(number))
        drain(journal)
    settle(journal, long)
    assert 0 == journal.open_intents
    die(journal)
    assert [long] == list(FileJournal(tmp_path).replay())


def _write_in_child(journal: FileJournal) -> None:
    intend(journal, make_short(2))
    settle(journal, make_short(3))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_forked_child_shares_nothing_with_its_parent(tmp_path: Path) -> None:
    """It writes a lane of its own, where what its rows share stands again."""
    journal = FileJournal(tmp_path, fsync="never")
    intend(journal, make_short(1))
    child = FORK.Process(target=_write_in_child, args=(journal,))
    child.start()
    child.join(30)
    assert 2 == len(lanes_of(tmp_path))
    row, unknown = FileJournal(tmp_path).replay()
    assert make_short(3) == row
    assert (make_short(2).id, "unknown_after_crash") == (unknown.id, unknown.outcome)
    assert make_short(2).tags == unknown.tags
    settle(journal, make_short(1))
    assert [make_short(1)] == drain(journal)
    journal.close()


def test_outcomes_that_wait_in_memory_are_written_first(tmp_path: Path) -> None:
    """In the order in which they came, once the disk takes them."""
    (tmp_path / "lanes").touch()
    journal = FileJournal(tmp_path / "lanes", on_full="allow")
    rows = [make_short(number) for number in range(4)]
    for row in rows[:3]:
        intend(journal, row)
        settle(journal, row)
    assert (3, 3) == (journal.unwritten_rows, journal.unwritten_intents)
    (tmp_path / "lanes").unlink()
    settle(journal, rows[3])
    assert (0, 4) == (journal.unwritten_rows, journal.pending_rows)
    assert rows == drain(journal)
    journal.close()


def test_threads_write_one_lane(tmp_path: Path) -> None:
    """Whoever writes in between, or reads: each row is there, whole and once."""
    journal = FileJournal(tmp_path, max_segment_bytes=16384, fsync="never")
    rows = [make_short(number) for number in range(1200)]
    got: list[LedgerRow] = []
    errors: list[BaseException] = []

    def write(mine: list[LedgerRow]) -> None:
        try:
            for place, row in enumerate(mine):
                intend(journal, row)
                if place % 7:
                    settle(journal, row)
                else:
                    journal.settle((row,), intent=row.id)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(rows[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        got += drain(journal, 50)
    got += drain(journal, 50)
    assert [] == errors
    assert rows == sorted(got, key=lambda row: row.id)
    assert (0, 0) == (journal.pending_rows, journal.open_intents)
    journal.close()
    assert [] == list(tmp_path.iterdir())


def test_unknown_rows_are_estimates(tmp_path: Path) -> None:
    """What an intent says is what was counted before the call."""
    journal = FileJournal(tmp_path)
    row = make_short(0, usage=Usage(input_uncached=7))
    intend(journal, row)
    die(journal)
    (unknown,) = FileJournal(tmp_path).replay()
    assert msgspec.structs.replace(row.usage, estimated=True) == unknown.usage

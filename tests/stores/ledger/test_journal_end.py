"""The end of a journal while calls are being made: each is told once, and as it was."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from asgi_llm.stores._journal_lane import lanes_of
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.journal_shipper import JournalShipper
from asgi_llm.stores.ledger import LedgerRow
from tests.middleware.cost.conftest import Notes
from tests.stores.ledger import short
from tests.stores.ledger.rows import make_row
from tests.stores.ledger.test_journal_shipper import leave_behind
from tests.stores.ledger.waiting import until


def intend_long(journal: FileJournal, row: LedgerRow) -> None:
    journal.intend(row)


def settle_long(journal: FileJournal, row: LedgerRow) -> None:
    journal.settle((row,), intent=row.id)


FORK = multiprocessing.get_context("fork")

FORMS = pytest.mark.parametrize(
    ("intend", "settle"),
    [(intend_long, settle_long), (short.intend, short.settle)],
    ids=["long", "short"],
)
Write = Callable[[FileJournal, LedgerRow], None]


def left_in(folder: Path) -> list[tuple[str, str]]:
    """What a worker that starts now finds of others."""
    return [(row.id, row.outcome) for row in FileJournal(folder).replay()]


def drain(journal: FileJournal) -> list[LedgerRow]:
    """All rows that are not acknowledged, acknowledged."""
    rows: list[LedgerRow] = []
    while (batch := journal.read(100)) is not None:
        rows += batch.rows
        journal.acknowledge(batch)
    return rows


@FORMS
def test_a_lane_is_kept_until_the_last_open_call_is_over(
    tmp_path: Path, intend: Write, settle: Write
) -> None:
    """Nobody takes it over before, and would tell of its calls as unknown; then anybody may."""
    journal = FileJournal(tmp_path)
    first, second, third = (short.make_short(number) for number in range(3))
    intend(journal, first)
    intend(journal, second)
    journal.close()
    settle(journal, first)
    assert [] == left_in(tmp_path)
    settle(journal, second)
    assert [(first.id, "complete"), (second.id, "complete")] == left_in(tmp_path)
    assert (0, 0) == (journal.pending_rows, journal.open_intents)
    assert [] == drain(journal)
    intend(journal, third)
    settle(journal, third)
    assert 2 == len(lanes_of(tmp_path))
    assert [third] == drain(journal)
    journal.close()
    assert 1 == len(lanes_of(tmp_path))


def test_calls_that_never_end_are_left_to_the_next_when_the_process_ends(tmp_path: Path) -> None:
    """Closed or not: what a call came to is not known before nobody can tell it any more."""
    journal = FileJournal(tmp_path)
    journal.intend(make_row("open"))
    journal.close()
    assert [] == left_in(tmp_path)
    assert journal._writer is not None
    os.close(journal._writer._lock)
    assert [("open", "unknown_after_crash")] == left_in(tmp_path)


@FORMS
def test_a_closed_journal_that_is_used_again_goes_on(
    tmp_path: Path, intend: Write, settle: Write
) -> None:
    """As an app that is started twice: calls of before and of now are in one lane."""
    journal = FileJournal(tmp_path)
    old, new = short.make_short(1), short.make_short(2)
    intend(journal, old)
    journal.close()
    intend(journal, new)
    settle(journal, new)
    settle(journal, old)
    assert 2 == journal.pending_rows
    assert [new, old] == drain(journal)
    journal.close()
    assert [] == lanes_of(tmp_path)


async def test_an_answer_that_ends_after_its_gateway_is_told_by_the_next(tmp_path: Path) -> None:
    """In the same process: a shipper that was made anew finds the outcome, and no unknown row."""
    journal, ledger = FileJournal(tmp_path), Notes()
    shipper = JournalShipper(journal, ledger)
    shipper.start()
    journal.intend(make_row("late"))
    settle_long(journal, make_row("early"))
    await shipper.aclose()
    anew = JournalShipper(FileJournal(tmp_path), ledger, takeover_seconds=0.01)
    anew.start()
    settle_long(journal, make_row("late"))
    await until(lambda: anew.taken_over_lanes == 1)
    await anew.aclose()
    assert [("early", "complete"), ("late", "complete")] == [
        (row.id, row.outcome) for row in ledger.rows
    ]
    assert [] == lanes_of(tmp_path)


def _idle(parent: Connection) -> None:
    parent.send(None)
    parent.recv()


@contextmanager
def idle_child() -> Iterator[None]:
    """While a child of a fork lives that does nothing."""
    ours, theirs = FORK.Pipe()
    child = FORK.Process(target=_idle, args=(theirs,))
    child.start()
    try:
        ours.recv()
        yield
    finally:
        ours.send(None)
        child.join(30)


def test_a_forked_child_that_never_writes_holds_no_lane(tmp_path: Path) -> None:
    """A worker's calls are told though a process pool of its own outlives it."""
    journal = FileJournal(tmp_path)
    journal.intend(make_row("done"))
    settle_long(journal, make_row("done"))
    journal.intend(make_row("open"))
    assert journal._writer is not None
    with idle_child():
        os.close(journal._writer._lock)
        assert [("done", "complete"), ("open", "unknown_after_crash")] == left_in(tmp_path)


def test_a_lane_that_was_taken_over_is_not_held_by_a_forked_child(tmp_path: Path) -> None:
    """Who gives it back, or dies while it sends its rows, leaves it to the next."""
    leave_behind(tmp_path, "done")
    (lane,) = FileJournal(tmp_path).take_over()
    with idle_child():
        lane.close()
        assert [("done", "complete")] == left_in(tmp_path)

"""A disk that is full, or refuses: calls are denied or go on, as declared, and nothing is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.errors import StoreError
from asgi_llm.stores._journal_lane import lanes_of
from asgi_llm.stores.journal import FileJournal
from tests.stores.ledger.rows import make_row

FORK = multiprocessing.get_context("fork")


def fill(
    folder: Path, on_full: str, segment_bytes: int, file_bytes: int, way: str, form: str = "long"
) -> dict[str, Any]:
    """What a process saw whose files may not grow beyond ``file_bytes``."""
    sizes = segment_bytes, file_bytes
    arguments = ["-m", "tests.stores.ledger.disk", folder, on_full, *sizes, way, form]
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], check=True, capture_output=True, timeout=60
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("form", ["long", "short"])
@pytest.mark.parametrize("way", ["map", "write"])
def test_b29_calls_are_denied_and_those_let_through_find_room(
    tmp_path: Path, way: str, form: str
) -> None:
    """No new segment: an intent is refused; every outcome still fits, for its room was kept."""
    # Either is full before all calls are open.
    segment_bytes = 64 * 1024 if form == "long" else 32 * 1024
    found = fill(tmp_path, "deny", segment_bytes, 4096, way, form)
    assert found["refused"] > 0
    assert 0 == found["unwritten_intents"]
    assert 201 == found["intended"] + found["refused"]
    assert found["expected"] == sorted(set(found["rows"]))
    assert len(found["rows"]) - len(found["expected"]) <= found["in_memory"]
    assert 0 == found["left"]
    assert [] == lanes_of(tmp_path)


@pytest.mark.parametrize("way", ["map", "write"])
def test_b29_calls_go_on_where_that_is_declared(tmp_path: Path, way: str) -> None:
    """Nothing is refused; outcomes wait in memory, reach the ledger, and are rows once each."""
    found = fill(tmp_path, "allow", 64 * 1024, 8192, way)
    assert (201, 0) == (found["intended"], found["refused"])
    assert found["unwritten_intents"] > 0
    assert found["unwritten_rows"] > 0
    assert 201 == found["pending_rows"]
    assert found["expected"] == sorted(found["rows"])
    assert 0 == found["left"]
    assert [] == lanes_of(tmp_path)


def test_b29_a_partial_record_is_cut_away(tmp_path: Path) -> None:
    """A write that the disk takes in part leaves no torn record before later ones."""
    found = fill(tmp_path / "long", "allow", 64 * 1024, 10_001, "write")
    assert found["expected"] == sorted(found["rows"])
    found = fill(tmp_path / "short", "allow", 4096, 2001, "write", "short")
    assert found["expected"] == sorted(found["rows"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def test_b29_a_full_file_system_denies_calls_and_keeps_outcomes(small_disk: Path) -> None:
    """ENOSPC: the space of a segment is taken at its begin, so outcomes of open calls fit."""
    journal = FileJournal(small_disk, max_segment_bytes=64 * 1024)
    open_calls = []
    with pytest.raises(StoreError):
        for number in range(10_000):
            journal.intend(make_row(f"r{number}"))
            open_calls.append(f"r{number}")
    assert len(open_calls) > 50
    for id in open_calls[-20:]:
        journal.settle((make_row(id),), intent=id)
    assert (20, 0) == (journal.pending_rows, journal.unwritten_rows)
    for id in open_calls[:-20]:
        journal.settle((make_row(id),), intent=id)
    rows = []
    while (batch := journal.read(100)) is not None:
        rows += [row.id for row in batch.rows]
        journal.acknowledge(batch)
    assert sorted(open_calls) == sorted(set(rows))
    journal.intend(make_row("again"))
    journal.settle((), intent="again")
    journal.close()


def test_too_many_rows_in_memory_are_refused_and_counted(tmp_path: Path) -> None:
    """The memory that outcomes wait in is bounded."""
    (tmp_path / "file").touch()
    journal = FileJournal(tmp_path / "file", on_full="allow", max_unwritten_rows=2)
    for number in range(2):
        journal.intend(make_row(f"r{number}"))
        journal.settle((make_row(f"r{number}"),), intent=f"r{number}")
    with pytest.raises(StoreError):
        journal.settle((make_row("r3"),), intent="r3")
    assert (2, 1, 2) == (journal.unwritten_rows, journal.lost_rows, journal.unwritten_intents)
    (tmp_path / "file").unlink()
    journal.settle((make_row("r4"),), intent="r4")
    assert (0, 3) == (journal.unwritten_rows, journal.pending_rows)
    journal.close()


def test_a_folder_that_cannot_be_written_denies(tmp_path: Path) -> None:
    """The cause is logged once, not with every call."""
    (tmp_path / "file").touch()
    journal = FileJournal(tmp_path / "file")
    for _ in range(3):
        with pytest.raises(StoreError):
            journal.intend(make_row("r"))
    assert 0 == journal.open_intents


def _write_unreadable(folder: Path, results: Connection) -> None:
    os.chdir(folder.parent)
    if os.geteuid() == 0:
        os.setuid(65534)
    journal = FileJournal(folder.name, on_full="allow")
    free = []
    for number in range(5):
        journal.intend(make_row(f"r{number}"))
        free.append(os.dup(results.fileno()))
        os.close(free[-1])
    results.send((journal.unwritten_intents, free))


def test_a_folder_that_cannot_be_synced_collects_no_lanes(tmp_path: Path) -> None:
    """Each try ends with neither a lane nor a descriptor left, whose lock nobody could get."""
    folder = tmp_path / "work" / "journal"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o777)
    # It can be written and not be opened, which a sync has to do.
    folder.chmod(0o333)
    ours, theirs = FORK.Pipe()
    child = FORK.Process(target=_write_unreadable, args=(folder, theirs))
    child.start()
    theirs.close()
    unwritten, free = ours.recv()
    child.join(30)
    folder.chmod(0o700)
    assert (5, 1) == (unwritten, len(set(free)))
    assert [] == os.listdir(folder)

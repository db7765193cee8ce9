"""Records of the journal: whole ones are found, whatever stands before or behind them."""

from __future__ import annotations

import os
from pathlib import Path

from asgi_llm.stores._journal_format import (
    END_RECORD,
    INTENT,
    MAGIC,
    OUTCOME,
    Damage,
    Record,
    decode_rows,
    encode_rows,
    pack,
    scan,
)
from tests.stores.ledger.rows import make_row

ROWS = [make_row("a"), make_row("b", tags={"note": "naïve =1+1"})]
FIRST = pack(INTENT, "a", 0, encode_rows(ROWS[:1]), 1.5)
SECOND = pack(OUTCOME, "a", 2, encode_rows(ROWS), 2.5)


def read(path: Path, data: bytes) -> list[Record | Damage]:
    path.write_bytes(data)
    file = os.open(path, os.O_RDONLY)
    try:
        return list(scan(file, 0, len(data)))
    finally:
        os.close(file)


def records(found: list[Record | Damage]) -> list[tuple[int, str, int]]:
    return [(one.kind, one.intent, one.rows) for one in found if isinstance(one, Record)]


def test_what_is_packed_is_read(tmp_path: Path) -> None:
    """Kind, intent, time and rows come back, and the places of the records are theirs."""
    first, second = read(tmp_path / "s", MAGIC + FIRST + SECOND)
    assert isinstance(first, Record) and isinstance(second, Record)
    assert (INTENT, "a", 0, 1.5) == first[:4]
    assert (OUTCOME, "a", 2, 2.5) == second[:4]
    assert ROWS == decode_rows(second.data)
    assert (len(MAGIC), len(MAGIC + FIRST)) == (first.start, first.end)
    assert (first.end, first.end + len(SECOND)) == (second.start, second.end)


def test_a_tail_torn_at_any_byte_is_cut(tmp_path: Path) -> None:
    """The records before it are whole, and of the torn one there is nothing."""
    whole = MAGIC + FIRST
    for length in range(len(SECOND)):
        found = read(tmp_path / "s", whole + SECOND[:length])
        assert [(INTENT, "a", 0)] == records(found)
        torn = [one for one in found if isinstance(one, Damage)]
        assert ([Damage(len(whole), len(whole) + length, False)] if length else []) == torn


def test_a_tail_torn_before_zeros_is_cut(tmp_path: Path) -> None:
    """The space of a segment is taken in advance: what is not written reads as zeros."""
    for length in range(len(SECOND)):
        data = MAGIC + FIRST + SECOND[:length] + bytes(5000)
        assert [(INTENT, "a", 0)] == records(read(tmp_path / "s", data))
    assert [] == read(tmp_path / "s", MAGIC + bytes(300_000))
    assert [] == read(tmp_path / "s", bytes(300_000))
    assert [] == read(tmp_path / "s", b"")


def test_any_flipped_byte_costs_its_own_record_alone(tmp_path: Path) -> None:
    """The records before and behind are found, and the damage is named."""
    for place in range(len(SECOND)):
        broken = bytearray(SECOND)
        broken[place] ^= 0x55
        found = read(tmp_path / "s", MAGIC + FIRST + bytes(broken) + FIRST + END_RECORD)
        kinds = [kind for kind, _, _ in records(found)]
        start = len(MAGIC + FIRST)
        damage = Damage(start, start + len(SECOND), True)
        assert [INTENT, INTENT, 3] == kinds
        assert [damage] == [one for one in found if isinstance(one, Damage)]


def test_records_larger_than_a_window_are_read(tmp_path: Path) -> None:
    """A record of a megabyte between small ones, and a torn one of that size at the end."""
    large = pack(OUTCOME, "c", 1, encode_rows([make_row("c", tags={"t": "x" * 1_000_000})]), 3.0)
    found = read(tmp_path / "s", MAGIC + FIRST + large + SECOND + large[:900_000])
    assert [(INTENT, "a", 0), (OUTCOME, "c", 1), (OUTCOME, "a", 2)] == records(found)
    start = len(MAGIC + FIRST + large + SECOND)
    assert Damage(start, start + 900_000, False) == found[-1]


def test_no_text_can_pretend_to_be_a_record(tmp_path: Path) -> None:
    """The marker has bytes that UTF-8 never has, so a torn record holds none in its texts."""
    forged = SECOND.decode("latin-1")
    record = pack(OUTCOME, "d", 1, encode_rows([make_row("d", tags={"t": forged})]), 3.0)
    assert [] == records(read(tmp_path / "s", MAGIC + record[:-1]))
    assert -1 == record.find(record[:4], 4)

"""Rows as bytes: each stands for itself, and later versions' fields do no harm."""

from __future__ import annotations

import datetime
from decimal import Decimal

import msgspec
import pytest

from asgi_llm.stores._journal_rows import decode_rows, encode_rows
from asgi_llm.types import Cost, Usage
from tests.stores.ledger.rows import make_row

ROWS = [
    make_row("plain"),
    make_row(
        "bare",
        tags={},
        model=None,
        provider=None,
        deployment=None,
        key_id=None,
        usage=Usage(),
        cost=Cost(amount_usd=None, unknown="no_price"),
        status=None,
        latency_seconds=None,
    ),
    make_row("cached", attempt=0, cached=True, cache_type="semantic", saved_usd=Decimal("1E-24")),
    make_row("old", at=datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)),
    make_row("new", at=datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=datetime.UTC)),
]


def test_every_row_comes_back() -> None:
    """Alone, among others, and when there is none."""
    for row in ROWS:
        assert [row] == decode_rows(encode_rows([row]))
    assert ROWS * 20_000 == decode_rows(encode_rows(ROWS * 20_000))
    assert [] == decode_rows(encode_rows([]))


def test_fields_of_a_later_version_are_passed_over() -> None:
    """They stand at the end of both parts of a row, and of the row."""
    ((shared, own),) = msgspec.msgpack.decode(encode_rows(ROWS[:1]))
    later = msgspec.msgpack.encode([[[*shared, "more"], [*own, 1, None], {"more": 1}]])
    assert ROWS[:1] == decode_rows(later)


def test_times_are_utc_whatever_zone_they_were_told_in() -> None:
    """The moment is the same."""
    zone = datetime.timezone(datetime.timedelta(hours=-7, minutes=30))
    (row,) = decode_rows(encode_rows([make_row("zone", at=ROWS[0].at.astimezone(zone))]))
    assert (ROWS[0].at, datetime.UTC) == (row.at, row.at.tzinfo)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x91", b"\x80", encode_rows(ROWS)[:-1], msgspec.msgpack.encode([[["chat"], []]])],
)
def test_what_is_no_row_is_told(data: bytes) -> None:
    """By the one error that readers of segments know."""
    with pytest.raises(msgspec.DecodeError):
        decode_rows(data)


def test_a_time_that_no_calendar_has_is_told() -> None:
    """By the same error."""
    ((shared, own),) = msgspec.msgpack.decode(encode_rows(ROWS[:1]))
    own[2] = 2**62
    with pytest.raises(msgspec.DecodeError):
        decode_rows(msgspec.msgpack.encode([[shared, own]]))

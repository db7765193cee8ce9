"""Rows as bytes: each stands for itself, and later versions' fields do no harm."""

from __future__ import annotations

import datetime
from decimal import Decimal

import msgspec
import pytest

from asgi_llm.pricing._money import price_text
from asgi_llm.stores._journal_rows import decode_rows, encode_rows, pack_result
from asgi_llm.types import Cost, PriceSource, Usage
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
    """They stand at the end of each part of a row, and of the row."""
    ((shared, own, result),) = msgspec.msgpack.decode(encode_rows(ROWS[:1]))
    parts = [*shared, "more"], [*own, 1, None], [*result, ["more"]], {"more": 1}
    later = msgspec.msgpack.encode([parts])
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
    ((shared, own, result),) = msgspec.msgpack.decode(encode_rows(ROWS[:1]))
    own[2] = 2**62
    with pytest.raises(msgspec.DecodeError):
        decode_rows(msgspec.msgpack.encode([[shared, own, result]]))


def test_rates_become_the_amounts_that_were_charged() -> None:
    """A row with rates in place of amounts reads as the one with the amounts, digit by digit."""
    usage = Usage(input_uncached=190, output_text=75)
    source = PriceSource(table="test", version="1", row="p/m")
    rates = Decimal("0.00000015"), Decimal("0.000000600")
    amount, parts = price_text(rates, 190, 75)
    cost = Cost(amount_usd=amount, parts=parts, source=source)
    row = make_row("usual", usage=usage, cost=cost, status=200)
    (packed,) = msgspec.msgpack.decode(encode_rows([row]))
    unpriced = Cost(amount_usd=None, source=source)
    result = pack_result(1, "complete", usage, unpriced, 200, None, None, False, None, rates)
    again = decode_rows(msgspec.msgpack.encode([[*packed[:2], msgspec.msgpack.decode(result)]]))
    assert [row] == again
    assert "0.0000735" == str(amount.normalize())
    assert repr(cost) == repr(again[0].cost)


def test_rates_beyond_all_arithmetic_are_told() -> None:
    """By the same error: nothing is rounded."""
    ((shared, own, result),) = msgspec.msgpack.decode(encode_rows(ROWS[:1]))
    own[4:6] = 7, 7
    result[-1] = ["1" * 80, "0.1"]
    with pytest.raises(msgspec.DecodeError):
        decode_rows(msgspec.msgpack.encode([[shared, own, result]]))

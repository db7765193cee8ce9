"""Rows in SQLite and PostgreSQL: each once, as it was, newest first."""

from __future__ import annotations

import asyncio
import csv
import datetime
import io
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.ledger_csv import COLUMNS, harmless
from asgi_llm.stores.ledger_reports import RowPage
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.stores.sql.migrations import create_schema
from asgi_llm.types import Cost, Usage
from tests.stores.ledger.rows import AT, DAY, make_row

DAYS = datetime.timedelta(days=1)


async def test_rows_come_back_as_they_were(ledger: SQLLedger) -> None:
    """Every field: exact amounts, an unknown cost, nothing where there is nothing."""
    rows = [
        make_row("full", saved_usd=Decimal("0.000000000001"), cached=True, cache_type="EXACT"),
        make_row("exact", cost=Cost(amount_usd=Decimal("0.123456789012345678901234"))),
        make_row("unknown", cost=Cost(amount_usd=None, unknown="no_price", estimated=True)),
        make_row(
            "bare",
            key_id=None,
            user_id=None,
            team_id=None,
            organization_id=None,
            tags={},
            model=None,
            provider=None,
            deployment=None,
            status=None,
            latency_seconds=None,
            time_to_first_token_seconds=None,
            outcome="failed",
            error_code="provider_timeout",
        ),
    ]
    await ledger.record(rows)
    found = (await ledger.rows()).rows
    assert sorted(rows, key=lambda row: row.id, reverse=True) == list(found)


async def test_a_row_that_is_given_twice_is_one_row(ledger: SQLLedger) -> None:
    """Within a batch, in two, or in two at once; the first that came stays, the sums count once."""
    first, second = make_row("a"), make_row("b")
    await ledger.record([first, make_row("a", operation="other"), second])
    await ledger.record([second, make_row("c"), make_row("a", status=500)])
    again = [make_row(f"d{number}") for number in range(20)]
    await asyncio.gather(*(ledger.record(again) for _ in range(4)))
    rows = {row.id: row for row in (await ledger.rows(limit=1000)).rows}
    assert (23, first) == (len(rows), rows["a"])
    totals = (await ledger.summary(start=DAY, end=DAY + DAYS)).totals
    assert (23, 23 * Decimal("0.000777")) == (totals.attempts, totals.cost_usd)
    await ledger.record([])


async def test_writers_at_once_add_up(ledger: SQLLedger) -> None:
    """Batches that meet in the same sums, in any order, lose no row and end in no deadlock."""
    batches = [
        [make_row(f"w{writer}-{n}", user_id=f"u{(n * 7 + writer) % 10}") for n in range(30)]
        for writer in range(8)
    ]
    async with asyncio.timeout(60):
        await asyncio.gather(*map(ledger.record, batches))
    summary = await ledger.summary(start=DAY, end=DAY + DAYS, group_by=["user_id"])
    assert 240 == summary.totals.attempts
    assert [24] * 10 == [group.totals.attempts for group in summary.groups]


async def test_pages_are_newest_first_and_move_with_nothing(ledger: SQLLedger) -> None:
    """Rows that come between two pages neither repeat nor hide others."""
    rows = [
        make_row(f"r{number}", at=AT + datetime.timedelta(seconds=number // 2))
        for number in range(7)
    ]
    await ledger.record(rows)
    seen: list[str] = []
    page = await ledger.rows(limit=3)
    while True:
        seen += [row.id for row in page.rows]
        await ledger.record([make_row(f"new{len(seen)}", at=AT + DAYS)])
        if page.next is None:
            break
        page = await ledger.rows(limit=3, after=page.next)
    assert ["r6", "r5", "r4", "r3", "r2", "r1", "r0"] == seen


async def test_rows_are_filtered(ledger: SQLLedger) -> None:
    """By caller, provider, outcome and time; None is "does not have it"."""
    await ledger.record(
        [
            make_row("a", user_id="u1"),
            make_row("b", user_id="u2", outcome="failed"),
            make_row("c", user_id=None, at=AT + DAYS),
        ]
    )

    async def ids(**arguments: object) -> list[str]:
        page: RowPage = await ledger.rows(**arguments)  # type: ignore[arg-type]
        return [row.id for row in page.rows]

    assert ["a"] == await ids(where={"user_id": "u1"})
    assert ["c"] == await ids(where={"user_id": None})
    assert ["b"] == await ids(where={"outcome": "failed", "provider": "openai"})
    assert ["b", "a"] == await ids(end=AT + DAYS)
    assert ["c"] == await ids(start=AT + DAYS)
    assert ["c", "b", "a"] == await ids(where={"cached": False})
    assert [] == await ids(where={"user_id": "' OR '1'='1"})
    assert [] == await ids(where={"user_id": "nul\0"})
    assert ["a"] == await ids(where={"request_id": "request-a"})
    for wrong in ({"cost": "1"}, {"cached": "yes"}, {"user_id": True}):
        with pytest.raises(ValueError):
            await ids(where=wrong)
    for arguments in (
        {"limit": 0},
        {"limit": 1001},
        {"after": "x"},
        {"start": DAY.replace(tzinfo=None)},
    ):
        with pytest.raises(ValueError):
            await ids(**arguments)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "|cmd", "%0A", "＝1", "＠x"],  # noqa: RUF001
)
async def test_no_field_of_an_export_is_a_formula(text: str, sqlite_url: str) -> None:
    """A text that a spreadsheet would calculate begins with an apostrophe; no other does."""
    assert f"'{text}" == harmless(text)
    assert "a=1" == harmless("a=1")
    engine = open_engine(sqlite_url)
    await create_schema(engine)
    ledger = SQLLedger(engine)
    await ledger.record([make_row("a", user_id=text, requested_model=text, error_code=text)])
    lines = "".join([part async for part in ledger.export_csv()])
    header, row = csv.reader(io.StringIO(lines, newline=""))
    assert list(COLUMNS) == header
    found = dict(zip(header, row, strict=True))
    assert [f"'{text}"] * 3 == [
        found["user_id"],
        found["requested_model"],
        found["error_code"],
    ]
    assert ("0.000777", "100", "true") == (
        found["cost_usd"],
        found["input_uncached"],
        found["streamed"],
    )
    await engine.dispose()


async def test_an_export_goes_over_all_pages(ledger: SQLLedger) -> None:
    """More rows than one page has, each once, and the filters hold."""
    await ledger.record([make_row(f"r{number:04}") for number in range(1500)])
    await ledger.record([make_row("other", user_id="u2")])
    lines = "".join([part async for part in ledger.export_csv(where={"user_id": "user-1"})])
    ids = [line[0] for line in csv.reader(io.StringIO(lines, newline=""))][1:]
    assert [f"r{number:04}" for number in range(1499, -1, -1)] == ids


async def test_retention_deletes_what_is_old_and_keeps_the_sums(ledger: SQLLedger) -> None:
    """In batches; a row at the bound stays; the sums go only where that is asked for."""
    rows = [make_row(f"r{day}-{n}", at=DAY + day * DAYS) for day in range(4) for n in range(25)]
    await ledger.record(rows)
    assert 50 == await ledger.retain(DAY + 2 * DAYS, batch_rows=7)
    assert 0 == await ledger.retain(DAY + 2 * DAYS, batch_rows=7)
    assert 50 == len((await ledger.rows(limit=1000)).rows)
    assert 100 == (await ledger.summary(start=DAY, end=DAY + 4 * DAYS)).totals.attempts
    assert 25 == await ledger.retain(DAY + 3 * DAYS, sums=True)
    for group_by in ("day", "hour"):
        summary = await ledger.summary(start=DAY, end=DAY + 4 * DAYS, group_by=[group_by])
        assert [DAY + 3 * DAYS] == [group.by[group_by] for group in summary.groups]
    for arguments in ({"batch_rows": 0}, {"sums": True, "before": AT}):
        with pytest.raises(ValueError):
            await ledger.retain(**{"before": DAY, **arguments})  # type: ignore[arg-type]


async def test_retention_locks_no_writer_out(ledger: SQLLedger) -> None:
    """While a month is deleted in small batches, every row that is recorded meanwhile is taken."""
    old = [make_row(f"old{number}", at=DAY) for number in range(2000)]
    await ledger.record(old)
    deleting = asyncio.create_task(ledger.retain(DAY + DAYS, batch_rows=20))
    written = 0
    async with asyncio.timeout(120):
        while not deleting.done():
            await ledger.record([make_row(f"new{written}", at=DAY + 2 * DAYS)])
            written += 1
        assert 2000 == await deleting
    assert written > 10
    summary = await ledger.summary(start=DAY + 2 * DAYS, end=DAY + 3 * DAYS)
    assert written == summary.totals.attempts


TEXTS = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\0\ud800'\"\\\n😀"), max_size=300
)
COUNTS = st.integers(-(2**70), 2**70) | st.integers(0, 10**6)
AMOUNTS = st.none() | st.decimals() | st.decimals(0, 1000, places=12)
ODD_ROWS = st.builds(
    make_row,
    TEXTS,
    request_id=TEXTS,
    attempt=COUNTS,
    at=st.datetimes(timezones=st.just(datetime.UTC) | st.timezones()),
    operation=TEXTS,
    key_id=st.none() | TEXTS,
    user_id=st.none() | TEXTS,
    tags=st.dictionaries(TEXTS, TEXTS, max_size=3),
    requested_model=TEXTS,
    model=st.none() | TEXTS,
    deployment=st.none() | TEXTS,
    usage=st.builds(Usage, input_uncached=COUNTS, reasoning=COUNTS),
    cost=st.builds(
        Cost,
        amount_usd=AMOUNTS,
        parts=st.dictionaries(TEXTS, st.decimals(), max_size=2),
        unknown=st.none() | TEXTS,
    ),
    saved_usd=AMOUNTS,
    status=st.none() | COUNTS,
    error_code=st.none() | TEXTS,
    latency_seconds=st.none() | st.floats(),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(ODD_ROWS, max_size=4))
async def test_no_row_can_block_the_others(ledger: SQLLedger, rows: list[object]) -> None:
    """Whatever a row holds, it is stored, read back and summed: no batch fails for its sake."""
    before = {row.id for row in (await ledger.rows(limit=1000)).rows}
    await ledger.record(rows)  # type: ignore[arg-type]
    page = await ledger.rows(limit=1000)
    assert before <= {row.id for row in page.rows}
    year = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    end = datetime.datetime(3000, 1, 1, tzinfo=datetime.UTC)
    assert len(page.rows) == (await ledger.summary(start=year, end=end)).totals.attempts


def test_a_bad_option_is_named(engine: AsyncEngine) -> None:
    """A deadline that is none is an error at once."""
    with pytest.raises(ConfigurationError) as caught:
        SQLLedger(engine, timeout_seconds=0)
    assert "timeout_seconds" == caught.value.param

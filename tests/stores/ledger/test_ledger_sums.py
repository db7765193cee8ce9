"""The kept sums are what a sum over the rows gives, and answer every report."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.stores.ledger_reports import UsageTotals
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.stores.sql.migrations import create_schema
from asgi_llm.types import Cost, Usage
from tests.stores.ledger.rows import DAY, make_row

HOUR = datetime.timedelta(hours=1)
DAYS = datetime.timedelta(days=1)
BUCKETS = [name for name in Usage.__struct_fields__ if name != "estimated"]

COUNTS = st.integers(0, 10**9)
AMOUNTS = st.decimals(0, 10**6, places=12)
ROWS = st.builds(
    make_row,
    st.sampled_from([f"r{number}" for number in range(30)]),
    attempt=st.integers(0, 3),
    at=st.datetimes(
        DAY.replace(tzinfo=None),
        (DAY + 3 * DAYS).replace(tzinfo=None) - datetime.timedelta(microseconds=1),
        timezones=st.just(datetime.UTC),
    ),
    user_id=st.sampled_from([None, "u1", "u2"]),
    key_id=st.sampled_from([None, "k1"]),
    provider=st.sampled_from([None, "openai"]),
    model=st.sampled_from([None, "gpt-4o", "claude"]),
    cached=st.booleans(),
    usage=st.builds(
        Usage,
        **dict.fromkeys(BUCKETS, COUNTS),
        estimated=st.booleans(),
    ),
    cost=st.builds(Cost, amount_usd=st.none() | AMOUNTS, estimated=st.booleans()),
    saved_usd=st.none() | AMOUNTS,
    outcome=st.sampled_from(["complete", "failed", "refused", "client_disconnect"]),
)


def totals(rows: Iterable[LedgerRow]) -> UsageTotals:
    """What the sums of the rows are, by plain arithmetic."""
    rows = list(rows)
    counts = {name: sum(getattr(row.usage, name) for row in rows) for name in BUCKETS}
    estimated = [row.usage.estimated or row.cost.estimated for row in rows]
    return UsageTotals(
        requests=sum(row.attempt <= 1 for row in rows),
        attempts=len(rows),
        errors=sum(row.outcome in ("failed", "refused") for row in rows),
        estimated=sum(estimated),
        unknown_costs=sum(row.cost.amount_usd is None for row in rows),
        usage=Usage(**counts, estimated=any(estimated)),
        cost_usd=sum((row.cost.amount_usd or Decimal(0) for row in rows), Decimal(0)),
        saved_usd=sum((row.saved_usd or Decimal(0) for row in rows), Decimal(0)),
    )


def grouped(rows: Iterable[LedgerRow], by: Sequence[str]) -> dict[tuple[Any, ...], UsageTotals]:
    """The same by group."""

    def value(row: LedgerRow, name: str) -> Any:
        if name == "day":
            return row.at.replace(hour=0, minute=0, second=0, microsecond=0)
        if name == "hour":
            return row.at.replace(minute=0, second=0, microsecond=0)
        if name == "model":
            return row.model or row.requested_model
        return getattr(row, name)

    groups: dict[tuple[Any, ...], list[LedgerRow]] = defaultdict(list)
    for row in rows:
        groups[tuple(value(row, name) for name in by)].append(row)
    return {key: totals(members) for key, members in groups.items()}


async def check(
    engine: AsyncEngine, batches: Sequence[Sequence[LedgerRow]], start: int, hours: int
) -> None:
    """Record the batches, some rows of which come twice, and compare every kind of answer."""
    ledger = SQLLedger(engine)
    rows: dict[str, LedgerRow] = {}
    for batch in batches:
        await ledger.record(batch)
        for row in batch:
            rows.setdefault(row.id, row)
    since = DAY + start * HOUR
    until = since + hours * HOUR
    inside = [row for row in rows.values() if since <= row.at < until]
    ranges: list[tuple[Any, Any, list[LedgerRow], list[Any]]] = [
        (since, until, inside, [(), ("user_id",), ("model", "cached"), ("hour", "provider")]),
        (DAY, DAY + 3 * DAYS, list(rows.values()), [("day", "key_id"), ("operation", "team_id")]),
    ]
    for first, last, members, groupings in ranges:
        for by in groupings:
            found = await ledger.summary(start=first, end=last, group_by=by)
            assert totals(members) == found.totals
            if by:
                groups = {
                    tuple(group.by[name] for name in by): group.totals for group in found.groups
                }
                assert grouped(members, by) == groups
                costs = [group.totals.cost_usd for group in found.groups]
                assert sorted(costs, reverse=True) == costs
            # All of them have the tag; by tags it is the rows that are read.
            tags = {"project": "apollo"}
            tagged = await ledger.summary(start=first, end=last, group_by=by, tags=tags)
            assert found == tagged
    nothing = await ledger.summary(start=since, end=until, tags={"project": "none"})
    assert totals([]) == nothing.totals
    of_u1 = [row for row in inside if row.user_id == "u1" and not row.cached]
    found = await ledger.summary(start=since, end=until, where={"user_id": "u1", "cached": False})
    assert totals(of_u1) == found.totals
    of_none = [row for row in inside if row.user_id is None]
    assert (
        totals(of_none)
        == (await ledger.summary(start=since, end=until, where={"user_id": None})).totals
    )


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(st.lists(ROWS, max_size=12), max_size=4),
    start=st.integers(0, 71),
    hours=st.integers(0, 72),
)
async def test_the_sums_are_those_of_the_rows(
    batches: list[list[LedgerRow]], start: int, hours: int
) -> None:
    """Any rows in any batches, some given twice; any whole hours; any grouping: exact."""
    engine = open_engine("sqlite://")
    await create_schema(engine)
    await check(engine, batches, start, hours)
    await engine.dispose()


async def test_the_sums_are_those_of_the_rows_on_every_database(engine: AsyncEngine) -> None:
    """One wide case on each: many rows, batches that overlap, hours across three days."""
    rows = [
        make_row(
            f"r{number}",
            attempt=number % 3,
            at=DAY + (number * 37 % 4320) * datetime.timedelta(minutes=1),
            user_id=[None, "u1", "u2"][number % 3],
            model=[None, "gpt-4o", "claude"][number % 7 % 3],
            cached=number % 5 == 0,
            usage=Usage(input_cached=number, reasoning=number * 10**9, estimated=number % 4 == 0),
            cost=Cost(amount_usd=None if number % 6 == 0 else Decimal(number) / 10**12),
            saved_usd=Decimal(number) if number % 5 == 0 else None,
            outcome=("complete", "failed")[number % 2],
        )
        for number in range(400)
    ]
    await check(engine, [rows[:150], rows[100:300], rows[250:]], 5, 50)


async def test_sums_of_absurd_amounts_stay_exact(engine: AsyncEngine) -> None:
    """A billion USD a row, and the largest counts: nothing overflows, to the last pico-USD."""
    amount = Decimal("999999999.999999999999")
    rows = [
        make_row(f"r{n}", cost=Cost(amount_usd=amount), usage=Usage(output_text=10**12))
        for n in range(1000)
    ]
    ledger = SQLLedger(engine)
    await ledger.record(rows)
    await ledger.record([make_row("beyond", cost=Cost(amount_usd=Decimal(10) ** 9 + 1))])
    found = (await ledger.summary(start=DAY, end=DAY + DAYS)).totals
    assert (1000 * amount, 1) == (found.cost_usd, found.unknown_costs)
    assert 1000 * 10**12 + 50 == found.usage.output_text


async def test_groups_are_bounded_and_the_dearest_come_first(engine: AsyncEngine) -> None:
    """What is cut off is said to be, and is in the totals."""
    ledger = SQLLedger(engine)
    rows = [make_row(f"r{n}", user_id=f"u{n}", cost=Cost(amount_usd=Decimal(n))) for n in range(10)]
    await ledger.record(rows)
    found = await ledger.summary(start=DAY, end=DAY + DAYS, group_by=["user_id"], max_groups=3)
    assert (True, ["u9", "u8", "u7"]) == (
        found.truncated,
        [group.by["user_id"] for group in found.groups],
    )
    assert Decimal(45) == found.totals.cost_usd


@pytest.mark.parametrize("model", ["m" * 201, "m" * 1001, "a\0b"], ids=["long", "longer", "NUL"])
async def test_a_model_that_is_no_id_is_the_same_in_every_report(
    engine: AsyncEngine, model: str
) -> None:
    """Whatever a client asks for: found under its name in sums, in those by tags and in rows."""
    ledger = SQLLedger(engine)
    other = model[:-1] + "c"
    await ledger.record(
        [make_row(one, model=None, requested_model=one) for one in (model, other, "fast")]
    )
    answers = []
    for tags in (None, {"project": "apollo"}):
        bounds: dict[str, Any] = {"start": DAY, "end": DAY + DAYS, "tags": tags}
        assert 1 == (await ledger.summary(**bounds, where={"model": model})).totals.requests
        grouped = await ledger.summary(**bounds, group_by=["model"])
        answers.append({group.by["model"] for group in grouped.groups})
    assert answers[0] == answers[1]
    assert 3 == len(answers[0])
    assert 1 == len((await ledger.rows(where={"requested_model": model})).rows)


@pytest.mark.parametrize(
    "arguments",
    [
        {"start": DAY.replace(tzinfo=None)},
        {"start": DAY + datetime.timedelta(minutes=30)},
        {"start": DAY + 2 * DAYS},
        {"group_by": ["tags"]},
        {"group_by": ["model", "model"]},
        {"group_by": ["day", "hour"]},
        {"group_by": ["day"], "start": DAY + HOUR},
        {"where": {"id": "x"}},
        {"where": {"cached": "x"}},
        {"where": {"user_id": True}},
        {"max_groups": 0},
    ],
)
async def test_what_sums_cannot_answer_is_refused(
    sqlite_url: str, arguments: dict[str, Any]
) -> None:
    """Half hours, unknown groups and filters are errors, never a wrong figure."""
    engine = open_engine(sqlite_url)
    ledger = SQLLedger(engine)
    with pytest.raises(ValueError):
        await ledger.summary(**{"start": DAY, "end": DAY + DAYS, **arguments})
    await engine.dispose()


async def test_another_zone_is_the_same_moment(engine: AsyncEngine) -> None:
    """Bounds with an offset of whole hours are taken for what they are in UTC."""
    ledger = SQLLedger(engine)
    await ledger.record([make_row("r", at=DAY + datetime.timedelta(minutes=30))])
    zone = datetime.timezone(datetime.timedelta(hours=2))
    found = await ledger.summary(start=DAY.astimezone(zone), end=(DAY + HOUR).astimezone(zone))
    assert (1, DAY) == (found.totals.attempts, found.start)


async def test_reports_outlive_the_rows(engine: AsyncEngine) -> None:
    """Without a single row the month's summary is what it was: it reads none."""
    ledger = SQLLedger(engine)
    await ledger.record([make_row(f"r{n}") for n in range(10)])
    before = await ledger.summary(start=DAY, end=DAY + DAYS, group_by=["model"])
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM llm_ledger"))
    assert before == await ledger.summary(start=DAY, end=DAY + DAYS, group_by=["model"])
    assert 10 == before.totals.requests

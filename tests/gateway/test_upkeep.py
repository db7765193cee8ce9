"""What is too old is deleted, by whoever has the time."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from asgi_llm.errors import StoreError
from asgi_llm.gateway._upkeep import Upkeep
from asgi_llm.gateway.storage import Storage
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.types import Cost, Usage

NOW = datetime.datetime(2026, 11, 21, 15, 30, tzinfo=datetime.UTC)
EVERY = 3600.0


def row(days: float) -> LedgerRow:
    """A row of so many days ago."""
    return LedgerRow(
        id=f"row-{days}",
        request_id=f"req-{days}",
        attempt=1,
        at=NOW - datetime.timedelta(days=days),
        operation="chat",
        requested_model="m",
        usage=Usage(input_uncached=1),
        cost=Cost(amount_usd=Decimal(1)),
        outcome="complete",
    )


@asynccontextmanager
async def storage_with(folder: Path, *days: float) -> AsyncIterator[Storage]:
    """A ledger with a row for each of ``days`` ago."""
    storage = Storage(f"sqlite:///{folder}/ledger.db")
    await storage.prepare()
    await storage.ledger.record([row(one) for one in days])
    yield storage
    await storage.aclose()


async def days_left(storage: Storage) -> list[float]:
    """Of how many days ago the rows are that are there, newest first."""
    page = await storage.ledger.rows()
    return [(NOW - one.at) / datetime.timedelta(days=1) for one in page.rows]


async def spent(storage: Storage) -> Decimal:
    """What the sums of the last hundred days come to."""
    end = NOW.replace(hour=0, minute=0) + datetime.timedelta(days=1)
    summary = await storage.ledger.summary(start=end - datetime.timedelta(days=100), end=end)
    return summary.totals.cost_usd


@pytest.mark.parametrize(
    ("rows", "sums", "left", "total"),
    [(30, None, [1, 29.9], 4), (30, 60, [1, 29.9], 3), (30, 30, [1, 29.9], 2)],
)
async def test_rows_and_sums_have_an_age_each(
    tmp_path: Path, rows: int, sums: int | None, left: list[float], total: int
) -> None:
    """Sums outlive the rows that they are of, and are deleted by whole days."""
    async with storage_with(tmp_path, 1, 29.9, 45, 90) as storage:
        upkeep = Upkeep(
            storage,
            retention_days=rows,
            sums_retention_days=sums,
            every_seconds=EVERY,
            clock=lambda: NOW,
        )
        assert 2 == await upkeep.turn()
        assert left == await days_left(storage)
        assert total == await spent(storage)
        assert 0 == await upkeep.turn()


async def test_several_do_no_harm_to_each_other(tmp_path: Path) -> None:
    """Each row is deleted once, whoever does it."""
    days = [31 + number / 100 for number in range(100)]
    async with storage_with(tmp_path, 1, *days) as storage:
        keepers = [
            Upkeep(
                storage,
                retention_days=30,
                sums_retention_days=None,
                every_seconds=EVERY,
                clock=lambda: NOW,
            )
            for _ in range(3)
        ]
        async with asyncio.timeout(30):
            deleted = await asyncio.gather(*(keeper.turn() for keeper in keepers))
        assert 100 == sum(deleted)
        assert [1] == await days_left(storage)


class Ledger:
    """Is shortened as long as it is not told to fail.

    Attributes:
        looks: How often that was asked for.
    """

    def __init__(self) -> None:
        self.looks = 0
        self.fails = False

    async def retain(self, before: datetime.datetime, *, sums: bool = False) -> int:
        self.looks += 1
        if self.fails:
            raise StoreError("away")
        return 0


async def test_it_looks_again_and_again_until_it_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """First at a time drawn at random, then about as often as told; a failure ends nothing."""
    waits: list[float] = []
    turn = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        turn.clear()
        await turn.wait()

    ledger = Ledger()
    upkeep = Upkeep(
        ledger,
        retention_days=30,
        sums_retention_days=None,
        every_seconds=EVERY,
        sleep=sleep,
        draw=lambda: 0.1,
    )
    caplog.set_level(logging.WARNING)
    ledger.fails = True
    async with asyncio.timeout(5):
        upkeep.start()
        upkeep.start()
        for number in (1, 2, 3):
            while len(waits) < number:  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0)
            turn.set()
        while ledger.looks < 3:  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0)
        await upkeep.aclose()
    assert [360.0, 2880.0, 2880.0] == waits[:3]
    assert ["the ledger was not shortened: away"] * 3 == caplog.messages

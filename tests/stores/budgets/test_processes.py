"""Budgets that several processes spend from, on real servers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asgi_llm.stores.budgets import PICO, BudgetStore
from asgi_llm.stores.budgets_redis import RedisBudgets
from asgi_llm.stores.sql.budgets import SQLBudgets
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.migrations import create_schema
from tests.stores.budgets.worker import CENT, ROOM

REQUESTS = 200
HALF_A_MONTH_SECONDS = 16 * 86_400


class Place:
    """A store that processes share: its kind and its address."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind, self.url = kind, url

    @asynccontextmanager
    async def store(self) -> AsyncIterator[BudgetStore]:
        if self.kind == "redis":
            store = RedisBudgets(self.url, timeout_seconds=30.0)
            yield store
            await store.aclose()
            return
        engine = open_engine(self.url)
        await create_schema(engine)
        yield SQLBudgets(engine, timeout_seconds=30.0)
        await engine.dispose()

    async def start(self, count: object, *, ahead_seconds: int = 0) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.services.skewed", str(ahead_seconds)),
            *("tests.stores.budgets.worker", self.kind, self.url, str(count)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )


@pytest.fixture(params=["redis", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty store of each kind that processes can share."""
    if request.param == "redis":
        server = request.getfixturevalue("shared_redis")
        server.flush()
        return Place("redis", server.url)
    if request.param == "sqlite":
        return Place("sql", f"sqlite:///{tmp_path}/budgets.db")
    return Place("sql", request.getfixturevalue("postgres_url"))


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


@pytest.mark.parametrize("workers", (1, 2, 4))
async def test_b15_200_at_once_with_room_for_100_admit_100(place: Place, workers: int) -> None:
    """However many processes ask: never overspent, and nobody is refused while there is room."""
    await spend_together(place, [0] * workers)


@pytest.mark.parametrize("place", ["redis", "postgres"], indirect=True)
async def test_b16_workers_whose_clocks_differ_have_one_period(place: Place) -> None:
    """A budget of a month is spent once, though it is another month for some of the workers.

    Processes on one SQLite file share a machine, and so a clock.
    """
    await spend_together(place, [-HALF_A_MONTH_SECONDS, 0, HALF_A_MONTH_SECONDS, 300])


async def spend_together(place: Place, ahead_seconds: list[int]) -> None:
    """So many workers, with clocks that are off by so much, spend all there is and no more."""
    async with place.store() as store, asyncio.timeout(90):
        processes = [
            await place.start(REQUESTS // len(ahead_seconds), ahead_seconds=ahead)
            for ahead in ahead_seconds
        ]
        try:
            for process in processes:
                assert "ready" == await line(process)
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
            admitted = [int(await line(process)) for process in processes]
            for process in processes:
                assert 0 == await process.wait()
        finally:
            for process in processes:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        assert 100 == sum(admitted)
        (status,) = await store.spent([ROOM])
        assert (PICO, 0) == (status.spent, status.reserved)


async def test_b15_what_a_killed_worker_held_is_free_after_its_lease(place: Place) -> None:
    """SIGKILL between reservation and settlement: nobody has to clean up."""
    async with place.store() as store, asyncio.timeout(60):
        process = await place.start("hold")
        try:
            assert "held" == await line(process)
        finally:
            process.kill()
            await process.wait()
        refused = await store.reserve([ROOM], CENT, lease="a", lease_seconds=60.0)
        assert not refused.admitted
        lapsed = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Redis and the database go by clocks of their own.
        loop.call_later(3.1, lapsed.set)
        await lapsed.wait()
        assert (await store.reserve([ROOM], PICO, lease="b", lease_seconds=60.0)).admitted

"""Faults under load, each with the comparison of what was served with what was written down."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from asgi_llm.stores._journal_lane import lanes_of
from asgi_llm.testing.upstream import Upstream
from tests.e2e.books.comparison import INPUT_USD, OUTPUT_USD, compare, read_rows
from tests.e2e.books.served import MODEL, Traffic, serve, under_traffic
from tests.e2e.faults.fleet import Fleet, poll
from tests.e2e.gateway_process import COMMAND, clean_environment
from tests.services.postgres_server import PostgresServer, children_of
from tests.services.redis_server import RedisServer

__all__ = ["FAULTS", "Fault"]

REST_SECONDS = 60.0
PROVIDER, _, NAME = MODEL.partition("/")
PRICE = {"input": float(INPUT_USD), "output": float(OUTPUT_USD)}


class Books:
    """One gateway with its upstream, its journal and its database.

    Args:
        folder: Where its files are.
        upstream: Entered.
        database: URL; None: SQLite in the folder.
        cost: Further options of the layer.
        storage: Further storage.
    """

    def __init__(
        self,
        folder: Path,
        upstream: Upstream,
        *,
        database: str | None = None,
        cost: Mapping[str, Any] | None = None,
        storage: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self.upstream = upstream
        self.database = database or f"sqlite+aiosqlite:///{folder}/books.db"
        self.journal = folder / "journal"
        provider = {"type": "openai", "base_url": f"{upstream.url}/v1", "api_key": "sk-upstream"}
        self._configuration: dict[str, Any] = {
            "providers": {PROVIDER: provider},
            "storage": {"database": self.database, **(storage or {})},
            "stack": [
                {
                    "cost": {
                        "prices": {"overrides": {PROVIDER: {NAME: PRICE}}, "genai_prices": False},
                        "journal": {"folder": str(self.journal)},
                        **(cost or {}),
                    }
                }
            ],
        }
        self.traffic: list[Traffic] = []

    def fleet(self, *, workers: int = 2) -> Fleet:
        """The gateway, to be entered; every time it is a new start."""
        return Fleet(self._folder, self._configuration, workers=workers)

    @asynccontextmanager
    async def traffic_to(self, fleet: Fleet, **options: Any) -> AsyncIterator[Traffic]:
        """See ``under_traffic``."""
        seed = len(self.traffic) + 1
        async with under_traffic(fleet.port, seed=seed, **options) as traffic:
            self.traffic.append(traffic)
            yield traffic

    async def compare(self) -> dict[str, int]:
        """Start the gateway once more, so that it finds what is left, and compare."""
        left = set(lanes_of(self.journal))

        async def is_told() -> bool:
            return left.isdisjoint(lanes_of(self.journal))

        with self.fleet(workers=1):
            await poll("the journals of dead workers are told", is_told, seconds=REST_SECONDS)
        assert [] == list(lanes_of(self.journal)), "something is left in the journal"
        return compare(self.upstream.ledger, await read_rows(self.database), self.traffic)


def _workers(fleet: Fleet) -> list[int]:
    """The processes that serve; Python's own tracker of resources is a child as well."""
    return [pid for pid in children_of(fleet.pid) if b"spawn_main" in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    """Nothing where the process has ended by now."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def kills(folder: Path, *, times: int) -> dict[str, int]:
    """Workers are killed at random moments; others take their places."""
    chance = random.Random(7)
    async with Upstream(serve) as upstream:
        books = Books(folder, upstream)
        with books.fleet() as fleet:
            async with books.traffic_to(fleet):
                for _ in range(times):
                    seen = len(upstream.ledger)

                    async def is_busy(seen: int = seen) -> bool:
                        return len(upstream.ledger) > seen + 2

                    await poll("calls are being made", is_busy, seconds=30)
                    await asyncio.sleep(chance.uniform(0, 0.1))
                    os.kill(chance.choice(_workers(fleet)), signal.SIGKILL)
        return await books.compare()


async def terminations(folder: Path, *, times: int) -> dict[str, int]:
    """The gateway is asked to end while it is busy, and started again."""
    async with Upstream(serve) as upstream:
        books = Books(folder, upstream)
        for _ in range(times):
            with books.fleet() as fleet:
                async with books.traffic_to(fleet) as traffic:

                    async def is_busy(traffic: Traffic = traffic) -> bool:
                        return len(traffic.answered) > 40

                    await poll("calls are answered", is_busy, seconds=30)
                    await asyncio.to_thread(fleet.terminate)
        return await books.compare()


async def leaving(folder: Path, *, times: int) -> dict[str, int]:
    """Clients leave at random points of their streams, and before an answer begins."""
    async with Upstream(functools.partial(serve, event_seconds=0.02)) as upstream:
        books = Books(folder, upstream)
        with books.fleet() as fleet:
            async with books.traffic_to(fleet, leaves=0.7, clients=24) as traffic:

                async def is_enough() -> bool:
                    return len(traffic.left) >= times

                await poll("clients leave", is_enough, seconds=120)
        return await books.compare()


async def database_away(folder: Path, *, times: int) -> dict[str, int]:
    """PostgreSQL is stopped for so many seconds; no call is refused for it."""
    server = PostgresServer()
    server.start()
    try:
        async with Upstream(serve) as upstream:
            books = Books(folder, upstream, database=server.create_database())
            with books.fleet() as fleet:
                async with books.traffic_to(fleet) as traffic:
                    await _more(traffic, 20)
                    await asyncio.to_thread(server.stop, mode="immediate")
                    await asyncio.sleep(times)
                    await _more(traffic, 20)
                    await asyncio.to_thread(server.start)
                    await _more(traffic, 20)
            assert not {503} & set(traffic.statuses.values())
            return await books.compare()
    finally:
        server.close()


async def redis_restarted(folder: Path, *, times: int) -> dict[str, int]:
    """Redis, by which rows travel to ``asgi-llm worker``, forgets all of them now and then."""
    async with Upstream(serve) as upstream:
        with RedisServer() as redis, ExitStack() as until_told:
            books = Books(
                folder,
                upstream,
                cost={"ledger": {"delivery": "redis"}, "budget_store": "memory"},
                storage={"redis": redis.url},
            )
            with books.fleet(workers=1) as fleet:
                until_told.enter_context(_worker(folder))
                async with books.traffic_to(fleet) as traffic:
                    for _ in range(times):
                        await _more(traffic, 40)
                        await asyncio.to_thread(redis.restart)
                    await _more(traffic, 40)
            return await books.compare()


@contextmanager
def _worker(folder: Path) -> Iterator[None]:
    """``asgi-llm worker``, which ends well when it is asked to."""
    process = subprocess.Popen(
        [COMMAND, "worker"],
        cwd=folder,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        ended = process.wait(30)
    assert 0 == ended


@asynccontextmanager
async def _small_disk(folder: Path, policy: str) -> AsyncIterator[tuple[Books, Fleet]]:
    """A gateway whose journal has no room from the first call on, and whose database has."""
    server = PostgresServer()
    server.start()
    try:
        async with Upstream(serve) as upstream:
            database = server.create_database()
            books = Books(folder, upstream, database=database, cost={"on_store_error": policy})
            with books.fleet(workers=1) as fleet:
                _limit_files(fleet.pid, 65_536)
                yield books, fleet
    finally:
        server.close()


async def disk_full(folder: Path, *, times: int) -> dict[str, int]:
    """The journal's disk is full: calls go on, and their rows go straight to the database."""
    async with _small_disk(folder, "allow") as (books, fleet):
        async with books.traffic_to(fleet) as traffic:
            await _more(traffic, 20 * times)
            _limit_files(fleet.pid, resource.RLIM_INFINITY)
            await _more(traffic, 20 * times)
        assert not {503} & set(traffic.statuses.values())
        assert "the journal cannot be written" in fleet.log()
        fleet.terminate()
        return await books.compare()


async def disk_full_denied(folder: Path, *, times: int) -> dict[str, int]:
    """The same where that is not wanted: 503, and nobody is called."""
    async with _small_disk(folder, "deny") as (books, fleet):
        async with books.traffic_to(fleet) as traffic:
            await _more(traffic, 20 * times)
        assert {503} == set(traffic.statuses.values())
        assert [] == books.upstream.ledger
        _limit_files(fleet.pid, resource.RLIM_INFINITY)
        async with books.traffic_to(fleet) as traffic:
            await _more(traffic, 20 * times)
        fleet.terminate()
        return await books.compare()


def _limit_files(pid: int, size: int) -> None:
    """No file of a process can grow beyond ``size`` bytes."""
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))


async def _more(traffic: Traffic, number: int) -> None:
    """Wait for so many more answers."""
    wanted = len(traffic.answered) + number

    async def is_so() -> bool:
        return len(traffic.answered) >= wanted

    await poll("calls are answered", is_so, seconds=60)


Fault = Callable[..., Coroutine[Any, Any, dict[str, int]]]
FAULTS: dict[str, tuple[Fault, int]] = {
    "kills": (kills, 200),
    "terminations": (terminations, 10),
    "leaving": (leaving, 1000),
    "database-away": (database_away, 60),
    "redis-restarted": (redis_restarted, 10),
    "disk-full": (disk_full, 10),
    "disk-full-denied": (disk_full_denied, 10),
}
"""By name, with how often, or for how many seconds, when nobody says."""

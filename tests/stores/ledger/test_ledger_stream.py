"""Rows that travel through Redis Streams to a worker of another process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._redis_client import connect
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.journal_shipper import JournalShipper
from asgi_llm.stores.ledger import Ledger, LedgerRow
from asgi_llm.stores.ledger_stream import StreamLedger, run_worker
from tests.services.redis_server import RedisServer
from tests.stores.ledger.rows import make_row
from tests.stores.ledger.waiting import until

STREAM = "{asgi-llm:ledger}:stream"


class ListLedger:
    """A ledger in memory that can be away, and counts what it is given."""

    def __init__(self) -> None:
        self.rows: dict[str, LedgerRow] = {}
        self.given = 0
        self.away = False
        self.tried = asyncio.Event()
        self.recorded = asyncio.Event()

    async def record(self, rows: Sequence[LedgerRow]) -> None:
        self.tried.set()
        if self.away:
            raise StoreError("away")
        self.given += len(rows)
        self.rows.update({row.id: row for row in rows})
        self.recorded.set()


@contextlib.asynccontextmanager
async def working(url: str, ledger: Ledger, claim_seconds: float = 30.0) -> AsyncIterator[None]:
    """A worker that runs for the time of the block."""
    stop = asyncio.Event()
    worker = asyncio.create_task(
        run_worker(
            url,
            ledger,
            stop=stop,
            block_seconds=0.05,
            claim_seconds=claim_seconds,
            command_timeout_seconds=1.0,
            min_retry_seconds=0.01,
            max_retry_seconds=0.05,
        )
    )
    yield
    stop.set()
    async with asyncio.timeout(10):
        await worker


@pytest_asyncio.fixture
async def sender(redis_url: str) -> AsyncIterator[StreamLedger]:
    ledger = StreamLedger(redis_url, timeout_seconds=5.0)
    yield ledger
    await ledger.aclose()


@pytest.fixture
def rows() -> list[LedgerRow]:
    return [make_row(f"r{number}") for number in range(5)]


async def test_rows_arrive_and_leave_nothing_in_the_stream(
    redis_server: RedisServer, redis_url: str, sender: StreamLedger, rows: list[LedgerRow]
) -> None:
    """``record`` returns after the commit; the entry, its mark and the consumer are gone."""
    ledger = ListLedger()
    async with working(redis_url, ledger), asyncio.timeout(10):
        await sender.record(rows)
        assert rows == list(ledger.rows.values())
        await sender.record([])
    assert 0 == redis_server.command("XLEN", STREAM)
    assert [STREAM.encode()] == redis_server.keys()
    assert [] == redis_server.command("XINFO", "CONSUMERS", STREAM, "recorders")


async def test_without_a_worker_nothing_counts_as_recorded(
    redis_server: RedisServer, redis_url: str, rows: list[LedgerRow]
) -> None:
    """The sender keeps its rows; however often it tries, the stream holds its batch once."""
    sender = StreamLedger(redis_url, timeout_seconds=0.05)
    for _ in range(3):
        with pytest.raises(StoreError):
            await sender.record(rows)
    assert 1 == redis_server.command("XLEN", STREAM)
    ledger = ListLedger()
    async with working(redis_url, ledger), asyncio.timeout(10):
        await ledger.recorded.wait()
        while True:
            with contextlib.suppress(StoreError):
                await sender.record(rows)
                break
    assert 5 == ledger.given
    assert 0 == redis_server.command("XLEN", STREAM)
    await sender.aclose()


async def test_an_entry_is_acknowledged_after_the_commit_alone(
    redis_server: RedisServer, redis_url: str, sender: StreamLedger, rows: list[LedgerRow]
) -> None:
    """While the ledger is away the entry stays, and the same worker records it afterwards."""
    ledger = ListLedger()
    ledger.away = True
    async with working(redis_url, ledger), asyncio.timeout(10):
        sent = asyncio.create_task(sender.record(rows))
        await ledger.tried.wait()
        assert 1 == redis_server.command("XLEN", STREAM)
        assert not sent.done()
        ledger.away = False
        await sent
    assert 5 == ledger.given


async def test_entries_of_dead_workers_are_taken_over(
    redis_server: RedisServer, redis_url: str, sender: StreamLedger, rows: list[LedgerRow]
) -> None:
    """What a worker had in its hands when it died, another records."""
    client = connect(redis_url)
    async with asyncio.timeout(10):
        await client.xgroup_create(STREAM, "recorders", id="0", mkstream=True)
        sent = asyncio.create_task(sender.record(rows))
        await client.xreadgroup("recorders", "dead", {STREAM: ">"}, block=5000)
        ledger = ListLedger()
        async with working(redis_url, ledger, claim_seconds=0.05):
            await sent
    assert 5 == ledger.given
    assert 0 == redis_server.command("XPENDING", STREAM, "recorders")["pending"]
    await client.aclose()


async def test_a_redis_that_forgets_everything_loses_no_row(
    tmp_path: Path, redis_server: RedisServer, redis_url: str
) -> None:
    """Restarted empty in the midst: the journal still has what no worker recorded."""
    ledger = ListLedger()
    ledger.away = True
    journal = FileJournal(tmp_path)
    sender = StreamLedger(redis_url, timeout_seconds=0.3, command_timeout_seconds=0.3)
    shipper = JournalShipper(
        journal, sender, max_batch_rows=10, interval_seconds=0, max_retry_seconds=0.1
    )
    rows = [make_row(f"r{number}") for number in range(30)]
    async with working(redis_url, ledger), asyncio.timeout(30):
        for row in rows:
            journal.settle((row,), intent=row.id)
        await ledger.tried.wait()
        redis_server.restart()
        ledger.away = False
        await until(lambda: journal.pending_rows == 0)
        await shipper.aclose()
    assert rows == sorted(ledger.rows.values(), key=rows.index)
    await sender.aclose()


async def test_an_entry_that_cannot_be_read_stops_no_other(
    redis_server: RedisServer, redis_url: str, sender: StreamLedger, rows: list[LedgerRow]
) -> None:
    """It stays with the group for people to look at; the sender's rows stay in its journal."""
    redis_server.command("XADD", STREAM, "*", "batch", "x", "rows", "nonsense")
    ledger = ListLedger()
    async with working(redis_url, ledger), asyncio.timeout(10):
        await sender.record(rows)
    assert 5 == ledger.given
    assert 1 == redis_server.command("XPENDING", STREAM, "recorders")["pending"]


async def test_a_frozen_redis_is_an_error_in_time(redis_server: RedisServer) -> None:
    """No answer is a StoreError at the deadline; once it is back, rows arrive."""
    sender = StreamLedger(redis_server.url, timeout_seconds=5, command_timeout_seconds=0.1)
    redis_server.freeze()
    try:
        async with asyncio.timeout(5):
            with pytest.raises(StoreError):
                await sender.record([make_row("r")])
    finally:
        redis_server.thaw()
    ledger = ListLedger()
    async with working(redis_server.url, ledger), asyncio.timeout(10):
        await sender.record([make_row("r")])
    assert ["r"] == list(ledger.rows)
    await sender.aclose()


def test_bad_options_are_named() -> None:
    """An option out of its range, or an address that is none, is an error at once."""
    with pytest.raises(ConfigurationError) as caught:
        StreamLedger("redis://127.0.0.1", timeout_seconds=0)
    assert "timeout_seconds" == caught.value.param
    with pytest.raises(ConfigurationError):
        StreamLedger("http://127.0.0.1")

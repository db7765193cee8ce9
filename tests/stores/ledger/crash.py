"""Kill workers at random moments, and compare the upstream's own count with the rows at rest.

``python -m tests.stores.ledger.crash --kills 200`` prints the comparison, and exits with 1 where a
row is missing, doubled or wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import text

from asgi_llm.stores._journal_lane import lanes_of
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.journal_shipper import JournalShipper
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.stores.sql.migrations import create_schema
from tests.services.postgres_server import PostgresServer
from tests.stores.ledger import crash_worker
from tests.stores.ledger.waiting import until

PROCESSES = multiprocessing.get_context("forkserver")
# What a worker imports, and this module, so that it is there with the fork.
IMPORTED = [
    crash_worker.__name__,
    "argparse",
    "asgi_llm.stores.sql.migrations",
    "tests.services.postgres_server",
]


class Upstream:
    """Answers calls over a Unix socket, and keeps a count of its own."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.served: dict[str, int] = {}
        """Output tokens by the id of the call."""
        self.answered: set[str] = set()
        """Calls whose answer went out to the client."""
        self.doubled = 0
        self.called = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                if not line.endswith(b"\n"):
                    break
                message = json.loads(line)
                if (id := message.get("answered")) is not None:
                    self.answered.add(id)
                    continue
                id = message["call"]
                self.doubled += id in self.served
                self.served[id] = self._random.randrange(1, 1000)
                self.called.set()
                writer.write(b'{"output_tokens": %d}\n' % self.served[id])
        except OSError:
            pass  # killed while it was written to
        finally:
            writer.close()


def compare(upstream: Upstream, rows: list[LedgerRow], sums: Mapping[str, int]) -> dict[str, int]:
    """What the upstream counted, what the rows say, and where they differ."""
    by_id = {row.id: row for row in rows}
    unknown = {row.id for row in rows if row.outcome == "unknown_after_crash"}
    complete = by_id.keys() - unknown
    served, answered = upstream.served, upstream.answered
    return {
        "calls served": len(served),
        "answered to clients": len(answered),
        "in flight at a kill": len(served.keys() - answered),
        "rows": len(rows),
        "rows of known outcome": len(complete),
        "rows unknown after a crash": len(unknown),
        "of those, never served": len(unknown - served.keys()),
        "MISSING rows": len(served.keys() - by_id.keys()),
        "DOUBLED rows": len(rows) - len(by_id),
        "WRONG rows": sum(
            by_id[id].usage.output_text != served.get(id) or by_id[id].outcome != "complete"
            for id in complete
        ),
        "ANSWERED but unknown": len(unknown & answered),
        "UNFLAGGED unknown rows": sum(
            not (by_id[id].usage.estimated and by_id[id].cost.estimated) for id in unknown
        ),
        "SUMS off by rows": abs(sums["attempts"] - len(rows)),
        "SUMS off by tokens": abs(sums["output_text"] - sum(row.usage.output_text for row in rows)),
    }


async def kill_workers(
    kills: int, workers: int, seed: int, folder: Path, database: str
) -> dict[str, int]:
    """The comparison after so many kills; ``workers`` run at a time, and all are killed at last."""
    chance = random.Random(seed)
    engine = open_engine(database)
    await create_schema(engine)
    await engine.dispose()
    upstream = Upstream(seed)
    socket = str(folder / "upstream.sock")
    server = await asyncio.start_unix_server(upstream.serve, socket)
    journal_folder = folder / "journal"
    PROCESSES.set_forkserver_preload(IMPORTED)
    running: list[Any] = []
    while kills > 0:
        while len(running) < min(workers, kills):
            upstream.called.clear()
            worker = PROCESSES.Process(
                target=crash_worker.run, args=(str(journal_folder), database, socket)
            )
            worker.start()
            running.append(worker)
            async with asyncio.timeout(60):
                await upstream.called.wait()
        # A moment of no kind: this is what the kills are to be at.
        await asyncio.sleep(chance.uniform(0, 0.1))
        victim = running.pop(chance.randrange(len(running)))
        victim.kill()
        await asyncio.to_thread(victim.join)
        victim.close()
        kills -= 1
    # What the dead had sent is still to be read.
    server.close()
    async with asyncio.timeout(60):
        await server.wait_closed()
    return compare(upstream, *await take_stock(journal_folder, database))


async def take_stock(folder: Path, database: str) -> tuple[list[LedgerRow], Mapping[str, int]]:
    """Bring what the dead left to rest; all rows then, and the sums of the days."""
    engine = open_engine(database)
    ledger = SQLLedger(engine)
    shipper = JournalShipper(FileJournal(folder), ledger)
    shipper.start()
    await until(lambda: not lanes_of(folder), timeout_seconds=120)
    await shipper.aclose()
    rows: list[LedgerRow] = []
    page = await ledger.rows(limit=1000)
    rows += page.rows
    while page.next is not None:
        page = await ledger.rows(limit=1000, after=page.next)
        rows += page.rows
    async with engine.connect() as connection:
        found = await connection.execute(
            text(
                "SELECT sum(attempts) AS attempts, sum(output_text) AS output_text"
                " FROM llm_usage_daily"
            )
        )
        sums = {name: int(value or 0) for name, value in found.mappings().one().items()}
    await engine.dispose()
    return rows, sums


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2, help="how many run at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", action="store_true", help="in place of SQLite")
    options = parser.parse_args()
    server = PostgresServer() if options.postgres else None
    with tempfile.TemporaryDirectory(prefix="crash-") as name:
        try:
            database = f"sqlite:///{name}/ledger.db"
            if server is not None:
                server.start()
                database = server.create_database()
            found = asyncio.run(
                kill_workers(options.kills, options.workers, options.seed, Path(name), database)
            )
        finally:
            if server is not None:
                server.close()
    wrong = Counter({name: count for name, count in found.items() if name.split()[0].isupper()})
    print(f"{'kills':<28}{options.kills:>9,}")
    for name, count in found.items():
        print(f"{name:<28}{count:>9,}")
    print("the rows equal what was served" if not wrong.total() else "THE ROWS DIFFER")
    return 1 if wrong.total() else 0


if __name__ == "__main__":
    sys.exit(main())

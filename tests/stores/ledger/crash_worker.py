"""A worker that calls an upstream as fast as it can, and is killed in the midst of it."""

from __future__ import annotations

import asyncio
import datetime
import json
import random
import secrets
from decimal import Decimal
from pathlib import Path

from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.journal_shipper import JournalShipper
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.types import Cost, Usage
from tests.stores.ledger.rows import make_row

__all__ = ["run"]

IN_FLIGHT = 8


def run(folder: str, database: str, socket: str) -> None:
    """Work until the process is killed."""
    asyncio.run(_work(Path(folder), database, socket))


async def _work(folder: Path, database: str, socket: str) -> None:
    journal = FileJournal(folder, max_segment_bytes=32 * 1024)
    ledger = SQLLedger(open_engine(database))
    shipper = JournalShipper(journal, ledger, max_batch_rows=50, interval_seconds=0.005)
    shipper.start()
    await asyncio.gather(*(_call_forever(journal, socket) for _ in range(IN_FLIGHT)))


async def _call_forever(journal: FileJournal, socket: str) -> None:
    reader, writer = await asyncio.open_unix_connection(socket)
    while True:
        id = secrets.token_hex(16)
        at = datetime.datetime.now(datetime.UTC)
        intent = make_row(id, at=at, usage=Usage(input_uncached=1), outcome="complete")
        journal.intend(intent)
        if random.random() < 0.1:
            # Refused on the way: nothing reached the upstream, so there is no row.
            journal.settle((), intent=id)
            continue
        writer.write(b'{"call": "%s"}\n' % id.encode())
        answer = json.loads(await reader.readline())
        tokens = answer["output_tokens"]
        row = make_row(
            id,
            at=at,
            usage=Usage(input_uncached=10, output_text=tokens),
            cost=Cost(amount_usd=Decimal(tokens) / 1_000_000),
        )
        journal.settle((row,), intent=id)
        writer.write(b'{"answered": "%s"}\n' % id.encode())

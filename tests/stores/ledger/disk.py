"""A journal on a disk that fills up: run in a process of its own, whose files cannot grow.

``python -m tests.stores.ledger.disk FOLDER deny|allow SEGMENT_BYTES FILE_BYTES map|write FORM``
writes until the disk refuses, and prints what came of it as JSON. The form is ``long`` or
``short``: rows are given in full, or in the short way.
"""

from __future__ import annotations

import json
import logging
import resource
import sys

from asgi_llm.errors import StoreError
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.ledger import LedgerRow
from tests.stores.ledger import short
from tests.stores.ledger.rows import make_row


def main() -> None:
    logging.disable()
    folder, on_full, segment_bytes, file_bytes, way, form = sys.argv[1:]
    journal = FileJournal(
        folder,
        max_segment_bytes=int(segment_bytes),
        on_full=on_full,  # type: ignore[arg-type]
        fsync="never",
        map_segments=way == "map",
    )

    def intend(row: LedgerRow) -> None:
        if form == "short":
            short.intend(journal, row)
        else:
            journal.intend(row)

    def settle(row: LedgerRow) -> None:
        if form == "short":
            short.settle(journal, row)
        else:
            journal.settle((row,), intent=row.id)

    rows_of = [make_row(f"r{number}") for number in range(202)]
    if form == "short":
        rows_of = [short.make_short(number) for number in range(202)]
    first, *others, last = rows_of
    intend(first)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_bytes), resource.RLIM_INFINITY))
    intended, refused = [first], 0
    for row in others:
        try:
            intend(row)
            intended.append(row)
        except StoreError:
            refused += 1
    for row in intended:
        settle(row)
    full = {
        "intended": len(intended),
        "refused": refused,
        "unwritten_rows": journal.unwritten_rows,
        "unwritten_intents": journal.unwritten_intents,
        "pending_rows": journal.pending_rows,
    }
    waiting = journal.read(10)
    in_memory = [row.id for row in waiting.rows] if waiting and journal.unwritten_rows else []
    if waiting and in_memory:
        journal.acknowledge(waiting)
    # There is room again.
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    intend(last)
    settle(last)
    rows = list(in_memory)
    while (batch := journal.read(50)) is not None:
        rows += [row.id for row in batch.rows]
        journal.acknowledge(batch)
    print(
        json.dumps(
            {
                **full,
                "rows": sorted(rows),
                "expected": sorted([row.id for row in (*intended, last)]),
                "left": journal.pending_rows + journal.unwritten_rows + journal.open_intents,
                "in_memory": len(in_memory),
            }
        )
    )
    journal.close()


if __name__ == "__main__":
    main()

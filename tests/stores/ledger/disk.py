"""A journal on a disk that fills up: run in a process of its own, whose files cannot grow.

``python -m tests.stores.ledger.disk FOLDER deny|allow SEGMENT_BYTES FILE_BYTES map|write`` writes
until the disk refuses, and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import logging
import resource
import sys

from asgi_llm.errors import StoreError
from asgi_llm.stores.journal import FileJournal
from tests.stores.ledger.rows import make_row


def main() -> None:
    logging.disable()
    folder, on_full, segment_bytes, file_bytes, way = sys.argv[1:]
    journal = FileJournal(
        folder,
        max_segment_bytes=int(segment_bytes),
        on_full=on_full,  # type: ignore[arg-type]
        fsync="never",
        map_segments=way == "map",
    )
    journal.intend(make_row("first"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_bytes), resource.RLIM_INFINITY))
    intended, refused = ["first"], 0
    for number in range(200):
        try:
            journal.intend(make_row(f"r{number}"))
            intended.append(f"r{number}")
        except StoreError:
            refused += 1
    for id in intended:
        journal.settle((make_row(id),), intent=id)
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
    journal.intend(make_row("last"))
    journal.settle((make_row("last"),), intent="last")
    rows = list(in_memory)
    while (batch := journal.read(50)) is not None:
        rows += [row.id for row in batch.rows]
        journal.acknowledge(batch)
    print(
        json.dumps(
            {
                **full,
                "rows": sorted(rows),
                "expected": sorted([*intended, "last"]),
                "left": journal.pending_rows + journal.unwritten_rows + journal.open_intents,
                "in_memory": len(in_memory),
            }
        )
    )
    journal.close()


if __name__ == "__main__":
    main()

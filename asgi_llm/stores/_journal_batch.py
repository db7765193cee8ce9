"""What is read of a journal at once."""

from __future__ import annotations

from collections.abc import Sequence

from asgi_llm.stores._journal_lane import Position
from asgi_llm.stores._journal_waiting import WaitingOutcome
from asgi_llm.stores._journal_writer import LaneWriter
from asgi_llm.stores.ledger import LedgerRow

__all__ = ["JournalBatch"]


class JournalBatch:
    """Rows of the journal that are to be recorded, and what to acknowledge then."""

    __slots__ = ("_damaged", "_end", "_waiting", "_writer", "rows")

    def __init__(
        self,
        rows: list[LedgerRow],
        *,
        writer: LaneWriter | None = None,
        end: Position | None = None,
        damaged: frozenset[int] = frozenset(),
        waiting: Sequence[WaitingOutcome] = (),
    ) -> None:
        self.rows = rows
        self._writer = writer
        self._end = end
        self._damaged = damaged
        self._waiting = waiting

"""Outcomes that the disk refused: they wait in memory for the ledger, or for the disk."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence

from asgi_llm.errors import StoreError
from asgi_llm.stores._journal_writer import LaneWriter
from asgi_llm.stores.ledger import LedgerRow

__all__ = ["WaitingOutcome", "WaitingOutcomes"]


class WaitingOutcome:
    """What came of the call of an intent.

    Attributes:
        waits: Whether it is not on disk.
        rows: Those that the ledger does not have.
    """

    __slots__ = ("intent", "rows", "waits", "written")

    def __init__(self, intent: str, rows: Sequence[LedgerRow], written: float) -> None:
        self.waits = True
        self.intent = intent
        self.rows = rows
        self.written = written


class WaitingOutcomes:
    """Those of one process, oldest first.

    Args:
        max_rows: How many rows may wait.

    Attributes:
        count: How many outcomes wait.
        rows: How many rows they have.
        lost_rows: How many there was no room for.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._outcomes: deque[WaitingOutcome] = deque()
        self.count = 0
        self.rows = 0
        self.lost_rows = 0

    def add(self, outcome: WaitingOutcome, writer: LaneWriter | None) -> None:
        """Keep one, if anybody has anything to learn from it.

        Raises:
            StoreError: There is no room; its rows are lost, and counted.
        """
        count = len(outcome.rows)
        if self.rows + count > self._max_rows:
            self.lost_rows += count
            raise StoreError("The journal cannot be written, and too many rows wait in memory.")
        if not _is_told(outcome, writer):
            self._outcomes.append(outcome)
            self.count += 1
            self.rows += count

    def write(self, write: Callable[[WaitingOutcome], None]) -> None:
        """Bring them onto the disk, as far as that takes them.

        Raises:
            OSError: It refused one; that one waits, and all behind it.
        """
        while self._outcomes:
            outcome = self._outcomes[0]
            write(outcome)
            self._outcomes.popleft()
            self.count -= 1
            outcome.waits = False
            self.rows -= len(outcome.rows)

    def first(self, count: int) -> list[WaitingOutcome]:
        """So many of those that have rows for the ledger."""
        waiting = (one for one in self._outcomes if one.rows)
        return list(itertools.islice(waiting, count))

    def acknowledge(self, outcomes: Sequence[WaitingOutcome], writer: LaneWriter | None) -> None:
        """The ledger has the rows of some of them. Their intents on disk are still to be closed."""
        for outcome in outcomes:
            if outcome.waits:
                self.rows -= len(outcome.rows)
                outcome.rows = ()
                if writer is not None:
                    writer.note_told(outcome.intent)

    def drop_told(self, writer: LaneWriter | None) -> None:
        """Forget those from which neither the ledger nor the disk has anything to learn."""
        self._outcomes = deque(one for one in self._outcomes if not _is_told(one, writer))
        self.count = len(self._outcomes)


def _is_told(outcome: WaitingOutcome, writer: LaneWriter | None) -> bool:
    return not outcome.rows and (writer is None or not writer.is_open(outcome.intent))

"""The vectors of one partition, in one matrix, searched exactly.

Rows never move while a block lives, so that a search in another thread and changes on the event
loop need no lock: what the search found is looked at again, on the loop, before it is used.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING, Any, Final

import msgspec

from asgi_llm.stores.semantic_index import IndexEntry, Learning

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["Block", "Record"]

_NO_SIMILARITY: Final = -2.0
_RECORD_BYTES: Final = 1100
"""What an entry takes beside its text, payload, learning and vector, measured."""
_BLOCK_BYTES: Final = 1500
"""What a block takes beside its arrays, measured."""


class Record:
    """An entry in memory, and what changes of it."""

    __slots__ = ("entry", "last_used", "learning", "place", "size", "uses")

    def __init__(self, entry: IndexEntry) -> None:
        self.entry = entry
        self.uses = entry.uses
        self.last_used = max(entry.last_used, entry.created)
        self.learning = entry.learning
        self.place: tuple[Block, int] | None = None
        """Its block and row; another tuple whenever it moves, None once it is let go."""
        self.size = (
            _RECORD_BYTES + entry.text.__sizeof__() + len(entry.payload) + len(entry.learning.state)
        )

    @property
    def kept(self) -> bool:
        """Whether it is in a block."""
        return self.place is not None

    def vector(self) -> Vector | None:
        """A copy of its vector, as any thread may ask for it; None: the record went."""
        place = self.place
        if place is None:
            return None
        block, row = place
        copied = block.copy(row)
        # A row is given to another record only after this one was let go.
        return copied if self.place is place else None

    def learn(self, learning: Learning) -> int:
        """Set what was learned; how much larger the record is now."""
        grown = len(learning.state) - len(self.learning.state)
        self.learning = learning
        self.size += grown
        return grown

    def current(self) -> IndexEntry:
        """The entry as it is now."""
        return msgspec.structs.replace(
            self.entry, uses=self.uses, last_used=self.last_used, learning=self.learning
        )


class Block:
    """One partition.

    Args:
        numpy: The module.
        dimension: Length of a vector.
    """

    def __init__(self, numpy: Any, dimension: int) -> None:
        self._np = numpy
        self.dimension = dimension
        self.by_use: OrderedDict[str, Record] = OrderedDict()
        """Its records, that least recently used first."""
        self._rows: list[Record | None] = []
        self._free: list[int] = []
        self._matrix = numpy.zeros((1, dimension), dtype=numpy.float32)
        self._expires = numpy.full(1, -inf)

    @property
    def size(self) -> int:
        """What it takes in bytes, its records not included."""
        return _BLOCK_BYTES + int(self._matrix.nbytes) + int(self._expires.nbytes)

    @property
    def numbers(self) -> int:
        """How many numbers a search multiplies."""
        return len(self._rows) * self.dimension

    def put(self, record: Record, vector: Vector) -> None:
        """Take a record in."""
        if self._free:
            row = self._free.pop()
            self._rows[row] = record
        else:
            row = len(self._rows)
            if row == len(self._matrix):
                self._grow(row + 1 + row // 4)
            self._rows.append(record)
        self._matrix[row] = vector
        self._expires[row] = record.entry.expires
        record.place = (self, row)
        self.by_use[record.entry.id] = record

    def take(self, record: Record) -> None:
        """Let a record go."""
        place, record.place = record.place, None
        if place is None:
            return
        _, row = place
        self._rows[row] = None
        self._expires[row] = -inf
        self._free.append(row)
        del self.by_use[record.entry.id]

    def copy(self, row: int) -> Vector:
        """What stands in a row."""
        found: Vector = self._matrix[row].copy()
        return found

    def scan(self, vector: Vector, k: int, now: float) -> list[int]:
        """The rows of the ``k`` most similar at ``now``, in no order; any thread may ask."""
        np = self._np
        matrix, expires, count = self._matrix, self._expires, len(self._rows)
        # Another thread may make the block larger in between; both arrays then hold less.
        count = min(count, len(matrix), len(expires))
        scores = matrix[:count] @ vector
        scores[expires[:count] <= now] = _NO_SIMILARITY
        found: list[int] = (
            np.argpartition(scores, count - k)[count - k :].tolist()
            if k < count
            else list(range(count))
        )
        return found

    def check(self, rows: list[int], vector: Vector, now: float) -> list[tuple[Record, float]]:
        """The records that are in ``rows`` now, with their similarities, the likest first."""
        records = self._rows
        found = [
            (record, min(1.0, float(self._matrix[row] @ vector)))
            for row in rows
            if (record := records[row]) is not None and record.entry.expires > now
        ]
        found.sort(key=lambda pair: (-pair[1], pair[0].entry.id))
        return found

    def _grow(self, rows: int) -> None:
        np = self._np
        matrix = np.zeros((rows, self.dimension), dtype=np.float32)
        matrix[: len(self._matrix)] = self._matrix
        expires = np.full(rows, -inf)
        expires[: len(self._expires)] = self._expires
        self._matrix, self._expires = matrix, expires

    def is_sparse(self) -> bool:
        """Whether more than a quarter of its rows is empty: a new block would be smaller."""
        return len(self._rows) * 3 > len(self.by_use) * 4 + 8

    def packed(self) -> Block:
        """The same records in a new block; this one stays as it is for whoever searches it."""
        block = Block(self._np, self.dimension)
        block._grow(max(1, len(self.by_use)))
        for record in self.by_use.values():
            if record.place is not None:
                block.put(record, self._matrix[record.place[1]])
        return block

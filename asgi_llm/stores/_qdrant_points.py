"""Entries of a semantic index as points of Qdrant, and the filters that find them."""

from __future__ import annotations

import base64
import hashlib
import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from asgi_llm.stores._semantic_rows import FIELDS, LABELS, entry_of, row_of
from asgi_llm.stores.semantic_index import IndexEntry, Selection, is_id

__all__ = ["Filters", "as_base64", "entry_at", "payload_of", "point_id"]

_AS_BASE64: Final = ("text", "payload", "learning")
_NEVER: Final = 1e300
"""JSON has no infinity."""


class Filters:
    """Conditions in the words of Qdrant's client.

    Args:
        models: Its module of that name.
        clock: Unix time in seconds.
    """

    __slots__ = ("_clock", "_models")

    def __init__(self, models: Any, clock: Callable[[], float]) -> None:
        self._models = models
        self._clock = clock

    def equal(self, key: str, value: str | int) -> Any:
        """A field that has this value."""
        models = self._models
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))

    def range(self, key: str, **bounds: float) -> Any:
        """A number between bounds, as in ``lte``."""
        models = self._models
        return models.FieldCondition(key=key, range=models.Range(**bounds))

    def alive(self, *conditions: Any) -> Any:
        """A filter for what meets all of ``conditions``, and has not run out."""
        return self._models.Filter(must=[*conditions, self.range("expires", gt=self._clock())])

    def of(self, selection: Selection) -> list[Any]:
        """The conditions of a selection."""
        given = [
            self.equal(name, value)
            for name in LABELS
            if (value := getattr(selection, name)) is not None
        ]
        if selection.partition is not None:
            given.append(self.equal("partition", selection.partition.hex()))
        if selection.ids is not None:
            chosen = [point_id(id) for id in selection.ids if is_id(id)]
            given.append(self._models.HasIdCondition(has_id=chosen))
        if selection.created_before is not None:
            given.append(self.range("created", lt=selection.created_before))
        return given


def point_id(id: str) -> str:
    """The id of an entry's point: Qdrant's are numbers or UUIDs."""
    return str(uuid.UUID(bytes=hashlib.sha256(id.encode()).digest()[:16]))


def as_base64(data: bytes) -> str:
    """Bytes as they stand in a payload."""
    return base64.b64encode(data).decode("ascii")


def payload_of(entry: IndexEntry) -> dict[str, Any]:
    """What Qdrant keeps of an entry, beside its vector."""
    row = row_of(entry)
    row["partition"] = entry.partition.hex()
    row["expires"] = min(entry.expires, _NEVER)
    for name in _AS_BASE64:
        row[name] = as_base64(row[name])
    row["writers"] = []
    return row


def entry_at(payload: Mapping[str, Any]) -> IndexEntry:
    """The entry that ``payload_of`` made ``payload`` of."""
    row = {name: payload[name] for name in FIELDS}
    row["partition"] = bytes.fromhex(row["partition"])
    if row["expires"] >= _NEVER:
        row["expires"] = math.inf
    for name in _AS_BASE64:
        row[name] = base64.b64decode(row[name])
    return entry_of(row)

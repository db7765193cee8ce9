"""What the drivers of semantic indexes share: their options, entries as rows, and their order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.semantic_index import IndexEntry, Learning, Match, check_count

__all__ = [
    "FIELDS",
    "LABELS",
    "best_matches",
    "check_method",
    "check_options",
    "entry_of",
    "row_of",
]

LABELS: Final = ("namespace", "model", "scope")
"""Fields of a selection, and of an entry, that are compared as they are."""

FIELDS: Final = (
    "id",
    "partition",
    "text",
    "payload",
    *LABELS,
    "created",
    "expires",
    "uses",
    "last_used",
    "learning",
    "version",
)
"""Of a row."""


def check_method(method: str) -> None:
    """Refuse what is no way to search.

    Raises:
        ConfigurationError: It is neither ``exact`` nor ``hnsw``.
    """
    if method not in ("exact", "hnsw"):
        raise ConfigurationError(f"method must be exact or hnsw, not {method!r}", param="method")


def check_options(
    *, dimension: tuple[int, int], max_entries_per_partition: int, max_entries: int | None
) -> None:
    """Refuse sizes that are out of range.

    Args:
        dimension: Length of a vector, and the most that the place can hold.
        max_entries_per_partition: At least 1.
        max_entries: Of the whole index, at least 1; None: no bound.

    Raises:
        ConfigurationError: One of them is; ``param`` names it.
    """
    check_count("dimension", *dimension)
    check_count("max_entries_per_partition", max_entries_per_partition, 10**9)
    if max_entries is not None:
        check_count("max_entries", max_entries, 10**12)


def best_matches(found: Iterable[Match], *, k: int, min_similarity: float) -> tuple[Match, ...]:
    """The ``k`` likest that are at least so similar, the likest first; equal ones by their ids."""
    alike = [match for match in found if match.similarity >= min_similarity]
    alike.sort(key=lambda match: (-match.similarity, match.entry.id))
    return tuple(alike[:k])


def row_of(entry: IndexEntry) -> dict[str, Any]:
    """The fields of an entry, flat, with its text as bytes, since it may hold what UTF-8 may not.

    ``last_used`` is never before ``created``, so that an order by it is one by need.
    """
    return {
        "id": entry.id,
        "partition": entry.partition,
        "text": entry.text.encode("utf-8", "surrogatepass"),
        "payload": entry.payload,
        "model": entry.model,
        "namespace": entry.namespace,
        "scope": entry.scope,
        "created": entry.created,
        "expires": entry.expires,
        "uses": entry.uses,
        "last_used": max(entry.last_used, entry.created),
        "learning": entry.learning.state,
        "version": entry.learning.version,
    }


def entry_of(row: dict[str, Any]) -> IndexEntry:
    """The entry that ``row_of`` made ``row`` of. The row is used up."""
    row["text"] = row["text"].decode("utf-8", "surrogatepass")
    row["learning"] = Learning(row["learning"], row.pop("version"))
    return IndexEntry(**row)

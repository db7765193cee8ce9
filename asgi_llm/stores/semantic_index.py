"""What a semantic cache asks of the place where it looks for similar prompts.

Every method may raise ``StoreError`` (the index did not answer in time, or answered nonsense); no
driver lets an exception of its client library out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from asgi_llm.errors import ConfigurationError

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = [
    "MAX_ID_CHARACTERS",
    "MAX_LABEL_CHARACTERS",
    "MAX_LEARNING_BYTES",
    "MAX_PARTITION_BYTES",
    "IndexEntry",
    "IndexStatistics",
    "Learning",
    "Match",
    "Selection",
    "SemanticIndex",
    "can_match",
    "check_count",
    "check_entry",
    "check_state",
    "check_timeout",
    "check_vector",
    "is_id",
    "is_label",
    "is_selected",
]

MAX_ID_CHARACTERS: Final = 128
MAX_PARTITION_BYTES: Final = 64
MAX_LEARNING_BYTES: Final = 65_536
MAX_LABEL_CHARACTERS: Final = 256
_LEAST_SQUARE: Final = 0.99
_MOST_SQUARE: Final = 1.01


class Learning(msgspec.Struct, frozen=True, gc=False):
    """What was learned of an entry so far."""

    state: bytes = b""
    """Opaque to the index, at most 64 KiB."""
    version: int = 0
    """From 0 to 2 ** 53 - 1: goes up by 1 with each update, from the one that the entry was added
    with. Where an id comes back with another payload, a random one keeps apart what was learned of
    the two."""


class IndexEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One stored answer, without its vector."""

    id: str
    """Unlike any other in the index: 1 to 128 visible ASCII characters."""
    partition: bytes
    """Digest of everything that has to be equal: 1 to 64 bytes. A search never leaves it."""
    text: str
    """What was embedded, for guards to compare."""
    payload: bytes
    """The stored answer, opaque to the index."""
    model: str
    """Whose answer it is; for purges, as are the next two: each at most 256 characters of valid
    Unicode without NUL."""
    namespace: str = ""
    """The caller's own division of the cache."""
    scope: str = ""
    """Whose entry it is, as the layer writes it: an id or a digest."""
    created: float
    """Unix time in seconds."""
    expires: float
    """Unix time in seconds, after which it is not found; infinity: never."""
    uses: int = 0
    """How often it was touched."""
    last_used: float = 0.0
    """Unix time in seconds of the last touch; ``created`` where there was none."""
    learning: Learning = Learning()


class Match(NamedTuple):
    """An entry that was found."""

    entry: IndexEntry
    similarity: float
    """Cosine, from -1 to 1."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Entries that meet all conditions given; with none, every entry."""

    ids: tuple[str, ...] | None = None
    partition: bytes | None = None
    namespace: str | None = None
    model: str | None = None
    scope: str | None = None
    created_before: float | None = None
    """Unix time in seconds: entries that are older."""


class IndexStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How an index stands."""

    entries: int
    """Those that have run out and are not cleared away yet may be counted."""
    partitions: int | None
    """How many have an entry; None where the index cannot tell."""
    size_bytes: int | None
    """What the entries take, roughly; None where the index cannot tell."""
    evicted: int
    """By this instance, for want of room, since it was made."""


class SemanticIndex(Protocol):
    """Where entries are kept and found by similarity.

    All vectors of an index have one length, and unit length; an index of another model is another
    index (or at least another partition).
    """

    async def search(
        self, partition: bytes, vector: Vector, k: int = 5, *, min_similarity: float = -1.0
    ) -> tuple[Match, ...]:
        """The ``k`` entries of ``partition`` that are most like ``vector``, the likest first.

        Entries that have run out are not among them.

        Args:
            partition: The only one that is looked into.
            vector: Of unit length.
            k: From 1 to 1000.
            min_similarity: What is less similar is left out.
        """
        ...

    async def add(self, entry: IndexEntry, vector: Vector) -> None:
        """Keep ``entry``; one of the same id is replaced.

        Where there is no room, entries are evicted: those that have run out first, then those that
        were used least recently.

        Raises:
            ConfigurationError: The entry breaks a rule above, or the vector has another length
                than those in the index.
        """
        ...

    async def get(self, id: str) -> IndexEntry | None:
        """The entry of that id; None where there is none, or it has run out."""
        ...

    async def find(
        self, selection: Selection, *, limit: int = 50, after: str | None = None
    ) -> tuple[IndexEntry, ...]:
        """The entries of ``selection`` by the order of their ids, for people to look at.

        Args:
            selection: Which.
            limit: From 1 to 1000.
            after: Only ids above this one.
        """
        ...

    async def remove(self, selection: Selection) -> int:
        """Remove the entries of ``selection``; how many there were."""
        ...

    async def touch(self, id: str) -> None:
        """Note that an entry was used; one that is gone stays gone."""
        ...

    async def update_learning(self, id: str, *, expected_version: int, state: bytes) -> bool:
        """Write what was learned, if nobody else has written since ``expected_version``.

        Whoever gets False reads the entry again, and tries again with its version, unless it is
        gone or another by then.

        Args:
            id: The entry.
            expected_version: What the state is based on.
            state: At most 64 KiB.
        """
        ...

    async def statistics(self) -> IndexStatistics:
        """How the index stands."""
        ...

    async def aclose(self) -> None:
        """Close what the index itself opened."""
        ...


def check_entry(entry: IndexEntry) -> None:
    """Refuse an entry that breaks a rule of ``IndexEntry``.

    Raises:
        ConfigurationError: It does; ``param`` names the field.
    """
    if not is_id(entry.id):
        raise _wrong("id", "1 to 128 visible ASCII characters")
    if not 0 < len(entry.partition) <= MAX_PARTITION_BYTES:
        raise _wrong("partition", "1 to 64 bytes")
    for name, label in (
        ("model", entry.model),
        ("namespace", entry.namespace),
        ("scope", entry.scope),
    ):
        if not is_label(label):
            raise _wrong(name, "at most 256 characters of valid Unicode, without NUL")
    if len(entry.learning.state) > MAX_LEARNING_BYTES:
        raise _wrong("learning", "at most 64 KiB")
    for name, time in (("created", entry.created), ("last_used", entry.last_used)):
        if not math.isfinite(time):
            raise _wrong(name, "a finite number")
    if math.isnan(entry.expires):
        raise _wrong("expires", "a number")
    if entry.uses < 0:
        raise _wrong("uses", "at least 0")


def check_count(name: str, value: int, most: int = 1000) -> None:
    """Refuse a ``k`` or a ``limit`` that is out of range.

    Raises:
        ConfigurationError: It is not from 1 to ``most``.
    """
    if not 1 <= value <= most:
        raise ConfigurationError(f"{name} must be from 1 to {most}, not {value!r}", param=name)


def check_timeout(timeout_seconds: float) -> float:
    """``timeout_seconds``, if it is above 0 and finite.

    Raises:
        ConfigurationError: It is not.
    """
    if not 0 < timeout_seconds < math.inf:
        raise ConfigurationError("timeout_seconds must be above 0", param="timeout_seconds")
    return timeout_seconds


def check_vector(vector: Vector, dimension: int | None) -> int:
    """The length of ``vector``, if it is as it must be.

    Args:
        vector: Of one dimension, float32, of unit length.
        dimension: The length of those in the index; None where there is none yet.

    Raises:
        ConfigurationError: It is not.
    """
    if vector.ndim != 1 or vector.dtype.name != "float32":
        raise _wrong("vector", "one row of float32")
    length = vector.shape[0]
    if dimension is not None and length != dimension:
        raise _wrong("vector", f"{dimension} numbers, as those in the index are, not {length}")
    # Not a number compares as false with everything, and is refused here as well.
    if not _LEAST_SQUARE < float(vector @ vector) < _MOST_SQUARE:
        raise _wrong("vector", "of unit length")
    return int(length)


def check_state(state: bytes) -> None:
    """Refuse a state of learning that is too large.

    Raises:
        ConfigurationError: It is over 64 KiB.
    """
    if len(state) > MAX_LEARNING_BYTES:
        raise _wrong("state", "at most 64 KiB")


def is_label(text: str) -> bool:
    """Whether an entry can have ``text`` as its model, namespace or scope."""
    return len(text) <= MAX_LABEL_CHARACTERS and "\0" not in text and _is_unicode(text)


def can_match(selection: Selection) -> bool:
    """Whether any entry could be in ``selection``, by what its words are made of."""
    return all(
        word is None or is_label(word)
        for word in (selection.namespace, selection.model, selection.scope)
    ) and (selection.ids is None or any(map(is_id, selection.ids)))


def is_selected(entry: IndexEntry, selection: Selection) -> bool:
    """Whether ``entry`` meets all conditions of ``selection``, but for the ids."""
    return (
        (selection.partition is None or entry.partition == selection.partition)
        and (selection.namespace is None or entry.namespace == selection.namespace)
        and (selection.model is None or entry.model == selection.model)
        and (selection.scope is None or entry.scope == selection.scope)
        and (selection.created_before is None or entry.created < selection.created_before)
    )


def is_id(text: str) -> bool:
    """Whether an entry can have ``text`` as its id."""
    return 0 < len(text) <= MAX_ID_CHARACTERS and _is_visible(text)


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _is_visible(text: str) -> bool:
    return text.isascii() and all("!" <= character <= "~" for character in text)


def _wrong(field: str, wanted: str) -> ConfigurationError:
    return ConfigurationError(f"{field} must be {wanted}", param=field)

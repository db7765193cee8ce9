"""Bodies of requests about caches, and what they are answered with."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from asgi_llm.gateway.admin._bodies import Body, Id

__all__ = ["CacheEntry", "CachePurge", "CacheState", "PurgeCaches"]

_END: Final = r"(?![\s\S])"

Label = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{0,256}" + _END,
        extra={"is": "a text of at most 256 characters"},
    ),
]
EntryId = Annotated[
    str,
    Meta(
        pattern=r"^[\x21-\x7e]{1,128}" + _END,
        description="As in X-Cache-Entry, or in a listing.",
        extra={"is": "an id of 1 to 128 visible characters"},
    ),
]


class PurgeCaches(Body, frozen=True, kw_only=True):
    """Which answers are to be forgotten: those that fit all that is given."""

    cache: Literal["exact", "semantic"] | None = None
    id: EntryId | None = None
    scope: Annotated[Label, Meta(description="As organization:acme or key:ID.")] | None = None
    model: Annotated[Label, Meta(description="As clients name it.")] | None = None
    namespace: (
        Annotated[Label, Meta(description="Empty is that of requests without one.")] | None
    ) = None
    key_id: Annotated[Id, Meta(description="Whose key the answer was made for; exact.")] | None = (
        None
    )
    older_than_seconds: Annotated[float, Meta(ge=0, le=1e10)] | None = None
    everything: bool = False


class CacheState(msgspec.Struct, frozen=True, kw_only=True):
    """How a cache is doing. Counts are those of the process that answers, since its start."""

    name: Literal["exact", "semantic"]
    entries: int
    bytes: int | None
    hits: int
    misses: int
    bypasses: int
    writes: int
    evictions: int
    failures: int
    saved_input_tokens: int
    saved_output_tokens: int
    details: dict[str, int] = {}
    """Further counts of this kind of cache: ``shared`` and ``stale``, or ``explored``,
    ``confirmed``, ``reported`` and ``refused_GUARD``."""


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of the semantic cache, without any text."""

    id: str
    scope: str
    model: str
    namespace: str
    created_at: str
    expires_at: str | None
    last_used_at: str
    uses: int
    observations: int | None = None
    """How often its answer was compared with a new one; null where nothing is learned."""
    correct: int | None = None
    boundary: float | None = None
    """The least similarity at which it is served without asking; null at none so far."""


class CachePurge(msgspec.Struct, frozen=True, kw_only=True):
    """How many answers were forgotten, by cache."""

    removed: dict[str, int]

"""What the requests of a semantic cache share, and what one of them has looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from starlette.types import ASGIApp

from asgi_llm.embedders.base import Embedder
from asgi_llm.middleware._agreement import GuardName, Reading
from asgi_llm.middleware._semantic_answers import AnswerComparison, Judge
from asgi_llm.middleware._semantic_calls import SemanticCalls
from asgi_llm.middleware._semantic_counts import SemanticCounts
from asgi_llm.middleware._semantic_policy import DecisionPolicy, Evidence, Verdict
from asgi_llm.middleware._semantic_shadow import ShadowSink
from asgi_llm.stores.cache import StoredAnswer
from asgi_llm.stores.semantic_index import Match, Selection, SemanticIndex

__all__ = [
    "Candidate",
    "SemanticSettings",
    "compared",
    "explored",
    "forget",
    "recorded",
]


class SemanticSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests of a layer share."""

    app: ASGIApp
    embedder: Embedder
    index: SemanticIndex
    policy: DecisionPolicy
    guards: tuple[GuardName, ...]
    judge: Judge | None
    comparison: AnswerComparison | None
    calls: SemanticCalls
    counts: SemanticCounts
    read: Callable[[str], Reading]
    enforces: bool
    shadow: ShadowSink | None
    records_texts: bool
    min_similarity: float
    """What is less similar is not even looked at."""
    candidates: int
    ttl_seconds: float
    max_entry_bytes: int
    embed_timeout_seconds: float
    index_timeout_seconds: float
    judge_timeout_seconds: float
    event_seconds: float
    clock: Callable[[], float]


class Candidate(msgspec.Struct):
    """A stored answer that was looked at."""

    match: Match
    guard: str | None
    verdict: Verdict
    answer: StoredAnswer | None = None
    evidence: Evidence | None = None
    """Of a candidate that the policy has decided on."""
    same: bool | None = None


def explored(seen: Sequence[Candidate]) -> Candidate | None:
    return seen[-1] if seen and seen[-1].verdict == "explore" else None


def recorded(seen: Sequence[Candidate]) -> Sequence[Candidate]:
    """The nearest candidate, and the one that was chosen."""
    return (
        seen if len(seen) < 2 else seen[:1] if seen[-1].verdict == "skip" else (seen[0], seen[-1])
    )


def compared(seen: Sequence[Candidate], *, all_of_them: bool) -> Sequence[Candidate]:
    if all_of_them:
        return recorded(seen)
    found = explored(seen)
    return () if found is None else (found,)


async def forget(settings: SemanticSettings, id: str, partition: str) -> bool:
    """Remove the entry of ``id``, if it is of those that this partition shares."""
    calls, index = settings.calls, settings.index
    entry = await calls.ask(
        index.get(id), who="index", timeout_seconds=settings.index_timeout_seconds
    )
    if entry is None or entry.scope != partition:
        return False
    removed = await calls.ask(
        index.remove(Selection(ids=(id,))),
        who="index",
        timeout_seconds=settings.index_timeout_seconds,
    )
    return bool(removed)

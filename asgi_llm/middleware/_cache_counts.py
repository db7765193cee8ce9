"""What a cache has done so far, and what it has saved."""

from __future__ import annotations

from asgi_llm.types import CacheReport

__all__ = ["CacheCounts"]


class CacheCounts:
    """Counts of one process since the layer was made.

    Args:
        hits: Requests that were answered with a stored answer, or with that of a call under way.
        misses: Requests that were looked up in vain.
        bypasses: Requests that were not looked up.
        shared: Hits whose answer was still being made for another request.
        stale: Hits whose answer was not fresh any more.
        refreshes: Stale answers that were made anew behind them.
        writes: Answers that were kept.
        items_found: Items of batches of embeddings that were stored ones.
        items_asked: All items of such batches.
        saved_input_tokens: What the hits took when they were made.
        saved_output_tokens: And what they gave.
    """

    __slots__ = (
        "bypasses",
        "hits",
        "items_asked",
        "items_found",
        "misses",
        "refreshes",
        "saved_input_tokens",
        "saved_output_tokens",
        "shared",
        "stale",
        "writes",
    )

    def __init__(
        self,
        *,
        hits: int = 0,
        misses: int = 0,
        bypasses: int = 0,
        shared: int = 0,
        stale: int = 0,
        refreshes: int = 0,
        writes: int = 0,
        items_found: int = 0,
        items_asked: int = 0,
        saved_input_tokens: int = 0,
        saved_output_tokens: int = 0,
    ) -> None:
        self.hits = hits
        self.misses = misses
        self.bypasses = bypasses
        self.shared = shared
        self.stale = stale
        self.refreshes = refreshes
        self.writes = writes
        self.items_found = items_found
        self.items_asked = items_asked
        self.saved_input_tokens = saved_input_tokens
        self.saved_output_tokens = saved_output_tokens

    def note_hit(self, report: CacheReport | None) -> None:
        """A request was answered with what ``report`` tells of."""
        self.hits += 1
        usage = None if report is None else report.usage
        if usage is not None:
            self.saved_input_tokens += usage.input_tokens
            self.saved_output_tokens += usage.output_tokens

"""What a cache has done so far, and what it has saved."""

from __future__ import annotations

import msgspec

from asgi_llm.types import CacheReport

__all__ = ["CacheCounts"]


class CacheCounts(msgspec.Struct, kw_only=True, gc=False):
    """Counts of one process since the layer was made."""

    hits: int = 0
    """Requests that were answered with a stored answer, or with that of a call under way."""
    misses: int = 0
    bypasses: int = 0
    """Requests that were not looked up."""
    shared: int = 0
    """Hits whose answer was still being made for another request."""
    stale: int = 0
    """Hits whose answer was not fresh any more."""
    refreshes: int = 0
    """Stale answers that were made anew behind them."""
    writes: int = 0
    items_found: int = 0
    """Items of batches of embeddings that were stored ones."""
    items_asked: int = 0
    saved_input_tokens: int = 0
    """What the hits took when they were made."""
    saved_output_tokens: int = 0

    def note_hit(self, report: CacheReport | None) -> None:
        """A request was answered with what ``report`` tells of."""
        self.hits += 1
        usage = None if report is None else report.usage
        if usage is not None:
            self.saved_input_tokens += usage.input_tokens
            self.saved_output_tokens += usage.output_tokens

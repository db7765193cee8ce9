"""What a semantic cache has done so far, and what it has saved."""

from __future__ import annotations

from collections import Counter

import msgspec

from asgi_llm.types import Usage

__all__ = ["SemanticCounts"]


class SemanticCounts(msgspec.Struct, kw_only=True):
    """Counts of one process since the layer was made."""

    hits: int = 0
    misses: int = 0
    bypasses: int = 0
    """Requests that were not looked up."""
    writes: int = 0
    explored: int = 0
    """Misses that had a candidate whose answer was then compared."""
    confirmed: int = 0
    """Of those: answers that said the same."""
    reported: int = 0
    """Entries that clients have called wrong."""
    failures: int = 0
    """Calls of the index, the embedder or a judge that failed or were too late."""
    refusals: Counter[str] = msgspec.field(default_factory=Counter)
    """Candidates that a guard refused, by its name; ``judge`` for the judge."""
    saved_input_tokens: int = 0
    """What the hits took when they were made."""
    saved_output_tokens: int = 0

    def note_hit(self, usage: Usage | None) -> None:
        """A request was answered with a stored answer, which took ``usage`` when it was made."""
        self.hits += 1
        if usage is not None:
            self.saved_input_tokens += usage.input_tokens
            self.saved_output_tokens += usage.output_tokens

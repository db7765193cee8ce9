"""How often a serving process stops to look for cycles that nothing refers to any more."""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["ease_collector"]

_THRESHOLDS: Final = (50_000, 20, 50)
"""New objects until the youngest are searched; that, so often, until those a little older are; and
that until all are."""


def ease_collector() -> None:
    """Leave what is there now out of every later search, and search less often.

    Python's own thresholds are made for scripts: with 64 requests in flight each new batch of them
    begins a search, which finds nothing, and with thousands of connections a search through all
    objects stops the process for a tenth of a second and more. What requests leave behind is nearly
    all freed without it. What a configuration that is replaced later holds in cycles stays, once.

    For a process that serves and does nothing else, to be called once, when all is imported and
    set up, as in the lifespan of an app. ``asgi-llm serve`` does so.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)

"""What all requests of one exact cache share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.types import ASGIApp

from asgi_llm.middleware._cache_calls import CacheCalls
from asgi_llm.middleware._cache_counts import CacheCounts
from asgi_llm.middleware._cache_flight import Flights
from asgi_llm.middleware._cache_refresh import Refreshes
from asgi_llm.stores.cache_memory import MemoryCache

__all__ = ["ExactSettings"]


class ExactSettings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What all requests of a layer share; see ``ExactCacheMiddleware``."""

    app: ASGIApp
    refresh_app: ASGIApp
    calls: CacheCalls
    memory: MemoryCache | None
    counts: CacheCounts
    flights: Flights
    refreshes: Refreshes
    ttl_seconds: float
    revalidate_seconds: float
    if_error_seconds: float
    longest_stale_seconds: float
    keep_seconds: float
    """``ttl_seconds`` and ``longest_stale_seconds``."""
    max_entry_bytes: int
    at_once_bytes: int
    """Up to so much is judged as soon as it has come; what is longer is too long, or judged in a
    thread."""
    shares: bool
    wait_seconds: float
    event_seconds: float
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]

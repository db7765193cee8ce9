"""What all requests of one exact cache share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp

from asgi_llm.middleware._cache_calls import CacheCalls
from asgi_llm.middleware._cache_counts import CacheCounts
from asgi_llm.middleware._cache_flight import Flights
from asgi_llm.middleware._cache_refresh import Refreshes
from asgi_llm.middleware._cache_replay import LARGE_BYTES

__all__ = ["ExactSettings"]


class ExactSettings:
    """What all requests of a layer share; see ``ExactCacheMiddleware``.

    Attributes:
        longest_stale_seconds: The longer one of ``revalidate_seconds`` and ``if_error_seconds``.
        keep_seconds: ``ttl_seconds`` and ``longest_stale_seconds``.
        at_once_bytes: Up to so much is judged as soon as it has come; what is longer is too long,
            or judged in a thread.
    """

    __slots__ = (
        "app",
        "at_once_bytes",
        "calls",
        "clock",
        "counts",
        "event_seconds",
        "flights",
        "if_error_seconds",
        "keep_seconds",
        "longest_stale_seconds",
        "max_entry_bytes",
        "memory",
        "refresh_app",
        "refreshes",
        "revalidate_seconds",
        "shares",
        "sleep",
        "ttl_seconds",
        "wait_seconds",
    )

    def __init__(
        self,
        *,
        app: ASGIApp,
        refresh_app: ASGIApp,
        calls: CacheCalls,
        counts: CacheCounts,
        flights: Flights,
        refreshes: Refreshes,
        ttl_seconds: float,
        revalidate_seconds: float,
        if_error_seconds: float,
        max_entry_bytes: int,
        shares: bool,
        wait_seconds: float,
        event_seconds: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.app = app
        self.refresh_app = refresh_app
        self.calls = calls
        self.memory = calls.memory
        self.counts = counts
        self.flights = flights
        self.refreshes = refreshes
        self.ttl_seconds = ttl_seconds
        self.revalidate_seconds = revalidate_seconds
        self.if_error_seconds = if_error_seconds
        self.longest_stale_seconds = max(revalidate_seconds, if_error_seconds)
        self.keep_seconds = ttl_seconds + self.longest_stale_seconds
        self.max_entry_bytes = max_entry_bytes
        self.at_once_bytes = min(max_entry_bytes, LARGE_BYTES)
        self.shares = shares
        self.wait_seconds = wait_seconds
        self.event_seconds = event_seconds
        self.clock = clock
        self.sleep = sleep

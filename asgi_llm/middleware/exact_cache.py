"""Answers that were given before, for requests that ask exactly the same."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._cache_calls import CacheCalls
from asgi_llm.middleware._cache_counts import CacheCounts
from asgi_llm.middleware._cache_flight import Flights
from asgi_llm.middleware._cache_intake import Intake
from asgi_llm.middleware._cache_refresh import Refreshes
from asgi_llm.middleware._cache_request import CacheWhen, cache_rule
from asgi_llm.middleware._cache_scope import (
    CREDENTIAL_HEADERS,
    CacheScope,
    Partitioner,
    ScopeFinder,
    WithoutPrincipal,
)
from asgi_llm.middleware._cache_settings import ExactSettings
from asgi_llm.stores.cache import CacheStore
from asgi_llm.stores.cache_memory import MemoryCache

__all__ = ["ExactCacheMiddleware"]

logger = logging.getLogger(__name__)

MIB: Final = 1024 * 1024


class ExactCacheMiddleware:
    """Answers requests that were answered before out of a store, whole or as a stream.

    Two requests are the same if everything that shapes their answers is: who shares (``scope``),
    the path with its query, ``X-Cache-Namespace``, and the whole document but for the fields of
    ``DENIED_FIELDS``; unknown fields count. Those that ask the same at the same time share one
    call, in this process and, with a store that all processes share, in all of them.

    Kept are answers that are whole and ended by themselves (``stop``, ``tool_calls``); never errors
    and never what was cut off, filtered or changed on its way. Embeddings are kept by item: of a
    batch only what is not known is asked for.

    Only POSTs of JSON to chat completions, completions and embeddings are looked at; all else
    passes untouched. Put it inside of authentication, limits and meters: a hit never reaches what
    is further in.

    Args:
        store: Where answers are kept. Default: 256 MiB of this process. It is the caller's to
            close.
        scope: Who shares answers: callers of one ``organization``, ``team``, ``user`` or ``key``,
            all (``shared``), or those for whom a function finds the same id. A caller without an
            organization shares with its team, else with its user, else with its key alone.
        without_principal: What becomes of requests of callers that nobody has told apart:
            ``by_credentials`` (they share by the credentials that they send, and those who send
            none share with each other), ``share`` or ``bypass``.
        credential_headers: What counts as credentials.
        cache_when: ``deterministic`` (temperature 0, or a seed; embeddings always are), ``always``,
            or a function of the document.
        ttl_seconds: How long an answer is fresh, above 0.
        stale_while_revalidate_seconds: So much longer it is served while it is made anew behind it,
            at least 0.
        stale_if_error_seconds: So much longer than ``ttl_seconds`` it is served where the app
            fails: an exception, a 429 or a 5xx. At least 0.
        refresh_app: Where answers are made anew behind old ones. Default: the app. What stands
            outside of this layer, such as a meter, does not see those calls.
        max_refreshes: How many of them at once, at least 1.
        max_ttl_seconds: What ``X-Cache-TTL`` is cut to, above 0.
        client_controls: Whether clients may say of caching what the headers ``Cache-Control``,
            ``X-Cache-TTL`` and ``X-Cache-Namespace`` say.
        max_entry_bytes: A longer answer is not kept, above 0.
        share_calls: Whether requests that ask the same at the same time share a call.
        share_wait_seconds: How long one waits for another's answer, above 0; it then asks itself.
        lease_seconds: After so long without a sign of a process that died, another one makes the
            answer, above 0.
        replay_event_seconds: Between two events of a stream out of the store, at least 0; 0 sends
            them all at once.
        on_store_error: What becomes of a request when the store fails or is too late: ``allow``
            goes on as if nothing was stored, ``deny`` answers 503.
        store_timeout_seconds: Deadline of a call of the store, above 0; None: it needs none. A
            store that has its own (an attribute ``timeout_seconds``) keeps that.
        max_body_bytes: Cap on a request's body, above 0.
        body_timeout_seconds: How long it may take, above 0.
        counts: Go on from here. Default: from 0.
        clock: Seconds, monotonic.
        sleep: Waits.

    Attributes:
        counts: Hits, misses and what was saved, of this process.

    Streaming: chunks pass as they come. Up to ``max_entry_bytes`` of an answer are held until it
    is whole.

    Raises:
        ConfigurationError: An option is wrong; ``param`` names it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: CacheStore | None = None,
        scope: CacheScope | ScopeFinder = "organization",
        without_principal: WithoutPrincipal = "by_credentials",
        credential_headers: Collection[str] = CREDENTIAL_HEADERS,
        cache_when: CacheWhen = "deterministic",
        ttl_seconds: float = 3600.0,
        stale_while_revalidate_seconds: float = 0.0,
        stale_if_error_seconds: float = 0.0,
        refresh_app: ASGIApp | None = None,
        max_refreshes: int = 16,
        max_ttl_seconds: float = 30 * 86400.0,
        client_controls: bool = True,
        max_entry_bytes: int = 8 * MIB,
        share_calls: bool = True,
        share_wait_seconds: float = 300.0,
        lease_seconds: float = 5.0,
        replay_event_seconds: float = 0.0,
        on_store_error: Literal["allow", "deny"] = "allow",
        store_timeout_seconds: float | None = 0.05,
        max_body_bytes: int = 32 * MIB,
        body_timeout_seconds: float = 60.0,
        counts: CacheCounts | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        for option, value in (
            ("ttl_seconds", ttl_seconds),
            ("max_ttl_seconds", max_ttl_seconds),
            ("max_refreshes", max_refreshes),
            ("max_entry_bytes", max_entry_bytes),
            ("share_wait_seconds", share_wait_seconds),
            ("lease_seconds", lease_seconds),
            ("store_timeout_seconds", store_timeout_seconds),
            ("max_body_bytes", max_body_bytes),
            ("body_timeout_seconds", body_timeout_seconds),
        ):
            if value is not None and not value > 0:
                raise ConfigurationError(f"{option} must be above 0, not {value!r}", param=option)
        for option, value in (
            ("stale_while_revalidate_seconds", stale_while_revalidate_seconds),
            ("stale_if_error_seconds", stale_if_error_seconds),
            ("replay_event_seconds", replay_event_seconds),
        ):
            if not value >= 0:
                raise ConfigurationError(
                    f"{option} must be at least 0, not {value!r}", param=option
                )
        if on_store_error not in ("allow", "deny"):
            raise ConfigurationError(
                f"on_store_error must be allow or deny, not {on_store_error!r}",
                param="on_store_error",
            )
        self.app = app
        self.counts = CacheCounts() if counts is None else counts
        self._calls = CacheCalls(
            MemoryCache(clock=clock) if store is None else store,
            timeout_seconds=store_timeout_seconds,
            lease_seconds=lease_seconds,
            deny=on_store_error == "deny",
            clock=clock,
            logger=logger,
        )
        self._settings = ExactSettings(
            app=app,
            refresh_app=app if refresh_app is None else refresh_app,
            calls=self._calls,
            counts=self.counts,
            flights=Flights(),
            refreshes=Refreshes(max_refreshes),
            ttl_seconds=ttl_seconds,
            revalidate_seconds=stale_while_revalidate_seconds,
            if_error_seconds=stale_if_error_seconds,
            max_entry_bytes=max_entry_bytes,
            shares=share_calls,
            wait_seconds=share_wait_seconds,
            event_seconds=replay_event_seconds,
            clock=clock,
            sleep=sleep,
        )
        self._take = Intake(
            self._settings,
            partitioner=Partitioner(
                scope, without_principal=without_principal, credential_headers=credential_headers
            ),
            cacheable=cache_rule(cache_when),
            client_controls=client_controls,
            max_ttl_seconds=max_ttl_seconds,
            max_body_bytes=max_body_bytes,
            body_timeout_seconds=body_timeout_seconds,
        ).take

    @property
    def store_failures(self) -> int:
        """Calls of the store that failed or were too late."""
        return self._calls.failures

    async def aclose(self) -> None:
        """End what goes on behind requests. The store is closed by whoever made it."""
        self._calls.close()
        await self._settings.refreshes.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._take(scope, receive, send)

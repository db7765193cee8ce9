"""Answers that were given before, for requests that ask exactly the same."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody, check_length, read_body, route_path, send_error
from asgi_llm.errors import (
    ConfigurationError,
    InvalidRequestError,
    LLMError,
    PermissionDeniedError,
)
from asgi_llm.middleware._cache_calls import CacheCalls
from asgi_llm.middleware._cache_controls import (
    NO_CONTROLS,
    CacheControls,
    not_cached,
    read_controls,
)
from asgi_llm.middleware._cache_counts import CacheCounts
from asgi_llm.middleware._cache_exact import (
    ExactLookup,
    is_plain_hit,
    serve_hit,
)
from asgi_llm.middleware._cache_flight import Flights
from asgi_llm.middleware._cache_lead import LedAnswer
from asgi_llm.middleware._cache_refresh import Refreshes
from asgi_llm.middleware._cache_replay import LARGE_BYTES, MISS, ToldAnswer
from asgi_llm.middleware._cache_request import (
    CACHED_ROUTES,
    CacheRequest,
    CacheWhen,
    cache_rule,
    digest_request,
    is_json,
    read_request,
)
from asgi_llm.middleware._cache_scope import (
    CREDENTIAL_HEADERS,
    CacheScope,
    Partitioner,
    ScopeFinder,
    WithoutPrincipal,
)
from asgi_llm.middleware._cache_settings import ExactSettings
from asgi_llm.middleware._model_access import check_unseen_model
from asgi_llm.state import CACHE_STATUS, FAILURE, PRINCIPAL, SCOPE_KEY, State, enter
from asgi_llm.stores.cache import CacheStore
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.types import CacheReport

__all__ = ["ExactCacheMiddleware"]

logger = logging.getLogger(__name__)

MIB: Final = 1024 * 1024

_EMBEDDINGS: Final = "/v1/embeddings"
# Headers that decide more than a content type does. Most requests have none of them.
_TELLING: Final = frozenset(
    (
        b"content-encoding",
        b"transfer-encoding",
        b"cache-control",
        b"x-cache-ttl",
        b"x-cache-namespace",
    )
)
_BYPASS: Final = CacheReport(status="bypass")


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
        self._partitioner = Partitioner(
            scope, without_principal=without_principal, credential_headers=credential_headers
        )
        self._cacheable = cache_rule(cache_when)
        self._max_ttl = max_ttl_seconds
        self._client_controls = client_controls
        self._max_body_bytes = max_body_bytes
        self._sure_digits = len(str(int(max_body_bytes))) - 1
        self._body_timeout = body_timeout_seconds
        longest_stale_seconds = max(stale_while_revalidate_seconds, stale_if_error_seconds)
        self._settings = ExactSettings(
            app=app,
            refresh_app=app if refresh_app is None else refresh_app,
            calls=self._calls,
            memory=self._calls.memory,
            counts=self.counts,
            flights=Flights(),
            refreshes=Refreshes(max_refreshes),
            ttl_seconds=ttl_seconds,
            revalidate_seconds=stale_while_revalidate_seconds,
            if_error_seconds=stale_if_error_seconds,
            longest_stale_seconds=longest_stale_seconds,
            keep_seconds=ttl_seconds + longest_stale_seconds,
            max_entry_bytes=max_entry_bytes,
            at_once_bytes=min(max_entry_bytes, LARGE_BYTES),
            shares=share_calls,
            wait_seconds=share_wait_seconds,
            event_seconds=replay_event_seconds,
            clock=clock,
            sleep=sleep,
        )

    @property
    def store_failures(self) -> int:
        """Calls of the store that failed or were too late."""
        return self._calls.failures

    async def aclose(self) -> None:
        """End what goes on behind requests. The store is closed by whoever made it."""
        self._calls.close()
        await self._settings.refreshes.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path not in CACHED_ROUTES or scope.get("root_path"):
            path = route_path(scope)
            if path not in CACHED_ROUTES:
                await self.app(scope, receive, send)
                return
        state = scope.get(SCOPE_KEY)
        if type(state) is not State:
            scope, state = enter(scope)
        headers = state.headers
        controls = NO_CONTROLS
        is_plain = headers.get(b"content-type") == b"application/json" and _TELLING.isdisjoint(
            headers
        )
        if not is_plain and not is_json(headers):
            await self._bypass(scope, receive, send, state)
            return
        try:
            if not is_plain:
                if self._client_controls:
                    controls = read_controls(headers, max_ttl_seconds=self._max_ttl)
                check_length(scope, self._max_body_bytes)
            elif len(headers.get(b"content-length", b"")) > self._sure_digits:
                # Fewer digits are below the cap.
                check_length(scope, self._max_body_bytes)
            data = await read_body(receive, self._max_body_bytes, self._body_timeout)
        except LLMError as error:
            await _refuse(error, send, state)
            return
        if data is None:
            return
        request = self._read(path, data, scope, state, controls)
        if request is None:
            if controls.only_cached:
                await _refuse(not_cached(), send, state)
            else:
                await self._bypass(scope, BufferedBody(data, receive).receive, send, state)
            return
        key = digest_request(request)
        found = None
        settings = self._settings
        if settings.memory is not None and controls.looks and path != _EMBEDDINGS:
            found = settings.memory.look(key)
            if found is not None:
                if is_plain_hit(found, request):
                    await serve_hit(settings, found, request, send, state)
                    return
            elif settings.shares and (controls is NO_CONTROLS or controls.shares):
                flights = settings.flights
                if key not in flights or flights.find(key) is None:
                    # What a request comes to as a rule that is not a hit; see ExactLookup.
                    led = LedAnswer(settings, request, key, data, receive, send, state)
                    settings.counts.misses += 1
                    state.set(CACHE_STATUS, MISS)
                    flights[key] = led
                    try:
                        await self.app(scope, led.receive, led)
                    finally:
                        flights.end(key, led)
                    return
        lookup = ExactLookup(settings, request, key, scope, data, receive, send, state)
        await lookup.run(found)

    def _read(
        self, path: str, data: bytes, scope: Scope, state: State, controls: CacheControls
    ) -> CacheRequest | None:
        """The request as caches see it; None: it is not looked up."""
        partition = self._partitioner.partition(scope, state)
        if partition is None:
            return None
        try:
            document = state.document(data)
            request = read_request(
                document, path, scope.get("query_string", b""), partition, controls, state
            )
            if request is None:
                return None
            principal = state.values.get(PRINCIPAL)
            if principal is not None and principal.models is not None:
                check_unseen_model(state, request.model)
        except (InvalidRequestError, PermissionDeniedError):
            # The app refuses it in its own words.
            return None
        if path == _EMBEDDINGS or self._cacheable(document):
            return request
        return None

    async def _bypass(self, scope: Scope, receive: Receive, send: Send, state: State) -> None:
        self.counts.bypasses += 1
        state.set(CACHE_STATUS, _BYPASS)
        await self.app(scope, receive, ToldAnswer(send, state))


async def _refuse(error: LLMError, send: Send, state: State) -> None:
    state.set(FAILURE, error)
    await send_error(send, state, error)

"""The layer ``exact_cache`` of a configuration, and the stores behind it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from starlette.middleware import Middleware
from starlette.types import ASGIApp

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._cache_definitions import ExactCacheDefinition
from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._reload_carried import Hold
from asgi_llm.gateway._timed_calls import TimedCalls
from asgi_llm.gateway.compose import Resource
from asgi_llm.gateway.health import Health
from asgi_llm.middleware._cache_counts import CacheCounts
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.stores.cache import CacheStore
from asgi_llm.stores.cache_levels import CacheLevels
from asgi_llm.stores.cache_memory import MemoryCache

__all__ = ["ExactCacheLayer"]

SHARED_OPTIONS: Final = (
    "scope",
    "without_principal",
    "client_controls",
    "ttl_seconds",
    "max_ttl_seconds",
    "replay_event_seconds",
    "on_store_error",
    "max_entry_bytes",
)
"""Of both caches."""

_OWN_OPTIONS: Final = (
    "cache_when",
    "stale_while_revalidate_seconds",
    "stale_if_error_seconds",
    "max_refreshes",
    "share_calls",
    "share_wait_seconds",
    "lease_seconds",
)

_STORE_OPTIONS: Final = (
    "store_timeout_seconds",
    "compress_over_bytes",
    "max_value_bytes",
    "encryption_keys",
    "max_memory_bytes",
    "near_seconds",
)


class ExactCacheLayer:
    """Makes the layer and its store. Opens no connection.

    Args:
        configuration: The whole of it.
        definition: The layer in it.
        health: Gets a check where there is a Redis.
        hold: Gives the store of an earlier build.
        meter: Puts the meter that stands outside around an app, for calls that no client waits
            for; None: there is none outside.

    Attributes:
        resources: What is to be closed after the layers, in this order.
    """

    def __init__(
        self,
        configuration: Configuration,
        definition: ExactCacheDefinition,
        health: Health,
        hold: Hold,
        *,
        meter: Callable[[ASGIApp], ASGIApp] | None,
    ) -> None:
        self._server = configuration.server
        self._redis = configuration.storage.redis
        self._definition = definition
        self._health = health
        self._hold = hold
        self._meter = meter
        self._metered: Any = None
        self.resources: list[Resource] = []
        self._store: CacheStore
        self._on_lookup: Callable[[float], None] | None = None
        self._made: ExactCacheMiddleware

    def make(self, definition: ExactCacheDefinition) -> Middleware:
        """The layer.

        Raises:
            ConfigurationError: An option is wrong; ``param`` is its path below the layer.
        """
        if definition is not self._definition:
            raise ConfigurationError("one layer exact_cache is enough")
        store = self._store = self._open_store(definition)
        self.resources += [_Meter(self), store]
        headers = definition.credential_headers
        return Middleware(
            self._make,
            store=store,
            counts=self._hold.take("exact_cache.counts", None, CacheCounts),
            **{name: getattr(definition, name) for name in (*SHARED_OPTIONS, *_OWN_OPTIONS)},
            **({} if headers is None else {"credential_headers": headers}),
            max_body_bytes=self._server.max_body_bytes,
            body_timeout_seconds=self._server.body_timeout_seconds,
        )

    def _make(self, app: ASGIApp, /, **options: Any) -> ExactCacheMiddleware:
        if self._meter is not None and options["stale_while_revalidate_seconds"]:
            # Where the meter outside sees nothing of what is made anew behind an answer.
            self._metered = options["refresh_app"] = self._meter(app)
        if self._on_lookup is not None and not isinstance(self._store, MemoryCache):
            options["store"] = TimedCalls(self._store, ("claim", "get"), self._on_lookup)
        self._made = ExactCacheMiddleware(app, **options)
        return self._made

    def time_lookups(self, on_seconds: Callable[[float], None]) -> None:
        """Tell how long each look into a store takes that is not all in memory, where it is none.

        For whoever has made the layer, before the stack is put together.
        """
        self._on_lookup = on_seconds

    @property
    def store(self) -> CacheStore:
        """Where answers are kept; for whoever has made the layer."""
        return self._store

    @property
    def counts(self) -> CacheCounts:
        """What the layer has done; for when the stack is put together."""
        return self._made.counts

    async def close_meter(self) -> None:
        """Give the books what the meter has. Idempotent."""
        if self._metered is not None:
            await self._metered.aclose()

    def _open_store(self, definition: ExactCacheDefinition) -> CacheStore:
        kind = definition.store
        if kind == "auto":
            kind = "memory" if self._redis is None else "levels"
        if kind == "memory":
            if definition.encryption_keys is not None:
                raise ConfigurationError(
                    "it is for what lies in Redis, and all is in memory", param="encryption_keys"
                )
            size = definition.max_memory_bytes
            return self._hold.take("exact_cache", size, lambda: MemoryCache(max_bytes=size))
        if self._redis is None:
            raise ConfigurationError(f"{kind} needs storage.redis", param="store")
        url = self._redis.reveal()
        key = (kind, url, *(getattr(definition, name) for name in _STORE_OPTIONS))
        far = self._hold.take("exact_cache.far", key, lambda: self._open_redis(definition, url))
        self._health.checks["exact_cache"] = lambda: far.health()["state"] == "closed"
        if definition.on_store_error == "allow":
            self._health.dispensable.add("exact_cache")
        if kind == "redis":
            store: CacheStore = far
            return store
        near = MemoryCache(max_bytes=definition.max_memory_bytes)
        # It closes the far one too, and has the same key.
        return self._hold.take(
            "exact_cache",
            key,
            lambda: CacheLevels(near, far, near_seconds=definition.near_seconds),
        )

    def _open_redis(self, definition: ExactCacheDefinition, url: str) -> Any:
        # Imported here, because only those who have a Redis pay for it.
        module = importlib.import_module("asgi_llm.stores.cache_redis")
        keys = definition.encryption_keys
        try:
            return module.RedisCache(
                url,
                timeout_seconds=definition.store_timeout_seconds,
                compress_over_bytes=definition.compress_over_bytes,
                max_value_bytes=definition.max_value_bytes,
                encryption_keys=None
                if keys is None
                else module.read_encryption_keys(keys.reveal()),
            )
        except ConfigurationError as error:
            raise ConfigurationError(error.message, param=_place(error)) from None


class _Meter:
    def __init__(self, layer: ExactCacheLayer) -> None:
        self._layer = layer

    async def aclose(self) -> None:
        """Close the meter that was made with the stack, after the list of what is to be closed."""
        await self._layer.close_meter()


def _place(error: ConfigurationError) -> str:
    """Where in the layer what the store refuses was written."""
    options = {"compress_over_bytes", "max_value_bytes", "encryption_keys"}
    if error.param in options:
        return str(error.param)
    if error.param in ("zstandard", "cryptography.hazmat.primitives.ciphers.aead"):
        return "compress_over_bytes" if error.param == "zstandard" else "encryption_keys"
    return "storage.redis"

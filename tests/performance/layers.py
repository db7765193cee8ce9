"""Layers as they are measured: each around the bare "hello" app.

The Redis server's URL comes in the environment variable ``PERFORMANCE_REDIS``.
"""

from __future__ import annotations

import itertools
import os

from starlette.types import ASGIApp

from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.stores.base import KeyRecord, LimitStore
from asgi_llm.stores.cache_redis import RedisCache
from asgi_llm.stores.key_material import digest_key
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.stores.limits_guarded import GuardedLimits
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.stores.limits_redis import RedisLimits
from asgi_llm.types import Principal
from tests.performance.anchors import hello
from tests.performance.wire import CLIENT_KEY

_KNOWN = KeyRecord(
    principal=Principal(key_id="key_1", user_id="user_1", organization_id="organization_1")
)
_PLENTY = [
    "1000000000 requests/minute per key",
    "1000000000 requests/minute per user",
    "1000000000 requests/minute per everyone",
]


class _OneKey:
    async def find(self, digest: bytes) -> KeyRecord | None:
        return _KNOWN if digest == digest_key(CLIENT_KEY) else None


def _authenticated(app: ASGIApp) -> ASGIApp:
    return AuthMiddleware(app, keys=CachedKeys(_OneKey()))


def _limited(store: LimitStore) -> ASGIApp:
    return _authenticated(RateLimitMiddleware(hello(), limits=_PLENTY, store=store))


def auth() -> ASGIApp:
    """A key out of the cache, which is read again every few seconds."""
    return _authenticated(hello())


def limits() -> ASGIApp:
    """Auth, and three limits on three scopes in memory."""
    return _limited(MemoryLimits())


def limits_redis() -> ASGIApp:
    """The same limits in Redis, with a deadline and a breaker as the gateway has them."""
    return _limited(GuardedLimits(RedisLimits(os.environ["PERFORMANCE_REDIS"])))


def cache_hit() -> ASGIApp:
    """An answer out of memory."""
    return ExactCacheMiddleware(hello(), cache_when="always")


def cache_miss() -> ASGIApp:
    """Auth, and an answer for each request's own partition: looked up, made, judged and kept."""
    numbers = itertools.count()
    return _authenticated(
        ExactCacheMiddleware(
            hello(), scope=lambda principal, scope: str(next(numbers)), cache_when="always"
        )
    )


def cache_hit_redis() -> ASGIApp:
    """Auth, and an answer out of Redis, with a deadline and a breaker."""
    store = RedisCache(os.environ["PERFORMANCE_REDIS"])
    return _authenticated(ExactCacheMiddleware(hello(), store=store, cache_when="always"))

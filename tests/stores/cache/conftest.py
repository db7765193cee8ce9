"""Cache stores of every kind, and answers to keep in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_llm.stores.cache import CacheStore, StoredAnswer
from asgi_llm.stores.cache_levels import CacheLevels
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.stores.cache_redis import RedisCache
from asgi_llm.types import Usage
from tests.services.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]

PATIENT_SECONDS = 10.0
"""The deadline of stores in tests that are not about deadlines."""
SECRET = bytes(range(32))


def key(number: int) -> bytes:
    """One of many keys."""
    return number.to_bytes(32, "big")


def answer(body: bytes = b'{"choices": []}', **fields: Any) -> StoredAnswer:
    """An answer to keep."""
    given = {
        "operation": "chat",
        "scope": "organization:acme",
        "model": "gpt-4o",
        "fresh_seconds": 60.0,
        "keep_seconds": 120.0,
        "headers": ((b"content-type", b"application/json"), (b"x-provider", b"openai")),
        "namespace": "",
        "written_by": "key_1",
        "provider": "openai",
        "response_model": "gpt-4o-2024-11-20",
        "usage": Usage(input_uncached=9, output_text=3),
        **fields,
    }
    return StoredAnswer(body=body, **given)


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    """A server for the tests of a module that only flush it."""
    with RedisServer() as server:
        yield server


def redis_cache(server: RedisServer, **options: Any) -> RedisCache:
    return RedisCache(server.url, **{"timeout_seconds": PATIENT_SECONDS, **options})


@asynccontextmanager
async def opened(kind: str, server: RedisServer | None) -> AsyncIterator[CacheStore]:
    store: CacheStore
    if kind == "memory" or server is None:
        store = MemoryCache()
    elif kind == "levels":
        store = CacheLevels(MemoryCache(), redis_cache(server))
    elif kind == "redis sealed":
        store = redis_cache(server, compress_over_bytes=64, encryption_keys={"one": SECRET})
    else:
        store = redis_cache(server)
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture(params=["memory", "redis", "redis sealed", "levels"])
async def any_store(request: pytest.FixtureRequest) -> AsyncIterator[CacheStore]:
    """Every store, empty."""
    server = None
    if request.param != "memory":
        server = request.getfixturevalue("shared_redis")
        server.flush()
    async with opened(request.param, server) as store:
        yield store

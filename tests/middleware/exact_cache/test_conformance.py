"""The layer keeps what every layer promises, whatever it caches, and around a FastAPI endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.testing import call, chat_answer, http_scope
from asgi_llm.testing.conformance import Check, Layer, checks
from tests.middleware.exact_cache.conftest import CHAT, HIT, MISS, cache_of

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "always": {"cache_when": "always"},
    "stale": {
        "cache_when": "always",
        "stale_while_revalidate_seconds": 60,
        "stale_if_error_seconds": 60,
    },
    "alone": {"cache_when": "always", "share_calls": False},
    "tiny": {"cache_when": "always", "max_entry_bytes": 10},
    "bypass": {"without_principal": "bypass"},
}


class Slow(MemoryCache):
    """A store in memory that the layer takes for one that may wait."""


def layer_of(settings: dict[str, Any]) -> Layer:
    return lambda app: ExactCacheMiddleware(app, **settings)


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_alone(settings: dict[str, Any], check: Check) -> None:
    """The layer alone, around an app of which it knows nothing, passes the whole suite."""
    await check(layer_of(settings))


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_with_a_store_that_others_share(check: Check) -> None:
    """With claims and leases between it and the app it passes as well."""
    await check(lambda app: ExactCacheMiddleware(app, store=Slow(), cache_when="always"))


async def test_around_a_plain_endpoint() -> None:
    """An endpoint of one's own is asked once, and its answer served byte for byte."""
    app = FastAPI()
    calls: list[Any] = []

    @app.post("/v1/chat/completions")
    async def complete(document: dict[str, Any]) -> dict[str, Any]:
        calls.append(document)
        return chat_answer("Paris.")

    app.add_middleware(ExactCacheMiddleware)
    first = await call(app, http_scope(), json=CHAT)
    second = await call(app, http_scope(), json=CHAT)
    assert [MISS, HIT] == [cache_of(first), cache_of(second)]
    assert first.body == second.body
    assert 1 == len(calls)

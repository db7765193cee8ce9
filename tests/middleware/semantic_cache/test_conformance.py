"""The layer keeps what every layer promises: alone, with the exact cache, and around FastAPI."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp

from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.middleware.semantic_cache import SemanticCacheMiddleware
from asgi_llm.testing import call, chat_answer, http_scope
from asgi_llm.testing.conformance import Check, checks
from tests.middleware.exact_cache.conftest import cache_of
from tests.middleware.semantic_cache.conftest import ALIKE, WordEmbedder, asks

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "verified": {"policy": "verified"},
    "observe": {"mode": "observe", "shadow": lambda record: None},
    "tiny": {"max_entry_bytes": 10},
    "conversation": {"conversation_turns": 3},
    "bypass": {"without_principal": "bypass"},
}


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_alone(settings: dict[str, Any], check: Check) -> None:
    """The layer alone, around an app of which it knows nothing, passes the whole suite."""
    await check(lambda app: SemanticCacheMiddleware(app, embedder=WordEmbedder(), **settings))


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_inside_the_exact_cache(check: Check) -> None:
    """Both caches together pass it as well."""

    def both(app: ASGIApp) -> ASGIApp:
        inner = SemanticCacheMiddleware(app, embedder=WordEmbedder())
        return ExactCacheMiddleware(inner, cache_when="always")

    await check(both)


async def test_around_a_plain_endpoint() -> None:
    """An endpoint of one's own is asked once for two wordings, and its bytes are served."""
    app = FastAPI()
    calls: list[Any] = []

    @app.post("/v1/chat/completions")
    async def complete(document: dict[str, Any]) -> dict[str, Any]:
        calls.append(document)
        return chat_answer("Click on the link.")

    cached = SemanticCacheMiddleware(app, embedder=WordEmbedder())
    first = await call(cached, http_scope(), json=asks(ALIKE[0]))
    second = await call(cached, http_scope(), json=asks(ALIKE[1]))
    assert (None, b"MISS") == (cache_of(first)[1], cache_of(first)[0])
    assert (b"HIT", b"SEMANTIC") == cache_of(second)
    assert (1, first.body) == (len(calls), second.body)

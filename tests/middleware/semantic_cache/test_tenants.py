"""Nobody is ever served an answer that was made for somebody else."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from asgi_llm.middleware._agreement import GUARDS
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.middleware.semantic_cache import SemanticCacheMiddleware
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex
from asgi_llm.testing import chat_answer
from tests.middleware.exact_cache.conftest import App, As, ask, cache_of, text_of
from tests.middleware.semantic_cache.conftest import ALIKE, NEAR_MISS, WordEmbedder, asks

TENANTS = [f"tenant-{number}" for number in range(20)]
TEXTS = (
    *ALIKE,
    NEAR_MISS,
    "What is the capital of France?",
    "Which city is the capital of France?",
)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("guarded", [True, False])
async def test_no_answer_crosses_tenants(threshold: float, guarded: bool) -> None:
    """20 tenants ask at random through both caches: no crossing at any threshold, and hits."""
    index, store, embedder = MemorySemanticIndex(), MemoryCache(), WordEmbedder()
    guards = tuple(GUARDS) if guarded else ()

    def stack(tenant: str) -> As:
        model = App(lambda number: chat_answer(f"For {tenant} alone."))
        semantic = SemanticCacheMiddleware(
            model, embedder=embedder, index=index, threshold=threshold, guards=guards
        )
        both = ExactCacheMiddleware(semantic, store=store, cache_when="always")
        return As(both, organization_id=tenant, key_id="same-key", user_id="same-user")

    stacks = {tenant: stack(tenant) for tenant in TENANTS}
    draw = random.Random(20260101)
    hits: Counter[str] = Counter()
    for _ in range(600):
        tenant = draw.choice(TENANTS)
        answer = await ask(stacks[tenant], asks(draw.choice(TEXTS)))
        assert f"For {tenant} alone." == text_of(answer)
        if cache_of(answer) == (b"HIT", b"SEMANTIC"):
            hits[tenant] += 1
    if threshold <= 0.8:
        assert set(TENANTS) == set(hits)


async def test_a_tenant_cannot_take_back_what_another_stored() -> None:
    """Feedback removes entries of one's own scope only."""
    index, embedder = MemorySemanticIndex(), WordEmbedder()
    apps = {tenant: App() for tenant in ("a", "b")}
    stacks = {
        tenant: As(
            SemanticCacheMiddleware(app, embedder=embedder, index=index), organization_id=tenant
        )
        for tenant, app in apps.items()
    }
    await ask(stacks["a"], asks(ALIKE[0]))
    hit = await ask(stacks["a"], asks(ALIKE[1]))
    id = (hit.header("x-cache-entry") or b"").decode()
    await ask(stacks["b"], asks(ALIKE[0]), {"x-cache-feedback": id})
    assert (b"HIT", b"SEMANTIC") == cache_of(await ask(stacks["a"], asks(ALIKE[1])))
    again = await ask(stacks["a"], asks(ALIKE[1]), {"x-cache-feedback": id})
    assert (b"MISS", None) == cache_of(again)
    assert 2 == apps["a"].calls


@pytest.mark.parametrize("id", ["", " ", "x" * 200, "sem_\u00e9", "nobody", "a b"])
async def test_feedback_that_names_nothing_is_passed_over(id: str) -> None:
    """An id that is no entry's changes nothing, whatever it is made of."""
    cache = SemanticCacheMiddleware(App(), embedder=WordEmbedder())
    await ask(cache, asks(ALIKE[0]))
    answer = await ask(cache, asks(ALIKE[1]), {"x-cache-feedback": id})
    assert ((b"HIT", b"SEMANTIC"), 0) == (cache_of(answer), cache.counts.reported)


async def test_callers_that_nobody_has_told_apart() -> None:
    """Without a layer for authentication those with other credentials share nothing."""
    app = App()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), guards=(), threshold=0.0)
    for key in ("one", "two"):
        answer = await ask(cache, asks(ALIKE[0]), {"authorization": f"Bearer {key}"})
        assert (b"MISS", None) == cache_of(answer)
    assert 2 == app.calls

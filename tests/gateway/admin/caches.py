"""Stored answers of two tenants, in both caches."""

from __future__ import annotations

from typing import Any

import numpy

from asgi_llm.middleware._cache_counts import CacheCounts
from asgi_llm.middleware._semantic_counts import SemanticCounts
from asgi_llm.middleware._semantic_policy import DecisionPolicy, Evidence
from asgi_llm.middleware._semantic_verified import VerifiedPolicy
from asgi_llm.stores.cache import CacheStore, StoredAnswer
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.stores.semantic_index import IndexEntry, Learning, SemanticIndex
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex
from tests.gateway.admin.world import START

PROMPT = "What would nobody but Ada ask?"


class Exact:
    """An exact cache."""

    def __init__(self) -> None:
        self.store: CacheStore = MemoryCache()
        self.counts = CacheCounts(hits=3, misses=2, saved_input_tokens=30, saved_output_tokens=12)


class Semantic:
    """A semantic cache that learns."""

    def __init__(self) -> None:
        self.index: SemanticIndex = MemorySemanticIndex(clock=lambda: START)
        self.counts = SemanticCounts(hits=1, misses=4, explored=2)
        self.counts.refusals["numbers"] = 5
        self.policy: DecisionPolicy = VerifiedPolicy()


async def fill_caches() -> dict[str, Any]:
    """Options of ``build_admin_app``: two models of each tenant, in each cache."""
    exact, semantic = Exact(), Semantic()
    learned = b""
    for _ in range(3):
        learned = semantic.policy.learn(Evidence(similarity=0.9), True, learned)
    number = 0
    for organization in ("org_a", "org_b"):
        for model in ("m1", "m2"):
            number += 1
            scope = f"organization:{organization}"
            answer = StoredAnswer(
                body=b"{}",
                operation="chat",
                scope=scope,
                model=model,
                namespace="n" if model == "m2" else "",
                written_by=f"key_of_{organization}",
                fresh_seconds=60,
                keep_seconds=60,
            )
            await exact.store.set([(number.to_bytes(32, "big"), answer)])
            entry = IndexEntry(
                id=f"entry-{number}",
                partition=scope.encode(),
                text=PROMPT,
                payload=b"{}",
                model=model,
                namespace="n" if model == "m2" else "",
                scope=scope,
                created=START - 100 * number,
                expires=START + 60,
                learning=Learning(state=learned, version=1),
            )
            await semantic.index.add(entry, numpy.eye(8, dtype=numpy.float32)[number])
    return {"exact_cache": exact, "semantic_cache": semantic}

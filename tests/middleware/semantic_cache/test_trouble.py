"""What fails or is late costs a hit, and never an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_llm.embedders.base import EmbedderError
from asgi_llm.errors import StoreError
from asgi_llm.middleware.semantic_cache import SemanticCacheMiddleware
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex
from tests.middleware.exact_cache.conftest import App, ask, cache_of
from tests.middleware.semantic_cache.conftest import ALIKE, WordEmbedder, asks

MISS = (b"MISS", None)


class Broken(MemorySemanticIndex):
    """An index of which some methods fail, or never answer."""

    def __init__(self, *names: str, hangs: bool = False) -> None:
        super().__init__()
        self.names = names
        self.hangs = hangs

    async def _fail(self, name: str) -> None:
        if name in self.names:
            if self.hangs:
                await asyncio.Event().wait()
            raise StoreError("the index is away")

    async def search(self, *args: Any, **options: Any) -> Any:
        await self._fail("search")
        return await super().search(*args, **options)

    async def add(self, *args: Any) -> None:
        await self._fail("add")
        await super().add(*args)

    async def touch(self, id: str) -> None:
        await self._fail("touch")
        await super().touch(id)


async def test_a_late_embedder_is_a_miss() -> None:
    """After its deadline the request goes on without a look, and nothing is kept of it."""
    app, embedder = App(), WordEmbedder(delay=asyncio.Event())
    cache = SemanticCacheMiddleware(app, embedder=embedder, embed_timeout_seconds=0.01)
    async with asyncio.timeout(5):
        assert MISS == cache_of(await ask(cache, asks(ALIKE[0])))
    assert (1, 0) == (cache.counts.failures, cache.counts.writes)


async def test_an_embedder_that_fails_is_a_miss() -> None:
    """An error of the embedder is counted and logged, and the client gets its answer."""
    embedder = WordEmbedder(error=EmbedderError("no model"))
    cache = SemanticCacheMiddleware(App(), embedder=embedder)
    answer = await ask(cache, asks(ALIKE[0]))
    assert (200, MISS, 1) == (answer.status, cache_of(answer), cache.counts.failures)


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("method", ["search", "add", "touch"])
async def test_an_index_in_trouble(method: str, hangs: bool) -> None:
    """Whatever the index fails at or hangs in, each request is answered."""
    app, index = App(), Broken(method, hangs=hangs)
    cache = SemanticCacheMiddleware(
        app, embedder=WordEmbedder(), index=index, index_timeout_seconds=0.01
    )
    async with asyncio.timeout(5):
        answers = [await ask(cache, asks(text)) for text in ALIKE[:2]]
    assert [200, 200] == [answer.status for answer in answers]
    assert (1 if method == "touch" else 2) == app.calls
    assert cache.counts.failures >= 1


@pytest.mark.parametrize("hangs", [False, True])
async def test_deny(hangs: bool) -> None:
    """With ``deny`` a look-up that fails is told, and the model is not asked."""
    app = App()
    cache = SemanticCacheMiddleware(
        app,
        embedder=WordEmbedder(),
        index=Broken("search", hangs=hangs),
        index_timeout_seconds=0.01,
        on_store_error="deny",
    )
    answer = await ask(cache, asks(ALIKE[0]))
    assert (503, "store_unavailable", 0) == (
        answer.status,
        answer.json()["error"]["code"],
        app.calls,
    )


async def test_a_model_that_is_not_there() -> None:
    """A wrong vector length is trouble like any other: the answer comes, and is not kept."""
    index, app = MemorySemanticIndex(), App()
    small = WordEmbedder()
    small.dimension = 32
    await ask(SemanticCacheMiddleware(app, embedder=small, index=index), asks(ALIKE[0]))
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), index=index)
    answer = await ask(cache, asks(ALIKE[1]))
    assert (200, MISS) == (answer.status, cache_of(answer))


async def test_a_judge_has_the_last_word() -> None:
    """What a judge refuses, or is late with, goes to the model."""
    asked: list[tuple[str, str]] = []

    class Judge:
        def __init__(self, answer: bool | None) -> None:
            self.answer = answer

        async def accepts(self, new_prompt: str, old_prompt: str) -> bool:
            asked.append((new_prompt, old_prompt))
            if self.answer is None:
                await asyncio.Event().wait()
            return bool(self.answer)

    for verdict, expected in ((True, b"HIT"), (False, b"MISS"), (None, b"MISS")):
        cache = SemanticCacheMiddleware(
            App(), embedder=WordEmbedder(), judge=Judge(verdict), judge_timeout_seconds=0.01
        )
        await ask(cache, asks(ALIKE[0]))
        assert expected == cache_of(await ask(cache, asks(ALIKE[1])))[0]
    assert [(ALIKE[1], ALIKE[0])] * 3 == asked

"""A store that fails, hangs or lies is a store that has nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.stores.cache import Claim, Found, StoredAnswer
from asgi_llm.stores.cache_levels import CacheLevels
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.stores.cache_redis import RedisCache
from asgi_llm.testing import ManualClock, chat_events
from tests.middleware.exact_cache.conftest import (
    CHAT,
    HIT,
    MISS,
    STREAM,
    App,
    ask,
    cache_of,
    text_of,
    until,
)
from tests.services.redis_server import RedisServer


class Troubled(MemoryCache):
    """A store whose calls of some names fail, or never come back.

    Attributes:
        calls: The names of every call, in order.
    """

    def __init__(self, trouble: str, *names: str) -> None:
        super().__init__()
        self.trouble = trouble
        self.names = set(names)
        self.calls: list[str] = []

    async def _note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.names:
            if self.trouble == "hangs":
                await asyncio.Event().wait()
            if self.trouble == "fails later":
                await asyncio.sleep(0)
            raise StoreError("the store is away")

    async def get(self, keys: Sequence[bytes]) -> list[Found | None]:
        await self._note("get")
        return await super().get(keys)

    async def claim(self, key: bytes, **options: Any) -> Claim:
        await self._note("claim")
        return await super().claim(key, **options)

    async def renew(self, key: bytes, **options: Any) -> None:
        await self._note("renew")

    async def release(self, key: bytes, **options: Any) -> None:
        await self._note("release")

    async def set(self, entries: Sequence[tuple[bytes, StoredAnswer]], **options: Any) -> None:
        await self._note("set")
        await super().set(entries, **options)


ALL = ("get", "claim", "renew", "release", "set")


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
async def test_b27_by_default_a_store_in_trouble_is_a_miss(
    trouble: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Never an error; what goes wrong is counted, and logged once a second at most."""
    app = App()
    layer = ExactCacheMiddleware(app, store=Troubled(trouble, *ALL), store_timeout_seconds=0.01)
    document = {**CHAT, "input": "a"}
    answers = [await ask(layer, document, path=path) for _ in range(3)]
    assert [(200, MISS)] * 3 == [(answer.status, cache_of(answer)) for answer in answers]
    assert layer.store_failures >= 3
    assert 1 == len([record for record in caplog.records if "cache failed" in record.message])


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_b27_with_deny_a_failed_look_up_is_503(trouble: str) -> None:
    """And the app is not called; what fails behind an answer never breaks it."""
    app, store = App(), Troubled(trouble, "claim", "get")
    layer = ExactCacheMiddleware(
        app, store=store, on_store_error="deny", store_timeout_seconds=0.01
    )
    answers = [
        await ask(layer),
        await ask(layer, headers={"cache-control": "max-age=1"}),
        await ask(layer, {"model": "e", "input": "a"}, path="/v1/embeddings"),
    ]
    assert [(503, "store_unavailable")] * 3 == [
        (answer.status, answer.json()["error"]["code"]) for answer in answers
    ]
    assert 0 == app.calls
    store.names = {"set", "release"}
    assert 200 == (await ask(layer)).status


@pytest.mark.parametrize("trouble", ["fails", "fails later"])
async def test_b27_all_who_wait_for_a_failed_look_up_are_told(trouble: str) -> None:
    """With deny each of them gets its own 503, and nobody hangs or asks the app."""
    layer = ExactCacheMiddleware(App(), store=Troubled(trouble, "claim"), on_store_error="deny")
    answers = await asyncio.gather(*(ask(layer) for _ in range(20)))
    assert [503] * 20 == [answer.status for answer in answers]


@pytest.mark.parametrize("document", [CHAT, STREAM], ids=["whole", "stream"])
async def test_the_right_to_make_an_answer_is_given_back(document: Any) -> None:
    """With the answer where one came, and alone where none may be kept."""
    store = Troubled("fails")
    layer = ExactCacheMiddleware(App(), store=store)
    await ask(layer, document)
    refused = ExactCacheMiddleware(App(status=500), store=store)
    await ask(refused, {**document, "seed": 1})
    assert ["claim", "set", "claim", "release"] == store.calls


async def test_a_right_that_is_not_used_is_given_back() -> None:
    """A store may take an answer for old that the layer still serves as it is."""
    store = Troubled("fails")
    layer = ExactCacheMiddleware(App(), store=store)
    await ask(layer)
    assert HIT == cache_of(await ask(layer))
    assert ["claim", "set", "claim", "release"] == store.calls


async def test_a_right_that_nobody_heard_of_is_given_back() -> None:
    """Where its request is cancelled meanwhile, or is refused: the store may have given it."""
    store = Troubled("hangs", "claim")
    layer = ExactCacheMiddleware(App(), store=store, store_timeout_seconds=None)
    asked = asyncio.create_task(ask(layer))
    await until(lambda: store.calls == ["claim"])
    asked.cancel()
    await asyncio.wait([asked])
    store.trouble = "fails"
    refusing = ExactCacheMiddleware(App(), store=store, on_store_error="deny")
    assert 503 == (await ask(refusing)).status
    assert ["claim", "release"] * 2 == store.calls


async def test_a_right_is_given_back_by_who_is_cancelled_before_using_it() -> None:
    """While what was found is brought into another form, for one."""
    store = Troubled("fails")
    layer = ExactCacheMiddleware(App(events=lambda _: chat_events(["x" * 400_000])), store=store)
    await ask(layer, STREAM)
    asked = asyncio.create_task(ask(layer, CHAT))
    await until(lambda: store.calls == ["claim", "set", "claim"])
    asked.cancel()
    await asyncio.wait([asked])
    assert ["claim", "set", "claim", "release"] == store.calls


async def test_a_long_call_renews_its_lease() -> None:
    """Again and again, also after a renewal that failed; and not when it is over."""
    app, store = App(), Troubled("fails", "renew")
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app, store=store, lease_seconds=0.03)
    asked = asyncio.create_task(ask(layer))
    await until(lambda: store.calls.count("renew") >= 2)
    app.gate.set()
    await asked
    await layer.aclose()
    assert "set" == store.calls[-1]


@pytest.mark.parametrize("trouble", ["stopped", "frozen"])
async def test_b27_redis_in_trouble_costs_a_deadline_and_comes_back(
    redis_server: RedisServer, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Misses, never errors; soon without any wait; and hits again when it is back."""
    caplog.set_level(logging.CRITICAL)
    app = App()
    clock = ManualClock()
    store = RedisCache(redis_server.url, sleep=clock.sleep)
    layer = ExactCacheMiddleware(app, store=store)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(30):
        await ask(layer)
        assert HIT == cache_of(await ask(layer))
        if trouble == "stopped":
            redis_server.stop()
        else:
            redis_server.freeze()
        for number in range(5):
            begun = loop.time()
            answer = await ask(layer)
            assert (200, f"Answer number {number + 2}.") == (answer.status, text_of(answer))
            assert loop.time() - begun < 2.0
        if trouble == "stopped":
            redis_server.start()
        else:
            redis_server.thaw()
        while store.health()["state"] == "open":
            if clock.sleeping:
                clock.advance(1.0)
            await asyncio.sleep(0)
        await ask(layer, headers={"cache-control": "no-cache"})
        assert HIT == cache_of(await ask(layer))
    await store.aclose()


async def test_what_is_near_is_served_without_redis(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Two levels have a hit for a few seconds more, whatever becomes of the far one."""
    caplog.set_level(logging.CRITICAL)
    store = CacheLevels(MemoryCache(), RedisCache(redis_server.url, timeout_seconds=5.0))
    layer = ExactCacheMiddleware(App(), store=store)
    await ask(layer)
    redis_server.stop()
    assert HIT == cache_of(await ask(layer))
    await store.aclose()


async def test_two_layers_on_one_redis_share_answers(redis_server: RedisServer) -> None:
    """What one process asked for another one has, in either form, with its age."""
    apps = App(), App()
    stores = [RedisCache(redis_server.url, timeout_seconds=5.0) for _ in apps]
    one, other = [
        ExactCacheMiddleware(app, store=store) for app, store in zip(apps, stores, strict=True)
    ]
    first = await ask(one, STREAM)
    again, whole = await ask(other, STREAM), await ask(other, CHAT)
    assert [HIT, HIT] == [cache_of(again), cache_of(whole)]
    assert (first.body, text_of(first)) == (again.body, text_of(whole))
    assert 0 == apps[1].calls
    for store in stores:
        await store.aclose()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ttl_seconds", 0),
        ("max_ttl_seconds", -1),
        ("max_refreshes", 0),
        ("max_entry_bytes", 0),
        ("share_wait_seconds", 0),
        ("lease_seconds", 0),
        ("store_timeout_seconds", 0),
        ("max_body_bytes", 0),
        ("body_timeout_seconds", 0),
        ("stale_while_revalidate_seconds", -1),
        ("stale_if_error_seconds", float("nan")),
        ("replay_event_seconds", -0.1),
        ("on_store_error", "share"),
        ("cache_when", "sometimes"),
    ],
)
def test_bad_options_are_named(option: str, value: Any) -> None:
    """A value out of range names its option."""
    with pytest.raises(ConfigurationError) as caught:
        ExactCacheMiddleware(App(), **{option: value})
    assert option == caught.value.param

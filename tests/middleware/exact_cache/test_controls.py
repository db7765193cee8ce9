"""What clients may say of caching, and what comes of time."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.testing import ManualClock
from tests.middleware.exact_cache.conftest import (
    BYPASS,
    CHAT,
    HIT,
    MISS,
    App,
    ask,
    cache_of,
    text_of,
)


def control(value: str) -> dict[str, str]:
    return {"cache-control": value}


class Slow(MemoryCache):
    """A store in memory that the layer takes for one that may wait."""


STORES = pytest.mark.parametrize("kind", [MemoryCache, Slow], ids=["at once", "waits"])


@STORES
async def test_no_cache_asks_anew_and_keeps_what_comes(kind: Any) -> None:
    """The next one without it gets the newer answer."""
    app = App()
    layer = ExactCacheMiddleware(app, store=kind())
    texts = [
        text_of(await ask(layer, headers=headers))
        for headers in ({}, control("no-cache"), control("No-Cache, foo"), {})
    ]
    assert [f"Answer number {number}." for number in (1, 2, 3, 3)] == texts


@STORES
async def test_no_store_keeps_nothing_and_takes_what_there_is(kind: Any) -> None:
    """Its own answer is not kept; one that is there will do."""
    layer = ExactCacheMiddleware(App(), store=kind())
    told = [
        cache_of(await ask(layer, headers=headers))
        for headers in (control("no-store"), {}, control("no-store"))
    ]
    assert [MISS, MISS, HIT] == told


@STORES
async def test_max_age_bounds_the_age(kind: Any) -> None:
    """An older answer is made anew; what cannot be read is the strictest."""
    clock = ManualClock(100.0)
    layer = ExactCacheMiddleware(App(), store=kind(clock=clock), clock=clock)
    await ask(layer)
    clock.advance(10.0)
    told = [
        cache_of(await ask(layer, headers=control(value)))
        for value in ("max-age=10", "max-age=9", "max-age=0")
    ]
    assert [HIT, MISS, HIT] == told
    clock.advance(1.0)
    assert [MISS, HIT] == [
        cache_of(await ask(layer, headers=control(value))) for value in ("max-age=x", "max-age=0")
    ]


@STORES
async def test_only_if_cached_calls_nobody(kind: Any) -> None:
    """504 where there is nothing, also for requests that are never cached."""
    app = App()
    layer = ExactCacheMiddleware(app, store=kind())
    headers = control("only-if-cached")
    first = await ask(layer, headers=headers)
    bypassed = await ask(layer, {**CHAT, "temperature": 1}, headers)
    assert [504, 504] == [first.status, bypassed.status]
    assert ("not_cached", 0) == (first.json()["error"]["code"], app.calls)
    await ask(layer)
    assert HIT == cache_of(await ask(layer, headers=headers))


@STORES
async def test_a_client_sets_how_long_its_answer_is_fresh(kind: Any) -> None:
    """Within the bound of the layer; 0 keeps nothing."""
    clock = ManualClock(100.0)
    layer = ExactCacheMiddleware(
        App(), store=kind(clock=clock), clock=clock, ttl_seconds=60, max_ttl_seconds=600
    )
    for ttl, fresh_seconds in (("30", 30), ("9" * 30, 600), (None, 60)):
        headers = {} if ttl is None else {"x-cache-ttl": ttl}
        document = {**CHAT, "seed": fresh_seconds}
        await ask(layer, document, headers)
        clock.advance(fresh_seconds - 0.5)
        assert HIT == cache_of(await ask(layer, document))
        clock.advance(1.0)
        assert MISS == cache_of(await ask(layer, document))
    await ask(layer, {**CHAT, "seed": 0}, {"x-cache-ttl": "0"})
    assert MISS == cache_of(await ask(layer, {**CHAT, "seed": 0}))


async def test_namespaces_share_nothing() -> None:
    """Neither with each other nor with requests that have none."""
    layer = ExactCacheMiddleware(App())
    told = [
        cache_of(await ask(layer, headers={"x-cache-namespace": name} if name else {}))
        for name in ("a", "b", "", "a", "b", "")
    ]
    assert [MISS] * 3 + [HIT] * 3 == told


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-cache-ttl": "-1"}, "invalid_cache_ttl"),
        ({"x-cache-ttl": "1.5"}, "invalid_cache_ttl"),
        ({"x-cache-ttl": ""}, "invalid_cache_ttl"),
        ({"x-cache-namespace": ""}, "invalid_cache_namespace"),
        ({"x-cache-namespace": "a b"}, "invalid_cache_namespace"),
        ({"x-cache-namespace": "a" * 129}, "invalid_cache_namespace"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused(headers: dict[str, str], code: str) -> None:
    """With 400 and the header's name, before the app is called."""
    app = App()
    answer = await ask(ExactCacheMiddleware(app), headers=headers)
    error = answer.json()["error"]
    assert (400, code, 0) == (answer.status, error["code"], app.calls)
    assert error["param"].lower() == next(iter(headers))


async def test_clients_may_be_given_no_say() -> None:
    """Then their headers mean nothing."""
    layer = ExactCacheMiddleware(App(), client_controls=False)
    await ask(layer)
    for headers in (control("no-cache"), {"x-cache-namespace": "a b"}, {"x-cache-ttl": "x"}):
        assert HIT == cache_of(await ask(layer, headers=headers))


async def test_bypassed_requests_say_so() -> None:
    """A client can tell that the cache was not asked."""
    assert BYPASS == cache_of(await ask(ExactCacheMiddleware(App()), {**CHAT, "temperature": 1}))

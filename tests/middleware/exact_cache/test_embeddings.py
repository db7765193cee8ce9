"""Embeddings are kept by item: of a batch only what is not known is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.state import CACHE_STATUS, USAGE, enter
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.testing import ManualClock, Recorder
from tests.middleware.exact_cache.conftest import BYPASS, HIT, MISS, As, ask, cache_of, read, until

PATH = "/v1/embeddings"


class Slow(MemoryCache):
    """A store in memory that the layer takes for one that may wait."""


STORES = pytest.mark.parametrize("kind", [MemoryCache, Slow], ids=["at once", "waits"])


def vector(item: Any) -> Any:
    """A vector that tells what it is of."""
    return [float(len(str(item))), float(sum(map(ord, str(item))) % 997), 0.125]


class Embedder:
    """Answers with a vector for each item, and ten tokens for each.

    Args:
        change: What to change in the answer.
        status: The status to answer with.
    """

    def __init__(self, change: Any = None, *, status: int = 200, usage: bool = True) -> None:
        self.asked: list[Any] = []
        self.lengths: list[bytes | None] = []
        self.status = status
        self.gate: asyncio.Event | None = None
        self._change = change
        self._usage = usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read(receive)
        assert [b"%d" % len(body)] == [
            value for name, value in scope["headers"] if name == b"content-length"
        ]
        items = msgspec.json.decode(body)["input"]
        self.asked.append(items)
        if self.gate is not None:
            await self.gate.wait()
        items = items if isinstance(items, list) and not isinstance(items[0], int) else [items]
        answer: dict[str, Any] = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": place, "embedding": vector(item)}
                for place, item in enumerate(items)
            ],
            "model": "embed-1",
        }
        if self._usage:
            answer["usage"] = {"prompt_tokens": 10 * len(items), "total_tokens": 10 * len(items)}
        if self._change is not None:
            answer = self._change(answer)
        data = msgspec.json.encode(answer)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(data)),
            (b"x-provider", b"openai"),
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": data[:20], "more_body": True})
        await send({"type": "http.response.body", "body": data[20:]})


async def embed(layer: Any, items: Any, headers: Any = None, **fields: Any) -> Recorder:
    return await ask(layer, {"model": "e", "input": items, **fields}, headers, path=PATH)


def vectors(recorder: Recorder) -> list[Any]:
    data = recorder.json()["data"]
    assert list(range(len(data))) == [one["index"] for one in data]
    return [one["embedding"] for one in data]


@STORES
async def test_ninety_known_items_leave_ten_to_ask_for(kind: Any) -> None:
    """And the answer has all hundred in order, with the usage of all and what was known of it."""
    app = Embedder()
    layer = ExactCacheMiddleware(app, store=kind())
    known = [f"text {number}" for number in range(90)]
    new = [f"new {number}" for number in range(10)]
    mixed = [text for pair in zip(known[:10], new, strict=True) for text in pair] + known[10:]
    await embed(layer, known)
    answer = await embed(layer, mixed)
    assert [known, new] == app.asked
    assert [vector(text) for text in mixed] == vectors(answer)
    assert {
        "prompt_tokens": 1000,
        "total_tokens": 1000,
        "prompt_tokens_details": {"cached_tokens": 900},
    } == answer.json()["usage"]
    assert ("embed-1", MISS, b"openai") == (
        answer.json()["model"],
        cache_of(answer),
        answer.header("x-provider"),
    )
    assert (100 + 90, 90) == (layer.counts.items_asked, layer.counts.items_found)


@STORES
async def test_a_batch_that_is_known_asks_nobody(kind: Any) -> None:
    """In any order, in one piece or alone; it is a hit with its usage."""
    app = Embedder()
    layer = ExactCacheMiddleware(app, store=kind())
    first = await embed(layer, ["a", "bb", "ccc"])
    again = await embed(layer, ["ccc", "a"])
    alone = await embed(layer, "bb")
    whole = await embed(layer, ["a", "bb", "ccc"])
    assert [MISS, HIT, HIT, HIT] == [cache_of(one) for one in (first, again, alone, whole)]
    assert [vector("ccc"), vector("a")] == vectors(again)
    assert [vector("bb")] == vectors(alone)
    assert 1 == len(app.asked)
    assert first.json() == whole.json()
    assert [30, 30] == [one.json()["usage"]["total_tokens"] for one in (first, whole)]
    assert [b"%d" % len(alone.body)] == alone.header_values("content-length")


async def test_usage_is_shared_out_and_sums_up_again() -> None:
    """By the items' length, in whole tokens, none lost and none made up."""

    def seven(answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "usage": {"prompt_tokens": 7, "total_tokens": 7}}

    layer = ExactCacheMiddleware(Embedder(seven))
    items = ["a", "bbbbbbbbbb", "cc"]
    await embed(layer, items)
    parts = [(await embed(layer, item)).json()["usage"]["total_tokens"] for item in items]
    assert 7 == sum(parts) == (await embed(layer, items)).json()["usage"]["total_tokens"]
    assert parts[1] == max(parts)


async def test_meters_learn_what_was_really_asked_for() -> None:
    """Of a batch that was known in part the state has the usage of the rest."""
    app = Embedder()
    layer = ExactCacheMiddleware(app)
    states: list[Any] = []

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        states.append(state)
        await layer(scope, receive, send)

    await embed(outer, ["a", "b"])
    await embed(outer, ["a", "b", "c"])
    await embed(outer, ["c"])
    used = states[1].get(USAGE)
    assert (10, None) == (used.input_tokens, states[2].get(USAGE))
    report = states[2].get(CACHE_STATUS)
    assert ("hit", 10) == (report.status, report.usage.input_tokens)


async def test_items_that_are_there_twice_are_asked_for_once() -> None:
    """And are in the answer as often as they were sent."""
    app = Embedder()
    answer = await embed(ExactCacheMiddleware(app), ["a", "b", "a", "a"])
    assert [["a", "b"]] == app.asked
    assert [vector(text) for text in "abaa"] == vectors(answer)


@pytest.mark.parametrize(
    "items", ["a text", ["a text"], [1, 2, 3], [[1, 2], [3]]], ids=lambda one: str(one)
)
async def test_every_form_of_input(items: Any) -> None:
    """A text, several, tokens, several lists of tokens; the bytes are sent on as they came."""
    app = Embedder()
    layer = ExactCacheMiddleware(app)
    first, second = await embed(layer, items), await embed(layer, items)
    assert [MISS, HIT] == [cache_of(first), cache_of(second)]
    assert first.json() == second.json()
    assert [items] == app.asked


@pytest.mark.parametrize(
    "items", [[], None, 7, [None], ["a", 1], [1, "a"], {}], ids=lambda one: str(one)
)
async def test_what_is_no_input_is_the_app_s_to_refuse(items: Any) -> None:
    """It is not looked up, and passes."""

    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body"})

    layer = ExactCacheMiddleware(refusing)
    assert 400 == (await embed(layer, items)).status


async def test_everything_else_of_the_request_counts() -> None:
    """Another model, size or encoding is another vector; a text is not a list of tokens."""
    app = Embedder()
    layer = ExactCacheMiddleware(app)
    for fields in ({}, {"dimensions": 3}, {"encoding_format": "base64"}, {"model": "other"}):
        assert MISS == cache_of(await embed(layer, "1", **fields))
    assert MISS == cache_of(await embed(layer, [1]))
    assert HIT == cache_of(await embed(layer, "1", user="someone"))


async def test_b4_items_of_two_tenants_are_apart() -> None:
    """The same text of another organization is asked for again."""
    app, store = Embedder(), MemoryCache()
    tenants = [
        As(ExactCacheMiddleware(app, store=store), organization_id=name) for name in ("a", "b")
    ]
    told = [cache_of(await embed(tenant, "text")) for tenant in (*tenants, *tenants)]
    assert [MISS, MISS, HIT, HIT] == told


async def test_vectors_are_no_stream_even_if_one_is_asked_for() -> None:
    """Apps answer with JSON whatever ``stream`` says, and so does the cache."""
    layer = ExactCacheMiddleware(Embedder())
    document = {"model": "e", "input": ["a", "b"], "stream": True}
    first, second = [await ask(layer, document, path=PATH) for _ in range(2)]
    assert [MISS, HIT] == [cache_of(answer) for answer in (first, second)]
    assert b"application/json" == first.header("content-type") == second.header("content-type")
    assert [b"%d" % len(second.body)] == second.header_values("content-length")
    assert first.json()["data"] == second.json()["data"]


def without_one(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "data": answer["data"][:-1]}


def out_of_order(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "data": answer["data"][::-1]}


def twice_the_same(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "data": [{**one, "index": 0} for one in answer["data"]]}


def without_index(answer: dict[str, Any]) -> dict[str, Any]:
    return {
        **answer,
        "data": [{"embedding": one["embedding"]} for one in answer["data"]],
    }


async def test_answers_out_of_order_are_put_in_order() -> None:
    """By their index; without one they are taken as they come."""
    for change in (out_of_order, without_index):
        layer = ExactCacheMiddleware(Embedder(change))
        await embed(layer, ["x"])
        answer = await embed(layer, ["a", "x", "b"])
        assert [vector(text) for text in "axb"] == vectors(answer)


@pytest.mark.parametrize(
    "change", [without_one, twice_the_same, lambda answer: {"error": {}}, lambda answer: []]
)
async def test_an_answer_that_does_not_fit_is_not_kept(change: Any) -> None:
    """A whole batch passes as it came; one that was known in part cannot be answered from it."""
    app = Embedder()
    store = MemoryCache()
    await embed(ExactCacheMiddleware(app, store=store), ["x"])
    broken = ExactCacheMiddleware(Embedder(change), store=store)
    passed = await embed(broken, ["a", "b"])
    partly = await embed(broken, ["x", "a", "b"])
    assert (200, 502) == (passed.status, partly.status)
    assert "provider_unavailable" == partly.json()["error"]["code"]
    assert 1 == len(store)


@pytest.mark.parametrize("items", [["a"], ["x", "a"]], ids=["whole", "in part"])
async def test_a_failure_passes_as_it_is(items: Any) -> None:
    """The client is told what the app said."""
    store = MemoryCache()
    await embed(ExactCacheMiddleware(Embedder(), store=store), ["x"])
    answer = await embed(ExactCacheMiddleware(Embedder(status=429), store=store), items)
    assert (429, 1) == (answer.status, len(store))


async def test_usage_that_nobody_told_is_not_made_up() -> None:
    """Neither in the answer nor in the report."""
    layer = ExactCacheMiddleware(Embedder(usage=False))
    await embed(layer, ["a"])
    for items in (["a"], ["a", "b"]):
        assert "usage" not in (await embed(layer, items)).json()


async def test_batches_that_ask_the_same_at_once_share_a_call() -> None:
    """As all other requests do."""
    app = Embedder()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    asked = [asyncio.create_task(embed(layer, ["a", "b"])) for _ in range(10)]
    await until(lambda: len(app.asked) > 0)
    for _ in range(20):
        await asyncio.sleep(0)
    app.gate.set()
    answers = await asyncio.gather(*asked)
    assert 1 == len(app.asked)
    assert [[vector("a"), vector("b")]] * 10 == [vectors(answer) for answer in answers]


async def test_items_run_out() -> None:
    """Each by its own age; the age of an answer is that of its oldest item."""
    clock, app = ManualClock(100.0), Embedder()
    layer = ExactCacheMiddleware(app, store=MemoryCache(clock=clock), ttl_seconds=60)
    await embed(layer, ["a"])
    clock.advance(40.0)
    await embed(layer, ["b"])
    assert b"40" == (await embed(layer, ["b", "a"])).header("age")
    clock.advance(30.0)
    await embed(layer, ["a", "b"])
    assert [["a"], ["b"], ["a"]] == app.asked


async def test_controls_hold_for_items() -> None:
    """``no-cache`` asks for all, ``no-store`` keeps none."""
    app = Embedder()
    layer = ExactCacheMiddleware(app)
    await embed(layer, ["a"], {"cache-control": "no-store"})
    await embed(layer, ["a"])
    await embed(layer, ["a"], {"cache-control": "no-cache"})
    only = await embed(layer, ["b"], {"cache-control": "only-if-cached"})
    assert ([["a"]] * 3, 504) == (app.asked, only.status)


async def test_embeddings_are_cached_whatever_the_rule_for_chats() -> None:
    """A vector is the same each time; where nobody may share, none is kept."""
    layer = ExactCacheMiddleware(Embedder(), cache_when=lambda document: False)
    assert [MISS, HIT] == [cache_of(await embed(layer, "a")) for _ in range(2)]
    layer = ExactCacheMiddleware(Embedder(), without_principal="bypass")
    assert BYPASS == cache_of(await embed(layer, "a"))

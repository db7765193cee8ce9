"""Requests that ask the same at the same time share one call, whatever becomes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.state import CACHE_STATUS, enter
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.testing import chat_answer, chat_events, http_scope
from asgi_llm.testing.exchange import Exchange
from tests.middleware.exact_cache.conftest import (
    CHAT,
    HIT,
    MISS,
    STREAM,
    App,
    ask,
    cache_of,
    read,
    text_of,
    until,
)


class Slow(MemoryCache):
    """A store in memory that the layer takes for one that may wait."""


STORES = pytest.mark.parametrize("kind", [MemoryCache, Slow], ids=["at once", "waits"])
JSON_HEADERS = {"content-type": "application/json"}


def exchange_of(layer: Any, document: Any) -> Exchange:
    body = msgspec.json.encode(document)
    return Exchange(layer, http_scope(headers=JSON_HEADERS), body=body)


def flights(layer: ExactCacheMiddleware) -> int:
    return len(layer._settings.flights)


@STORES
@pytest.mark.parametrize("document", [CHAT, STREAM], ids=["whole", "stream"])
async def test_b7_two_hundred_at_once_make_one_call(kind: Any, document: Any) -> None:
    """All of them get the same answer, and all but one are told that it is not their own."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app, store=kind())
    asked = [asyncio.create_task(ask(layer, document)) for _ in range(200)]
    await app.started.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    app.gate.set()
    answers = await asyncio.gather(*asked)
    assert 1 == app.calls
    assert {"Answer number 1."} == {text_of(answer) for answer in answers}
    assert [MISS] + [HIT] * 199 == sorted(map(cache_of, answers), key=lambda one: one[0] == b"HIT")
    assert (199, 0) == (layer.counts.shared, flights(layer))


async def test_mixed_forms_share_as_well() -> None:
    """Who wants it whole, as a stream, or without the usage gets it from the same call."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    first = asyncio.create_task(ask(layer, STREAM))
    await app.started.wait()
    others = [
        asyncio.create_task(ask(layer, document))
        for document in (CHAT, {**CHAT, "stream": True}, STREAM)
    ]
    for _ in range(20):
        await asyncio.sleep(0)
    app.gate.set()
    answers = await asyncio.gather(first, *others)
    assert 1 == app.calls
    assert ["Answer number 1."] * 4 == [text_of(answer) for answer in answers]


async def test_a_stream_fans_out_live() -> None:
    """A follower has a chunk when the leader has it, and before the app makes the next."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    async with exchange_of(layer, STREAM) as leader:
        start = await leader.next_message()
        assert 200 == start["status"]
        async with exchange_of(layer, STREAM) as follower:
            made = await leader.next_chunk() + await leader.next_chunk()
            got = b""
            while len(got) < len(made):
                got += await follower.next_chunk()
            assert made == got
            await follower.settle()
            assert 0 == follower.pending
            app.gate.set()
            led = await leader.finish()
            followed = await follower.finish()
    assert led.body == followed.body
    assert (1, HIT) == (app.calls, cache_of(followed))


async def test_followers_that_come_late_get_the_beginning_too() -> None:
    """At once, and then what comes."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    async with exchange_of(layer, STREAM) as leader:
        begun = await leader.next_chunk() + await leader.next_chunk()
        async with exchange_of(layer, STREAM) as follower:
            assert begun == await follower.next_chunk()
            app.gate.set()
            led = await leader.finish()
            assert led.body == (await follower.finish()).body


async def test_a_follower_that_does_not_read_slows_nobody() -> None:
    """The leader ends, and the follower has all of it when it reads on."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    async with exchange_of(layer, STREAM) as leader:
        await leader.next_chunk()
        async with exchange_of(layer, STREAM) as follower:
            await follower.next_message()
            app.gate.set()
            led = await leader.finish()
            assert led.complete
            assert led.body == (await follower.finish()).body


async def test_a_follower_too_far_behind_is_cut_off() -> None:
    """Of a long answer only so much is kept for it; it is told by an error, and the others go on.

    The bound is that of entries.
    """
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for place, event in enumerate(chat_events(["word " * 20] * 50)):
            if place == 2:
                await gate.wait()
            body = _sse.encode(msgspec.json.encode(event))
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": _sse.DONE})

    layer = ExactCacheMiddleware(app, max_entry_bytes=4000)
    async with exchange_of(layer, STREAM) as leader:
        await leader.next_chunk()
        async with exchange_of(layer, STREAM) as slow, exchange_of(layer, STREAM) as quick:
            await slow.next_message()
            await quick.next_message()
            gate.set()

            async def keep_up() -> None:
                await quick.finish()

            reading = asyncio.create_task(keep_up())
            led = await leader.finish()
            await reading
            cut = await slow.finish()
    assert led.body == quick.recorder.body
    assert "provider_unavailable" == cut.events[-2].json()["error"]["code"]
    assert MISS == cache_of(await ask(layer, STREAM))


@STORES
@pytest.mark.parametrize("document", [CHAT, STREAM], ids=["whole", "stream"])
async def test_b7_a_failed_leader_fails_nobody_else(kind: Any, document: Any) -> None:
    """One of the others asks anew, and the rest wait for that."""

    class Failing(App):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if self.calls == 0:
                self.calls += 1
                await read(receive)
                self.started.set()
                await gate.wait()
                raise RuntimeError("the first one fails")
            await super().__call__(scope, receive, send)

    gate = asyncio.Event()
    app = Failing()
    layer = ExactCacheMiddleware(app, store=kind())
    first = asyncio.create_task(ask(layer, document))
    await app.started.wait()
    others = [asyncio.create_task(ask(layer, document)) for _ in range(50)]
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()
    with pytest.raises(RuntimeError, match="the first one fails"):
        await first
    answers = await asyncio.gather(*others)
    assert {"Answer number 2."} == {text_of(answer) for answer in answers}
    assert (2, 0) == (app.calls, flights(layer))


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_b7_an_app_in_trouble_meets_no_herd(status: int) -> None:
    """Each failure doubles those that ask at once; all get an answer of their own."""
    running = most = 0
    trouble = App(status=status)

    async def drained(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read(receive)

        async def again() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(50):
            await asyncio.sleep(0)
        running -= 1
        await trouble(scope, again, send)

    layer = ExactCacheMiddleware(drained)
    answers = await asyncio.gather(*(ask(layer) for _ in range(100)))
    assert [status] * 100 == [answer.status for answer in answers]
    assert 100 == trouble.calls
    assert 1 < most < 60


async def test_an_answer_that_may_not_be_kept_is_shared_by_who_asked_with_it() -> None:
    """One that was cut off is right for all who asked at that moment, and for nobody later."""
    app = App(lambda number: chat_answer(f"Number {number}", finish_reason="length"))
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    asked = [asyncio.create_task(ask(layer)) for _ in range(5)]
    await app.started.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    app.gate.set()
    answers = await asyncio.gather(*asked)
    assert {"Number 1"} == {text_of(answer) for answer in answers}
    assert "Number 2" == text_of(await ask(layer))


async def test_it_is_shared_with_nobody_later_though_its_app_has_not_returned() -> None:
    """Who asks when it is whole is not served with it, whatever the app still does then."""
    app = App(lambda number: chat_answer(f"Number {number}", finish_reason="length"))
    done = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        await done.wait()

    layer = ExactCacheMiddleware(slow)
    async with exchange_of(layer, CHAT) as first:
        assert b"Number 1" in await first.next_chunk()
        async with exchange_of(layer, CHAT) as later:
            assert b"Number 2" in await later.next_chunk()
            done.set()


async def test_b7_a_leader_whose_client_leaves_goes_on_for_the_others() -> None:
    """The app does not hear of it while somebody waits, and its answer is kept."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    async with exchange_of(layer, STREAM) as leader:
        await leader.next_chunk()
        async with exchange_of(layer, STREAM) as follower:
            first = await follower.next_chunk()
            leader.disconnect()
            app.gate.set()
            followed = await follower.finish()
    assert followed.body.startswith(first)
    assert followed.events[-1].done
    assert (1, HIT) == (app.calls, cache_of(await ask(layer, STREAM)))


async def test_a_leader_whose_client_leaves_alone_is_told_so() -> None:
    """Without followers the app hears of it at once."""
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        heard.append((await receive())["type"])

    layer = ExactCacheMiddleware(app)
    async with exchange_of(layer, STREAM) as leader:
        await leader.until_receiving()
        leader.disconnect()
        await leader.finish()
    assert ["http.disconnect"] == heard


async def test_the_app_is_told_when_the_last_follower_leaves() -> None:
    """Nobody waits for the answer any more, and nothing goes on for nobody."""
    heard: list[str] = []
    started = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        started.set()
        heard.append((await receive())["type"])

    layer = ExactCacheMiddleware(app)
    async with exchange_of(layer, CHAT) as leader:
        await started.wait()
        async with exchange_of(layer, CHAT) as follower:
            await follower.until_receiving()
            leader.disconnect()
            await leader.settle()
            assert [] == heard
            follower.disconnect()
            await follower.finish()
        await leader.finish()
    assert (["http.disconnect"], 0) == (heard, flights(layer))


@pytest.mark.parametrize("begun", [False, True], ids=["before", "in the middle"])
async def test_b7_a_leader_that_is_cancelled_leaves_nobody_hanging(begun: bool) -> None:
    """Who has got nothing asks anew; who has a part is told that it broke off."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    document = STREAM if begun else CHAT
    async with exchange_of(layer, document) as leader:
        await app.started.wait()
        if begun:
            await leader.next_chunk()
        async with exchange_of(layer, document) as follower:
            if begun:
                await follower.next_chunk()
            else:
                await follower.until_receiving()
            assert leader._task is not None
            leader._task.cancel()
            await asyncio.wait([leader._task])
            app.gate.set()
            followed = await follower.finish()
    if begun:
        assert "provider_unavailable" == followed.events[-2].json()["error"]["code"]
        assert followed.events[-1].done
    else:
        assert ("Answer number 2.", MISS) == (text_of(followed), cache_of(followed))
    assert 0 == flights(layer)


async def test_a_follower_that_is_cancelled_changes_nothing() -> None:
    """The leader and the other followers have their answer."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    asked = [asyncio.create_task(ask(layer)) for _ in range(4)]
    await app.started.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    asked[2].cancel()
    await asyncio.wait([asked[2]])
    app.gate.set()
    answers = await asyncio.gather(asked[0], asked[1], asked[3])
    assert {"Answer number 1."} == {text_of(answer) for answer in answers}


async def test_who_waits_too_long_asks_by_themselves() -> None:
    """A leader that never comes back holds others for so long only."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app, share_wait_seconds=0.02)
    async with exchange_of(layer, CHAT) as leader, exchange_of(layer, CHAT) as follower:
        await until(lambda: app.calls == 2)
        app.gate.set()
        assert "Answer number 2." == text_of(await follower.finish())
        assert "Answer number 1." == text_of(await leader.finish())


async def test_calls_need_not_be_shared() -> None:
    """By option every request that finds nothing asks for itself."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app, share_calls=False)
    asked = [asyncio.create_task(ask(layer)) for _ in range(5)]
    await until(lambda: app.calls == 5)
    app.gate.set()
    await asyncio.gather(*asked)
    assert HIT == cache_of(await ask(layer))


@pytest.mark.parametrize(
    "headers", [{"cache-control": "no-cache"}, {"cache-control": "no-store"}], ids=str
)
async def test_who_wants_an_answer_of_their_own_gets_it(headers: dict[str, str]) -> None:
    """They follow nobody."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    asked = [asyncio.create_task(ask(layer)), asyncio.create_task(ask(layer, headers=headers))]
    await until(lambda: app.calls == 2)
    app.gate.set()
    answers = await asyncio.gather(*asked)
    assert {MISS} == set(map(cache_of, answers))


async def test_each_follower_has_a_report_of_its_own() -> None:
    """Every request notes a hit with the usage, before its last byte, for its own row."""
    app = App()
    app.gate = asyncio.Event()
    layer = ExactCacheMiddleware(app)
    reports: list[Any] = []

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)

        async def noted(message: Any) -> None:
            if message.get("body", b"").endswith(_sse.DONE):
                reports.append(state.get(CACHE_STATUS))
            await send(message)

        await layer(scope, receive, noted)

    asked = [asyncio.create_task(ask(outer, STREAM)) for _ in range(4)]
    await app.started.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    app.gate.set()
    await asyncio.gather(*asked)
    assert ["hit", "hit", "hit", "miss"] == sorted(report.status for report in reports)
    assert [12, 12, 12] == [
        report.usage.total_tokens for report in reports if report.status == "hit"
    ]

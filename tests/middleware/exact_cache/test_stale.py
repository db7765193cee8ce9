"""Old answers: served while they are made anew, or in the place of a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from asgi_llm._asgi import send_error
from asgi_llm.errors import ProviderUnavailableError
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.state import CACHE_STATUS, FAILURE, PRINCIPAL, enter
from asgi_llm.stores.cache import Claim, StoredAnswer
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.testing import ManualClock
from tests.middleware.exact_cache.conftest import (
    CHAT,
    HIT,
    MISS,
    STREAM,
    App,
    As,
    ask,
    cache_of,
    read,
    text_of,
    until,
)


class Slow(MemoryCache):
    """A store in memory that the layer takes for one that may wait."""


class Leasing(Slow):
    """One that others have in common, as far as this test goes.

    Attributes:
        leases: Owners of those that were neither used nor given back.
    """

    def __init__(self, *, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.leases: set[str] = set()

    async def claim(self, key: bytes, *, owner: str, **options: Any) -> Claim:
        """See ``CacheStore``."""
        claim = await super().claim(key, owner=owner, **options)
        self.leases |= {owner} if claim.leased else set()
        return claim

    async def release(self, key: bytes, *, owner: str) -> None:
        """See ``CacheStore``."""
        self.leases.discard(owner)

    async def set(
        self,
        entries: Sequence[tuple[bytes, StoredAnswer]],
        *,
        owner: str | None = None,
        age_seconds: float = 0.0,
    ) -> None:
        """See ``CacheStore``."""
        await super().set(entries, owner=owner, age_seconds=age_seconds)
        self.leases.discard(owner or "")


STORES = pytest.mark.parametrize("kind", [MemoryCache, Slow], ids=["at once", "waits"])


def layer_of(
    app: Any, clock: ManualClock, kind: Any = MemoryCache, **options: Any
) -> ExactCacheMiddleware:
    return ExactCacheMiddleware(
        app, store=kind(clock=clock), clock=clock, ttl_seconds=60, **options
    )


@STORES
async def test_an_old_answer_is_served_while_it_is_made_anew(kind: Any) -> None:
    """At once, with its age; the next one is new. Nobody waits for the app."""
    clock, app = ManualClock(100.0), App()
    layer = layer_of(app, clock, kind, stale_while_revalidate_seconds=30)
    await ask(layer)
    clock.advance(75.0)
    app.gate = asyncio.Event()
    old = await ask(layer)
    assert (HIT, b"75", "Answer number 1.") == (cache_of(old), old.header("age"), text_of(old))
    app.gate.set()
    await until(lambda: len(layer._settings.refreshes) == 0)
    new = await ask(layer)
    assert (HIT, b"0", "Answer number 2.") == (cache_of(new), new.header("age"), text_of(new))
    assert (1, 1) == (layer.counts.stale, layer.counts.refreshes)


@STORES
async def test_it_is_made_anew_once_however_many_ask(kind: Any) -> None:
    """One call behind all of them."""
    clock, app = ManualClock(100.0), App()
    layer = layer_of(app, clock, kind, stale_while_revalidate_seconds=30)
    await ask(layer)
    clock.advance(75.0)
    app.gate = asyncio.Event()
    answers = await asyncio.gather(*(ask(layer) for _ in range(20)))
    assert {"Answer number 1."} == {text_of(answer) for answer in answers}
    app.gate.set()
    await until(lambda: len(layer._settings.refreshes) == 0)
    assert 2 == app.calls


async def test_it_is_not_made_anew_for_who_has_nothing_kept() -> None:
    """With ``no-store`` or a TTL of 0 what came of that would be thrown away."""
    clock, app = ManualClock(100.0), App()
    layer = layer_of(app, clock, stale_while_revalidate_seconds=30)
    await ask(layer)
    clock.advance(75.0)
    for headers in ({"cache-control": "no-store"}, {"x-cache-ttl": "0"}):
        old = await ask(layer, headers=headers)
        assert (HIT, b"75") == (cache_of(old), old.header("age"))
    assert (0, 0) == (len(layer._settings.refreshes), layer.counts.refreshes)


async def test_beyond_the_window_an_old_answer_is_a_miss() -> None:
    """It is made anew for the one who asks."""
    clock = ManualClock(100.0)
    layer = layer_of(App(), clock, stale_while_revalidate_seconds=30)
    await ask(layer)
    clock.advance(91.0)
    assert MISS == cache_of(await ask(layer))


async def test_there_are_so_many_at_once_and_no_more() -> None:
    """What finds no room is served old, and left to a later request."""
    clock, app = ManualClock(100.0), App()
    layer = layer_of(app, clock, stale_while_revalidate_seconds=30, max_refreshes=2)
    documents = [{**CHAT, "seed": number} for number in range(5)]
    for document in documents:
        await ask(layer, document)
    clock.advance(75.0)
    app.gate = asyncio.Event()
    told = [cache_of(await ask(layer, document)) for document in documents]
    assert ([HIT] * 5, 2) == (told, len(layer._settings.refreshes))
    app.gate.set()
    await until(lambda: len(layer._settings.refreshes) == 0)
    assert 7 == app.calls


@STORES
async def test_what_goes_on_behind_requests_ends_with_the_layer(kind: Any) -> None:
    """``aclose`` leaves no task, and none begins after it."""
    clock, app = ManualClock(100.0), App()
    layer = layer_of(app, clock, kind, stale_while_revalidate_seconds=30)
    await ask(layer)
    clock.advance(75.0)
    app.gate = asyncio.Event()
    await ask(layer)
    await until(lambda: app.calls == 2)
    before = asyncio.all_tasks()
    await layer.aclose()
    assert 1 == len(before) - len(asyncio.all_tasks())
    assert HIT == cache_of(await ask(layer))
    assert 0 == len(layer._settings.refreshes)
    await layer.aclose()


async def test_a_refresh_that_has_not_begun_gives_its_lease_back() -> None:
    """When the layer ends; the app is not asked."""
    clock, app = ManualClock(100.0), App()
    store = Leasing(clock=clock)
    layer = ExactCacheMiddleware(
        app, store=store, clock=clock, ttl_seconds=60, stale_while_revalidate_seconds=30
    )
    await ask(layer)
    clock.advance(75.0)
    seen: list[int] = []

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        async def end_first(message: Message) -> None:
            # Nothing has been awaited since the refresh was begun.
            seen.extend((len(layer._settings.refreshes), len(store.leases)))
            await layer.aclose()
            await send(message)

        await layer(scope, receive, end_first)

    assert HIT == cache_of(await ask(closing))
    assert [1, 1] == seen[:2]
    assert (1, 0, set()) == (app.calls, len(layer._settings.refreshes), store.leases)


async def test_a_refresh_that_fails_keeps_the_old_answer(caplog: pytest.LogCaptureFixture) -> None:
    """An error, or an answer that may not be kept, does not take its place."""
    caplog.set_level(logging.CRITICAL)
    clock, app = ManualClock(100.0), App()

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        if app.calls:
            app.calls += 1
            raise RuntimeError("the app fails")
        await app(scope, receive, send)

    layer = layer_of(failing, clock, stale_while_revalidate_seconds=30)
    await ask(layer)
    clock.advance(75.0)
    for calls in (2, 3):
        assert HIT == cache_of(await ask(layer))
        await until(lambda calls=calls: app.calls == calls)  # type: ignore[misc]
        await until(lambda: len(layer._settings.refreshes) == 0)


async def test_a_refresh_has_a_state_of_its_own() -> None:
    """It comes from the same caller, with another id, and writes to nobody else's state."""
    clock, app = ManualClock(100.0), App()
    layer = layer_of(app, clock, stale_while_revalidate_seconds=30)
    outer = As(layer, organization_id="acme")
    states = []

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        states.append(state)
        await outer(scope, receive, send)

    await ask(noted)
    clock.advance(75.0)
    await ask(noted)
    await until(lambda: len(app.states) == 2)
    mine, theirs = states[1], app.states[1]
    assert theirs is not mine
    assert mine.get(PRINCIPAL) is theirs.get(PRINCIPAL)
    assert mine.request_id != theirs.request_id
    report, other = mine.get(CACHE_STATUS), theirs.get(CACHE_STATUS)
    assert report is not None and other is not None
    assert ["hit", "miss"] == [report.status, other.status]


async def test_refreshes_may_go_to_another_app() -> None:
    """One with a meter of its own, for one."""
    clock, app, metered = ManualClock(100.0), App(), App()
    layer = layer_of(app, clock, stale_while_revalidate_seconds=30, refresh_app=metered)
    await ask(layer)
    clock.advance(75.0)
    await ask(layer)
    await until(lambda: metered.calls == 1)
    assert 1 == app.calls


def failing_after(app: App, how: Any) -> Any:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        if app.calls == 0:
            await app(scope, receive, send)
            return
        app.calls += 1
        await read(receive)
        if type(how) is int:
            start = {"type": "http.response.start", "status": how, "headers": []}
            await send(start)
            await send({"type": "http.response.body", "body": b"{}"})
            return
        raise how

    return failing


@STORES
@pytest.mark.parametrize("how", [500, 503, 429, RuntimeError("broken")], ids=str)
@pytest.mark.parametrize("document", [CHAT, STREAM], ids=["whole", "stream"])
async def test_an_old_answer_stands_in_for_a_failure(
    kind: Any, how: Any, document: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """For so long; nobody is told of the failure but the log, and the app is asked each time."""
    caplog.set_level(logging.CRITICAL)
    clock, app = ManualClock(100.0), App()
    layer = layer_of(failing_after(app, how), clock, kind, stale_if_error_seconds=600)
    made = await ask(layer, document)
    clock.advance(500.0)
    for calls in (2, 3):
        old = await ask(layer, document)
        assert (200, HIT, b"500") == (old.status, cache_of(old), old.header("age"))
        assert (made.body, calls) == (old.body, app.calls)


async def test_a_failure_that_nobody_meets_is_in_no_state() -> None:
    """Layers further out see a request that was served, and the log tells it so."""
    clock, app = ManualClock(100.0), App()
    states = []

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        if app.calls == 0:
            await app(scope, receive, send)
            return
        state = enter(scope)[1]
        error = ProviderUnavailableError("down")
        state.set(FAILURE, error)
        await send_error(send, state, error)

    layer = layer_of(failing, clock, stale_if_error_seconds=600)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        states.append(state)
        await layer(scope, receive, send)

    await ask(outer)
    clock.advance(500.0)
    assert HIT == cache_of(await ask(outer))
    assert [None, None] == [state.get(FAILURE) for state in states]


@pytest.mark.parametrize("how", [400, 404], ids=str)
async def test_a_refusal_is_no_failure(how: int) -> None:
    """What the app says of the request itself is passed on."""
    clock, app = ManualClock(100.0), App()
    layer = layer_of(failing_after(app, how), clock, stale_if_error_seconds=600)
    await ask(layer)
    clock.advance(500.0)
    assert how == (await ask(layer)).status


async def test_too_old_an_answer_stands_in_for_nothing() -> None:
    """Beyond the window the failure passes."""
    clock, app = ManualClock(100.0), App()
    layer = layer_of(failing_after(app, RuntimeError("broken")), clock, stale_if_error_seconds=600)
    await ask(layer)
    clock.advance(661.0)
    with pytest.raises(RuntimeError, match="broken"):
        await ask(layer)


async def test_a_new_answer_takes_the_place_of_the_old_one() -> None:
    """An app that works is what counts."""
    clock, app = ManualClock(100.0), App()
    layer = layer_of(app, clock, stale_if_error_seconds=600)
    await ask(layer)
    clock.advance(500.0)
    assert "Answer number 2." == text_of(await ask(layer))
    assert (HIT, "Answer number 2.") == (
        (answer := await ask(layer)) and cache_of(answer),
        text_of(answer),
    )


async def test_followers_get_the_old_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    """One call fails for all who wait for it, and all are served."""
    caplog.set_level(logging.CRITICAL)
    clock, app = ManualClock(100.0), App()
    gate = asyncio.Event()

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        if app.calls:
            app.calls += 1
            await gate.wait()
            raise RuntimeError("broken")
        await app(scope, receive, send)

    layer = layer_of(failing, clock, stale_if_error_seconds=600)
    await ask(layer)
    clock.advance(500.0)
    asked = [asyncio.create_task(ask(layer)) for _ in range(10)]
    await until(lambda: app.calls == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.gather(*asked)
    assert {(HIT, "Answer number 1.")} == {(cache_of(one), text_of(one)) for one in answers}
    assert 2 == app.calls

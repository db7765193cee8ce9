"""What becomes of requests when the store of the limits fails, hangs or is full."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal

import pytest

from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.state import LIMIT_STATUS
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.testing import ManualClock
from asgi_llm.types import LimitReport
from tests.middleware.rate_limit.conftest import App, As, Watched, ask, told, until

TROUBLE: tuple[Literal["fails", "hangs"], ...] = ("fails", "hangs")


def troubled(trouble: Literal["fails", "hangs"], *names: str) -> Watched:
    """A store whose calls of these names fail, or never come back."""
    store = Watched()
    getattr(store, trouble).update(names)
    return store


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("limits", ("1 request/minute", "1 concurrent request", "99 tokens/minute"))
async def test_b27_by_default_requests_pass_uncounted(trouble: Any, limits: str) -> None:
    """A store that is away, or does not answer in time, takes nobody's service away."""
    app, store = App(), troubled(trouble, "take")
    layer = RateLimitMiddleware(app, limits=limits, store=store, store_timeout_seconds=0.01)
    answers = [await ask(layer) for _ in range(3)]
    assert ([200] * 3, 3) == ([answer.status for answer in answers], layer.store_failures)
    assert (None, None, None) == told(answers[0], "requests")
    assert LimitReport("unchecked") == app.states[0].get(LIMIT_STATUS)
    assert [] == store.named("settle")


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_b27_with_deny_they_are_503(trouble: Any) -> None:
    """The app is not called, and the answer says nothing of the store but that it is away."""
    app, store = App(), troubled(trouble, "take")
    layer = RateLimitMiddleware(
        app,
        limits="1 request/minute",
        store=store,
        on_store_error="deny",
        store_timeout_seconds=0.01,
    )
    answer = await ask(layer)
    assert (503, "store_unavailable", 0) == (
        answer.status,
        answer.json()["error"]["code"],
        app.calls,
    )
    store.fails.clear()
    store.hangs.clear()
    assert 200 == (await ask(layer)).status


async def test_b27_observed_limits_deny_nobody() -> None:
    """Where nothing is refused, a store that is away refuses nothing either."""
    layer = RateLimitMiddleware(
        App(),
        limits="1 request/minute",
        store=troubled("fails", "take"),
        on_store_error="deny",
        mode="observe",
    )
    assert 200 == (await ask(layer)).status


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_b27_a_settlement_that_fails_does_not_break_the_answer(trouble: Any) -> None:
    """It is counted, and the reservation ends with its lease."""
    store = troubled(trouble, "settle")
    layer = RateLimitMiddleware(
        App(), limits="2 concurrent requests", store=store, store_timeout_seconds=0.01
    )
    answer = await ask(layer)
    assert (200, True, 1) == (answer.status, answer.complete, layer.store_failures)


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_b27_a_renewal_that_fails_is_tried_again(trouble: Any) -> None:
    """The rest of the lease is there for the store to come back."""
    store = troubled(trouble, "renew")
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await App()(scope, receive, send)

    layer = RateLimitMiddleware(
        app,
        limits="9 concurrent requests",
        store=store,
        lease_seconds=0.03,
        store_timeout_seconds=0.005,
    )
    running = asyncio.create_task(ask(layer))
    await until(lambda: layer.store_failures == 2)
    store.fails.clear()
    store.hangs.clear()
    renewed = len(store.named("renew"))
    await until(lambda: len(store.named("renew")) >= renewed + 2)
    gate.set()
    assert 200 == (await running).status
    assert 2 == layer.store_failures


async def test_a_store_with_a_deadline_of_its_own_keeps_it() -> None:
    """The layer does not cut short what the store has in hand, such as its share of a limit."""

    class Patient(Watched):
        timeout_seconds = 5.0

    store = Patient()
    store.hangs.add("take")
    layer = RateLimitMiddleware(
        App(), limits="1 request/minute", store=store, store_timeout_seconds=0.001
    )
    running = asyncio.create_task(ask(layer))
    await asyncio.wait({running}, timeout=0.05)
    assert not running.done()
    store.go_on.set()
    assert b"0" == (await running).header("x-ratelimit-remaining-requests")
    assert 0 == layer.store_failures


async def test_failures_are_logged_once_a_second_at_most(caplog: pytest.LogCaptureFixture) -> None:
    """A store that is away under load does not fill the disk."""
    clock = ManualClock()
    layer = RateLimitMiddleware(
        App(), limits="9 requests/minute", store=troubled("fails", "take"), clock=clock
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            await ask(layer)
        clock.advance(1)
        await ask(layer)
    assert [
        "the store of the limits failed (1 times so far): the store is away",
        "the store of the limits failed (11 times so far): the store is away",
    ] == [record.getMessage() for record in caplog.records]


async def test_a_store_that_is_full_is_a_store_that_fails() -> None:
    """Nobody is forgotten to make room: callers beyond the bound meet the policy."""
    layer = RateLimitMiddleware(
        App(),
        limits="5 requests/minute",
        store=MemoryLimits(max_entries=2),
        on_store_error="deny",
    )
    statuses = [(await ask(layer, client=(f"10.0.0.{at}", 1))).status for at in range(4)]
    assert [200, 200, 503, 503] == statuses


async def test_a_tier_that_is_not_there_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A slip of the pen in a tier's name does not stay unnoticed."""
    layer = RateLimitMiddleware(App(), tiers={"pro": "5 requests/minute"})
    with caplog.at_level(logging.WARNING):
        await ask(As(layer, key_id="a", tier="pr0"))
    assert 1 == len(caplog.records)
    assert "there is no tier" in caplog.text

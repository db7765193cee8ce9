"""B24: every real attempt has a row, and all rows of a request are linked to it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.pricing import PriceTable
from asgi_llm.stores.budgets import BudgetRule, demand_of, to_pico
from asgi_llm.stores.budgets_memory import MemoryBudgets
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.testing import (
    Exchange,
    ManualClock,
    Reply,
    Reset,
    Wait,
    chat_answer,
    chat_events,
    error_answer,
    json_reply,
    sse_reply,
)
from asgi_llm.types import Usage
from tests.middleware.cost.conftest import NineTokens, Notes
from tests.middleware.router.conftest import (
    HELLO,
    STREAM,
    Upstreams,
    ask,
    exchange_of,
    route,
    upstreams,
)

PRICES = PriceTable(
    overrides={
        "a": {"*": {"input": 1, "output": 10}},
        "b": {"*": {"input": 2, "output": 20}},
    }
)
HI = json_reply(chat_answer())


def metered(up: Upstreams, notes: Notes, **options: Any) -> CostMiddleware:
    """A meter around a route from ``a`` to ``b``, whose prices are twice as high."""
    router = up.router(route("a", "b"), **options)
    return CostMiddleware(router, prices=PRICES, journal=notes, token_counter=NineTokens())


async def test_b24_a_timeout_and_its_fallback_are_two_rows_of_one_request() -> None:
    """The first may have been heard, and pays its input; the client pays what both cost."""
    notes = Notes()
    stuck = asyncio.Event()
    async with asyncio.timeout(10), upstreams(a=Reply(before=(Wait(stuck),)), b=HI) as up:
        answer = await ask(metered(up, notes, attempt_seconds=0.05))
    assert (200, b"b") == (answer.status, answer.header("x-provider"))
    first, second = notes.rows
    assert 1 == len({first.request_id, second.request_id})
    assert [(1, "a", "failed", "provider_timeout"), (2, "b", "complete", None)] == [
        (row.attempt, row.provider, row.outcome, row.error_code) for row in (first, second)
    ]
    assert Usage(input_uncached=9, estimated=True) == first.usage
    assert Usage(input_uncached=9, output_text=2) == second.usage
    assert Decimal("0.000009") == first.cost.amount_usd
    assert Decimal("0.000058") == second.cost.amount_usd
    assert b"0.000067" == answer.header("x-cost")
    assert 1 == len(notes.intents)


async def test_b24_each_attempt_that_reached_the_provider_has_a_row() -> None:
    """So many rows as requests at the upstreams; those that were refused cost nothing."""
    notes = Notes()
    async with upstreams(a=error_answer(500), b=error_answer(503)) as up:
        up["b"].script(HI)
        answer = await ask(metered(up, notes, attempts=4))
        assert (200, b"4") == (answer.status, answer.header("x-attempts"))
        assert [("a", 500), ("b", 503), ("a", 500), ("b", 200)] == [
            (row.provider, row.status) for row in notes.rows
        ]
        assert sum(up.calls.values()) == len(notes.rows)
    assert [1, 2, 3, 4] == [row.attempt for row in notes.rows]
    assert 1 == len({row.request_id for row in notes.rows})
    assert 4 == len({row.id for row in notes.rows})


async def test_b24_a_stream_that_was_mended_is_two_rows() -> None:
    """The one that failed says so; the one that answered has the tokens."""
    notes = Notes()
    role = {**chat_events("x")[0]}
    role["choices"] = [{"index": 0, "delta": {"role": "assistant"}}]
    broken = sse_reply([role, Reset()], done=False)
    async with upstreams(a=broken, b=sse_reply(chat_events("One two."))) as up:
        answer = await ask(metered(up, notes), STREAM)
        assert answer.complete
    first, second = notes.rows
    assert ("a", 200, "connection_lost", "failed") == (
        first.provider,
        first.status,
        first.error_code,
        first.outcome,
    )
    assert ("b", "complete", True) == (second.provider, second.outcome, second.streamed)
    assert Usage(input_uncached=9, output_text=2) == second.usage
    assert first.request_id == second.request_id


async def test_b24_one_who_leaves_in_a_pause_pays_for_what_was_done() -> None:
    """The attempt that failed is booked, and no other one is made."""
    notes, clock = Notes(), ManualClock()
    async with asyncio.timeout(10), upstreams(a=error_answer(500)) as up:
        router = up.router(route("a"), sleep=clock.sleep)
        app = CostMiddleware(
            router,
            prices=PRICES,
            journal=notes,
            token_counter=NineTokens(),
        )
        exchange: Exchange = exchange_of(app, HELLO)
        async with exchange:
            await clock.until_sleeping()
            exchange.disconnect()
            await exchange.finish()
        assert {"a": 1} == up.calls
    (row,) = notes.rows
    assert ("a", 500, 1) == (row.provider, row.status, row.attempt)


async def test_b24_a_target_that_could_not_be_reached_takes_no_number() -> None:
    """The request is counted by the row of the one that answered."""
    notes = Notes()
    async with upstreams(a=HI, b=HI) as up:
        await up["a"].aclose()
        assert 200 == (await ask(metered(up, notes))).status
    (row,) = notes.rows
    assert (1, "b") == (row.attempt, row.provider)
    assert [row.id] == notes.settled


async def test_b24_nobody_called_is_no_row() -> None:
    """Where all targets are left alone, there is nothing to pay."""
    notes = Notes()
    async with upstreams(a=error_answer(500), b=error_answer(500)) as up:
        app = metered(up, notes)
        for _ in range(6):
            answer = await ask(app)
        before = len(notes.rows)
        assert sum(up.calls.values()) == before
        answer = await ask(app)
        assert 503 == answer.status
        assert before == len(notes.rows)


async def test_b24_attempts_before_an_old_answer_are_rows_and_are_paid_for() -> None:
    """The answer of the cache is free; the provider that was asked before it may have worked."""
    notes, budgets, clock = Notes(), MemoryBudgets(), ManualClock(1000.0)
    budget = BudgetRule(scope="everyone", amount_usd=Decimal(1))
    async with asyncio.timeout(10), upstreams(a=HI) as up:
        cache = ExactCacheMiddleware(
            up.router(route("a"), attempts=2),
            store=MemoryCache(clock=clock),
            clock=clock,
            ttl_seconds=10,
            stale_if_error_seconds=1000,
        )
        app = CostMiddleware(
            cache,
            prices=PRICES,
            journal=notes,
            token_counter=NineTokens(),
            budgets=[budget],
            budget_store=budgets,
        )
        document = {**HELLO, "temperature": 0}
        await ask(app, document)
        notes.rows.clear()
        clock.advance(100)
        up["a"].script(error_answer(500), Reply(before=(Reset(),)))
        answer = await ask(app, document)
        assert (200, b"HIT") == (answer.status, answer.header("x-cache-status"))
        assert {"a": 3} == up.calls
    assert [
        (0, "cache_hit", 200, None, Decimal(0)),
        (2, "failed", 500, "provider_unavailable", Decimal(0)),
        (3, "failed", None, "connection_lost", Decimal("0.000009")),
    ] == [
        (row.attempt, row.outcome, row.status, row.error_code, row.cost.amount_usd)
        for row in notes.rows
    ]
    assert (1, 3) == (len({row.request_id for row in notes.rows}), len({r.id for r in notes.rows}))
    assert notes.settled[-1] == notes.rows[0].id
    (status,) = await budgets.spent([demand_of(budget, "")])
    assert to_pico(Decimal("0.000029") + Decimal("0.000009")) == status.spent

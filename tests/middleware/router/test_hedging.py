"""Hedging: a second target where the first is slow to begin, and one answer."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.middleware.router import RouterMiddleware
from asgi_llm.routing.retries import RetryBudget
from asgi_llm.routing.strategies import Load
from asgi_llm.state import DEPLOYMENT, SCOPE_KEY
from asgi_llm.stores.breakers import Standing
from asgi_llm.stores.breakers_memory import MemoryBreakers
from asgi_llm.testing import (
    Reply,
    Reset,
    Signal,
    Upstream,
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
    FAILS,
    HELLO,
    STREAM,
    ask,
    exchange_of,
    route,
    told,
    upstreams,
)
from tests.middleware.router.test_rows import PRICES

HI = json_reply(chat_answer())
SOON = 0.02


async def closed(*ended: Upstream) -> None:
    """Wait until nobody is connected to them any more."""
    for upstream in ended:
        await upstream.until(partial(_is_left, upstream))


def _is_left(upstream: Upstream) -> bool:
    return upstream.open_connections == 0


def never() -> Reply:
    """An answer that does not begin."""
    return Reply(before=(Wait(asyncio.Event()),), body=b"{}")


def failing(go: asyncio.Event) -> Reply:
    """An answer that is a failure, and comes late."""
    return Reply(before=(Wait(go),), status=500, headers=FAILS.headers, body=FAILS.body)


class ClaimedLate(MemoryBreakers):
    """Leave to call "b/m" is given when "a/m" has failed.

    Args:
        asked: Set when it is asked for.
    """

    def __init__(self, asked: asyncio.Event) -> None:
        self._time = 0.0
        super().__init__(clock=lambda: self._time)
        self._asked = asked
        self._failed = asyncio.Event()
        super().failed("b/m", cool_down_seconds=1.0)
        self._time += 2.0

    async def claim(self, target: str) -> str | None:
        """Wait for the failure of the other one."""
        self._asked.set()
        await self._failed.wait()
        return await super().claim(target)

    def failed(self, target: str, lease: str = "", **how: Any) -> None:
        """Note it."""
        super().failed(target, lease, **how)
        self._failed.set()


async def test_the_second_target_answers_for_a_slow_first() -> None:
    """The first is ended at its provider; the client is told of two attempts."""
    async with asyncio.timeout(10), upstreams(a=never(), b=HI) as up:
        load = Load()
        router = up.router(route("a", "b"), hedge_after_seconds=SOON, load=load)
        answer = await ask(router)
        assert (200, b"b", b"2") == (
            answer.status,
            answer.header("x-provider"),
            answer.header("x-attempts"),
        )
        assert chat_answer() == answer.json()
        await closed(up["a"])
        assert (0, 0) == (load.in_flight("a/m"), load.in_flight("b/m"))


async def test_a_stream_is_hedged_until_its_first_content() -> None:
    """The second's stream is the client's, whole; of the first there is nothing in it."""
    role = {**chat_events("x")[0]}
    role["choices"] = [{"index": 0, "delta": {"role": "assistant"}}]
    stuck = sse_reply([role, Wait(asyncio.Event())])
    good = sse_reply(chat_events("One two three."))
    async with asyncio.timeout(10), upstreams(a=stuck, b=good) as up:
        alone = await ask(up.app, {**STREAM, "model": "b/m"})
        answer = await ask(up.router(route("a", "b"), hedge_after_seconds=SOON), STREAM)
        assert alone.body == answer.body
        await closed(up["a"])


async def test_a_first_that_answers_in_time_is_alone() -> None:
    """Nobody else is called."""
    async with upstreams(a=HI, b=HI) as up:
        answer = await ask(up.router(route("a", "b"), hedge_after_seconds=5))
        assert (b"a", b"1") == (answer.header("x-provider"), answer.header("x-attempts"))
        assert {"a": 1} == up.calls


async def test_a_first_that_answers_after_all_ends_the_second() -> None:
    """Whoever begins first is the answer."""
    go, asked = asyncio.Event(), asyncio.Event()
    late = Reply(
        before=(Wait(go),),
        headers={"content-type": "application/json"},
        body=HI.body,
    )
    second = Reply(before=(Signal(asked), Wait(asyncio.Event())), body=b"{}")
    async with asyncio.timeout(10), upstreams(a=late, b=second) as up:
        router = up.router(route("a", "b"), hedge_after_seconds=SOON)
        asking = asyncio.ensure_future(ask(router))
        await asked.wait()
        go.set()
        answer = await asking
        assert (b"a", b"2") == (answer.header("x-provider"), answer.header("x-attempts"))
        await closed(up["b"])


async def test_both_fail_and_the_third_answers() -> None:
    """The attempts that are left go on after them."""
    go, asked = asyncio.Event(), asyncio.Event()
    first = Reply(status=500, before=(Wait(go),), body=b"{}")
    second = Reply(status=500, before=(Signal(asked),), body=b"{}")
    async with asyncio.timeout(10), upstreams(a=first, b=second, c=HI) as up:
        router = up.router(route("a", "b", "c"), hedge_after_seconds=SOON)
        asking = asyncio.ensure_future(ask(router))
        await asked.wait()
        await up["b"].served(1)
        go.set()
        answer = await asking
        assert (200, b"c", b"3") == (
            answer.status,
            answer.header("x-provider"),
            answer.header("x-attempts"),
        )
        assert {"a": 1, "b": 1, "c": 1} == up.calls


async def test_both_fail_and_nothing_is_left() -> None:
    """The client gets one of the failures, and both have one row."""
    notes, go = Notes(), asyncio.Event()
    first = Reply(status=500, before=(Wait(go),), body=b"{}")
    async with asyncio.timeout(10), upstreams(a=first, b=FAILS) as up:
        router = up.router(route("a", "b"), hedge_after_seconds=SOON, attempts=2)
        app = CostMiddleware(router, prices=PRICES, journal=notes, token_counter=NineTokens())
        asking = asyncio.ensure_future(ask(app))
        await up["b"].served(1)
        go.set()
        answer = await asking
        assert (502, b"2") == (answer.status, answer.header("x-attempts"))
    assert [500, 500] == [row.status for row in notes.rows]
    assert {"a", "b"} == {row.provider for row in notes.rows}


async def test_a_slow_loser_is_known_to_be_slow() -> None:
    """Though nobody has seen it answer: the next request does not go there first."""
    async with asyncio.timeout(10), upstreams(a=never(), b=HI) as up:
        load = Load()
        router = up.router(
            route("a", "b", strategy="lowest_latency"),
            hedge_after_seconds=SOON,
            load=load,
            random=lambda: 0.5,
        )
        for _ in range(3):
            await ask(router)
        assert {"a": 1, "b": 3} == up.calls
        assert (load.latency_seconds("a/m") or 0) > (load.latency_seconds("b/m") or 1)


async def test_a_failed_second_does_not_end_the_first() -> None:
    """Though no attempt is left after it."""
    go = asyncio.Event()
    late = Reply(before=(Wait(go),), headers={"content-type": "application/json"}, body=HI.body)
    async with asyncio.timeout(10), upstreams(a=late, b=FAILS) as up:
        router = up.router(route("a", "b"), hedge_after_seconds=SOON, attempts=2)
        asking = asyncio.ensure_future(ask(router))
        await up["b"].served(1)
        go.set()
        answer = await asking
        assert (200, b"a", b"2") == (
            answer.status,
            answer.header("x-provider"),
            answer.header("x-attempts"),
        )


async def test_a_failure_that_comes_soon_is_no_race() -> None:
    """It is mended as ever."""
    async with upstreams(a=FAILS, b=error_answer(400, code="bad")) as up:
        answer = await ask(up.router(route("a", "b"), hedge_after_seconds=5))
        assert (400, "bad") == told(answer)
        assert {"a": 1, "b": 1} == up.calls


async def test_b24_both_have_a_row() -> None:
    """The one that was ended may have been heard, and pays its input; both are one request."""
    notes = Notes()
    async with asyncio.timeout(10), upstreams(a=never(), b=HI) as up:
        router = up.router(route("a", "b"), hedge_after_seconds=SOON)
        app = CostMiddleware(router, prices=PRICES, journal=notes, token_counter=NineTokens())
        answer = await ask(app)
    assert b"0.000067" == answer.header("x-cost")
    loser, winner = notes.rows
    assert loser.request_id == winner.request_id
    assert ("a", "abandoned", "failed") == (loser.provider, loser.error_code, loser.outcome)
    assert Usage(input_uncached=9, estimated=True) == loser.usage
    assert ("b", None, "complete") == (winner.provider, winner.error_code, winner.outcome)
    assert Usage(input_uncached=9, output_text=2) == winner.usage


async def test_b17_a_client_that_leaves_ends_both() -> None:
    """Both providers' connections are closed, and nothing is sent."""
    notes = Notes()
    async with asyncio.timeout(10), upstreams(a=never(), b=never()) as up:
        load = Load()
        router = up.router(route("a", "b"), hedge_after_seconds=SOON, load=load)
        app = CostMiddleware(router, prices=PRICES, journal=notes, token_counter=NineTokens())
        async with exchange_of(app, HELLO) as exchange:
            await up["b"].arrived(1)
            exchange.disconnect()
            recorder = await exchange.finish()
        assert [] == recorder.messages
        await closed(up["a"], up["b"])
        assert (0, 0) == (load.in_flight("a/m"), load.in_flight("b/m"))
    assert [("a", "client_disconnect"), ("b", "client_disconnect")] == [
        (row.provider, row.outcome) for row in notes.rows
    ]


async def test_a_cancelled_request_ends_both() -> None:
    """And leaves no task behind."""
    async with asyncio.timeout(10), upstreams(a=never(), b=never()) as up:
        load = Load()
        router = up.router(route("a", "b"), hedge_after_seconds=SOON, load=load)
        before = asyncio.all_tasks()
        asking = asyncio.ensure_future(ask(router))
        await up["b"].arrived(1)
        asking.cancel()
        await asyncio.wait([asking])
        assert (0, 0) == (load.in_flight("a/m"), load.in_flight("b/m"))
        await closed(up["a"], up["b"])
        assert not {
            task for task in asyncio.all_tasks() - before if "router" in repr(task.get_coro())
        }


async def test_the_second_is_paid_for_by_the_budget() -> None:
    """Where nothing is left of it, the first is waited for alone."""
    go = asyncio.Event()
    late = Reply(before=(Wait(go),), headers={"content-type": "application/json"}, body=HI.body)
    budget = RetryBudget(share=0, floor_per_second=0, burst=1)
    assert budget.take()
    async with asyncio.timeout(10), upstreams(a=late, b=HI) as up:
        router = up.router(route("a", "b"), hedge_after_seconds=SOON, retry_budget=budget)
        asyncio.get_running_loop().call_later(0.1, go.set)
        answer = await ask(router)
        assert (b"a", b"1") == (answer.header("x-provider"), answer.header("x-attempts"))
        assert {"a": 1} == up.calls


async def test_a_second_that_the_budget_does_not_pay_for_is_there_when_the_first_fails() -> None:
    """It was not called, so it is where the request goes on to."""
    go = asyncio.Event()
    budget = RetryBudget(share=0, floor_per_second=0, burst=1)
    assert budget.take()
    async with asyncio.timeout(10), upstreams(a=failing(go), b=HI) as up:
        router = up.router(route("a", "b"), hedge_after_seconds=SOON, retry_budget=budget)
        asyncio.get_running_loop().call_later(0.1, go.set)
        answer = await ask(router)
        assert (200, b"b", b"2") == (
            answer.status,
            answer.header("x-provider"),
            answer.header("x-attempts"),
        )


async def test_a_second_that_came_too_late_is_there_when_the_first_has_failed() -> None:
    """The first has failed while the second's breaker was asked."""
    go = asyncio.Event()
    breakers = ClaimedLate(go)
    async with asyncio.timeout(10), upstreams(a=failing(go), b=HI) as up:
        router = up.router(route("a", "b"), hedge_after_seconds=SOON, breakers=breakers)
        answer = await ask(router)
        assert (200, b"b", b"2") == (
            answer.status,
            answer.header("x-provider"),
            answer.header("x-attempts"),
        )


async def test_the_second_is_another_than_a_fallback_under_way() -> None:
    """Two routes behind have a target in common, and the first of them serves already."""
    breakers = MemoryBreakers()
    breakers.failed("a/m", cool_down_seconds=60.0)
    async with asyncio.timeout(10), upstreams(a=FAILS, b=never(), c=HI) as up:
        router = up.router(
            route("a", fallbacks=("behind", "last")),
            route("b", name="behind"),
            route("b", "c", name="last"),
            hedge_after_seconds=SOON,
            breakers=breakers,
        )
        answer = await ask(router)
        assert (200, b"c", b"2") == (
            answer.status,
            answer.header("x-provider"),
            answer.header("x-attempts"),
        )
        assert {"b": 1, "c": 1} == up.calls


class ClaimedAtOnce(MemoryBreakers):
    """Leave to call "b/m", whose cool-down is over, is given when the first may answer.

    Args:
        go: Set when it is given.
    """

    def __init__(self, go: asyncio.Event) -> None:
        self._time = 0.0
        super().__init__(clock=lambda: self._time)
        self._go = go
        self.failed("b/m", cool_down_seconds=1.0)
        self._time += 2.0

    async def claim(self, target: str) -> str | None:
        """Let the first go on."""
        self._go.set()
        return await super().claim(target)


async def test_a_second_that_is_ended_before_it_begins_gives_its_trial_back() -> None:
    """The first has answered in the same turn: who comes next may make the trial."""
    go = asyncio.Event()
    called: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope[SCOPE_KEY].get(DEPLOYMENT).provider)
        await go.wait()
        await JSONResponse(chat_answer())(scope, receive, send)

    breakers = ClaimedAtOnce(go)
    router = RouterMiddleware(
        app, routes=[route("a", "b")], hedge_after_seconds=SOON, breakers=breakers
    )
    answer = await ask(router)
    assert (200, ["a"]) == (answer.status, called)
    assert Standing("half_open", 0.0) == breakers.standing("b/m")


async def test_a_stream_that_won_and_breaks_off_ends_with_an_error() -> None:
    """It is not made up for by the other one."""
    broken = sse_reply([*chat_events("One two three.")[:2], Reset()], done=False)
    async with asyncio.timeout(10), upstreams(a=never(), b=broken) as up:
        answer = await ask(up.router(route("a", "b"), hedge_after_seconds=SOON), STREAM)
        assert b'"code":"connection_lost"' in answer.body
        assert {"a": 1, "b": 1} == up.calls

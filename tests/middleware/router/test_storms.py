"""B23: retries do not finish off what is overloaded, and what comes back is not run over."""

from __future__ import annotations

import asyncio

from asgi_llm.middleware.router import RouterMiddleware
from asgi_llm.routing.retries import RetryBudget
from asgi_llm.stores.breakers import BreakerPolicy
from asgi_llm.stores.breakers_memory import MemoryBreakers
from asgi_llm.testing import (
    ManualClock,
    Recorder,
    Reply,
    Signal,
    Wait,
    chat_answer,
    error_answer,
    json_reply,
)
from tests.middleware.router.conftest import FAILS, ask, route, upstreams

HI = json_reply(chat_answer("Hi."))
AT_ONCE = 50


async def crowd(router: RouterMiddleware, requests: int) -> list[Recorder]:
    """So many requests, some of them at the same time."""
    answers: list[Recorder] = []
    for start in range(0, requests, AT_ONCE):
        count = min(AT_ONCE, requests - start)
        answers += await asyncio.gather(*(ask(router) for _ in range(count)))
    return answers


async def test_b23_attempts_stay_within_the_budget() -> None:
    """500 requests in a second at a target that always fails: a tenth more attempts, and a burst.

    No breaker helps here: it is told to open at nothing.
    """
    clock = ManualClock()
    never = BreakerPolicy(failures=10**6)
    async with asyncio.timeout(30), upstreams(a=FAILS) as up:
        router = up.router(
            route("a"),
            attempts=5,
            breakers=MemoryBreakers(policy=never),
            retry_budget=RetryBudget(clock=clock),
        )
        for _ in range(10):
            answers = await crowd(router, 50)
            clock.advance(0.1)
            assert {502} == {answer.status for answer in answers}
        assert 500 < up.calls["a"] <= 1.2 * 500


async def test_b23_the_breaker_keeps_requests_from_what_fails() -> None:
    """After a few failures nothing more gets there, and clients are told at once."""
    async with asyncio.timeout(30), upstreams(a=FAILS) as up:
        router = up.router(route("a"))
        answers = await crowd(router, 500)
        assert up.calls["a"] <= AT_ONCE + 2 * AT_ONCE
        assert {503} == {answer.status for answer in answers[AT_ONCE:]}


async def test_b23_recovery_without_a_herd() -> None:
    """Of all who come when the cool-down is over, one is let through; its answer lets all in."""
    clock = ManualClock()
    go, arrived = asyncio.Event(), asyncio.Event()
    policy = BreakerPolicy(failures=5, cool_down_seconds=5, jitter=0)
    async with asyncio.timeout(30), upstreams(a=FAILS) as up:
        router = up.router(
            route("a"), attempts=1, breakers=MemoryBreakers(policy=policy, clock=clock)
        )
        await crowd(router, AT_ONCE)
        before = up.calls["a"]
        up["a"].script(Reply(before=(Signal(arrived), Wait(go)), body=HI.body), HI)
        clock.advance(5)
        trial = asyncio.ensure_future(ask(router))
        await arrived.wait()
        waiting = await crowd(router, AT_ONCE)
        assert {503} == {answer.status for answer in waiting}
        assert before + 1 == up.calls["a"]
        go.set()
        assert 200 == (await trial).status
        assert {200} == {answer.status for answer in await crowd(router, AT_ONCE)}


async def test_b23_a_failed_trial_waits_longer() -> None:
    """The second cool-down is twice the first."""
    clock = ManualClock()
    policy = BreakerPolicy(failures=1, minimum_calls=1, cool_down_seconds=5, jitter=0)
    async with upstreams(a=FAILS) as up:
        router = up.router(
            route("a"), attempts=1, breakers=MemoryBreakers(policy=policy, clock=clock)
        )
        for seconds in (0, 5, 10):
            clock.advance(seconds)
            assert 502 == (await ask(router)).status
            answer = await ask(router)
            assert 503 == answer.status
        assert b"20" == answer.header("retry-after")
        assert {"a": 3} == up.calls


async def test_b23_waits_are_drawn_at_random() -> None:
    """No two of those who failed together come back together."""
    async with upstreams(a=error_answer(503)) as up:
        breakers = MemoryBreakers(policy=BreakerPolicy(failures=10**6))
        router = up.router(
            route("a"),
            attempts=2,
            breakers=breakers,
            retry_budget=RetryBudget(burst=100),
        )
        await crowd(router, 20)
        waited = up.clocked.waited
        assert 20 == len(waited) == len(set(waited))
        assert max(waited) <= 0.25


async def test_b23_to_go_on_to_another_target_costs_nothing_of_the_budget() -> None:
    """With none of it left, who fails at one target is still served by the next."""
    spent = RetryBudget(share=0, floor_per_second=0, burst=1)
    assert spent.take()
    async with asyncio.timeout(30), upstreams(a=FAILS, b=HI) as up:
        router = up.router(route("a", "b"), retry_budget=spent)
        answers = await crowd(router, 100)
        assert {200} == {answer.status for answer in answers}
        # The breaker, and no budget, keeps them from what fails.
        assert up.calls["a"] <= AT_ONCE

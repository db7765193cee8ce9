"""How often and where a request is tried, over real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm.routing.strategies import Load
from asgi_llm.state import ATTEMPTS, FAILURE, State, enter
from asgi_llm.stores.breakers import BreakerPolicy
from asgi_llm.stores.breakers_memory import MemoryBreakers
from asgi_llm.testing import (
    Close,
    ManualClock,
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
from asgi_llm.testing.serving import ServerName, serve
from tests.middleware.router.conftest import (
    FAILS,
    HELLO,
    STREAM,
    ask,
    exchange_of,
    route,
    target,
    told,
    upstreams,
)

HI = json_reply(chat_answer("Hi."))


async def test_d_attempts_at_the_provider_are_those_configured() -> None:
    """A target that fails is called so often as is configured, and the client is told how often."""
    for attempts in (1, 2, 5):
        async with upstreams(a=FAILS) as up:
            answer = await ask(up.router(route("a"), attempts=attempts))
            assert (502, "provider_unavailable") == told(answer)
            assert {"a": attempts} == up.calls
            count = None if attempts == 1 else b"%d" % attempts
            assert count == answer.header("x-attempts")
            assert attempts - 1 == len(up.clocked.waited)


@pytest.mark.parametrize("status", (400, 422, 418))
async def test_d_what_the_request_is_to_blame_for_is_tried_once(status: int) -> None:
    """Neither the target is asked again, nor another one, nor a fallback."""
    async with upstreams(a=error_answer(status, code="bad_thing"), b=HI, c=HI) as up:
        router = up.router(route("a", "b", fallbacks=("slow",)), route("c", name="slow"))
        answer = await ask(router)
        assert (status, "bad_thing") == told(answer)
        assert {"a": 1} == up.calls


async def test_the_next_target_answers_and_the_client_learns_which() -> None:
    """After a failure the next one is called at once, with the very body of the first."""
    async with upstreams(a=FAILS, b=HI) as up:
        answer = await ask(up.router(route("a", "b/mixed")))
        assert (200, "Hi.") == (
            answer.status,
            answer.json()["choices"][0]["message"]["content"],
        )
        assert (b"b", b"mixed", b"2") == (
            answer.header("x-provider"),
            answer.header("x-model"),
            answer.header("x-attempts"),
        )
        assert [] == up.clocked.waited
        first, second = up["a"].ledger[0].request.json(), up["b"].ledger[0].request.json()
        assert {**first, "model": "mixed"} == second


async def test_fallbacks_come_after_the_targets_in_their_order() -> None:
    """And a fallback of a fallback after those."""
    async with upstreams(a=FAILS, b=FAILS, c=FAILS, d=HI) as up:
        router = up.router(
            route("a", fallbacks=("second", "third")),
            route("b", name="second", fallbacks=("fourth",)),
            route("c", name="third"),
            route("d", name="fourth"),
            attempts=4,
        )
        answer = await ask(router)
        assert (200, b"d", b"4") == (
            answer.status,
            answer.header("x-provider"),
            answer.header("x-attempts"),
        )
        assert {"a": 1, "b": 1, "c": 1, "d": 1} == up.calls


async def test_what_is_too_long_goes_to_the_route_for_it_alone() -> None:
    """Neither the other target nor the fallback for failures is asked."""
    long = error_answer(400, code="context_length_exceeded")
    async with upstreams(a=long, b=HI, c=HI, d=HI) as up:
        router = up.router(
            route("a", "b", fallbacks=("other",), context_length=("large",)),
            route("c", name="large"),
            route("d", name="other"),
        )
        assert 200 == (await ask(router)).status
        assert {"a": 1, "c": 1} == up.calls


async def test_what_a_filter_refuses_goes_to_the_route_for_it_or_nowhere() -> None:
    """Without such a route the refusal is the answer."""
    filtered = error_answer(400, code="content_filter")
    async with upstreams(a=filtered, b=HI) as up:
        await_none = up.router(route("a", "b", fallbacks=("b",)), route("b", name="b"))
        assert (400, "content_filter") == told(await ask(await_none))
        with_route = up.router(route("a", content_filter=("other",)), route("b", name="other"))
        assert 200 == (await ask(with_route)).status
        assert {"a": 2, "b": 1} == up.calls


async def test_a_model_without_a_route_is_retried_where_the_app_sends_it() -> None:
    """The app finds ``provider/model`` by itself, and is asked again."""
    async with upstreams(a=FAILS) as up:
        up["a"].script(HI)
        answer = await ask(up.router(), {**HELLO, "model": "a/any"})
        assert (200, b"2") == (answer.status, answer.header("x-attempts"))
        assert {"a": 2} == up.calls


async def test_a_target_is_left_alone_for_as_long_as_it_asks() -> None:
    """The wait is at least what Retry-After says; one that is too long is none at all."""
    async with upstreams(a=error_answer(429, headers={"retry-after": "3"})) as up:
        up["a"].script(HI)
        # The breaker takes the provider at its word too, and this clock stands still.
        far = MemoryBreakers(policy=BreakerPolicy(max_retry_after_seconds=0, failures=99))
        answer = await ask(up.router(route("a"), breakers=far))
        assert 200 == answer.status
        assert 3 <= up.clocked.waited[0] < 3.3
    async with upstreams(a=error_answer(429, headers={"retry-after": "300"}), b=FAILS) as up:
        answer = await ask(up.router(route("a", "b"), attempts=5))
        assert 502 == answer.status
        assert {"a": 1, "b": 4} == up.calls


async def test_the_last_failure_is_told_in_its_own_words() -> None:
    """Status, code and Retry-After of the provider reach the client as without a router."""
    busy = error_answer(
        429, "Slow down.", code="rate_limit_exceeded", headers={"retry-after": "60"}
    )
    async with upstreams(a=busy) as up:
        plain = await ask(up.app, {**HELLO, "model": "a/m"})
        routed = await ask(up.router(route("a")))
        assert plain.json() == routed.json()
        assert (429, b"60") == (routed.status, routed.header("retry-after"))
        assert plain.header("retry-after") == routed.header("retry-after")


async def test_all_left_alone_is_a_503_that_calls_nobody() -> None:
    """And says when the first of them may be called again."""
    clock = ManualClock()
    policy = BreakerPolicy(failures=1, minimum_calls=1, cool_down_seconds=7, jitter=0)
    async with upstreams(a=FAILS, b=FAILS) as up:
        breakers = MemoryBreakers(policy=policy, clock=clock)
        router = up.router(route("a", "b"), breakers=breakers, attempts=2)
        assert 502 == (await ask(router)).status
        assert {"a": 1, "b": 1} == up.calls
        clock.advance(2)
        answer = await ask(router)
        assert (503, "provider_unavailable") == told(answer)
        assert b"5" == answer.header("retry-after")
        assert {"a": 1, "b": 1} == up.calls


async def test_a_deadline_cuts_an_attempt_off_before_its_answer() -> None:
    """The stalled call is ended at the provider, and the next target answers."""
    stuck = asyncio.Event()
    never = Reply(before=(Wait(stuck),), body=b"{}")
    async with asyncio.timeout(10), upstreams(a=never, b=HI) as up:
        seen: list[State] = []
        router = Looking(up.router(route("a", "b"), attempt_seconds=0.05), seen)
        answer = await ask(router)
        assert (200, b"b") == (answer.status, answer.header("x-provider"))
        await up["a"].until(lambda: up["a"].open_connections == 0)
        attempts = seen[0].get(ATTEMPTS) or ()
        assert [("a", "provider_timeout"), ("b", None)] == [
            (one.provider, one.error_code) for one in attempts
        ]
        assert seen[0].get(FAILURE) is None


async def test_the_deadline_of_the_request_ends_all_attempts() -> None:
    """Where nothing has begun by then, the answer is a 504."""
    stuck = asyncio.Event()
    never = Reply(before=(Wait(stuck),), body=b"{}")
    async with asyncio.timeout(10), upstreams(a=never, b=HI) as up:
        answer = await ask(up.router(route("a", "b"), deadline_seconds=0.05))
        assert (504, "provider_timeout") == told(answer)
        assert {"a": 1} == up.calls


async def test_a_deadline_leaves_what_has_begun_alone() -> None:
    """A stream may take as long as it likes from its first byte on."""
    go = asyncio.Event()
    events = chat_events("One two three.")
    slow = sse_reply([*events[:2], Wait(go), *events[2:]])
    async with asyncio.timeout(10), upstreams(a=slow) as up:
        router = up.router(route("a"), deadline_seconds=0.1, attempt_seconds=0.1)
        exchange = exchange_of(router, STREAM)
        async with exchange:
            await exchange.next_chunk()
            # Later than either, by the clock that they go by.
            asyncio.get_running_loop().call_later(0.15, go.set)
            recorder = await exchange.finish()
        assert recorder.complete
        assert recorder.body.endswith(b"data: [DONE]\n\n")


async def test_b17_a_client_that_leaves_in_a_pause_ends_it() -> None:
    """Nothing is called for it any more, nothing is sent, and nothing is left under way."""
    clock = ManualClock()
    async with asyncio.timeout(10), upstreams(a=FAILS) as up:
        load = Load()
        router = up.router(route("a"), sleep=clock.sleep, load=load)
        exchange = exchange_of(router, HELLO)
        async with exchange:
            await clock.until_sleeping()
            exchange.disconnect()
            recorder = await exchange.finish()
        assert [] == recorder.messages
        assert {"a": 1} == up.calls
        assert (0, 0) == (clock.sleeping, load.in_flight("a/m"))


@pytest.mark.parametrize("server", ("uvicorn", "hypercorn"))
async def test_b17_a_real_server_tells_of_a_client_that_leaves_in_a_pause(
    server: ServerName,
) -> None:
    """The pause ends when the socket is closed, though no time has passed."""
    clock = ManualClock()
    body = json.dumps(HELLO).encode()
    async with asyncio.timeout(20), upstreams(a=FAILS) as up:
        router = up.router(route("a"), sleep=clock.sleep)
        over = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await router(scope, receive, send)
                over.set()

        async with serve(app, server) as url:
            host, port = url.removeprefix("http://").split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await clock.until_sleeping()
            writer.close()
            await over.wait()
        assert {"a": 1} == up.calls
        assert 0 == clock.sleeping


async def test_b18_a_client_that_leaves_before_the_first_byte_ends_the_attempt() -> None:
    """The provider's connection is closed, no other target is called, no count stays."""
    stuck, arrived = asyncio.Event(), asyncio.Event()
    never = Reply(before=(Signal(arrived), Wait(stuck)), body=b"{}")
    async with asyncio.timeout(10), upstreams(a=never, b=HI) as up:
        load = Load()
        router = up.router(route("a", "b"), load=load)
        exchange = exchange_of(router, HELLO)
        async with exchange:
            await arrived.wait()
            assert 1 == load.in_flight("a/m")
            exchange.disconnect()
            recorder = await exchange.finish()
        await up["a"].until(lambda: up["a"].open_connections == 0)
        assert [] == recorder.messages
        assert {"a": 1} == up.calls
        assert 0 == load.in_flight("a/m")


async def test_a_cancelled_request_gives_back_its_trial() -> None:
    """The next request may be the trial: nothing waits for one that nobody makes."""
    clock = ManualClock()
    policy = BreakerPolicy(failures=1, minimum_calls=1, cool_down_seconds=5, jitter=0)
    stuck, arrived = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(10), upstreams(a=FAILS) as up:
        breakers = MemoryBreakers(policy=policy, clock=clock)
        router = up.router(route("a"), breakers=breakers, attempts=1)
        await ask(router)
        up["a"].script(Reply(before=(Signal(arrived), Wait(stuck)), body=b"{}"), HI)
        clock.advance(5)
        trial = asyncio.ensure_future(ask(router))
        await arrived.wait()
        assert 503 == (await ask(router)).status
        trial.cancel()
        await asyncio.wait([trial])
        assert 200 == (await ask(router)).status
        assert breakers.standing("a/m") is None


async def test_a_connection_that_is_refused_or_reset_is_a_failure() -> None:
    """The next target answers for one that is not there, and for one that breaks off."""
    gone = Upstream()
    gone.listen()
    gone.stop_listening()
    async with upstreams(a=HI, b=Reply(before=(Reset(),)), c=Reply(before=(Close(),))) as up:
        up["a"].stop_listening()
        answer = await ask(up.router(route("a", "b", "c", target("a/again")), attempts=4))
        assert (502, "provider_unavailable") == told(answer)
        assert {"b": 1, "c": 1} == up.calls


class Looking:
    """Stands outside, and keeps the state of each request."""

    def __init__(self, app: ASGIApp, seen: list[State]) -> None:
        self.app = app
        self.seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        self.seen.append(state)
        await self.app(scope, receive, send)


async def test_two_routes_may_stand_in_for_each_other() -> None:
    """Each target has had its turn before one is asked again, and the attempts end it."""
    async with asyncio.timeout(30), upstreams(a=FAILS, b=FAILS) as up:
        router = up.router(
            route("a", fallbacks=("other",)),
            route("b", name="other", fallbacks=("fast",)),
            attempts=4,
        )
        answer = await ask(router)
        assert (502, b"4") == (answer.status, answer.header("x-attempts"))
        assert {"a": 2, "b": 2} == up.calls
        up["b"].script(json_reply(chat_answer("Hi.")))
        assert 200 == (await ask(router)).status

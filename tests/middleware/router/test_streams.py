"""Streams: mended before their first content, and never after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.middleware.router import RouterMiddleware
from asgi_llm.routing.strategies import Load
from asgi_llm.testing import (
    Close,
    Reset,
    Step,
    Wait,
    chat_answer,
    chat_events,
    json_reply,
    sse_reply,
)
from tests.middleware.router.conftest import (
    FAILS,
    STREAM,
    ask,
    exchange_of,
    route,
    upstreams,
)

EVENTS = chat_events("One two three.")
GOOD = sse_reply(EVENTS)
ROLE = {**EVENTS[0], "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
OVERLOADED = {"error": {"message": "Busy.", "type": "overloaded_error", "code": None}}


@pytest.mark.parametrize(
    "steps",
    (
        [OVERLOADED],
        [ROLE, OVERLOADED],
        [b": ping\n\n", ROLE, Reset()],
        [ROLE, Close()],
        [Close()],
        [b"data: {\n\n"],
    ),
    ids=["error", "role, error", "role, reset", "role, end", "nothing", "bad event"],
)
async def test_a_failure_before_any_content_is_mended(steps: Sequence[Any]) -> None:
    """The client gets the other target's stream, byte for byte, and nothing of the first."""
    async with upstreams(a=sse_reply(steps, done=False), b=GOOD) as up:
        alone = await ask(up.app, {**STREAM, "model": "b/m"})
        answer = await ask(up.router(route("a", "b")), STREAM)
        assert alone.body == answer.body
        assert (b"b", b"2") == (answer.header("x-provider"), answer.header("x-attempts"))
        assert {"a": 1, "b": 2} == up.calls


async def test_the_failure_is_the_answer_where_nothing_is_left() -> None:
    """What was held back of it leaves as it came."""
    async with upstreams(a=sse_reply([ROLE, OVERLOADED], done=False)) as up:
        plain = await ask(up.app, {**STREAM, "model": "a/m"})
        routed = await ask(up.router(route("a"), attempts=2), STREAM)
        assert (200, plain.body) == (routed.status, routed.body)
        assert {"a": 3} == up.calls


async def test_the_first_content_leaves_before_the_second_is_there() -> None:
    """Held back is what comes before it, and no more."""
    go = asyncio.Event()
    async with asyncio.timeout(10), upstreams(a=sse_reply([ROLE, EVENTS[1], Wait(go)])) as up:
        async with exchange_of(up.router(route("a")), STREAM) as exchange:
            first = await exchange.next_chunk()
            assert b"assistant" in first
            go.set()
            recorder = await exchange.finish()
        assert recorder.complete


async def test_a_stream_may_be_passed_without_a_look() -> None:
    """With 0 bytes to hold, an error in the first event is the client's."""
    async with upstreams(a=sse_reply([ROLE, OVERLOADED], done=False), b=GOOD) as up:
        answer = await ask(up.router(route("a", "b"), stream_peek_bytes=0), STREAM)
        assert b"Busy." in answer.body
        assert {"a": 1} == up.calls


async def test_no_more_than_the_cap_is_held() -> None:
    """Where the content is later than that, the stream passes as it is."""
    many = sse_reply([*([ROLE] * 50), OVERLOADED], done=False)
    async with upstreams(a=many, b=GOOD) as up:
        answer = await ask(up.router(route("a", "b"), stream_peek_bytes=1000), STREAM)
        assert b"Busy." in answer.body
        assert {"a": 1} == up.calls


FAULTS: dict[str, tuple[Step | dict[str, Any], ...]] = {
    "reset": (Reset(),),
    "end": (Close(),),
    "error": (OVERLOADED,),
    "bad event": (b"data: {\n\n",),
}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.integers(0, 4),
    fault=st.sampled_from(sorted(FAULTS)),
    split=st.one_of(st.none(), st.integers(1, 300)),
    attempts=st.integers(1, 4),
)
def test_a_stream_that_began_is_never_tried_again(
    content: int, fault: str, split: int | None, attempts: int
) -> None:
    """Wherever it breaks off: one attempt, an error as its last event, and no false end."""
    asyncio.run(_breaks_off(content, fault, split, attempts))


async def _breaks_off(content: int, fault: str, split: int | None, attempts: int) -> None:
    events = [ROLE, *chat_events("One two three four five.")[1 : 1 + content]]
    broken = sse_reply([*events, *FAULTS[fault]], done=False, split=split)
    async with asyncio.timeout(10), upstreams(a=broken, b=GOOD) as up:
        load = Load()
        router = up.router(
            route("a", fallbacks=("other",)),
            route("b", name="other"),
            load=load,
            attempts=attempts,
        )
        answer = await ask(router, STREAM)
        data = [event.data for event in _sse.Decoder().feed(answer.body)]
        texts = [json.loads(one) for one in data if one != b"[DONE]"]
        said = "".join(
            choice["delta"].get("content") or ""
            for one in texts
            for choice in one.get("choices", ())
        )
        if b"b" == answer.header("x-provider"):
            # Nothing of the first had left.
            assert (1, 1) == (up.calls["a"], up.calls["b"])
            assert "One two three." == said
            assert attempts > 1
        else:
            assert {"a": 1} == up.calls
            assert "error" in texts[-1] if answer.status == 200 else "error" in answer.json()
            assert "One two three four five.".startswith(said)
        if content and said and b"a" == answer.header("x-provider"):
            assert {"a": 1} == up.calls
        assert (0, 0) == (load.in_flight("a/m"), load.in_flight("b/m"))


async def test_an_answer_that_broke_off_counts_against_its_target() -> None:
    """The breaker opens by streams that never come to their end, too."""
    broken = sse_reply([*EVENTS[:2], Reset()], done=False)
    async with upstreams(a=broken) as up:
        router = up.router(route("a"))
        statuses = [(await ask(router, STREAM)).status for _ in range(7)]
        assert [200, 200, 200, 200, 200, 503, 503] == statuses
        assert {"a": 5} == up.calls


class Endpoint:
    """An app of one's own: it answers by the model that it is asked for.

    Attributes:
        asked: The models.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        document = json.loads((await receive())["body"])
        self.asked.append(document["model"])
        good = document["model"] == "good"
        events = EVENTS if good else [ROLE, {"error": {"code": "insufficient_quota"}}]
        chunks = [_sse.encode(json.dumps(event).encode()) for event in events]
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in [*chunks, _sse.DONE]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def test_streams_of_other_apps_are_judged_by_their_first_event() -> None:
    """A 200 that begins with an error is one, whoever sent it."""
    app = Endpoint()
    router = RouterMiddleware(app, routes=[route("x/bad", "x/good")], rewrite_model=True)
    answer = await ask(router, STREAM)
    assert ["bad", "good"] == app.asked
    assert (200, b"2") == (answer.status, answer.header("x-attempts"))
    assert b"insufficient_quota" not in answer.body
    assert answer.body.endswith(_sse.DONE)


async def test_whole_answers_pass_as_they_came() -> None:
    """The bytes are the app's own, and so are the headers but for the request's id."""
    async with upstreams(a=json_reply(chat_answer("Hi.")), b=FAILS) as up:
        plain = await ask(up.app, {**STREAM, "stream": False, "model": "a/m"})
        routed = await ask(up.router(route("a")), {**STREAM, "stream": False})
        assert plain.body == routed.body
        assert [name for name, _ in plain.headers] == [name for name, _ in routed.headers]

"""What the layer hands on, by apps and to hosts that do it in other ways than most."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.state import COST, USAGE, State, enter
from asgi_llm.testing import Recorder, call, chat_answer, chat_events, http_scope
from asgi_llm.types import Cost, Usage
from tests.middleware.cost.conftest import HELLO, PRICES, App, Notes, Stream, ask, read, usd

JSON = [(b"content-type", b"application/json")]
STREAM = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}


def layer(app: Any, notes: Notes | None = None) -> CostMiddleware:
    return CostMiddleware(app, prices=PRICES, journal=notes)


class Sends:
    """Sends a start with given headers and a body of given pieces.

    Args:
        headers: Of the start.
        pieces: Of the body.
        in_tasks: Whether each message is sent by a task of its own.
    """

    def __init__(
        self, headers: Iterable[tuple[bytes, bytes]], *pieces: Any, in_tasks: bool = False
    ) -> None:
        self._headers = headers
        self._pieces = pieces
        self._in_tasks = in_tasks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        messages: list[dict[str, Any]] = [
            {"type": "http.response.start", "status": 200, "headers": self._headers}
        ]
        for place, piece in enumerate(self._pieces, 1):
            more = place < len(self._pieces)
            messages.append({"type": "http.response.body", "body": piece, "more_body": more})
        for message in messages:
            waiting: Any = send(message)
            if self._in_tasks:
                waiting = asyncio.get_running_loop().create_task(waiting)
            assert await waiting is None


BODY = msgspec.json.encode(chat_answer())


@pytest.mark.parametrize("in_tasks", [False, True])
async def test_messages_may_be_sent_by_tasks(in_tasks: bool) -> None:
    """Each of them, also the start that waits for the cost."""
    answer = await ask(layer(Sends(JSON, BODY, in_tasks=in_tasks)))
    assert (BODY, b"0.000029") == (answer.body, dict(answer.headers)[b"x-cost"])


@pytest.mark.parametrize(
    "headers",
    [
        tuple(JSON),
        [[b"content-type", b"application/json"]],
        [(b"Content-Type", b"Application/JSON"), (b"x-other", b"1")],
        [(b"CONTENT-TYPE", b"application/json; charset=utf-8"), (b"Content-Encoding", b"identity")],
    ],
)
async def test_headers_of_an_answer_may_be_written_in_many_ways(headers: Any) -> None:
    """It is priced, and all of them reach the client."""
    answer = await ask(layer(Sends(headers, BODY)))
    told = [(name, value) for name, value in answer.headers]
    assert [*map(tuple, headers), (b"x-cost", b"0.000029")] == told


async def test_headers_that_can_be_gone_through_but_once_are_kept() -> None:
    """As an iterator is, which the specification allows."""
    answer = await ask(layer(Sends(iter(JSON), BODY)))
    assert [*JSON, (b"x-cost", b"0.000029")] == list(answer.headers)


@pytest.mark.parametrize("pieces", [(BODY, b""), (b"", BODY), (BODY[:9], BODY[9:]), (BODY,)])
@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_a_body_in_pieces_or_of_another_type_costs_the_same(pieces: Any, kind: Any) -> None:
    """Whatever way its account takes, with and without the app's own word for the usage."""
    for usage in (None, Usage(input_uncached=9, output_text=2)):
        notes = Notes()
        app = Sends(JSON, *map(kind, pieces))

        async def inside(
            scope: Scope,
            receive: Receive,
            send: Send,
            usage: Usage | None = usage,
            app: Sends = app,
        ) -> None:
            if usage is not None:
                enter(scope)[1].set(USAGE, usage)
            await app(scope, receive, send)

        assert BODY == (await ask(layer(inside, notes))).body
        assert usd("0.000029") == notes.row.cost.amount_usd


async def test_a_host_with_messages_of_another_type_gets_its_stream() -> None:
    """A mapping that is no dict is looked at in full, and passes."""

    class Fields(dict[str, Any]):
        pass

    class App2(Stream):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def sends(message: Any) -> None:
                await send(Fields(message))

            await super().__call__(scope, receive, sends)

    notes = Notes()
    app = App2(chat_events("One two three four."))
    answer = await ask(layer(app, notes), STREAM)
    assert 1 == answer.body.count(b'"cost":0.000049')
    assert usd("0.000049") == notes.row.cost.amount_usd


@pytest.mark.parametrize("text", ["[]", "an [] empty list", '"choices":[{', '"choices":[]'])
async def test_contents_that_look_like_marks_of_a_stream_are_contents(text: str) -> None:
    """In any event of a stream they pass, and the event with the usage is found all the same."""
    notes = Notes()
    events = [
        {"id": "x", "choices": [{"index": 0, "delta": {"content": one}}], "usage": None}
        for one in ("a", text, "b", text, text)
    ]
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    app = Stream([*events, {"id": "x", "choices": [], "usage": usage}])
    answer = await ask(layer(app, notes), STREAM)
    told = b"".join(app.chunks[:-2])
    assert told == answer.body[: len(told)]
    assert 1 == answer.body.count(b',"cost":0.000059}')
    assert usd("0.000059") == notes.row.cost.amount_usd


async def test_the_usage_behind_a_usual_event_in_one_chunk_is_found() -> None:
    """Though the chunk begins and ends as all before it."""
    plain = msgspec.json.encode({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    spent = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    last = _sse.encode(msgspec.json.encode({"choices": [], "usage": spent}))
    whole = _sse.encode(plain)
    headers = [(b"content-type", b"text/event-stream")]
    pieces = (whole, whole, whole + last, whole + last[:9], last[9:], _sse.DONE)
    silent = {**HELLO, "stream": True}
    answer = await ask(layer(Sends(headers, *pieces)), silent)
    assert whole * 4 + _sse.DONE == answer.body


async def test_the_cost_is_there_for_layers_around() -> None:
    """In full, also of a usual answer, whose cost nobody else asks for."""
    states: list[State] = []
    app = App(before=lambda state: state.set(USAGE, Usage(input_uncached=9, output_text=2)))
    inside = layer(app)

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        states.append(state)
        await inside(scope, receive, send)

    costs: list[Cost | None] = []
    for _ in range(3):
        answer: Recorder = await call(around, http_scope(), json=HELLO)
        assert 200 == answer.status
        costs.append(states[-1].get(COST))
    parts = {"input_uncached": usd("0.000009"), "output_text": usd("0.00002")}
    for cost in costs:
        assert cost is not None
        assert (usd("0.000029"), parts) == (cost.amount_usd, dict(cost.parts))

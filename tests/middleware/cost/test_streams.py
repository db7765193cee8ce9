"""Streams: metered as they pass, and paid for however they end."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.openai import OpenAI
from asgi_llm.testing import (
    Close,
    Exchange,
    Signal,
    Upstream,
    Wait,
    chat_answer,
    chat_events,
    http_scope,
    json_reply,
    sse_reply,
)
from asgi_llm.types import Usage
from tests.middleware.cost.conftest import HELLO, PRICES, App, NineTokens, Notes, Stream, ask, usd

STREAM = {**HELLO, "stream": True}
ASKS_USAGE = {**STREAM, "stream_options": {"include_usage": True, "include_obfuscation": False}}
TEXT = "One two three four five six seven."
WORDS = 7


def layer(app: Any, notes: Notes, **options: Any) -> CostMiddleware:
    """The layer with a journal and prices of 1 and 10 USD for a million tokens."""
    given: dict[str, Any] = {"prices": PRICES, "journal": notes, "token_counter": NineTokens()}
    return CostMiddleware(app, **{**given, **options})


def is_usage(chunk: bytes) -> bool:
    return b'"choices":[]' in chunk


@pytest.mark.parametrize("size", (None, 1, 7, 64, 1000, 10**6))
async def test_the_usage_is_asked_for_and_hidden(size: int | None) -> None:
    """A client that did not ask gets all other bytes and no event of ours, however they are cut."""
    notes = Notes()
    app = Stream(chat_events(TEXT), size=size)
    whole = Stream(chat_events(TEXT))
    answer = await ask(layer(app, notes), STREAM)
    assert {**STREAM, "stream_options": {"include_usage": True}} == app.documents[0]
    assert b"".join(chunk for chunk in whole.chunks if not is_usage(chunk)) == answer.body
    assert Usage(input_uncached=9, output_text=WORDS) == notes.row.usage
    assert (usd("0.000079"), True, "complete") == (
        notes.row.cost.amount_usd,
        notes.row.streamed,
        notes.row.outcome,
    )


@pytest.mark.parametrize("size", (None, 1, 7, 64, 1000, 10**6))
async def test_a_client_that_asked_for_usage_is_told_the_cost_in_it(size: int | None) -> None:
    """In a field at the end of that event; no other byte is changed."""
    app = Stream(chat_events(TEXT), size=size)
    whole = Stream(chat_events(TEXT))
    answer = await ask(layer(app, Notes()), ASKS_USAGE)
    assert ASKS_USAGE == app.documents[0]
    (usage,) = [chunk for chunk in whole.chunks if is_usage(chunk)]
    told = usage.replace(b"}\n\n", b',"cost":0.000079}\n\n')
    assert b"".join(whole.chunks).replace(usage, told) == answer.body
    assert 0.000079 == msgspec.json.decode(told[6:])["cost"]


async def test_a_price_that_is_not_known_is_null_in_the_event() -> None:
    """Null is not zero."""
    app = layer(Stream(chat_events(TEXT)), Notes(), prices=type(PRICES)())
    answer = await ask(app, ASKS_USAGE)
    assert b'"cost":null' in answer.body


async def test_streams_with_crlf_and_without_a_last_blank_line() -> None:
    """The event is hidden in either, and what is no event of ours passes."""
    whole = b"".join(Stream(chat_events(TEXT)).chunks)
    for body in (
        whole.replace(b"\n", b"\r\n"),
        b": ping\n\n" + whole,
        whole[: -len(_sse.DONE)].rstrip(b"\n"),
    ):
        for size in (1, 50, len(body)):
            app = Stream([])
            app.chunks = [body[at : at + size] for at in range(0, len(body), size)]
            notes = Notes()
            answer = await ask(layer(app, notes), STREAM)
            assert not is_usage(answer.body)
            assert answer.body.count(b"data: ") == body.count(b"data: ") - 1
            assert WORDS == notes.row.usage.output_tokens


@pytest.mark.parametrize("place", ("finish", "every", "middle"))
async def test_usage_in_events_that_have_choices_is_read_and_passes(place: Any) -> None:
    """Only an event that holds nothing else is one that was asked for on our account."""
    notes = Notes()
    app = Stream(chat_events(TEXT, usage_in=place))
    answer = await ask(layer(app, notes), STREAM)
    assert b"".join(app.chunks) == answer.body
    assert Usage(input_uncached=9, output_text=WORDS) == notes.row.usage


async def test_a_stream_without_usage_is_counted_and_flagged() -> None:
    """By its text, with the counter; all choices and calls of tools are in it."""
    for events, tokens in (
        (chat_events(TEXT, usage_in="none"), WORDS),
        (chat_events(TEXT, usage_in="none", n=3), 3 * WORDS),
        (chat_events(None, usage_in="none", tool_calls=[("look_up", {"query": "one"})]), 2),
    ):
        notes = Notes()
        await ask(layer(Stream(events), notes), STREAM)
        assert Usage(input_uncached=9, output_text=tokens, estimated=True) == notes.row.usage
        assert notes.row.cost.estimated


async def test_a_long_stream_keeps_little_and_is_told_by_what_it_keeps() -> None:
    """The usage at its end is read; where there is none, the estimate is about right."""
    words = [f"word{number} " for number in range(3000)]
    notes = Notes()
    await ask(layer(Stream(chat_events(words)), notes), STREAM)
    assert 3000 == notes.row.usage.output_tokens
    silent = Notes()
    await ask(layer(Stream(chat_events(words, usage_in="none")), silent), STREAM)
    assert 2700 < silent.row.usage.output_tokens < 3300
    assert silent.row.usage.estimated


@pytest.mark.parametrize("ends_apart", (True, False))
async def test_the_outcome_is_written_before_the_end_mark_leaves(ends_apart: bool) -> None:
    """A client that has ``[DONE]`` finds its row written, whenever the body ends."""
    notes = Notes()
    app = Stream(chat_events(TEXT), ends_apart=ends_apart)
    async with Exchange(layer(app, notes), body=msgspec.json.encode(STREAM)) as exchange:
        chunk = b""
        while not chunk.endswith(_sse.DONE):
            assert [] == notes.rows or exchange.pending
            chunk = await exchange.next_chunk()
            await exchange.settle()
        assert 1 == len(notes.rows)
        await exchange.finish()
    assert 1 == len(notes.rows)


async def test_a_chunk_leaves_before_the_next_is_asked_for() -> None:
    """Also where an event is taken out of the stream."""
    asked: list[int] = []
    left: list[int] = []
    chunks = Stream(chat_events(TEXT)).chunks

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, chunk in enumerate(chunks):
            asked.append(number)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            left.append(len(exchange.recorder.body))
        await send({"type": "http.response.body", "body": b""})

    async with Exchange(layer(app, Notes()), body=msgspec.json.encode(STREAM)) as exchange:
        await exchange.finish()
    sizes = [0 if is_usage(chunk) else len(chunk) for chunk in chunks]
    assert [sum(sizes[: number + 1]) for number in asked] == left


async def test_fields_of_the_stream_options_stay() -> None:
    """What the client said of its stream is kept beside what we ask."""
    app = Stream(chat_events(TEXT))
    document = {**STREAM, "stream_options": {"include_obfuscation": False}}
    await ask(layer(app, Notes()), document)
    assert {"include_obfuscation": False, "include_usage": True} == app.documents[0][
        "stream_options"
    ]


def exchange_with(app: Any, document: Any) -> Exchange:
    """One chat request, its answer taken piece by piece."""
    body = msgspec.json.encode(document)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    return Exchange(app, http_scope(headers=headers), body=body)


def gateway(upstream: Upstream) -> ProviderApp:
    return ProviderApp([OpenAI(api_key="sk-test", base_url=f"{upstream.url}/v1")])


async def taken(exchange: Exchange, events: int) -> None:
    """Let the client take so many events, in however many pieces they come."""
    while exchange.recorder.body.count(b"data: ") < events:
        await exchange.next_chunk()


async def left(exchange: Exchange) -> None:
    """Let the client leave, and the app end."""
    exchange.disconnect()
    try:
        await exchange.finish()
    except OSError:
        # How a server tells an app that sends to a client that has gone.
        return


POINTS = sorted(random.Random(5).sample(range(1, WORDS), 4))


@pytest.mark.parametrize("point", (*POINTS, WORDS))
async def test_b17_a_client_that_leaves_pays_for_what_the_provider_served(point: int) -> None:
    """``cancel``: the upstream is closed, and the row has the tokens of the upstream's own row."""
    notes, never, sent = Notes(), asyncio.Event(), asyncio.Event()
    events = chat_events(TEXT)
    reply = sse_reply([*events[: point + 1], Signal(sent), Wait(never)])
    async with Upstream() as upstream:
        upstream.script(reply)
        inside = gateway(upstream)
        async with exchange_with(layer(inside, notes), STREAM) as exchange:
            await taken(exchange, point + 1)
            await left(exchange)
        (served,) = await upstream.served(1)
        await inside.aclose()
    assert served.client_left
    assert ("client_disconnect", point, True, 9) == (
        notes.row.outcome,
        served.output_tokens,
        notes.row.usage.estimated,
        notes.row.usage.input_tokens,
    )
    assert served.output_tokens == notes.row.usage.output_tokens


@pytest.mark.parametrize("point", POINTS)
async def test_b17_a_drained_stream_is_paid_for_to_the_token(point: int) -> None:
    """``drain``: the upstream is read to its end, and its own figures are in the row."""
    notes, go_on = Notes(), asyncio.Event()
    events = chat_events(TEXT)
    async with Upstream() as upstream:
        upstream.script(sse_reply([*events[: point + 1], Wait(go_on), *events[point + 1 :]]))
        inside = gateway(upstream)
        app = layer(inside, notes, on_disconnect="drain")
        async with exchange_with(app, STREAM) as exchange:
            await taken(exchange, point + 1)
            await exchange.until_receiving()
            exchange.disconnect()
            await exchange.settle()
            assert [] == notes.rows
            go_on.set()
            await left(exchange)
        (served,) = await upstream.served(1)
        await inside.aclose()
    assert served.complete
    assert served.usage is not None
    assert ("client_disconnect", served.usage["completion_tokens"], False) == (
        notes.row.outcome,
        notes.row.usage.output_tokens,
        notes.row.usage.estimated,
    )


async def test_b17_draining_ends_when_its_time_is_over() -> None:
    """A provider that stalls is not waited for longer than was said."""
    notes, never = Notes(), asyncio.Event()
    events = chat_events(TEXT)
    async with Upstream() as upstream:
        upstream.script(sse_reply([*events[:3], Wait(never)]))
        inside = gateway(upstream)
        app = layer(inside, notes, on_disconnect=0.05)
        async with exchange_with(app, STREAM) as exchange:
            await taken(exchange, 3)
            await left(exchange)
        (served,) = await upstream.served(1)
        await inside.aclose()
    assert served.client_left
    assert ("client_disconnect", 2) == (notes.row.outcome, notes.row.usage.output_tokens)


@pytest.mark.parametrize("document", (HELLO, STREAM), ids=("whole", "stream"))
async def test_b18_a_client_that_leaves_before_the_first_byte(document: Any) -> None:
    """The upstream is closed within a second, and the row has the input as counted."""
    notes, never = Notes(), asyncio.Event()
    async with Upstream() as upstream:
        upstream.script(json_reply(chat_answer(), before=[Wait(never)]))
        inside = gateway(upstream)
        async with exchange_with(layer(inside, notes), document) as exchange:
            await upstream.arrived(1)
            await left(exchange)
        (served,) = await upstream.served(1, timeout_seconds=1.0)
        await inside.aclose()
    assert served.client_left
    assert ("client_disconnect", Usage(input_uncached=9, estimated=True)) == (
        notes.row.outcome,
        notes.row.usage,
    )


async def test_b19_a_stream_that_breaks_off_is_billed_and_failed() -> None:
    """The client gets an error event and no false end; the row has the tokens that came."""
    notes = Notes()
    async with Upstream() as upstream:
        upstream.script(sse_reply([*chat_events(TEXT)[:4], Close()]))
        inside = gateway(upstream)
        answer = await ask(layer(inside, notes), STREAM)
        (served,) = await upstream.served(1)
        await inside.aclose()
    assert b'"error"' in answer.body
    assert b'"stop"' not in answer.body
    assert ("failed", 200, True) == (
        notes.row.outcome,
        notes.row.status,
        notes.row.usage.estimated,
    )
    assert notes.row.usage.output_tokens >= served.output_tokens == 3


async def test_b17_b18_a_host_that_cancels_the_request_loses_no_row() -> None:
    """Cancelled in the midst of a stream, and again while it is settled."""
    notes, started = Notes(), asyncio.Event()
    events = [_sse.encode(msgspec.json.encode(event)) for event in chat_events(TEXT)[:3]]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        started.set()
        await asyncio.Event().wait()

    async def receive() -> Any:
        return {"type": "http.request", "body": msgspec.json.encode(STREAM), "more_body": False}

    async def send(message: Any) -> None:
        return

    task = asyncio.create_task(layer(app, notes)(http_scope(), receive, send))
    await started.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert ("client_disconnect", 2) == (notes.row.outcome, notes.row.usage.output_tokens)


async def test_rows_are_those_of_the_provider_for_whole_answers_too() -> None:
    """A hundred calls at once: as many rows, with the usage that the upstream's own ledger has."""
    notes = Notes()

    def reply(request: Any) -> Any:
        return json_reply(chat_answer("word " * (1 + len(request.body) % 7)))

    async with Upstream(reply) as upstream:
        inside = gateway(upstream)
        app = layer(inside, notes)
        documents = [{**HELLO, "user": "u" * number} for number in range(100)]
        answers = await asyncio.gather(*(ask(app, document) for document in documents))
        served = await upstream.served(100)
        await inside.aclose()
    assert {200} == {answer.status for answer in answers}
    assert sorted(row.usage["total_tokens"] for row in served if row.usage) == sorted(
        row.usage.total_tokens for row in notes.rows
    )


async def test_an_app_that_fails_before_its_answer_costs_nothing() -> None:
    """The exception is the host's, and the row says that it failed."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("broken")

    notes = Notes()
    with pytest.raises(RuntimeError):
        await ask(layer(app, notes))
    assert ("failed", usd("0")) == (notes.row.outcome, notes.row.cost.amount_usd)


async def test_a_json_answer_to_a_stream_is_priced_like_any() -> None:
    """What the app answers decides, not what was asked."""
    notes = Notes()
    answer = await ask(layer(App(), notes), STREAM)
    assert (b"0.000029", "complete") == (answer.header("x-cost"), notes.row.outcome)

"""Tokens: reserved before the call, settled with what was used."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.state import USAGE, enter
from asgi_llm.testing import Exchange, call, chat_answer, chat_events, http_scope, usage_of
from asgi_llm.types import Document, Usage
from asgi_llm.wire.tokens import TokenCount
from tests.middleware.rate_limit.conftest import HELLO, App, Watched, ask, read, told, until


class Counted:
    """Counts every request as ``tokens``."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    async def count(self, document: Document, model: str) -> TokenCount:
        return TokenCount(self.tokens, True)


def layered(app: Any, store: Any = None, **options: Any) -> RateLimitMiddleware:
    """The layer with a limit of 1,000 tokens a minute, where every input has 10."""
    settings = {"limits": "1000 tokens/minute", "token_counter": Counted(10), **options}
    return RateLimitMiddleware(app, store=store, **settings)


RESERVED: dict[str, tuple[dict[str, Any], int]] = {
    "max_tokens": ({"max_tokens": 50}, 60),
    "max_completion_tokens": ({"max_completion_tokens": 70}, 80),
    "the larger of both": ({"max_tokens": 50, "max_completion_tokens": 70}, 80),
    "max_output_tokens": ({"max_output_tokens": 5}, 15),
    "none": ({}, 110),
    "null is none": ({"max_tokens": None, "n": None}, 110),
    "zero": ({"max_tokens": 0}, 10),
    "for each choice": ({"max_tokens": 50, "n": 4}, 210),
    "best of": ({"max_tokens": 50, "n": 2, "best_of": 3}, 160),
    "for each prompt": ({"max_tokens": 50, "prompt": ["a", "b"]}, 110),
    "a prompt of tokens is one": ({"max_tokens": 50, "prompt": [1, 2, 3]}, 60),
    "by the model": ({"model": "big-1"}, 310),
    "never more than the model": ({"model": "big-1", "max_tokens": 900}, 310),
}


@pytest.mark.parametrize("case", RESERVED)
async def test_b14_what_a_request_may_use_is_reserved(case: str) -> None:
    """Input and the output asked for, times the choices, else what the model gives."""
    fields, reserved = RESERVED[case]
    store = Watched()
    layer = layered(
        App(), store, default_output_tokens=100, max_output_tokens={"big-*": 300, "*-1": 7}
    )
    await ask(layer, {**HELLO, "messages": [], **fields})
    assert [(reserved,)] == store.named("take")


@pytest.mark.parametrize(
    "path", ("/v1/embeddings", "/v1/moderations", "/v1/rerank", "/v1/audio/speech")
)
async def test_what_makes_no_text_reserves_no_output(path: str) -> None:
    """Embeddings and their like are counted by their input."""
    store = Watched()
    await ask(layered(App(), store), {"model": "m", "input": "text"}, path=path)
    assert [(10,)] == store.named("take")


@pytest.mark.parametrize("field", ("max_tokens", "max_completion_tokens", "max_output_tokens", "n"))
@pytest.mark.parametrize("value", (-1, 1.5, "5", True, [], 2**31, 10**30))
async def test_b14_a_number_that_is_none_is_refused(field: str, value: Any) -> None:
    """Negative, fractional, huge and quoted numbers are a 400 that names the field."""
    app, store = App(), Watched()
    answer = await ask(layered(app, store), {**HELLO, field: value})
    assert (400, field) == (answer.status, answer.json()["error"]["param"])
    assert (0, []) == (app.calls, store.calls)


@pytest.mark.parametrize(("body", "code"), ((b"{", "invalid_json"), (b"[1]", "invalid_type")))
async def test_a_body_that_cannot_be_read_is_refused(body: bytes, code: str) -> None:
    """It is not let through uncounted."""
    app = App()
    answer = await call(layered(app), body=body)
    assert (400, code, 0) == (answer.status, answer.json()["error"]["code"], app.calls)


async def test_a_large_body_is_refused_unread() -> None:
    """Over ``max_body_bytes`` is a 413."""
    answer = await ask(layered(App(), max_body_bytes=10))
    assert 413 == answer.status


async def test_b14_a_guess_is_never_why_a_request_cannot_be_met() -> None:
    """The default for the output is cut to what the limit could ever give."""
    store = Watched()
    layer = layered(App(), store, limits="100 tokens/minute", default_output_tokens=5000)
    assert 200 == (await ask(layer)).status
    assert [(100,)] == store.named("take")


async def test_what_can_never_be_met_says_so_without_retry_after() -> None:
    """A request for more than the limit holds is not asked to come back."""
    refused = await ask(layered(App()), {**HELLO, "max_tokens": 5000})
    assert 429 == refused.status
    assert refused.header("retry-after") is refused.header("retry-after-ms") is None
    assert (
        "This request may use 5010 tokens, and no request of that size is ever let through: the "
        "limit is 1000 tokens per minute for this caller. Send less, or ask for fewer output "
        "tokens."
    ) == refused.json()["error"]["message"]


async def test_the_usage_of_the_answer_is_what_counts() -> None:
    """What was reserved beyond it comes back: 11 tokens of 1,000 are gone."""
    layer = layered(App())
    assert b"890" == told(await ask(layer, {**HELLO, "max_tokens": 100}), "tokens")[1]
    assert b"879" == told(await ask(layer, {**HELLO, "max_tokens": 100}), "tokens")[1]


async def test_use_beyond_the_reservation_is_taken_too() -> None:
    """An answer that used more than it should holds the next one up."""
    layer = layered(App(chat_answer(usage=usage_of(10, 2000))))
    assert 200 == (await ask(layer, {**HELLO, "max_tokens": 5})).status
    refused = await ask(layer, {**HELLO, "max_tokens": 5})
    assert (429, b"0") == (refused.status, told(refused, "tokens")[1])


async def test_each_unit_is_settled_with_its_own_figure() -> None:
    """Input, output and both are counted apart, each with its share of the usage."""
    store = Watched()
    limits = ["900 input tokens/minute", "900 output tokens/minute", "900 tokens/minute"]
    layer = layered(App(chat_answer(usage=usage_of(30, 7))), store, limits=limits)
    await ask(layer, {**HELLO, "max_tokens": 100})
    assert [(10, 100, 110)] == store.named("take")
    assert [(30, 7, 37)] == store.named("settle")


async def test_the_usage_that_an_app_inside_left_counts_first() -> None:
    """The state knows better than the answer, which may show the client something else."""
    store = Watched()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        enter(scope)[1].set(USAGE, Usage(input_uncached=3, reasoning=4))
        await App()(scope, receive, send)

    await ask(layered(app, store))
    assert [(7,)] == store.named("settle")


UNKNOWN: dict[str, tuple[App, int]] = {
    "no usage": (App(chat_answer("x" * 400, usage=None)), 10 + 100),
    "usage that is null": (App({**chat_answer("x" * 40, usage=None), "usage": None}), 10 + 10),
    "usage that is nonsense": (App({**chat_answer("x" * 40), "usage": "many"}), 10 + 10),
    "usage below zero": (App(chat_answer(usage=usage_of(-5, -6))), 0),
    "the word in a text": (App(chat_answer('say "usage": {}' * 4, usage=None)), 10 + 15),
    "an error": (App({"error": {"message": "no"}}, status=500), 0),
    "an error with usage": (App(chat_answer(), status=400), 0),
    "compressed": (App(headers=[(b"content-encoding", b"gzip")]), 110),
}


@pytest.mark.parametrize("case", UNKNOWN)
async def test_an_answer_without_usage_is_estimated(case: str) -> None:
    """By its text; an error cost nothing, and what cannot be read costs what was reserved."""
    app, cost = UNKNOWN[case]
    store = Watched()
    await ask(layered(app, store), {**HELLO, "max_tokens": 100})
    assert [(cost,)] == store.named("settle")


def streaming(events: list[Document], pieces: int = 0, *, end: bytes = _sse.DONE) -> Any:
    """An app that streams ``events``, one a chunk, or in chunks of so many bytes."""
    chunks = [_sse.encode(msgspec.json.encode(event)) for event in events] + [end]
    if pieces:
        whole = b"".join(chunks)
        chunks = [whole[at : at + pieces] for at in range(0, len(whole), pieces)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize("place", ("final", "finish", "every", "middle"))
@pytest.mark.parametrize("pieces", (0, 1, 7, 100))
async def test_the_usage_of_a_stream_is_found_wherever_it_stands(place: Any, pieces: int) -> None:
    """In any event and at any cut of the bytes."""
    store = Watched()
    events = chat_events("one two three four", usage=usage_of(20, 4), usage_in=place)
    await ask(layered(streaming(events, pieces), store))
    assert [(24,)] == store.named("settle")


async def test_the_usage_of_a_long_stream_is_found_at_its_start_and_at_its_end() -> None:
    """Only the last 64 KiB are kept, and what they do not hold was looked through before."""
    early = chat_events("word " * 4000, usage=usage_of(20, 4000), usage_in="none")
    usage = {**early[0], "choices": [], "usage": usage_of(20, 4000)}
    for events in ([early[0], usage, *early[1:]], [*early, usage]):
        store = Watched()
        await ask(layered(streaming(events), store))
        assert [(4020,)] == store.named("settle")


LONG = {"object": "list", "data": [{"embedding": "A" * 1_000_000}] * 12}


@pytest.mark.parametrize(
    ("answer", "cost"),
    (
        ({**LONG, "usage": usage_of(77, 0)}, 77),
        ({"usage": usage_of(77, 0), **LONG}, 110),
        (LONG, 110),
        ({**LONG, "usage": "{"}, 110),
    ),
)
async def test_of_a_very_long_answer_the_end_is_read(answer: Document, cost: int) -> None:
    """A usage at its end is found; where there is none, what was reserved is what it costs."""
    store = Watched()
    body = msgspec.json.encode(answer)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for at in range(0, len(body), 65536):
            chunk = body[at : at + 65536]
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    await ask(layered(app, store), {**HELLO, "max_tokens": 100})
    assert [(cost,)] == store.named("settle")


@pytest.mark.parametrize("pieces", (0, 30_000))
async def test_an_event_larger_than_what_is_kept_is_read(pieces: int) -> None:
    """An image in a stream does not hide the usage beside it."""
    store = Watched()
    event = {"type": "image", "b64_json": "A" * 300_000, "usage": usage_of(5, 1056)}
    await ask(layered(streaming([event], pieces), store))
    assert [(1061,)] == store.named("settle")


@pytest.mark.parametrize(
    "end",
    (b"", b"data: not JSON\n\n", b'data: {"usage": {"a"\n\n', b": a comment\n\n", b"data: {}"),
)
async def test_a_stream_that_ends_badly_is_estimated(end: bytes) -> None:
    """What came of it counts, whatever its end is."""
    store = Watched()
    events = chat_events("word " * 40, usage_in="none")
    await ask(layered(streaming(events, end=end), store))
    ((cost,),) = store.named("settle")
    assert 55 < cost < 65


@pytest.mark.parametrize(("megabytes", "least"), ((6, 1_500_000), (20, 10)))
async def test_a_stream_without_borders_is_no_trap(megabytes: int, least: int) -> None:
    """What is longer than an event may be is let go; what can be said of it is said."""
    store = Watched()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(megabytes):
            chunk = b"x" * 1_000_000
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    answer = await ask(layered(app, store))
    assert (True, megabytes * 1_000_000) == (answer.complete, len(answer.body))
    ((cost,),) = store.named("settle")
    assert least <= cost <= least + 10


@pytest.mark.parametrize("words", (40, 8000))
async def test_b14_a_stream_without_usage_is_estimated_by_its_text(words: int) -> None:
    """Not by its bytes, of which the events' frames are the most; long ones by their end."""
    store = Watched()
    await ask(layered(streaming(chat_events("word " * words, usage_in="none")), store))
    ((cost,),) = store.named("settle")
    expected = 10 + words * 5 / 4
    assert 0.95 * expected < cost < 1.05 * expected


async def test_b17_a_stream_that_the_client_leaves_is_charged_for_what_came() -> None:
    """The tokens so far count, the rest of the reservation comes back."""
    store = Watched()
    app = streaming(chat_events("word " * 40, usage_in="none"))
    scope = http_scope(spec_version="2.4")
    body = msgspec.json.encode({**HELLO, "stream": True, "max_tokens": 500})
    async with Exchange(layered(app, store), scope, body=body) as exchange:
        for _ in range(5):
            await exchange.next_message()
        exchange.disconnect()
        with pytest.raises(OSError, match="the client has left"):
            await exchange.finish()
    ((cost,),) = store.named("settle")
    assert 10 < cost < 25


async def test_b18_a_client_that_leaves_before_the_answer_is_charged_for_its_input() -> None:
    """A provider may have read it by then."""
    store = Watched()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        assert "http.disconnect" == (await receive())["type"]

    body = msgspec.json.encode(HELLO)
    async with Exchange(layered(app, store), body=body) as exchange:
        await exchange.until_receiving()
        exchange.disconnect()
        await exchange.finish()
    assert [(10,)] == store.named("settle")


async def test_an_app_that_fails_costs_nothing() -> None:
    """What it raises passes, and the reservation comes back whole."""
    store = Watched()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await ask(layered(app, store))
    assert [(0,)] == store.named("settle")


async def test_b14_parallel_requests_never_pass_the_limit_together() -> None:
    """Of 50 at once that may use 100 each, 10 run; what they did not use lets others in later."""
    gate = asyncio.Event()
    inside = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal inside
        inside += 1
        await gate.wait()
        await App()(scope, receive, send)

    layer = layered(app)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(layer, {**HELLO, "max_tokens": 90})) for _ in range(50)]
        await until(lambda: sum(task.done() for task in tasks) == 40)
        assert 10 == inside
        gate.set()
    assert 10 == [task.result().status for task in tasks].count(200)
    assert b"790" == told(await ask(layer, {**HELLO, "max_tokens": 90}), "tokens")[1]

"""What is served again, to whom it is told, and what is never kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from starlette.types import Message, Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm.errors import ProviderUnavailableError
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.state import (
    CACHE_STATUS,
    DEPLOYMENT,
    FAILURE,
    RESPONSE_MODEL,
    UNCACHEABLE,
    USAGE,
    State,
    enter,
)
from asgi_llm.stores.cache import Selection
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.testing import ManualClock, Recorder, call, chat_answer, chat_events, http_scope
from asgi_llm.types import CacheReport, Deployment, Usage
from tests.middleware.exact_cache.conftest import (
    BYPASS,
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
)

JSON = (b"content-type", b"application/json")


async def test_a_hit_is_the_answer_byte_for_byte() -> None:
    """The app is asked once, and the second client gets what the first one got."""
    app = App()
    layer = ExactCacheMiddleware(app)
    first, second = [await ask(layer) for _ in range(2)]
    assert [MISS, HIT] == [cache_of(answer) for answer in (first, second)]
    assert (1, first.body) == (app.calls, second.body)
    assert [b"%d" % len(first.body)] == second.header_values("content-length")
    assert b"0" == second.header("age")
    assert 1 == len(second.chunks)


async def test_age_is_told_in_seconds() -> None:
    """Whole ones, since the answer was made."""
    clock = ManualClock(100.0)
    layer = ExactCacheMiddleware(App(), clock=clock)
    await ask(layer)
    clock.advance(61.9)
    assert b"61" == (await ask(layer)).header("age")


async def test_what_is_about_one_request_is_not_served_again() -> None:
    """Ids, cookies, limits and prices are the first client's; the maker of the answer is told."""
    own = [(b"set-cookie", b"a=1"), (b"x-request-id", b"req_1"), (b"x-cost", b"0.01")]
    told = [(b"X-Provider", b"openai"), (b"x-model", b"gpt"), (b"x-translation-loss", b"seed")]
    layer = ExactCacheMiddleware(App(headers=[*own, *told]))
    await ask(layer)
    hit = await ask(layer, headers={"x-request-id": "mine"})
    ids = hit.header_values("x-request-id")
    assert [None, None] == [hit.header("set-cookie"), hit.header("x-cost")]
    assert [b"openai", b"gpt", b"seed"] == [hit.header(name.decode()) for name, _ in told]
    assert (1, True) == (len(ids), ids[0].startswith(b"req_") and ids != [b"req_1"])
    assert b"mine" == hit.header("x-client-request-id")


async def test_b8_meters_learn_what_a_hit_took_when_it_was_made() -> None:
    """Who made it, with which model, and the usage: of the provider app, or as the body says."""
    reports: list[CacheReport | None] = []

    def metered(layer: Any) -> Any:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope, state = enter(scope)
            await layer(scope, receive, send)
            reports.append(state.get(CACHE_STATUS))

        return app

    async def provider_app(scope: Scope, receive: Receive, send: Send) -> None:
        state = enter(scope)[1]
        state.set(DEPLOYMENT, Deployment(provider="openai", model="gpt"))
        state.set(RESPONSE_MODEL, "gpt-2024")
        state.set(USAGE, Usage(input_uncached=5, input_cached=4, output_text=7))
        await App()(scope, receive, send)

    for inner in (provider_app, App()):
        layer = metered(ExactCacheMiddleware(inner))
        await ask(layer)
        await ask(layer)
    made = Usage(input_uncached=5, input_cached=4, output_text=7)
    said = Usage(input_uncached=9, output_text=3)
    assert [
        CacheReport(status="miss"),
        CacheReport(status="hit", type="exact", provider="openai", model="gpt-2024", usage=made),
        CacheReport(status="miss"),
        CacheReport(status="hit", type="exact", usage=said),
    ] == reports


async def test_counts_say_what_was_saved() -> None:
    """Hits, misses, what was written, and the tokens that nobody paid for again."""
    layer = ExactCacheMiddleware(App())
    for document in (CHAT, CHAT, CHAT, {**CHAT, "seed": 1}, {**CHAT, "temperature": 1}):
        await ask(layer, document)
    counts = layer.counts
    assert (2, 2, 1, 2) == (counts.hits, counts.misses, counts.bypasses, counts.writes)
    assert (18, 6) == (counts.saved_input_tokens, counts.saved_output_tokens)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"temperature": 0}, HIT),
        ({"temperature": 0.0}, HIT),
        ({"temperature": 0.1}, BYPASS),
        ({"temperature": None}, BYPASS),
        ({"temperature": False}, BYPASS),
        ({"temperature": "0"}, BYPASS),
        ({"temperature": 1, "seed": 7}, HIT),
        ({"temperature": 1, "seed": None}, BYPASS),
    ],
    ids=str,
)
async def test_only_what_would_be_answered_the_same_again(fields: Any, told: Any) -> None:
    """By default: temperature 0, or a seed."""
    layer = ExactCacheMiddleware(App())
    await ask(layer, {**CHAT, **fields})
    assert told == cache_of(await ask(layer, {**CHAT, **fields}))


async def test_what_is_cached_can_be_all_or_a_function_s_choice() -> None:
    """``cache_when`` decides by the document."""
    document = {**CHAT, "temperature": 1}
    cases: list[tuple[Any, Any]] = [
        ("always", HIT),
        (lambda document: document["model"] == "other", BYPASS),
    ]
    for when, told in cases:
        layer = ExactCacheMiddleware(App(), cache_when=when)
        await ask(layer, document)
        assert told == cache_of(await ask(layer, document))


def choices(*reasons: str | None, **fields: Any) -> dict[str, Any]:
    """An answer whose choices ended so."""
    answer = chat_answer()
    answer["choices"] = [
        {"index": place, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": reason}
        for place, reason in enumerate(reasons)
    ]
    return {**answer, **fields}


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (choices("stop"), True),
        (choices("tool_calls"), True),
        (choices("function_call"), True),
        (choices("stop", "stop"), True),
        (choices("length"), False),
        (choices("content_filter"), False),
        (choices("stop", "length"), False),
        (choices(None), False),
        (choices("error"), False),
        (choices(), False),
        (choices("stop", error={"message": "broken"}), False),
        ({"error": {"message": "an error that claims success"}}, False),
        ({"choices": [{"finish_reason": "stop", "message": {"audio": {"id": "a"}}}]}, False),
        ({"choices": [{"finish_reason": "stop", "message": {"audio": None}}]}, True),
        ({"choices": [{"finish_reason": "stop", "message": "none"}]}, False),
        ({"choices": "none"}, False),
        ([], False),
    ],
    ids=str,
)
async def test_b6_only_whole_answers_are_kept(answer: Any, kept: bool) -> None:
    """Whatever the status says: not what was cut off, filtered, or is an error."""
    app = App(lambda number: answer)
    layer = ExactCacheMiddleware(app)
    await ask(layer)
    assert (HIT if kept else MISS) == cache_of(await ask(layer))
    assert (1 if kept else 2) == app.calls


def ended(reason: str | None) -> list[dict[str, Any]]:
    events = chat_events("One two three.")
    for event in events:
        for choice in event["choices"]:
            if choice["finish_reason"]:
                choice["finish_reason"] = reason
    return events


def speaks(audio: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"audio": audio}, "finish_reason": None}]}


@pytest.mark.parametrize(
    ("events", "done", "kept"),
    [
        (ended("stop"), True, True),
        (ended("length"), True, False),
        (ended("content_filter"), True, False),
        (ended(None), True, False),
        (ended("stop"), False, False),
        ([*ended("stop"), {"error": {"message": "broken"}}], True, False),
        ([], True, False),
        ([speaks({"id": "a"}), *ended("stop")], True, False),
        ([speaks(None), *ended("stop")], True, True),
    ],
    ids=[
        *("stop", "length", "filter", "no end", "no mark", "error", "nothing"),
        *("recording", "no recording"),
    ],
)
async def test_b6_only_whole_streams_are_kept(events: Any, done: bool, kept: bool) -> None:
    """With the end of every choice, the end mark, and no error among the events."""
    app = App(events=lambda number: events, done=done)
    layer = ExactCacheMiddleware(app)
    await ask(layer, STREAM)
    assert (HIT if kept else MISS) == cache_of(await ask(layer, STREAM))


@pytest.mark.parametrize("status", [201, 204, 301, 400, 401, 404, 429, 500, 503])
async def test_b6_other_statuses_are_not_kept(status: int) -> None:
    """Only a 200 is an answer."""
    layer = ExactCacheMiddleware(App(status=status))
    answers = [await ask(layer) for _ in range(2)]
    assert [(status, MISS)] * 2 == [(answer.status, cache_of(answer)) for answer in answers]


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ((b"cache-control", b"no-cache"), True),
        ((b"Cache-Control", b"no-store"), False),
        ((b"cache-control", b"max-age=5, private"), False),
        ((b"vary", b"*"), False),
        ((b"vary", b"Origin"), True),
        ((b"content-encoding", b"gzip"), False),
        ((b"content-encoding", b"identity"), True),
    ],
    ids=str,
)
async def test_the_app_may_say_no(header: Any, kept: bool) -> None:
    """By the headers that it says it with to every cache."""
    layer = ExactCacheMiddleware(App(headers=[header]))
    await ask(layer)
    assert (HIT if kept else MISS) == cache_of(await ask(layer))


@pytest.mark.parametrize(
    "note",
    [
        lambda state: state.set(UNCACHEABLE, "guardrail"),
        lambda state: state.set(UNCACHEABLE, "semantic"),
        lambda state: state.set(FAILURE, ProviderUnavailableError("broken")),
        lambda state: state.set(CACHE_STATUS, CacheReport(status="hit", type="semantic")),
    ],
    ids=["changed by a guard", "said so", "failed", "had by a cache further in"],
)
async def test_b6_what_layers_say_of_the_answer_counts(note: Any) -> None:
    """A guard that changed it, a failure, or a cache further in keep it out."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        note(enter(scope)[1])
        await App()(scope, receive, send)

    store = MemoryCache()
    await ask(ExactCacheMiddleware(app, store=store))
    assert 0 == len(store)


async def test_a_hit_of_a_cache_further_in_is_told_as_it_is() -> None:
    """What that one says to the client is not written over."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        enter(scope)[1].set(CACHE_STATUS, CacheReport(status="hit", type="semantic"))
        told = [(b"x-cache-status", b"HIT"), (b"x-cache-type", b"SEMANTIC")]
        await App(headers=told)(scope, receive, send)

    assert (b"HIT", b"SEMANTIC") == cache_of(await ask(ExactCacheMiddleware(app)))


async def test_what_an_app_says_of_caches_by_itself_is_replaced() -> None:
    """There is one such header, and it is ours."""
    layer = ExactCacheMiddleware(App(headers=[(b"X-Cache-Status", b"HIT")]))
    assert [b"MISS"] == (await ask(layer)).header_values("x-cache-status")


async def test_entries_say_who_wrote_them() -> None:
    """And are purged by that."""
    store = MemoryCache()
    for name in ("k1", "k2"):
        layer = As(ExactCacheMiddleware(App(), store=store), organization_id=name, key_id=name)
        await ask(layer)
    assert 1 == await store.purge(Selection(written_by="k1"))
    assert 1 == len(store)


@pytest.mark.parametrize(
    "scope",
    [
        {"path": "/v1/moderations"},
        {"path": "/v1/chat"},
        {"method": "GET"},
        {"method": "PUT"},
        {"path": "/v1/chat/completions/x"},
    ],
    ids=str,
)
async def test_all_else_passes_untouched(scope: Any) -> None:
    """Other paths and methods are not told of caches."""
    layer = ExactCacheMiddleware(App())
    answers = [await ask(layer, **scope) for _ in range(2)]
    assert [(None, None)] * 2 == [cache_of(answer) for answer in answers]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (msgspec.json.encode(CHAT), "text/plain"),
        (b'{"model":', "application/json"),
        (b"[]", "application/json"),
        (b'{"temperature":0}', "application/json"),
        (b'{"temperature":0,"model":7}', "application/json"),
        (b'{"temperature":0,"model":"m","stream":1}', "application/json"),
    ],
    ids=["no JSON", "broken", "list", "no model", "bad model", "bad stream"],
)
async def test_what_the_app_would_refuse_is_not_answered_for_it(body: bytes, kind: str) -> None:
    """It gets the very bytes, and says what it has to say of them."""
    seen: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 400, "headers": [JSON]})
        await send({"type": "http.response.body", "body": b"{}"})

    layer = ExactCacheMiddleware(app)
    for _ in range(2):
        answer = await call(layer, http_scope(headers={"content-type": kind}), body=body)
        assert (400, BYPASS) == (answer.status, cache_of(answer))
    assert [body, body] == seen


async def test_a_body_over_the_limit_is_refused() -> None:
    """With 413, and before the app hears of it."""
    app = App()
    answer = await ask(ExactCacheMiddleware(app, max_body_bytes=20))
    assert (413, 0) == (answer.status, app.calls)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-length", b"1001")], 413),
        ([(b"content-length", b"999999999999999999999")], 413),
        ([(b"content-length", b"10"), (b"transfer-encoding", b"chunked")], 400),
    ],
    ids=["long", "very long", "two lengths"],
)
async def test_what_the_headers_say_of_a_body_is_enough_to_refuse_it(
    headers: Any, status: int
) -> None:
    """Nothing of it is read."""
    app, sent = App(), Recorder()
    scope = {**http_scope(), "headers": [JSON, *headers]}

    async def receive() -> Message:
        raise AssertionError("the body was read")

    await ExactCacheMiddleware(app, max_body_bytes=1000)(scope, receive, sent)
    assert (status, 0) == (sent.status, app.calls)


async def test_an_answer_in_pieces_is_kept_as_it_left() -> None:
    """Cut anywhere, with empty pieces between and at its end."""
    body = msgspec.json.encode(chat_answer("In pieces."))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
        for piece in (body[:7], b"", body[7:100], body[100:]):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    layer = ExactCacheMiddleware(app)
    first, second = [await ask(layer) for _ in range(2)]
    assert [MISS, HIT] == [cache_of(answer) for answer in (first, second)]
    assert body == first.body == second.body


async def test_an_answer_that_is_too_long_is_not_kept() -> None:
    """It leaves whole all the same."""
    app = App(lambda number: chat_answer("long " * 1000))
    layer = ExactCacheMiddleware(app, max_entry_bytes=1000)
    first, second = [await ask(layer) for _ in range(2)]
    assert [MISS, MISS] == [cache_of(answer) for answer in (first, second)]
    assert "long " * 1000 == text_of(first) == text_of(second)


async def test_the_end_of_an_answer_that_is_too_long_is_not_kept_as_all_of_it() -> None:
    """Nor where it comes with the end mark, and would pass for a whole stream of its own."""
    events = [_sse.encode(msgspec.json.encode(event)) for event in chat_events(["long "] * 50)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"".join(events[:-3]), "more_body": True})
        await send({"type": "http.response.body", "body": b"".join(events[-3:]) + _sse.DONE})

    layer = ExactCacheMiddleware(app, max_entry_bytes=1000)
    first, second = [await ask(layer, STREAM) for _ in range(2)]
    assert [MISS, MISS] == [cache_of(answer) for answer in (first, second)]
    assert "long " * 50 == text_of(first) == text_of(second)
    assert 0 == layer.counts.writes


async def test_states_are_not_shared() -> None:
    """What a request's layers noted is not seen by the one that gets its answer again."""
    app = App()
    layer = ExactCacheMiddleware(app)
    states: list[State] = []

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        states.append(state)
        await layer(scope, receive, send)

    await ask(outer)
    await ask(outer)
    assert states[0] is app.states[0]
    assert states[1].get(USAGE) is None


@pytest.mark.parametrize("in_parts", [False, True])
async def test_an_answer_outlives_the_buffer_that_it_came_in(in_parts: bool) -> None:
    """An app that sends one buffer of its own and uses it again does not change what is stored."""
    whole = msgspec.json.encode(chat_answer("Hello."))
    buffer = bytearray()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        pieces = [whole[:10], whole[10:]] if in_parts else [whole]
        for at, piece in enumerate(pieces):
            buffer[:] = piece
            more = at + 1 < len(pieces)
            await send(
                {"type": "http.response.body", "body": memoryview(bytes(buffer)), "more_body": more}
                if in_parts
                else {"type": "http.response.body", "body": buffer}
            )
        buffer[:] = b"x" * len(buffer)

    layer = ExactCacheMiddleware(app, cache_when="always")
    await ask(layer)
    again = await ask(layer)
    assert (HIT, whole) == (cache_of(again), again.body)

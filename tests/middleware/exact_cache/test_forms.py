"""A stream serves those who want it whole, and the other way, with equal content."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm import _sse
from asgi_llm.middleware._cache_fold import fold_stream, unfold_answer
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.state import CACHE_STATUS, USAGE, enter
from asgi_llm.testing import ManualClock, chat_answer, chat_events
from asgi_llm.testing.exchange import Exchange
from asgi_llm.testing.scopes import http_scope
from asgi_llm.types import Usage
from tests.middleware.exact_cache.conftest import (
    CHAT,
    HIT,
    MISS,
    STREAM,
    App,
    ask,
    cache_of,
    text_of,
)

BARE = {**CHAT, "stream": True}


def stream_of(events: list[Any]) -> bytes:
    return b"".join(_sse.encode(msgspec.json.encode(event)) for event in events) + _sse.DONE


async def test_a_stream_is_replayed_byte_for_byte() -> None:
    """At once, and with the headers that streams have."""
    layer = ExactCacheMiddleware(App())
    first, second = [await ask(layer, STREAM) for _ in range(2)]
    assert [MISS, HIT] == [cache_of(answer) for answer in (first, second)]
    assert first.body == second.body
    assert 1 == len(second.chunks)
    assert b"text/event-stream; charset=utf-8" == second.header("content-type")
    assert [b"no-cache", b"no", None] == [
        second.header(name) for name in ("cache-control", "x-accel-buffering", "content-length")
    ]


async def test_a_stream_may_be_replayed_at_a_pace() -> None:
    """One event after the other, with a pause between two."""
    clock = ManualClock()
    layer = ExactCacheMiddleware(App(), replay_event_seconds=0.5, sleep=clock.sleep)
    first = await ask(layer, STREAM)
    body = msgspec.json.encode(STREAM)
    scope = http_scope(headers={"content-type": "application/json"})
    async with Exchange(layer, scope, body=body) as exchange:
        events = len(first.events)
        for _ in range(events - 1):
            assert (await exchange.next_chunk()).endswith(b"\n\n")
            await clock.until_sleeping()
            assert 0 == exchange.pending
            clock.advance(0.5)
        again = await exchange.finish()
    assert first.body == again.body
    assert events == len(again.chunks)


TOOLS = [("weather", {"city": "Paris"}), ("time", {})]


def parts(answer: Any) -> Any:
    """Content, calls, log probabilities and usage of a whole answer."""
    return (
        [
            (choice["index"], choice["message"], choice["finish_reason"], choice.get("logprobs"))
            for choice in answer["choices"]
        ],
        answer["usage"],
        answer["model"],
        answer["id"],
    )


ANSWERS: dict[str, dict[str, Any]] = {
    "text": chat_answer("The capital is Paris."),
    "no text": chat_answer(""),
    "calls": chat_answer(None, tool_calls=TOOLS),
    "text and calls": chat_answer("I look.", tool_calls=TOOLS),
    "choices": chat_answer("Paris.", n=3),
    "refusal": chat_answer("No."),
    "thoughts": chat_answer("Yes."),
    "logprobs": chat_answer("Yes."),
    "more": chat_answer("Yes."),
}
ANSWERS["refusal"]["choices"][0]["message"] |= {"content": None, "refusal": "I will not."}
ANSWERS["thoughts"]["choices"][0]["message"] |= {"reasoning_content": "Hm. Well."}
ANSWERS["logprobs"]["choices"][0]["logprobs"] = {
    "content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": []}, {"token": "."}],
    "refusal": None,
}
ANSWERS["more"] |= {"system_fingerprint": "fp", "service_tier": "default", "x_new": {"a": [1]}}
ANSWERS["more"]["choices"][0]["message"]["annotations"] = [{"type": "url_citation"}]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_b8_what_is_told_as_a_stream_folds_to_what_it_was(answer: dict[str, Any]) -> None:
    """Content, tool calls, log probabilities, unknown fields and usage."""
    stream = unfold_answer("chat", msgspec.json.encode(answer), tells_usage=True)
    assert stream is not None
    assert answer == fold_stream("chat", stream)


@pytest.mark.parametrize(
    "options",
    [
        {"text": "The capital is Paris."},
        {"text": None, "tool_calls": TOOLS},
        {"text": "I look.", "tool_calls": TOOLS, "usage_in": "finish"},
        {"text": "One two.", "n": 3, "usage_in": "every"},
    ],
    ids=str,
)
def test_b8_a_provider_s_stream_folds_to_its_answer(options: dict[str, Any]) -> None:
    """The same as if it had been asked for whole, arguments in pieces joined."""
    folded = fold_stream("chat", stream_of(chat_events(**options)))
    whole = {name: value for name, value in options.items() if name != "usage_in"}
    expected = chat_answer(**{"text": None, **whole})
    assert folded is not None
    for answer in (folded, expected):
        for choice in answer["choices"]:
            choice["message"] = {
                name: value for name, value in choice["message"].items() if value is not None
            }
    assert expected["choices"] == folded["choices"]
    assert expected["usage"]["total_tokens"] == folded["usage"]["total_tokens"]


def test_log_probabilities_of_all_events_are_gathered() -> None:
    """In their order, for each choice."""
    events = chat_events("a b c")
    for place, event in enumerate(events[1:4]):
        event["choices"][0]["logprobs"] = {"content": [{"token": f"t{place}"}], "refusal": None}
    folded = fold_stream("chat", stream_of(events))
    assert folded is not None
    assert {"content": [{"token": f"t{place}"} for place in range(3)], "refusal": None} == (
        folded["choices"][0]["logprobs"]
    )


def deltas(*contents: Any, **beside: Any) -> list[dict[str, Any]]:
    """The events of a stream whose pieces are these, each with these fields beside its delta."""
    events = chat_events([""] * len(contents))
    for event, content in zip(events[1:], contents, strict=False):
        event["choices"][0] |= {"delta": {"content": content}, **beside}
    return events


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}


@pytest.mark.parametrize(
    "contents",
    [
        ([THOUGHT], "The capital ", "is Paris."),
        ("Hm.", [THOUGHT]),
        ([THOUGHT], {"text": "Paris."}),
        ("Paris.", {"text": "Paris."}),
    ],
    ids=str,
)
def test_parts_and_texts_of_one_field_fold_to_nothing(contents: tuple[Any, ...]) -> None:
    """Nobody knows what the provider would have made of them; none of them is left out."""
    assert fold_stream("chat", stream_of(deltas(*contents))) is None


@pytest.mark.parametrize(
    ("contents", "whole"),
    [
        (("", [THOUGHT], "", [THOUGHT], None), [THOUGHT, THOUGHT]),
        (([], "Par", "is."), "Paris."),
        (("", {"text": "Par"}, {"text": "is."}), {"text": "Paris."}),
    ],
    ids=str,
)
def test_pieces_in_which_nothing_is_change_nothing(contents: tuple[Any, ...], whole: Any) -> None:
    """Empty texts and lists stand at the beginning and the end of every kind of content."""
    folded = fold_stream("chat", stream_of(deltas(*contents)))
    assert folded is not None
    assert whole == folded["choices"][0]["message"]["content"]


def test_verdicts_beside_the_text_are_not_joined() -> None:
    """They are told whole with each event, or empty: the last one stands."""
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    events = deltas("Par", "is.", content_filter_results=safe)
    events[-2]["choices"][0]["content_filter_results"] = {}
    folded = fold_stream("chat", stream_of(events))
    assert folded is not None
    assert ("Paris.", safe) == (
        folded["choices"][0]["message"]["content"],
        folded["choices"][0]["content_filter_results"],
    )


def test_calls_are_told_apart_whatever_index_they_had() -> None:
    """Some providers give every call of a whole answer the same one."""
    answer = chat_answer(None, tool_calls=TOOLS)
    calls = answer["choices"][0]["message"]["tool_calls"]
    same = [{"index": 0, **call} for call in calls]
    answer["choices"][0]["message"]["tool_calls"] = same
    stream = unfold_answer("chat", msgspec.json.encode(answer), tells_usage=True)
    assert stream is not None
    folded = fold_stream("chat", stream)
    assert folded is not None
    assert calls == folded["choices"][0]["message"]["tool_calls"]


def completion(text: str, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None, **fields}
    return {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}


def test_b8_completions_fold_and_unfold() -> None:
    """The older form has texts in the place of messages."""
    events = [completion("Once "), completion("upon."), completion("", finish_reason="stop")]
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    folded = fold_stream("text_completion", stream_of([*events, {"choices": [], "usage": usage}]))
    expected = {**completion("Once upon.", finish_reason="stop"), "usage": usage}
    assert expected == folded
    stream = unfold_answer("text_completion", msgspec.json.encode(expected), tells_usage=True)
    assert stream is not None
    assert expected == fold_stream("text_completion", stream)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"data: {}\n\n",
        b"data: [DONE]\n\n",
        b"data: nonsense\n\n" + _sse.DONE,
        b"data: []\n\n" + _sse.DONE,
        b'data: {"choices":[{"index":1,"delta":{}}]}\n\n' + _sse.DONE,
        b'data: {"choices":[{"index":-1,"delta":{}}]}\n\n' + _sse.DONE,
        b'data: {"choices":[{"index":0,"delta":"x"}]}\n\n' + _sse.DONE,
        b'data: {"choices":{"index":0}}\n\n' + _sse.DONE,
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[7]}}]}\n\n' + _sse.DONE,
        b'data: {"error":{}}\n\n' + _sse.DONE,
    ],
    ids=str,
)
def test_what_is_no_whole_stream_folds_to_nothing(body: bytes) -> None:
    """Whatever a provider sends, nothing is made up of it, and nothing raises."""
    assert fold_stream("chat", body) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"choices":7}', b'{"choices":[7]}', b'{"choices":[{"message":7}]}']
)
def test_what_is_no_answer_is_not_told_as_a_stream(body: bytes) -> None:
    """Nor does it raise."""
    assert unfold_answer("chat", body, tells_usage=False) is None


@settings(deadline=None)
@given(st.lists(st.text(max_size=4), max_size=30), st.integers(1, 3))
def test_pieces_of_any_size_join_to_the_text(pieces: list[str], n: int) -> None:
    """In order, for each choice."""
    folded = fold_stream("chat", stream_of(chat_events(pieces, n=n)))
    assert folded is not None
    assert ["".join(pieces)] * n == [one["message"]["content"] for one in folded["choices"]]


def test_a_long_stream_folds_in_linear_time() -> None:
    """30,000 pieces are joined once, not each time anew."""
    pieces = ["word "] * 30_000
    folded = fold_stream("chat", stream_of(chat_events(pieces)))
    assert folded is not None
    assert 150_000 == len(folded["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("first", "second"), [(STREAM, CHAT), (CHAT, STREAM), (CHAT, BARE), (STREAM, BARE)]
)
async def test_b8_one_form_serves_the_other(first: Any, second: Any) -> None:
    """With the same text and usage, and no second call."""
    app = App()
    layer = ExactCacheMiddleware(app)
    made, served = await ask(layer, first), await ask(layer, second)
    assert (1, MISS, HIT) == (app.calls, cache_of(made), cache_of(served))
    assert text_of(made) == text_of(served)
    if not second.get("stream"):
        assert 12 == served.json()["usage"]["total_tokens"]
        assert [b"%d" % len(served.body)] == served.header_values("content-length")
    else:
        usages = [event.json()["usage"] for event in served.events if b'"usage":{' in event.data]
        assert ([12] if second is STREAM else []) == [usage["total_tokens"] for usage in usages]
        assert served.events[-1].done


async def test_b8_usage_that_only_the_state_knew_is_told_to_who_asks() -> None:
    """A stream without it serves one with it, and a whole answer, where its layers knew it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        enter(scope)[1].set(USAGE, Usage(input_uncached=9, output_text=3))
        await App(usage=False)(scope, receive, send)

    layer = ExactCacheMiddleware(app)
    await ask(layer, BARE)
    streamed, whole = await ask(layer, STREAM), await ask(layer, CHAT)
    assert [HIT, HIT] == [cache_of(streamed), cache_of(whole)]
    event = streamed.events[-2].json()
    assert ([], 12) == (event["choices"], event["usage"]["total_tokens"])
    assert streamed.events[0].json()["id"] == event["id"]
    assert 12 == whole.json()["usage"]["total_tokens"]


async def test_b8_usage_that_nobody_knew_is_not_made_up() -> None:
    """Who wants to be told it gets an answer of their own."""
    app = App(usage=False)
    layer = ExactCacheMiddleware(app)
    told = [cache_of(await ask(layer, document)) for document in (BARE, BARE, CHAT, BARE, STREAM)]
    assert [MISS, HIT, MISS, HIT, HIT] == told
    assert 2 == app.calls


async def test_a_large_stream_is_converted_beside_the_loop() -> None:
    """It serves a whole answer like any other."""
    text = ["word " * 20] * 4000
    app = App(events=lambda number: chat_events(text))
    layer = ExactCacheMiddleware(app)
    await ask(layer, STREAM)
    served = await ask(layer, CHAT)
    assert (HIT, "".join(text)) == (cache_of(served), text_of(served))


async def test_an_answer_in_a_form_that_was_not_asked_for_is_not_kept() -> None:
    """An app that streams to all, or to nobody, is not trusted with the other form."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": stream_of(chat_events("Hi."))})

    layer = ExactCacheMiddleware(app)
    assert [MISS, MISS] == [cache_of(await ask(layer, CHAT)) for _ in range(2)]


async def test_a_stream_out_of_the_cache_tells_meters_before_its_end() -> None:
    """The report is in the state when the first byte leaves."""
    seen: list[Any] = []
    layer = ExactCacheMiddleware(App())
    await ask(layer, STREAM)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        scope, state = enter(scope)

        async def noted(message: Any) -> None:
            seen.append(state.get(CACHE_STATUS))
            await send(message)

        await layer(scope, receive, noted)

    await ask(outer, STREAM)
    assert ["hit", "hit"] == [report.status for report in seen]
    assert 12 == seen[0].usage.total_tokens

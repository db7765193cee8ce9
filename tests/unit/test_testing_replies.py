"""Replies as the writes that they become, and the documents that the builders make."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_llm import errors
from asgi_llm.testing import (
    Reply,
    Reset,
    Step,
    Wait,
    chat_answer,
    chat_events,
    error_answer,
    json_reply,
    sse_reply,
    tokens_of,
)
from asgi_llm.testing.replies import Piece, Split, writes


def sent(reply: Reply) -> list[bytes]:
    return [step.data for step in writes(reply) if isinstance(step, Piece)]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (None, [b"abcd", b"efg"]),
        (3, [b"abc", b"def", b"g"]),
        (7, [b"abcdefg"]),
        (100, [b"abcdefg"]),
        ("every", [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]),
        ([2, 5], [b"ab", b"cde", b"fg"]),
        ([5, 2, 2, 0], [b"ab", b"cde", b"fg"]),
        ([99], [b"abcdefg"]),
    ],
)
def test_a_split_cuts_where_it_says(split: Split, expected: list[bytes]) -> None:
    """None keeps the steps; a number, "every" and offsets cut the joined body."""
    assert expected == sent(Reply(body=[b"abcd", b"efg"], split=split))


def test_a_random_split_is_drawn_from_the_given_generator() -> None:
    """The same seed cuts the same, another one cuts otherwise, and nothing is lost."""
    body = bytes(range(256)) * 8
    first = sent(Reply(body=body, split=random.Random(1)))
    assert first == sent(Reply(body=body, split=random.Random(1)))
    assert first != sent(Reply(body=body, split=random.Random(2)))
    assert body == b"".join(first)
    assert max(len(piece) for piece in first) <= 64


def test_a_wait_lets_out_what_came_before_it() -> None:
    """Bytes short of a piece leave before the wait, and the piece goes on after it."""
    wait = Wait(asyncio.Event())
    steps: list[Step] = [b"abcd", wait, b"efgh", Reset()]
    shown = [
        step.data if isinstance(step, Piece) else step
        for step in writes(Reply(body=steps, split=3))
    ]
    assert [b"abc", b"d", wait, b"ef", b"gh", Reset()] == shown


def test_a_document_is_served_with_the_piece_that_holds_its_last_byte() -> None:
    """Whatever the split, the ledger can count an event only when all of it is out."""
    events = [{"a": 1}, {"b": 2}]
    for size in range(1, 40):
        out = b""
        told: list[tuple[int, Any]] = []
        for step in writes(sse_reply(events, split=size)):
            assert isinstance(step, Piece)
            out += step.data
            told += [(len(out), document) for document in step.documents]
        assert events == [document for _, document in told]
        first = len(b'data: {"a":1}\n\n')
        assert first <= told[0][0] < first + size
        assert 2 * first <= told[1][0] < 2 * first + size


def test_gzip_makes_each_step_readable_when_it_is_sent() -> None:
    """A compressed stream still streams, and is a valid gzip file at its end."""
    pieces = sent(Reply(body=[b"one ", b"two ", b"three"], gzip=True))
    reader = zlib.decompressobj(wbits=31)
    assert [b"one ", b"two ", b"three", b""] == [reader.decompress(piece) for piece in pieces]
    assert b"one two three" == gzip.decompress(b"".join(pieces))


def test_a_stream_of_events_may_hold_bytes_and_steps() -> None:
    """A dict is encoded, bytes go out as they are, other steps stay where they stand."""
    wait = Wait(asyncio.Event())
    reply = sse_reply([{"a": 1}, b": ping\n\n", wait], done=True)
    assert [b'data: {"a":1}\n\n', b": ping\n\n", wait, b"data: [DONE]\n\n"] == list(reply.body)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"status": 100}, "status"),
        ({"status": 1000}, "status"),
        ({"framing": "http2"}, "framing"),
        ({"split": 0}, "split"),
        ({"raw": True, "gzip": True}, "gzip"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], param: str) -> None:
    """A reply that cannot be is refused when it is made."""
    with pytest.raises(errors.ConfigurationError) as caught:
        Reply(**options)
    assert param == caught.value.param


def test_tokens_join_to_their_text() -> None:
    """The kit's tokens are words with the space before them, and lose nothing."""
    text = " Two  words,\nand a line. "
    assert [" Two", "  words,", "\nand", " a", " line.", " "] == tokens_of(text)


def usages(usage_in: Any, **options: Any) -> list[Any]:
    return [event.get("usage", "-") for event in chat_events("a b", usage_in=usage_in, **options)]


def test_usage_stands_where_it_is_asked_for() -> None:
    """Final is OpenAI's own event; the other places are those of other providers."""
    total = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    assert [None, None, None, None, total] == usages("final")
    assert ["-", "-", "-", total] == usages("finish")
    assert ["-", "-", total, "-"] == usages("middle")
    assert ["-", "-", "-", "-"] == usages("none")
    assert [0, 1, 2, 2] == [usage["completion_tokens"] for usage in usages("every")]
    assert {"total_tokens": 1} == usages("finish", usage={"total_tokens": 1})[-1]


def test_a_final_usage_event_has_no_choice() -> None:
    """As OpenAI sends it."""
    final = chat_events("a")[-1]
    assert [] == final["choices"]
    assert "chat.completion.chunk" == final["object"]


def test_tool_calls_come_in_pieces_that_join() -> None:
    """The name and id come once, the arguments in two events, and the finish says tool_calls."""
    events = chat_events(None, tool_calls=[("look", {"at": "it"})], usage_in="none")
    deltas = [event["choices"][0]["delta"] for event in events]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert ["look", None] == [call["function"].get("name") for call in calls]
    assert ["call_1", None] == [call.get("id") for call in calls]
    assert '{"at":"it"}' == "".join(call["function"]["arguments"] for call in calls)
    assert "tool_calls" == events[-1]["choices"][0]["finish_reason"]


def test_choices_take_turns() -> None:
    """With n=2 each token comes once for each choice, and each choice finishes."""
    events = chat_events(["a", "b"], n=2, usage_in="finish")
    shown = [
        (one["index"], one["delta"].get("content"), one["finish_reason"])
        for event in events
        for one in event["choices"]
    ]
    assert shown == [
        (0, "", None),
        (1, "", None),
        (0, "a", None),
        (1, "a", None),
        (0, "b", None),
        (1, "b", None),
        (0, None, "stop"),
        (1, None, "stop"),
    ]
    assert 4 == events[-1]["usage"]["completion_tokens"]


def test_a_whole_answer_counts_its_words() -> None:
    """Usage adds up by default, and can be given or left out."""
    answer = chat_answer("one two three", n=2)
    assert ["one two three"] * 2 == [one["message"]["content"] for one in answer["choices"]]
    assert {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15} == answer["usage"]
    assert "usage" not in chat_answer("x", usage=None)
    call = chat_answer(None, tool_calls=[("look", "{not json")])["choices"][0]
    assert "{not json" == call["message"]["tool_calls"][0]["function"]["arguments"]
    assert "tool_calls" == call["finish_reason"]


def test_an_error_answer_may_claim_success() -> None:
    """OpenAI's error object comes with any status."""
    reply = error_answer(200, "broken", code="oops")
    (body,) = sent(reply)
    assert 200 == reply.status
    assert body == (
        b'{"error":{"message":"broken","type":"server_error","param":null,"code":"oops"}}'
    )


@pytest.mark.parametrize("make", [chat_answer, chat_events])
def test_a_chat_has_a_choice(make: Any) -> None:
    """n=0 is refused."""
    with pytest.raises(errors.ConfigurationError) as caught:
        make(n=0)
    assert "n" == caught.value.param


def test_an_unknown_place_of_usage_is_refused() -> None:
    """The message lists the known ones."""
    with pytest.raises(errors.ConfigurationError, match="final, finish, every, middle or none"):
        chat_events(usage_in="nowhere")  # type: ignore[arg-type]


def test_json_bytes_go_out_as_they_are() -> None:
    """So that malformed JSON can be served."""
    assert [b"{nope"] == sent(json_reply(b"{nope"))


def test_an_endless_stream_of_events_is_taken_as_it_is_needed() -> None:
    """``sse_reply`` of an iterator does not wait for its end."""

    def endless() -> Iterator[dict[str, int]]:
        while True:
            yield {"n": 1}

    body = sse_reply(endless()).body
    assert isinstance(body, Iterator)
    assert next(body) == b'data: {"n":1}\n\n'

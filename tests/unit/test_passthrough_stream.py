"""The stream decoder for OpenAI's own format: bytes as they came, and no false endings."""

from __future__ import annotations

import itertools
import random
from typing import Any

import msgspec
import pytest

from asgi_llm.providers._passthrough_stream import PassThroughStream


def event(**fields: Any) -> bytes:
    return b"data: " + msgspec.json.encode({"id": "c1", **fields}) + b"\n\n"


def delta(text: str, *, index: int = 0, finish: str | None = None) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    return event(choices=[choice])


USAGE = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
DONE = b"data: [DONE]\n\n"
WHOLE = delta("Hel") + delta("lo") + delta("", finish="stop") + USAGE + DONE


def run(stream: PassThroughStream, *chunks: bytes, framed: bool = True) -> bytes:
    return b"".join([*map(stream.feed, chunks), stream.close(framed=framed)])


def test_a_plain_chunk_is_passed_as_the_same_object() -> None:
    """Content that finishes nothing is neither copied nor parsed."""
    chunk = delta("Hello")
    assert PassThroughStream().feed(chunk) is chunk


@pytest.mark.parametrize("at", range(1, len(WHOLE)))
def test_a_split_at_any_byte_gives_the_same_bytes_and_usage(at: int) -> None:
    """The client gets what the provider sent, however the network cut it."""
    stream = PassThroughStream()
    assert run(stream, WHOLE[:at], WHOLE[at:]) == WHOLE
    assert stream.done
    assert stream.error is None
    assert stream.usage is not None
    assert stream.usage.total_tokens == 5


def test_one_byte_a_chunk_gives_the_same_bytes() -> None:
    """The finest split is no different."""
    stream = PassThroughStream()
    assert run(stream, *(WHOLE[i : i + 1] for i in range(len(WHOLE)))) == WHOLE


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
def test_other_line_ends_pass(line_end: bytes) -> None:
    """CRLF and CR streams pass as they came, one byte a chunk too."""
    whole = WHOLE.replace(b"\n", line_end)
    for size in (len(whole), 1, 7):
        stream = PassThroughStream()
        chunks = [whole[i : i + size] for i in range(0, len(whole), size)]
        # The last half of the last CRLF may stay behind: the stream was over before it came.
        assert run(stream, *chunks).rstrip(b"\r\n") == whole.rstrip(b"\r\n")
        assert stream.done


def test_a_cut_at_any_byte_is_never_a_finish() -> None:
    """A stream that breaks off before its end mark shows neither a finish nor usage."""
    for at in range(len(WHOLE) - 1):
        stream = PassThroughStream()
        out = run(stream, WHOLE[:at], framed=False)
        if WHOLE[:at].endswith(b"[DONE]"):
            continue  # only the blank line is missing
        assert stream.error is not None, at
        assert stream.usage is None or b'"usage"' not in out
        assert b'"stop"' not in out
        assert b"[DONE]" not in out


def test_a_framed_end_before_the_finish_is_a_truncation() -> None:
    """A body that ends properly at an event border is still not a finished stream."""
    for chunks in ((delta("Hel"),), (delta("Hel"), DONE), (), (b": ping\n\n",)):
        stream = PassThroughStream()
        out = run(stream, *chunks)
        assert stream.error is not None
        assert stream.error.code == "stream_truncated"
        assert b"[DONE]" not in out


def test_a_framed_end_after_the_finish_needs_no_end_mark() -> None:
    """Where the framing proves that the body is whole, the finish reason is enough."""
    whole = delta("Hi", finish="stop")
    stream = PassThroughStream()
    assert run(stream, whole) == whole
    assert stream.error is None
    stream = PassThroughStream()
    assert run(stream, whole, framed=False) == b""
    assert stream.error is not None
    stream = PassThroughStream(done_optional=True)
    assert run(stream, whole, framed=False) == whole


def test_an_end_mark_without_a_finish_reason_is_a_matter_of_the_quirk() -> None:
    """Only a provider that is known to leave finish reasons out may do so."""
    stream = PassThroughStream(finish_reason_optional=True)
    assert run(stream, delta("Hi"), DONE) == delta("Hi") + DONE
    assert stream.error is None


def test_usage_waits_where_nothing_else_may_finish_the_stream() -> None:
    """It would look like the usage of a whole answer if the stream broke off right behind it."""
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    stream = PassThroughStream(finish_reason_optional=True)
    assert stream.feed(delta("a")) == delta("a")
    assert stream.feed(usage) == b""
    assert stream.feed(delta("b")) == usage + delta("b")
    assert stream.feed(usage) == b""
    assert stream.feed(DONE) == usage + DONE
    stream = PassThroughStream(finish_reason_optional=True)
    assert run(stream, delta("a"), usage) == delta("a")
    assert stream.error is not None


def test_every_choice_must_finish() -> None:
    """With two choices the first finish passes and the second is held back until the end."""
    stream = PassThroughStream(choices=2)
    first, second = delta("a", finish="stop"), delta("b", index=1, finish="length")
    assert stream.feed(first) == first
    assert stream.feed(second) == b""
    assert stream.feed(DONE) == second + DONE
    stream = PassThroughStream(choices=2)
    run(stream, first)
    assert stream.error is not None


def test_nothing_follows_the_end_mark() -> None:
    """A second end mark and what comes with it are dropped."""
    stream = PassThroughStream()
    assert run(stream, WHOLE + DONE + delta("more"), DONE) == WHOLE


def test_text_that_looks_like_a_finish_passes() -> None:
    """A finish reason, an error or an end mark inside the content is content."""
    for text in ('"finish_reason":"stop"', '{"error": {"message": 1}}', "data: [DONE]\n\n"):
        stream = PassThroughStream()
        chunk = delta(text)
        assert stream.feed(chunk) == chunk
        assert not stream.done
        assert stream.error is None


def test_an_error_event_ends_the_stream() -> None:
    """What came before it is passed on; the error is told and nothing follows."""
    stream = PassThroughStream(provider="p")
    failure = event(error={"message": "overloaded", "type": "server_error", "code": 503})
    assert stream.feed(delta("Hel") + failure + delta("lo")) == delta("Hel")
    assert stream.error is not None
    assert run(stream, WHOLE) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"{nope}",
        b'{"choices": [',
        b"7",
        b'{"choices": 5}',
        b'{"choices": "abc"}',
        b'{"choices": {"a": 1}}',
        b'{"choices": [{"index": [1], "finish_reason": "stop"}]}',
        b'{"choices": [{"index": {"a": 1}, "finish_reason": "stop"}]}',
        b'{"x_groq": "a"}',
        b'{"x_groq": [1]}',
    ],
)
def test_an_event_that_cannot_be_read_is_an_error(data: bytes) -> None:
    """Malformed data is never passed on, nor what has not the form of a chunk."""
    stream = PassThroughStream()
    assert stream.feed(delta("Hel") + b"data: " + data + b"\n\n") == delta("Hel")
    assert stream.error is not None
    assert stream.error.code == "invalid_provider_response"


def test_odd_shapes_do_not_crash() -> None:
    """Null choices, a choice that is no object, and null usage are let through."""
    for odd in (event(choices=None), event(choices=[7]), event(choices=[], usage=None)):
        stream = PassThroughStream()
        assert run(stream, odd, WHOLE) == odd + WHOLE


def test_usage_on_every_event_counts_once() -> None:
    """Cumulative usage is not summed: the last one is the usage."""
    events = [
        event(
            choices=[{"index": 0, "delta": {}, "finish_reason": "stop" if n == 3 else None}],
            usage={"prompt_tokens": 5, "completion_tokens": n, "total_tokens": 5 + n},
        )
        for n in (1, 2, 3)
    ]
    stream = PassThroughStream()
    assert run(stream, *events, DONE) == b"".join(events) + DONE
    assert stream.usage is not None
    assert stream.usage.total_tokens == 8


def test_an_endless_event_is_refused() -> None:
    """An event over the cap is an error, in any number of chunks."""
    stream = PassThroughStream(max_event_bytes=1000)
    for _ in range(30):
        stream.feed(b"x" * 50)
    assert stream.error is not None


@pytest.mark.parametrize("finish", [None, "stop"])
def test_an_event_that_ends_over_the_cap_is_refused(finish: str | None) -> None:
    """Its last piece counts as well; what was whole before it is passed."""
    stream = PassThroughStream(max_event_bytes=1000)
    large = delta("x" * 1000, finish=finish)
    assert stream.feed(delta("Hel") + large[:990]) == delta("Hel")
    assert stream.feed(large[990:] + delta("lo")) == b""
    assert stream.error is not None
    assert stream.error.code == "invalid_provider_response"
    assert run(stream, DONE) == b""


def test_events_of_the_cap_in_all_pass() -> None:
    """The cap is on one, not on what comes together."""
    stream = PassThroughStream(max_event_bytes=200)
    whole = delta("x" * 100) + delta("y" * 100) + delta("", finish="stop") + DONE
    assert run(stream, whole[:100], whole[100:]) == whole


def test_random_splits_change_nothing() -> None:
    """Two hundred random ways to cut the stream give the same bytes."""
    rng = random.Random(7)
    for _ in range(200):
        cuts = sorted(rng.sample(range(1, len(WHOLE)), rng.randint(1, 20)))
        edges = [0, *cuts, len(WHOLE)]
        stream = PassThroughStream()
        chunks = [WHOLE[a:b] for a, b in itertools.pairwise(edges)]
        assert run(stream, *chunks) == WHOLE

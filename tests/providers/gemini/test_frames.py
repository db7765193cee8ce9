"""Streams that come as one JSON array, as they do where ``alt=sse`` got lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.providers._gemini_frames import MAX_EVENT_BYTES, EventFrames
from asgi_llm.providers._translated_stream import FrameError
from asgi_llm.providers.base import StreamDecoder
from asgi_llm.types import Usage

Decoded = Callable[..., tuple[bytes, StreamDecoder]]


def event(text: str, reason: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}]}}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 1}}


ODD = 'a "quoted\\" } ] [ {\\'
EVENTS = [event("one"), event(ODD), event("größe 🎈", "STOP")]
ARRAY = json.dumps(EVENTS, ensure_ascii=False, indent=2).replace("\n", "\r\n").encode()


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def read(parts: list[bytes]) -> list[Any]:
    frames = EventFrames()
    found = [frame for part in parts for frame in frames.feed(part)]
    return [json.loads(data) for _, data in (*found, *frames.close())]


def test_case_83_an_array_is_read_at_every_cut() -> None:
    """Braces and quotes within texts are no borders."""
    for at in range(len(ARRAY) + 1):
        assert EVENTS == read([ARRAY[:at], ARRAY[at:]])
    for size in (1, 2, 3, 64):
        assert EVENTS == read(pieces(ARRAY + b"\r\n", size))


def test_case_83_each_value_leaves_with_the_byte_that_ends_it() -> None:
    """Nothing waits for the array's end."""
    frames = EventFrames()
    ends = [at for at in range(len(ARRAY)) if frames.feed(ARRAY[at : at + 1])]
    assert (3, b"}") == (len(ends), ARRAY[ends[0] : ends[0] + 1])
    assert EVENTS[:1] == json.loads(ARRAY[: ends[0] + 1] + b"]")


def test_case_83_an_array_is_a_stream_like_any_other(decoded: Decoded) -> None:
    """Its end is the stream's end."""
    out, decoder = decoded(ARRAY, size=5)
    assert (True, None) == (decoder.done, decoder.error)
    chunks = [json.loads(row[6:]) for row in out.split(b"\n\n")[:-2]]
    assert "one" + ODD + "größe 🎈" == "".join(
        row["delta"].get("content") or "" for chunk in chunks for row in chunk["choices"]
    )


def test_case_82_83_an_array_that_breaks_off_is_an_error(decoded: Decoded) -> None:
    """At any byte before its bracket, behind the last finish too."""
    for end in range(len(ARRAY)):
        out, decoder = decoded(ARRAY[:end])
        assert decoder.error is not None
        assert (False, False) == (decoder.done, b'"finish_reason":"' in out)


@pytest.mark.parametrize(
    "data",
    [
        b"[{},,{}]",
        b"[{}{}]",
        b"[,{}]",
        b'["a"]',
        b"[1]",
        b"[{}]x",
        b"[{}]]",
        b"[{}][",
        b"{}{}",
        b"{},",
        b"[{}}",
    ],
)
def test_case_83_what_is_no_array_of_objects_is_refused(data: bytes) -> None:
    """Checked to the last byte."""
    for size in (1, 100):
        with pytest.raises(FrameError):
            read(pieces(data, size))


@pytest.mark.parametrize("size", [1, 1000])
def test_what_stands_before_the_nonsense_is_not_lost(decoded: Decoded, size: int) -> None:
    """Its text is sent and its usage counts, in whichever chunk the nonsense comes."""
    out, decoder = decoded(
        json.dumps([event("one"), event("two")]).encode()[:-1] + b",1]", size=size
    )
    assert decoder.error is not None
    assert "invalid_provider_response" == decoder.error.code
    chunks = [json.loads(row[6:]) for row in out.split(b"\n\n")[:-1]]
    assert ["one", "two"] == [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert Usage(input_uncached=1) == decoder.usage


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"[]", []), (b" [ ] \r\n", []), (b'[{"a":1},{"b":[{}]}]', [{"a": 1}, {"b": [{}]}])],
)
def test_case_83_small_arrays(data: bytes, expected: list[Any]) -> None:
    """With spaces anywhere."""
    assert expected == read([data])
    assert expected == read(pieces(data, 1))


def test_case_81_an_error_in_place_of_a_stream_is_read(decoded: Decoded) -> None:
    """Alone or in an array, with status 200 and any content type."""
    error = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}
    for body in (json.dumps(error), json.dumps([error], indent=1)):
        _, decoder = decoded(body.encode(), size=4)
        assert decoder.error is not None
        assert (429, "rate_limit_exceeded") == (decoder.error.status, decoder.error.code)


@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf", b"\r\n", b": hi\n\n"])
def test_case_77_78_events_are_read_whatever_stands_before_them(head: bytes) -> None:
    """A mark, blank lines, comments; the last one needs no blank line."""
    data = head + b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in EVENTS)
    for size in (1, 1000):
        assert EVENTS == read(pieces(data[:-4], size))


def test_nothing_is_no_event() -> None:
    """Nor are spaces; the body's end is judged elsewhere."""
    assert [] == read([])
    assert [] == read([b" ", b"\r\n"])


@pytest.mark.parametrize("head", [b'[{"a":"', b"data: "])
def test_an_event_has_a_largest_size(head: bytes) -> None:
    """Which a picture of the largest kind is below."""
    frames = EventFrames()
    frames.feed(head)
    part = b"x" * (1024 * 1024)
    count = MAX_EVENT_BYTES // len(part)
    for _ in range(count - 1):
        frames.feed(part)
    with pytest.raises(FrameError, match="larger"):
        for _ in range(2):
            frames.feed(part)

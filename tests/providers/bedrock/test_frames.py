"""The binary event stream: any split, both checksums, caps, exceptions."""

from __future__ import annotations

import base64
import importlib
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.providers._bedrock_events import EXCEPTION, MAX_MESSAGE_BYTES, EventStreamFrames
from asgi_llm.providers._translated_stream import FrameError
from asgi_llm.providers.base import StreamDecoder

# It has no types.
_eventstream: Any = importlib.import_module("botocore.eventstream")

Decoded = Callable[..., tuple[bytes, StreamDecoder]]
Framed = Callable[..., bytes]

EVENTS: list[tuple[str, Any]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"delta": {"text": "Grüße 😀"}, "contentBlockIndex": 0}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}}),
]


def message(headers: bytes, payload: bytes = b"{}") -> bytes:
    """A message with headers as they are."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    found = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return found + struct.pack(">I", zlib.crc32(found))


def text(name: str, value: str) -> bytes:
    """A header that is a text."""
    return (
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + struct.pack(">H", len(value))
        + value.encode()
    )


def without_id(out: bytes) -> list[Any]:
    """The chunks; Bedrock gives an answer no id, so that each has one of its own."""
    chunks = [json.loads(row[6:]) for row in out.split(b"\n\n")[:-2]]
    return [{name: value for name, value in chunk.items() if name != "id"} for chunk in chunks]


def test_case_76_83_every_split_gives_the_same(decoded: Decoded, framed: Framed) -> None:
    """Also within a character, a prelude or a checksum."""
    data = framed(*EVENTS)
    expected, decoder = decoded(data)
    assert (None, True) == (decoder.error, decoder.done)
    assert "Grüße 😀".encode() in expected
    found = [decoded(data, size=size)[0] for size in range(1, 41)]
    assert [without_id(expected)] * 40 == [without_id(out) for out in found]
    whole = EventStreamFrames().feed(data)
    for cut in range(len(data) + 1):
        frames = EventStreamFrames()
        assert whole == [*frames.feed(data[:cut]), *frames.feed(data[cut:])]


def test_case_83_a_byte_that_changed_is_never_an_answer(decoded: Decoded, framed: Framed) -> None:
    """Whichever it is, a checksum tells."""
    data = framed(*EVENTS)
    end = len(framed(*EVENTS[:-1]))
    for place in range(end):
        broken = bytearray(data)
        broken[place] ^= 0x20
        out, decoder = decoded(bytes(broken))
        assert decoder.error is not None, place
        assert b'"finish_reason":"' not in out


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">II", MAX_MESSAGE_BYTES + 1, 0),
        struct.pack(">II", 2**32 - 1, 0),
        struct.pack(">II", 15, 0),
        struct.pack(">II", 100, 90),
        struct.pack(">II", 200_000, 140_000),
    ],
)
def test_case_83_lengths_that_cannot_be_are_refused_at_once(data: bytes) -> None:
    """Nothing is waited for, or kept."""
    with pytest.raises(FrameError):
        EventStreamFrames().feed(data + struct.pack(">I", zlib.crc32(data)))


def test_a_large_event_is_read(decoded: Decoded, framed: Framed) -> None:
    """In pieces, without work that grows with what is held."""
    large = "x" * 1_000_000
    event = ("contentBlockDelta", {"delta": {"text": large}, "contentBlockIndex": 0})
    out, decoder = decoded(framed(event, *EVENTS[2:]), size=1000)
    assert decoder.error is None
    assert large.encode() in out


def test_headers_of_every_type_are_passed_over() -> None:
    """Only texts say what a message is."""
    values = [
        b"\x00",
        b"\x01",
        b"\x02\x01",
        b"\x03\x01\x02",
        b"\x04" + b"\x01" * 4,
        b"\x05" + b"\x01" * 8,
        b"\x06\x00\x03abc",
        b"\x08" + b"\x01" * 8,
        b"\x09" + b"\x01" * 16,
    ]
    odd = b"".join(b"\x01" + bytes([97 + index]) + value for index, value in enumerate(values))
    named = text(":message-type", "event") + text(":event-type", "metadata")
    assert [("metadata", b"{}")] == EventStreamFrames().feed(message(odd + named))


@pytest.mark.parametrize(
    "headers",
    [
        b"\x05ab",
        b"\x01a\x0a",
        b"\x01a\x07\x00\x09abc",
        b"\x01a\x07\x00",
        b"\x01a\x05\x01",
        b"\x01\xff\x07\x00\x01a",
        b"\x01a",
        b"",
        text(":message-type", "other"),
    ],
)
def test_headers_that_cannot_be_read_are_refused(headers: bytes) -> None:
    """A message that does not say what it is, too."""
    with pytest.raises(FrameError):
        EventStreamFrames().feed(message(headers))


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("throttlingException", 429, "rate_limit_exceeded"),
        ("serviceUnavailableException", 503, "model_overloaded"),
        ("validationException", 400, None),
        ("internalServerException", 502, None),
        ("modelStreamErrorException", 502, None),
        ("modelTimeoutException", 504, None),
        ("oneOfTomorrow", 502, None),
    ],
)
def test_case_80_81_83_89_exceptions_are_errors(
    decoded: Decoded, framed: Framed, name: str, status: int, code: str | None
) -> None:
    """At the beginning and in the middle; no finish reason leaves after them."""
    for before in ([], EVENTS[:2]):
        data = framed(*before, (f"!{name}", {"message": "Too bad."}), *EVENTS[2:])
        out, decoder = decoded(data)
        assert decoder.error is not None
        assert (status, False) == (decoder.error.status, b'"finish_reason":"' in out)
        assert "Too bad." in decoder.error.message
        if code is not None:
            assert code == decoder.error.code
        assert bool(before) is bool(out)


def test_case_83_an_error_message_has_its_text_in_headers(decoded: Decoded) -> None:
    """And no payload."""
    data = message(
        text(":message-type", "error")
        + text(":error-code", "InternalError")
        + text(":error-message", "It broke."),
        b"",
    )
    assert [(f"{EXCEPTION}InternalError", b'{"message":"It broke."}')] == EventStreamFrames().feed(
        data
    )
    _, decoder = decoded(data)
    assert decoder.error is not None
    assert (502, "It broke.") == (decoder.error.status, decoder.error.message)


@pytest.mark.parametrize(
    ("original", "status"),
    [(503, 503), (429, 429), (408, 504), (400, 502), (None, 502), ("x", 502), (True, 502)],
)
def test_a_model_that_failed_is_no_fault_of_the_clients(
    decoded: Decoded, framed: Framed, original: Any, status: int
) -> None:
    """Its own status counts where that says when to come again."""
    body = {"message": "Failed.", "originalStatusCode": original}
    _, decoder = decoded(framed(("!modelStreamErrorException", body)))
    assert decoder.error is not None
    assert status == decoder.error.status


def test_case_82_every_cut_before_the_message_ends_is_an_error(
    decoded: Decoded, framed: Framed
) -> None:
    """At the border of an event and within one, with framing or without."""
    data = framed(*EVENTS)
    end = len(framed(*EVENTS[:4]))
    for cut in range(end):
        for is_whole in (True, False):
            out, decoder = decoded(data[:cut], is_whole=is_whole)
            assert decoder.error is not None, cut
            assert (False, "stream_truncated") == (
                b'"finish_reason":"' in out,
                decoder.error.code,
            )


def test_recorded_streams_are_read_as_botocore_reads_them(recorded: Path) -> None:
    """Event for event, at several cuts."""
    lines = (recorded / "bedrock.converse_stream.jsonl").read_text().splitlines()
    seen = 0
    for line in lines:
        answer = json.loads(line)["response"]
        if "b64" not in answer:
            continue
        data = base64.b64decode(answer["b64"])
        buffer = _eventstream.EventStreamBuffer()
        buffer.add_data(data)
        expected = [(one.headers[":event-type"], one.payload) for one in buffer]
        for size in (len(data), 1, 7, 1000):
            frames = EventStreamFrames()
            found = [
                one for at in range(0, len(data), size) for one in frames.feed(data[at : at + size])
            ]
            assert expected == found
        seen += 1
    assert seen > 10

"""The event-stream decoder: every split gives the same events, and chunks are decoded once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm import _sse

STREAM = (
    b"\xef\xbb\xbf: a comment\n\n"
    b'data: {"a": 1}\n\n'
    b"event: error\r\ndata:no space\r\n\r\n"
    b"data: one\rdata: two\r\r"
    b"id: 7\nretry: 10\n\n"
    b"data: \xe2\x82\xac \xf0\x9f\x8c\x8d\n\n"
    b"data\n\n"
    b"data: [DONE]\n\n"
    b"data: last without blank line"
)
EVENTS = [
    ("message", b'{"a": 1}'),
    ("error", b"no space"),
    ("message", b"one\ntwo"),
    ("message", "\u20ac \U0001f30d".encode()),
    ("message", b""),
    ("message", b"[DONE]"),
    ("message", b"last without blank line"),
]


def decode(*chunks: bytes) -> list[tuple[str, bytes]]:
    decoder = _sse.Decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return [(event.type, event.data) for event in [*events, *decoder.close()]]


def test_reads_line_ends_comments_mark_and_fields() -> None:
    """LF, CRLF, CR, comments, a byte order mark and data over several lines are all understood."""
    assert decode(STREAM) == EVENTS


@pytest.mark.parametrize("at", range(1, len(STREAM)))
def test_b20_a_split_at_any_byte_changes_nothing(at: int) -> None:
    """Two parts give the events of the whole, wherever the cut is."""
    assert decode(STREAM[:at], STREAM[at:]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_b20_any_number_of_splits_changes_nothing(cuts: list[int]) -> None:
    """Any way of cutting the stream gives the same events."""
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
    assert decode(*chunks) == EVENTS


def test_b20_one_byte_at_a_time_changes_nothing() -> None:
    """The finest split gives the events of the whole."""
    assert decode(*(bytes((byte,)) for byte in STREAM)) == EVENTS


@given(
    st.lists(
        st.sampled_from([b"data: x", b"\r", b"\n", b"\r\n", b": c", b"event: e"]), max_size=12
    ),
    st.integers(0, 60),
)
def test_b20_odd_line_ends_split_anywhere_change_nothing(parts: list[bytes], at: int) -> None:
    """A CRLF that is cut in two is not taken for two line ends."""
    stream = b"".join(parts)
    assert decode(stream[:at], stream[at:]) == decode(stream)


def test_b20_utf8_is_decoded_per_event() -> None:
    """A character cut by chunks is whole again; malformed bytes become U+FFFD and no exception."""
    decoder = _sse.Decoder()
    euro = "data: \u20ac\n\n".encode()
    assert decoder.feed(euro[:7]) == []
    assert [event.text for event in decoder.feed(euro[7:])] == ["\u20ac"]
    assert [event.text for event in decoder.feed(b"data: \xff\n\n")] == ["\ufffd"]


def test_b20_an_event_over_the_cap_is_refused() -> None:
    """Neither a long line in one chunk nor one that grows without end is kept."""
    with pytest.raises(_sse.SSEError):
        _sse.Decoder(100).feed(b"data: " + b"x" * 200 + b"\n\n")
    decoder = _sse.Decoder(100)
    with pytest.raises(_sse.SSEError):
        for _ in range(10):
            decoder.feed(b"x" * 20)


def test_b20_data_that_is_not_json_is_told() -> None:
    """``json`` raises for data that is no JSON, however often it is asked."""
    (event,) = _sse.Decoder().feed(b"data: {nope}\n\n")
    for _ in range(2):
        with pytest.raises(_sse.SSEError):
            event.json()


def test_encode_is_undone_by_decode() -> None:
    """An event with line feeds and a type comes back as it was."""
    assert decode(_sse.encode(b"a\nb", "error") + _sse.encode(b"c")) == [
        ("error", b"a\nb"),
        ("message", b"c"),
    ]


def test_split_gives_back_every_byte() -> None:
    """The raw parts of ``split`` are the stream, and comments have no event."""
    whole = STREAM[: _sse.last_border(STREAM)]
    parts = list(_sse.split(whole))
    assert b"".join(raw for raw, _ in parts) == whole
    assert [event.data for _, event in parts if event] == [data for _, data in EVENTS[:-1]]


def test_readers_of_the_same_chunks_share_their_events() -> None:
    """A chunk that a layer further in has decoded is not decoded again, partial events included."""
    log = _sse.EventLog()
    inner, outer = _sse.EventReader(log), _sse.EventReader(log)
    for chunk in (b"data: {", b'"a": 1}\n\ndata', b": 2\n\n"):
        first, second = inner.feed(chunk), outer.feed(chunk)
        assert all(a is b for a, b in zip(first, second, strict=True))


def test_a_reader_outside_a_rewriter_decodes_what_it_gets() -> None:
    """After a rewritten chunk each reader goes on from its own place."""
    log = _sse.EventLog()
    inner, outer = _sse.EventReader(log), _sse.EventReader(log)
    got: list[bytes] = []
    for chunk, rewritten in (
        (b"data: secr", b"data: ****"),
        (b"et\n\n", b"\n\n"),
        (b"data: same\n\n",) * 2,
    ):
        inner.feed(chunk)
        got += [event.data for event in outer.feed(rewritten)]
    assert got == [b"****", b"same"]


def test_a_reader_that_skips_chunks_is_not_confused() -> None:
    """A layer that gets two chunks as one decodes that one."""
    log = _sse.EventLog()
    inner, outer = _sse.EventReader(log), _sse.EventReader(log)
    inner.feed(b"data: 1\n")
    inner.feed(b"\ndata: 2\n\n")
    assert [event.data for event in outer.feed(b"data: 1\n\ndata: 2\n\n")] == [b"1", b"2"]


@given(st.binary(max_size=60), st.integers(0, 60))
def test_b20_no_bytes_crash_the_decoder(data: bytes, at: int) -> None:
    """Any bytes, cut anywhere, decode to the same events."""
    assert decode(data[:at], data[at:]) == decode(data)

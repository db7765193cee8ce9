"""How short records are written: the same bytes in Python and in C, or none."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.stores._journal_short import (
    SHORT_INTENT_BYTES,
    SHORT_OUTCOME_BYTES,
    RecordBuffer,
    ShortCall,
    new_call,
)

COUNTS = st.integers(0, 2**32 - 1)
SECONDS = st.floats(allow_nan=False)
IDS = st.text(st.characters(min_codepoint=0, max_codepoint=127), min_size=36, max_size=36)
ROW, REQUEST = f"row_{1:032x}", f"req_{2:032x}"


def call_of(**fields: Any) -> ShortCall:
    """A call that a short record holds, but for what is said of it."""
    values = {"id": ROW, "request_id": REQUEST, "at": 7, "streamed": True, "tokens_in": 1, **fields}
    names = ("id", "request_id", "at", "streamed", "tokens_in")
    call = new_call(*(values[name] for name in names))
    call.tokens_out = values.get("tokens_out", 2)
    call.latency_seconds = values.get("latency_seconds", 0.5)
    call.first_seconds = values.get("first_seconds", 0.25)
    return call


def put(call: ShortCall, *, outcome: bool) -> tuple[bool, bytes]:
    """Whether it was written, and into what."""
    target = bytearray(b"." * 140)
    buffer = RecordBuffer(target)
    done = buffer.put_outcome(3, 5, 6, call, 1.5) if outcome else buffer.put_intent(3, 5, 6, call)
    buffer.release()
    return bool(done), bytes(target)


@given(
    place=st.integers(0, 50),
    backs=st.tuples(COUNTS, COUNTS),
    ids=st.tuples(IDS, IDS),
    at=st.integers(-(2**63), 2**63 - 1),
    streamed=st.booleans(),
    tokens=st.tuples(COUNTS, COUNTS),
    seconds=st.tuples(SECONDS, st.none() | SECONDS, SECONDS),
)
def test_each_number_has_its_place(
    place: int,
    backs: tuple[int, int],
    ids: tuple[str, str],
    at: int,
    streamed: bool,
    tokens: tuple[int, int],
    seconds: tuple[float, float | None, float],
) -> None:
    """Little endian, behind a marker and the CRC of it all; what is around it stays as it is."""
    latency, first, written = seconds
    names = tuple(id.encode() for id in ids)
    call = call_of(
        id=ids[0],
        request_id=ids[1],
        at=at,
        streamed=streamed,
        tokens_in=tokens[0],
        tokens_out=tokens[1],
        latency_seconds=latency,
        first_seconds=first,
    )
    flags = int(streamed)
    intent = struct.pack("<BBHIIqI36s36s", 5, flags, 0, *backs, at, tokens[0], *names)
    flags += 2 * (first is not None)
    numbers = (*tokens, latency, first or 0.0, written)
    if first is not None:
        numbers = (*tokens, latency, first, written)
    outcome = struct.pack("<BBHIIqIIddd36s36s", 6, flags, 0, *backs, at, *numbers, *names)
    for record, size in ((intent, SHORT_INTENT_BYTES), (outcome, SHORT_OUTCOME_BYTES)):
        target = bytearray(b"." * 200)
        buffer = RecordBuffer(target)
        if record is intent:
            assert buffer.put_intent(place, *backs, call)
        else:
            assert buffer.put_outcome(place, *backs, call, written)
        buffer.release()
        whole = b"\xff\xfeLR" + struct.pack("<I", zlib.crc32(record)) + record
        assert size == len(whole)
        assert b"." * place + whole + b"." * (200 - place - size) == bytes(target)


@pytest.mark.parametrize("outcome", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"id": "row_1"},
        {"id": ""},
        {"id": "ü" * 36},
        {"id": "ü" * 18},
        {"id": "\ud800" * 36},
        {"request_id": "of the client"},
        {"request_id": "é" + "a" * 35},
        {"request_id": "\U0001f600" * 36},
        {"tokens_in": 2**32},
        {"tokens_in": -1},
        {"tokens_in": 2**64},
        {"tokens_in": "1"},
        {"at": 2**63},
        {"at": -(2**63) - 1},
        {"at": 1.5},
    ],
    ids=repr,
)
def test_what_it_cannot_hold_is_not_written(fields: dict[str, Any], outcome: bool) -> None:
    """Not a part of it either, and whoever asked is told."""
    assert (False, b"." * 140) == put(call_of(**fields), outcome=outcome)


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens_out": 2**32},
        {"tokens_out": -1},
        {"tokens_out": 2**63},
        {"latency_seconds": None},
        {"latency_seconds": "soon"},
        {"first_seconds": "soon"},
    ],
    ids=repr,
)
def test_an_outcome_that_it_cannot_hold_is_not_written(fields: dict[str, Any]) -> None:
    """Though the intent of the same call is."""
    assert (False, b"." * 140) == put(call_of(**fields), outcome=True)
    assert put(call_of(**fields), outcome=False)[0]


@pytest.mark.parametrize("backs", [(2**32, 1), (1, 2**32), (-1, 1)])
def test_what_is_too_far_back_is_not_named(backs: tuple[int, int]) -> None:
    """A distance has 32 bits."""
    buffer = RecordBuffer(bytearray(140))
    assert not buffer.put_intent(0, *backs, call_of())
    assert not buffer.put_outcome(0, *backs, call_of(), 1.0)
    buffer.release()


@pytest.mark.parametrize("place", [-1, 37, 1000])
def test_nothing_is_written_beside_the_buffer(place: int) -> None:
    """A place from which it would not fit is an error."""
    buffer = RecordBuffer(bytearray(SHORT_INTENT_BYTES + 36))
    with pytest.raises((ValueError, struct.error)):
        buffer.put_outcome(place, 1, 1, call_of(), 1.0)
    buffer.release()
    with pytest.raises((ValueError, struct.error)):
        buffer.put_intent(0, 1, 1, call_of())


def test_a_call_is_made_as_its_class_makes_it() -> None:
    """By the shorter way, with the same in it."""
    made, known = new_call(ROW, REQUEST, 5, True, 3), ShortCall(ROW, REQUEST, 5, True, 3)
    names = ("id", "request_id", "at", "streamed", "tokens_in", "tokens_out")
    more = ("latency_seconds", "first_seconds", "segment", "offset", "room")
    for name in (*names, *more):
        assert getattr(known, name) == getattr(made, name)
    assert (0, None, None, 0) == (
        made.tokens_out,
        made.latency_seconds,
        made.first_seconds,
        made.room,
    )

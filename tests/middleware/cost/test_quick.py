"""What is done in each request, by the plain source and by the one for C: the same."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_llm.middleware._cost_quick import (
    find_choices,
    has_any,
    is_body,
    is_event,
    is_standard,
    is_start,
    is_text_alone,
    last_header,
    monotonic,
    row_id,
    slot_of,
    small_int,
    tells_tier,
    to_microseconds,
    wall,
    with_header,
    with_margin,
)
from asgi_llm.types import Usage

ANSWERS = st.lists(
    st.sampled_from(
        [
            *(
                b'"service_tier"',
                b'"service_tie',
                b'"server_tool_use',
                b'"server_tool_us',
                b'"serv',
            ),
            *(b':"default"', b': "default"', b":null", b": null", b":  null", b':"flex"', b":"),
            *(b"v", b"\0", b'"x"', b"default", b"null"),
        ]
    ),
    max_size=8,
).map(b"".join)


@given(ANSWERS)
@example(b"")
@example(b"v")
@example(b'"service_tier":null')
@example(b'"service_tier":nul')
@example(b'"service_tier": "default')
def test_an_answer_is_standard_that_tells_of_one_usual_tier_and_no_searches(body: bytes) -> None:
    """Wherever that stands, and whatever else does."""
    name = b'"service_tier"'
    ends = (b':"default"', b': "default"', b":null", b": null")
    tiers = [at for at in range(len(body)) if body.startswith(name, at)]
    usual = [at for at in tiers if body.startswith(ends, at + len(name))]
    expected = len(body) > 0 and b'"server_tool_use' not in body and usual == tiers[:1] == tiers
    assert expected is is_standard(body)


@pytest.mark.parametrize("chunk", [b"", b"}", b"\n\n", b"}\n\n", b"data: {}\n\n", b"[DONE]\n\n"])
def test_an_event_that_is_an_object_ends_with_one(chunk: bytes) -> None:
    """And with a blank line."""
    assert chunk.endswith(b"}\n\n") is is_event(chunk)


@given(ANSWERS)
def test_an_answer_tells_of_a_tier_or_does_not(body: bytes) -> None:
    """By the name of the field."""
    assert (b'"service_tier"' in body) is tells_tier(body)


PIECES = st.lists(
    st.sampled_from([b'"choices":[{', b'"choices":[]', b"[]", b"\n", b"data: {", b"x", b"}\n\n"]),
    max_size=8,
).map(b"".join)


@given(PIECES, st.integers(0, 60))
@example(b'data: {"choices":[{}]}\n\n', 7)
@example(b'data: {"choices":[{}]}\n\n', 8)
@example(b'"choices":[{\n', 0)
@example(b"", 0)
def test_where_choices_begin_is_found_unless_they_may_be_none(chunk: bytes, at: int) -> None:
    """One event like the one before is known at its place; in others an empty list is too much."""
    if chunk.startswith(b'"choices":[{', at) and b"\n" not in chunk[:-2]:
        expected = at
    elif b"[]" in chunk:
        expected = -1
    else:
        expected = max(0, chunk.find(b'"choices":[{'))
    assert expected == find_choices(chunk, at)


@given(st.dictionaries(st.text(max_size=2), st.none()), st.frozensets(st.text(max_size=2)))
def test_a_document_has_any_of_some_fields_or_none(document: Any, names: frozenset[str]) -> None:
    """By their names."""
    assert bool(names & set(document)) is has_any(document, names)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(
            (0, 0),
            (7, 7),
            (2**31 - 1, 2**31 - 1),
            (2**31, -1),
            (2**80, -1),
            (-1, -1),
            (-(2**80), -1),
        ),
        *((True, -1), (7.0, -1), ("7", -1), (None, -1)),
    ],
)
def test_small_numbers_are_whole_ones_of_31_bits(value: object, expected: int) -> None:
    """All else is none."""
    assert expected == small_int(value)


def test_a_slot_is_that_of_an_object_and_a_text() -> None:
    """An equal text will do; it is below 64."""
    asker = object()
    for model in ("gpt", "gpt-4o", ""):
        assert slot_of(asker, model) == slot_of(asker, "".join([*model]))
        assert 0 <= slot_of(None, model) < 64
    assert len({slot_of(asker, f"model-{number}") for number in range(500)}) > 32


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_a_header_is_put_behind_others(kind: Any) -> None:
    """In a new list."""
    given = [(b"a", b"1"), (b"b", b"2")]
    assert [*given, (b"x-cost", b"0.5")] == with_header(kind(given), b"x-cost", "0.5")
    assert [(b"a", b"1"), (b"b", b"2")] == given
    assert [(b"x", "ä".encode())] == with_header([], b"x", "ä")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([(b"content-type", b"1")], b"1"),
        ([(b"Content-TYPE", b"1"), (b"a", b"2")], b"1"),
        ([(b"content-type", b"1"), (b"CONTENT-type", b"2")], b"2"),
        (((b"content-type", b"1"),), b"1"),
        ([[b"content-type", b"1"], (b"content-type", b"3")], b"3"),
        ([(b"content-type", b"1"), [b"content-type", b"3"]], b"3"),
        ([(bytearray(b"Content-Type"), b"1")], b"1"),
        ([(b"content-typ", b"1"), (b"content-type-", b"1"), (b"content_type", b"1")], None),
    ],
)
def test_the_last_header_of_a_name_counts(headers: Any, expected: bytes | None) -> None:
    """However it is written."""
    assert expected == last_header(headers, b"content-type")


@pytest.mark.parametrize("headers", [[(b"a",)], [(b"a", b"b", b"c")], [7]])
def test_headers_that_are_no_pairs_are_not_passed_over(headers: Any) -> None:
    """Whoever wrote them is told."""
    with pytest.raises((ValueError, TypeError)):
        last_header(headers, b"content-type")


@pytest.mark.parametrize(
    "name",
    ["http.response.start", "http.response.body", "http.response.bodX", "", "äöü", None, 7, b"x"],
)
def test_messages_of_an_answer_are_known_by_their_names(name: object) -> None:
    """Also by a text that is only equal to it."""
    same = "".join([*name]) if isinstance(name, str) else name
    assert (name == "http.response.start") is is_start(same)
    assert (name == "http.response.body") is is_body(same)


def test_ids_of_rows_are_like_those_of_requests() -> None:
    """``row_``, the time, and what nobody can guess; no two are the same."""
    ids = [row_id() for _ in range(1000)]
    assert 1000 == len(set(ids)) == len({one[16:] for one in ids})
    assert {36} == {len(one) for one in ids}
    assert all(one.startswith("row_") and int(one[4:], 16) >= 0 and one.isascii() for one in ids)
    now = time.time_ns() // 1_000_000
    assert all(0 <= now - int(one[4:16], 16) < 600_000 for one in ids)


def test_a_forked_process_has_ids_of_its_own() -> None:
    """None of those that the other is going to give."""
    row_id()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writes, row_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reads, 36).decode()
    os.close(reads)
    os.close(writes)
    assert theirs not in {row_id() for _ in range(600)}


class Other(Usage, frozen=True):
    """A usage by another name."""


FIELDS = tuple(name for name in Usage.__struct_fields__ if name != "estimated")


@pytest.mark.parametrize("kind", [Usage, Other])
def test_a_usage_is_of_text_alone_or_it_is_not(kind: type[Usage]) -> None:
    """Text has gone in, and has come out, and there is nothing else; a guess does not count."""
    text = kind(input_uncached=3, output_text=2)
    assert is_text_alone(text)
    assert is_text_alone(kind(input_uncached=10**20, output_text=10**20))
    assert not is_text_alone(kind())
    assert not is_text_alone(msgspec.structs.replace(text, estimated=True))
    for name in FIELDS:
        is_text = name in ("input_uncached", "output_text")
        assert is_text is is_text_alone(msgspec.structs.replace(text, **{name: 1}))
        assert is_text is is_text_alone(msgspec.structs.replace(text, **{name: 10**20}))
        assert (not is_text) is is_text_alone(msgspec.structs.replace(text, **{name: 0}))
    assert not is_text_alone(msgspec.structs.replace(text, output_text=-1))


@given(st.floats(0, 1e11))
@example(0.0000005)
@example(0.0000015)
def test_times_are_rounded_as_numbers_are(seconds: float) -> None:
    """To whole microseconds, and to the even one in the middle."""
    assert round(seconds * 1_000_000) == to_microseconds(seconds)


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -float("inf")])
def test_what_is_no_time_has_no_microseconds(seconds: float) -> None:
    """Nothing else is made of it."""
    with pytest.raises((OverflowError, ValueError)):
        to_microseconds(seconds)


def test_the_time_is_that_of_the_system() -> None:
    """Of both clocks."""
    assert time.monotonic() <= monotonic() <= time.monotonic()
    assert abs(time.time() - wall()) < 5


@given(st.integers(0, 2**31), st.floats(1, 100))
def test_a_margin_is_rounded_up(tokens: int, margin: float) -> None:
    """To the next number, also from a whole one."""
    assert int(tokens * margin) + 1 == with_margin(tokens, margin)

"""What the JSON parser takes, what it refuses, and how long that may take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm import _json
from asgi_llm.errors import InvalidRequestError
from tests.wire.json_suite import ACCEPT, EITHER, REFUSE

MILLION = 10**6

# A tracer, as for coverage, makes each line of Python several times as dear.
LIMIT_SECONDS = 0.05 if sys.gettrace() is None else 1.0

HOSTILE: dict[str, bytes] = {
    "a million keys": b"{" + b",".join(b'"%d":1' % i for i in range(MILLION)) + b"}",
    "a million objects": b"[" + b'{"a":1},' * MILLION + b"1]",
    "a million arrays": b"[" + b"[]," * MILLION + b"1]",
    "a million strings": b"[" + b'"ab",' * MILLION + b"1]",
    "a million spaced keys": b"{" + b'"a" :1,' * MILLION + b'"a":1}',
    "a million digits": b"1" * MILLION,
    "a million digits of a fraction": b"0." + b"1" * MILLION,
    "many long numbers": b"[" + (b"1" * 4300 + b",") * 1000 + b"1]",
    "many numbers that are slow to read": b"[" + b"2.2250738585072011e-308," * 200_000 + b"1]",
    "arrays 10^5 deep": b"[" * 100_000,
    "closed arrays 10^5 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects 10^5 deep": b'{"a":' * 100_000,
    "arrays as deep as Python goes": b"[" * 900 + b"]" * 900,
    "a million quotes": b'"' * MILLION,
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "a lone surrogate": rb'"\ud800"',
    "invalid UTF-8": b'{"a": "\xff"}',
    "NaN": b"NaN",
    "infinity": b"[Infinity]",
    "a number beyond floats": b"1e400",
    "nothing": b"",
}


@pytest.mark.parametrize("name", ACCEPT)
def test_a10_valid_json_is_accepted(name: str) -> None:
    """Each ``y_`` case parses, and what it parsed to survives a round trip."""
    document = _json.decode(ACCEPT[name])
    assert document == _json.decode(_json.encode(document))


@pytest.mark.parametrize("name", REFUSE)
def test_a10_invalid_json_is_refused(name: str) -> None:
    """Each ``n_`` case is a 400."""
    with pytest.raises(InvalidRequestError) as caught:
        _json.decode(REFUSE[name])
    assert (400, "invalid_json") == (caught.value.status, caught.value.code)


@pytest.mark.parametrize("name", EITHER)
def test_a10_doubtful_json_is_an_answer_either_way(name: str) -> None:
    """Each ``i_`` case parses to what can be sent on, or is a 400."""
    try:
        document = _json.decode(EITHER[name])
    except InvalidRequestError as error:
        assert "invalid_json" == error.code
    else:
        assert document == _json.decode(_json.encode(document))


@pytest.mark.parametrize("name", HOSTILE)
def test_a10_b40_a_hostile_body_is_refused_in_under_50_ms(name: str) -> None:
    """No body stalls the loop: each is a 400 within 50 ms of CPU."""
    refusals: list[InvalidRequestError] = []

    def refuse() -> None:
        with pytest.raises(InvalidRequestError) as caught:
            _json.decode(HOSTILE[name])
        refusals.append(caught.value)

    assert _cpu_seconds(refuse) < LIMIT_SECONDS
    assert {"invalid_json", "too_many_values"} >= {error.code for error in refusals}
    assert all(len(error.message) < 200 for error in refusals)


ACCEPTED: dict[str, bytes] = {
    "as many keys as allowed": b"{" + b",".join(b'"%d":1' % i for i in range(49_000)) + b"}",
    "as many objects as allowed": b"[" + b"{}," * 74_000 + b"1]",
    "as many tokens as an embedding call takes": b"[" + b"12345," * 290_000 + b"1]",
    "as many fractions as allowed": b"[" + b"1.5," * 149_000 + b"1]",
    "as many strings as allowed": b"[" + b'"abcdefgh",' * 99_000 + b"1]",
    "a quarter of a MiB of slow numbers": b"[" + b"2.2250738585072011e-308," * 10_900 + b"1]",
    "a quarter of a MiB of long numbers": b"[" + (b"1" * 4300 + b",") * 60 + b"1]",
    "a MiB of base64": b'{"a":"' + b"abcd" * 262_144 + b'"}',
    "a MiB of CSV in a string": b'{"a":"' + rb"12,[{:34,5\n" * 90_000 + b'"}',
    "a MiB of quotes in a string": b'{"a":"' + rb"\"a\\" * 200_000 + b'"}',
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_large_body_is_read_in_under_50_ms(name: str) -> None:
    """What is just within the limits, or is mostly text, parses in time."""
    assert _cpu_seconds(lambda: _json.decode(ACCEPTED[name])) < LIMIT_SECONDS


def _cpu_seconds(call: Callable[[], object]) -> float:
    """The best of several runs, for other processes cost cache."""
    best = 1.0
    for _ in range(5):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("depth", [1, _json.MAX_DEPTH, _json.MAX_DEPTH + 1])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a10_depth_is_bounded_exactly(depth: int, opening: bytes, closing: bytes) -> None:
    """256 levels pass, 257 are refused."""
    body = opening * depth + (b"[" if opening == b"[" else b"{") + closing * (depth + 1)
    if depth < _json.MAX_DEPTH:
        assert isinstance(_json.decode(body), dict | list)
        return
    with pytest.raises(InvalidRequestError, match="nested too deeply"):
        _json.decode(body)


def test_many_containers_side_by_side_are_not_deep() -> None:
    """Depth counts, not the number of containers, nor braces in text."""
    body = b'{"text": "' + b"[{" * 5000 + b'", "list": [' + b"{}," * 5000 + b"[]]}"
    assert 5001 == len(_json.decode(body)["list"])


def test_a10_deep_inside_a_stack_nothing_but_a_refusal_is_raised() -> None:
    """With hardly any stack left, decode and encode refuse; they do not break."""
    body = b"[" * 200 + b"]" * 200
    document = _json.decode(body)

    def outcome(call: Callable[[], Any]) -> str:
        try:
            call()
        except InvalidRequestError as error:
            return error.code or ""
        return "ok"

    def descend(levels: int, call: Callable[[], Any]) -> str:
        return outcome(call) if levels == 0 else descend(levels - 1, call)

    outcomes = {
        descend(levels, call)
        for levels in (100, 500, 750, 850)
        for call in (lambda: _json.decode(body), lambda: _json.encode(document))
    }
    assert outcomes <= {"ok", "invalid_json"}
    assert "ok" in outcomes


def test_encoding_a_bomb_is_refused() -> None:
    """A document nested deeper than any request is an error, not a crash."""
    document: list[Any] = []
    for _ in range(200_000):
        document = [document]
    with pytest.raises(InvalidRequestError, match="nested too deeply"):
        _json.encode(document)
    while document:
        document = document.pop()


def test_a9_the_last_of_two_equal_keys_counts_and_is_what_is_sent() -> None:
    """A duplicate key, escaped or not, has one meaning from the parse on."""
    document = _json.decode(rb'{"model":"cheap","\u006dodel":"dear"}')
    assert {"model": "dear"} == document
    assert b'{"model":"dear"}' == _json.encode(document)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "it is empty"),
        (b"\xef\xbb\xbf{}", "it starts with a byte order mark"),
        ("{}".encode("utf-16-be"), "it is not UTF-8 text"),
        (b'{"a": 1', "it ends too early"),
        (b'{"a": 1} x', "trailing characters (byte 10)"),
        (b"1e400", "a number is out of range"),
        (b"1" * 5000, "a number is out of range"),
        (b" " * 65536 + b"0." + b"1" * 200, "a number has more than 128 characters"),
        (b'"\xff"', "a string is not valid UTF-8"),
    ],
)
def test_a_refusal_says_what_is_wrong(body: bytes, cause: str) -> None:
    """The message names the cause in plain words."""
    with pytest.raises(InvalidRequestError) as caught:
        _json.decode(body)
    assert f"The body is not valid JSON: {cause}." == caught.value.message


@pytest.mark.parametrize("text", ["0.7", "-0.0", "1e22", "123.456e-789", "5e-324", "1E+2"])
def test_floats_are_what_python_reads(text: str) -> None:
    """Reading floats by ourselves changes no value."""
    assert repr(float(text)) == repr(_json.decode(text.encode()))

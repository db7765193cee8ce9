"""Requests and answers that are read as bytes: what is found in them is what a parser finds."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_llm import _json
from asgi_llm.errors import InvalidRequestError
from asgi_llm.middleware._cache_answer import read_whole
from asgi_llm.middleware._cache_controls import NO_CONTROLS
from asgi_llm.middleware._cache_headers import (
    are_plain_headers,
    client_id_of,
    credentials_of,
    decimal,
    lengths_of,
)
from asgi_llm.middleware._cache_plain import READS_BYTES, digest, peek_answer, read_bytes
from asgi_llm.middleware._cache_request import (
    CACHED_ROUTES,
    CacheRequest,
    digest_request,
    is_deterministic,
    read_request,
)
from asgi_llm.state import State
from asgi_llm.types import Deployment

CHAT = "/v1/chat/completions"
_DEPLOYMENT = Deployment(provider="p", model="m")
TOLD = ("operation", "route", "query", "model", "streams", "tells_usage", "partition", "deployment")

names = st.sampled_from(
    ["model", "stream", "stream_options", "user", "metadata", "seed", "temperature", "a", "ab", "é"]
) | st.text(max_size=4)
numbers = st.sampled_from([0, 1, -1, 0.0, -0.0, 0.7, 1e-5, 1e16, 0.0001, 123456789012345.0, 10**17])
leaves = st.none() | st.booleans() | numbers | st.integers() | st.floats(-1e6, 1e6) | st.text()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(names, values, max_size=8).map(
    lambda made: {**made, "model": "m", **({"stream": True} if "stream" in made else {})}
)
odd = st.sampled_from(
    (
        *(b'"', b"\\", b"\\u00e9", b"\\ud83d\\ude00", b"\\ud800", b"\\/", b"\x00", b"\xff"),
        *(b"{", b"}", b"[", b"]", b",", b":", b" ", b"-", b"0", b"1e5", b"1.50", b"null"),
        *(b"\xc3\xa9", b"\xe2\x80"),
    )
)


def written(document: Any, style: int) -> bytes:
    """A document as clients write it, in one of several ways."""
    if style == 0:
        return json.dumps(document).encode("utf-8", "surrogatepass")
    if style == 1:
        return msgspec.json.encode(document)
    return json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")


def read(data: bytes, partition: str = "organization:acme") -> CacheRequest | None:
    return read_bytes(
        data, CHAT, CACHED_ROUTES[CHAT], b"a=b", partition, NO_CONTROLS, "", "p/m", False
    )


def parsed(data: bytes, partition: str = "organization:acme") -> CacheRequest | None:
    try:
        document = State([]).document(data)
    except InvalidRequestError:
        return None
    return read_request(document, CHAT, b"a=b", partition, NO_CONTROLS, _DEPLOYMENT)


def assert_is_what_is_parsed(data: bytes, partition: str = "organization:acme") -> bool:
    """Whether it was read as bytes; if so, all is as the parser has it."""
    found = read(data, partition)
    if found is None:
        return False
    expected = parsed(data, partition)
    assert expected is not None
    assert [getattr(expected, name) for name in TOLD] == [getattr(found, name) for name in TOLD]
    assert digest_request(expected) == found.key
    steady = read_bytes(
        data, CHAT, CACHED_ROUTES[CHAT], b"a=b", partition, NO_CONTROLS, "", "p/m", True
    )
    assert is_deterministic(expected.document) == (steady is not None)
    return True


@given(documents, st.integers(0, 2), st.text(max_size=300))
@example({"model": "m", "b": {"d": 1, "c": [{"z": 1, "y": 2}], "ab": 2, "a": 1}, "a": 0}, 0, "é")
@example({"model": "m", "stream": True, "stream_options": {"include_usage": True}}, 0, "x" * 300)
@example({"model": "m", "seed": 7, "temperature": 0.0, "messages": ["\x00\n\u2028😀/"]}, 0, "")
@settings(deadline=None)
def test_a_request_is_read_as_it_is_parsed(
    document: dict[str, Any], style: int, partition: str
) -> None:
    """Whatever a document holds, and however it is written: its fields and its key are the same."""
    if any("\ud800" <= letter < "\ue000" for letter in partition):
        return
    assert_is_what_is_parsed(written(document, style), partition)


@given(documents, st.integers(0, 2), st.data())
@settings(deadline=None)
def test_what_the_parser_refuses_is_not_read(
    document: dict[str, Any], style: int, data: st.DataObject
) -> None:
    """Bytes put in, or cut off: what is no JSON has no key, and all else the key that it has."""
    text = written(document, style)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 3)))
    assert_is_what_is_parsed(text[:start] + data.draw(st.just(b"") | odd) + text[end:])


@pytest.mark.parametrize(
    "text",
    [
        b'{"model":"m","n":-0}',
        b'{"model":"m","n":1.50}',
        b'{"model":"m","n":1e2}',
        b'{"model":"m","n":0.00001}',
        b'{"model":"m","n":01}',
        b'{"model":"m","n":1,"n":2}',
        b'{"model":"m","x":{"n":1,"m":3,"n":2}}',
        b'{"model":"m","mod\\u0065l":"x"}',
        b'{"model":"\\u006d"}',
        b'{"model":"m","asgi_llm":{}}',
        b'{"model":"m","stream":1}',
        b'{"model":"m","stream":true,"stream_options":{"x":1}}',
        b'{"model":"m"} x',
        b'{"model":7}',
        b"{}",
        b"[]",
        b"",
        b'{"model":"m","a":' + 60 * b"[" + 60 * b"]" + b"}",
        b'{"model":"m","a":{' + b",".join(b'"%d":1' % n for n in range(70)) + b"}}",
        b'{"model":"m","a":"' + b"x" * 256 * 1024 + b'"}',
    ],
)
def test_what_is_rare_is_parsed(text: bytes) -> None:
    """It is not read as bytes."""
    assert read(text) is None


@pytest.mark.skipif(not READS_BYTES, reason="only C reads bytes")
@pytest.mark.parametrize(
    "document",
    [
        {"model": "gpt", "messages": [{"role": "user", "content": 'Äh, 😀\n"quoted" \\ / \x01'}]},
        {
            "temperature": 0.7,
            "model": "m",
            "max_tokens": 256,
            "top_p": 1.0,
            "seed": -4,
            "user": "u",
        },
        {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "metadata": {}},
        {"model": "m", "stream": False, "stream_options": None, "messages": ["x" * 100_000]},
        {"model": "m", "tools": [{"b": {}, "a": [], "c": {"z": None, "y": [1, 2.5, False]}}] * 30},
        {f"{n % 7}{n}": n for n in range(60)} | {"model": "m"},
    ],
)
@pytest.mark.parametrize("style", [0, 1, 2])
def test_usual_requests_are_read_as_bytes(document: dict[str, Any], style: int) -> None:
    """Compiled, they are, and come to what the parser gives."""
    assert assert_is_what_is_parsed(written(document, style))


@given(st.binary(max_size=300))
@example(b"x" * 55)
@example(b"x" * 56)
@example(b"x" * 63)
@example(b"x" * 64)
@example(b"x" * 119)
@example(b"x" * 120)
@example(b"x" * 100_000)
def test_a_digest_is_sha_256(data: bytes) -> None:
    """Whoever makes it, of whatever length."""
    assert sha256(data).digest() == digest(data)


choices = st.fixed_dictionaries(
    {"finish_reason": st.sampled_from(["stop", "tool_calls", "function_call", "length", None, 1])},
    optional={
        "index": st.integers() | st.none(),
        "message": st.none()
        | st.fixed_dictionaries({"content": st.text()}, optional={"audio": values}),
        "delta": values,
        "logprobs": values,
    },
)
answers = st.fixed_dictionaries(
    {"choices": st.lists(choices, max_size=3) | values},
    optional={"usage": values, "error": values, "x_groq": values, "id": values},
)


@given(answers, st.integers(0, 2), st.data())
@settings(deadline=None)
def test_an_answer_is_read_as_it_is_parsed(
    document: dict[str, Any], style: int, data: st.DataObject
) -> None:
    """What is found without a parser is what it finds; also where bytes are put in, or cut off."""
    text = written(document, style)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 3)))
    for body in (text, text[:start] + data.draw(st.just(b"") | odd) + text[end:]):
        told = peek_answer(body)
        assert told < 0 or read_whole(body, False) == told


@pytest.mark.skipif(not READS_BYTES, reason="only C reads bytes")
@pytest.mark.parametrize(("usage", "told"), [({"prompt_tokens": 1}, 1), (None, 0), ("absent", 0)])
def test_usual_answers_are_read_as_bytes(usage: Any, told: int) -> None:
    """Compiled, they are."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Ä\n😀", "refusal": None, "audio": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    document: dict[str, Any] = {"id": "x", "choices": [choice, {**choice, "index": 1}]}
    if usage != "absent":
        document["usage"] = usage
    assert [told] * 3 == [peek_answer(written(document, style)) for style in range(3)]
    assert told == read_whole(written(document, 0), False)


@pytest.mark.parametrize(
    ("headers", "plain"),
    [
        ([(b"content-type", b"application/json")], True),
        ([(b"content-type", b"application/json"), (b"content-length", b"10")], True),
        ([(b"content-type", b"application/json"), (b"content-length", b"11")], False),
        ([(b"content-type", b"application/json"), (b"content-length", b"")], False),
        ([(b"content-type", b"application/json"), (b"content-length", b"1x")], False),
        ([(b"content-type", b"application/json"), (b"content-length", b"1" * 30)], False),
        ([(b"content-type", b"application/json; charset=utf-8")], False),
        ([(b"content-type", b"text/plain"), (b"content-type", b"application/json")], True),
        ([(b"content-type", b"application/json"), (b"content-type", b"text/plain")], False),
        ([(b"host", b"x"), (b"accept", b"*/*")], False),
        *(
            ([(b"content-type", b"application/json"), (name, b"x")], False)
            for name in (
                b"content-encoding",
                b"transfer-encoding",
                b"cache-control",
                b"x-cache-ttl",
                b"x-cache-namespace",
            )
        ),
    ],
)
def test_plain_headers(headers: list[tuple[bytes, bytes]], plain: bool) -> None:
    """Those of plain JSON of at most so many bytes that say nothing more of it, nor to caches."""
    assert plain == are_plain_headers(State(headers), 10)


@given(
    st.lists(
        st.tuples(st.sampled_from([b"authorization", b"cookie", b"host"]), st.binary(max_size=700)),
        max_size=4,
    )
)
def test_credentials_are_told_apart_by_a_digest(headers: list[tuple[bytes, bytes]]) -> None:
    """Over their names and values with their lengths, so that none can pass for another."""
    told = b"".join(
        b"%d:%b%d:%b" % (len(name), name, len(value), value)
        for name, value in headers
        if name != b"host"
    )
    names = frozenset((b"authorization", b"cookie"))
    assert (sha256(told).hexdigest() if told else None) == credentials_of(
        headers, names, lengths_of(names)
    )


@given(st.integers(0, 2**63 - 1))
@example(0)
@example(9)
@example(10)
@example(2**63 - 1)
def test_numbers_are_written_in_digits(number: int) -> None:
    """As Python writes them."""
    assert b"%d" % number == decimal(number)


@pytest.mark.parametrize("value", [b"abc", b"not sane", b"", None])
def test_a_client_names_its_request(value: bytes | None) -> None:
    """As the state has it."""
    headers = [(b"host", b"x"), (b"content-type", b"application/json")]
    if value is not None:
        headers.append((b"x-request-id", value))
    expected = value.decode() if value == b"abc" else None
    assert expected == client_id_of(State(headers)) == State(headers).client_request_id


def test_depths_are_those_of_the_parser() -> None:
    """A body that is nested too deeply is refused by it, and has no key."""
    text = b'{"model":"m","a":' + 300 * b"[" + 300 * b"]" + b"}"
    with pytest.raises(InvalidRequestError):
        _json.decode(text)
    assert read(text) is None

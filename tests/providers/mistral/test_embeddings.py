"""Embeddings: batches, encodings, and answers that stay as they are."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import InvalidRequestError, ProviderUnavailableError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.mistral import Mistral
from asgi_llm.types import Usage

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]


def answer(*vectors: Any, tokens: int = 3, start: int = 0) -> bytes:
    rows = [
        {"object": "embedding", "embedding": vector, "index": start + index}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    return json.dumps({"id": "e", "object": "list", "data": rows, "usage": usage}).encode()


def ask(translate: Translate, **document: Any) -> Translation:
    return translate({"model": "x", "input": "a", **document}, operation="embeddings")


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def test_what_is_sent(translate: Translate, sent: Sent) -> None:
    """Dimensions have another name, and fields that Mistral has not are reported."""
    document = {"input": ["a", "b"], "dimensions": 3, "metadata": {"a": "b"}, "user": "u"}
    found = sent({"model": "x", **document}, operation="embeddings")
    assert {
        "model": "mistral-small-latest",
        "input": ["a", "b"],
        "output_dimension": 3,
        "metadata": {"a": "b"},
    } == found
    assert ("user",) == ask(translate, **document).losses


def test_an_answer_as_wanted_keeps_its_bytes(translate: Translate) -> None:
    """Numbers for who asks for numbers, base64 for who asks for that."""
    for body, document in (
        (answer([0.5, 0.25]), {}),
        (answer([0.5, 0.25]), {"encoding_format": "float"}),
        (answer(packed(0.5)), {"encoding_format": "base64"}),
        (answer([1, -1]), {"encoding_format": "base64", "output_dtype": "int8"}),
    ):
        found = Mistral(api_key="k").parse_response(ask(translate, **document), body)
        assert body is found.body
        assert Usage(input_uncached=3) == found.usage


def test_case_92_encodings_are_changed_where_they_differ(translate: Translate) -> None:
    """To little-endian 32-bit floats, or from them."""
    adapter = Mistral(api_key="k")
    to_base64 = adapter.parse_response(
        ask(translate, encoding_format="base64"), answer([0.5, -0.25])
    )
    assert packed(0.5, -0.25) == json.loads(to_base64.body)["data"][0]["embedding"]
    to_numbers = adapter.parse_response(ask(translate), answer(packed(0.5, -0.25)))
    assert [0.5, -0.25] == json.loads(to_numbers.body)["data"][0]["embedding"]


def test_case_93_long_lists_go_in_several_calls(translate: Translate) -> None:
    """By number and by size; order and usage are kept."""
    texts = [f"t{index}" for index in range(513)] + ["x" * 30_000, "y" * 30_000]
    translation = ask(translate, input=texts)
    requests = (translation.request, *translation.more)
    inputs = [json.loads(request.body)["input"] for request in requests if request.body]  # type: ignore[arg-type]
    assert texts == [text for one in inputs for text in one]
    assert [512, 2, 1] == [len(one) for one in inputs]
    bodies = [
        answer(*([float(at)] for at in range(512))),
        answer([512.0], [513.0], tokens=4),
        answer([514.0]),
    ]
    found = Mistral(api_key="k").parse_response(translation, *bodies)
    document = json.loads(found.body)
    assert [float(index) for index in range(515)] == [
        row["embedding"][0] for row in document["data"]
    ]
    assert list(range(515)) == [row["index"] for row in document["data"]]
    assert Usage(input_uncached=10) == found.usage
    assert 10 == document["usage"]["total_tokens"]


def test_rows_are_put_in_their_order(translate: Translate) -> None:
    """By the index that Mistral gives them."""
    rows = [{"embedding": [2.0], "index": 1}, {"embedding": [1.0], "index": 0}]
    translation = ask(translate, input=["a", "b"])
    found = Mistral(api_key="k").parse_response(translation, json.dumps({"data": rows}).encode())
    assert [[1.0], [2.0]] == [row["embedding"] for row in json.loads(found.body)["data"]]


@pytest.mark.parametrize(
    "body",
    [
        answer([1.0]),
        answer([1.0], [2.0], start=1),
        b'{"data": [{"embedding": [1], "index": 0}, {"embedding": "%%%", "index": 1}]}',
        b'{"data": 5}',
    ],
)
def test_an_answer_that_does_not_fit_is_a_502(translate: Translate, body: bytes) -> None:
    """Too few vectors, indexes of no text, or what is no vector."""
    with pytest.raises(ProviderUnavailableError) as caught:
        Mistral(api_key="k").parse_response(ask(translate, input=["a", "b"]), body)
    assert "invalid_provider_response" == caught.value.code


def test_case_94_token_ids_are_refused(translate: Translate) -> None:
    """They are OpenAI's own."""
    with pytest.raises(InvalidRequestError) as caught:
        ask(translate, input=[[1, 2]])
    assert "input[0]" == caught.value.param

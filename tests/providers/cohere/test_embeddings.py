"""Embeddings of Cohere: types, batches, usage."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import InvalidRequestError, ProviderUnavailableError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.cohere import Cohere
from asgi_llm.types import Usage

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]


def answer(vectors: list[Any], kind: str = "float", tokens: int = 3) -> bytes:
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}
    return json.dumps(
        {"id": "e", "embeddings": {kind: vectors}, "texts": [], "meta": meta}
    ).encode()


def ask(translate: Translate, **document: Any) -> Translation:
    return translate({"model": "x", "input": "a", **document}, operation="embeddings")


def test_what_is_sent(translate: Translate, sent: Sent) -> None:
    """A type of input is needed, and a text that is too long is an error as at OpenAI."""
    document = {"model": "x", "input": "a", "dimensions": 256, "user": "u"}
    assert {
        "model": "command-a-03-2025",
        "texts": ["a"],
        "input_type": "search_document",
        "truncate": "NONE",
        "embedding_types": ["float"],
        "output_dimension": 256,
    } == sent(document, operation="embeddings")
    assert ("user",) == ask(translate, user="u").losses


def test_cohere_s_own_fields_win(sent: Sent) -> None:
    """Over the adapter's option and its defaults."""
    document = {
        "model": "x",
        "input": "a",
        "input_type": "search_query",
        "truncate": "END",
        "embedding_types": ["int8"],
        "encoding_format": "base64",
    }
    found = sent(document, operation="embeddings", input_type="clustering")
    assert ("search_query", "END", ["int8"]) == (
        found["input_type"],
        found["truncate"],
        found["embedding_types"],
    )
    plain = sent({"model": "x", "input": "a"}, operation="embeddings", input_type="clustering")
    assert "clustering" == plain["input_type"]


@pytest.mark.parametrize("types", [["float", "int8"], [], ["x"], [["x"]], "float"])
def test_one_type_is_one(sent: Sent, types: Any) -> None:
    """A row of OpenAI's has one vector."""
    with pytest.raises(InvalidRequestError) as caught:
        sent({"model": "x", "input": "a", "embedding_types": types}, operation="embeddings")
    assert "embedding_types" == caught.value.param


def test_case_92_base64_comes_from_cohere(translate: Translate, sent: Sent) -> None:
    """It has that type itself."""
    document = {"encoding_format": "base64"}
    found = sent({"model": "x", "input": "a", **document}, operation="embeddings")
    assert ["base64"] == found["embedding_types"]
    read = Cohere(api_key="k").parse_response(
        ask(translate, **document), answer(["AAAAPw=="], "base64")
    )
    assert "AAAAPw==" == json.loads(read.body)["data"][0]["embedding"]


def test_case_93_96_texts_a_call(translate: Translate) -> None:
    """Order and usage are kept, and numbers in their own digits."""
    texts = [str(index) for index in range(200)]
    translation = ask(translate, input=texts)
    inputs = [
        json.loads(request.body)["texts"]  # type: ignore[arg-type]
        for request in (translation.request, *translation.more)
    ]
    assert [96, 96, 8] == [len(one) for one in inputs]
    assert texts == [text for one in inputs for text in one]
    bodies = [answer([[int(text)] for text in one], tokens=len(one)) for one in inputs]
    bodies[0] = bodies[0].replace(b"[[0]", b"[[1.50]")
    found = Cohere(api_key="k").parse_response(translation, *bodies)
    document = json.loads(found.body)
    assert [1.5, *range(1, 200)] == [row["embedding"][0] for row in document["data"]]
    assert list(range(200)) == [row["index"] for row in document["data"]]
    assert b"[1.50]" in found.body
    assert Usage(input_uncached=200) == found.usage
    assert {"prompt_tokens": 200, "total_tokens": 200} == document["usage"]


@pytest.mark.parametrize("body", [answer([[1], [2]]), answer([[1]], "int8"), b"{}", b"x"])
def test_an_answer_that_does_not_fit_is_a_502(translate: Translate, body: bytes) -> None:
    """Too many vectors, another type, or none at all."""
    with pytest.raises(ProviderUnavailableError):
        Cohere(api_key="k").parse_response(ask(translate), body)


def test_case_94_token_ids_are_refused(translate: Translate) -> None:
    """They are OpenAI's own."""
    with pytest.raises(InvalidRequestError):
        ask(translate, input=[1, 2])

"""Embeddings of Voyage and Jina."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.errors import (
    ConfigurationError,
    InvalidRequestError,
    ProviderRejectedError,
    ProviderUnavailableError,
)
from asgi_llm.providers.base import Provider, Translation
from asgi_llm.providers.jina import Jina
from asgi_llm.providers.voyage import Voyage
from asgi_llm.types import Usage

Translate = Callable[..., Translation]
Sent = Callable[[Translation], list[dict[str, Any]]]

BOTH = pytest.mark.parametrize("cls", [Voyage, Jina])


def answer(*vectors: Any, tokens: int = 3) -> bytes:
    rows = [
        {"object": "embedding", "embedding": vector, "index": index}
        for index, vector in enumerate(vectors)
    ]
    # Jina has both counts and Voyage only the total.
    return json.dumps({"object": "list", "data": rows, "usage": {"total_tokens": tokens}}).encode()


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def test_what_voyage_is_sent(translate: Translate, sent: Sent) -> None:
    """Its own fields pass, dimensions have another name, and a text is never cut unasked."""
    adapter = Voyage(api_key="k", input_type="document")
    plain = translate(adapter, "embeddings", input="a", dimensions=256, user="u")
    assert [
        {
            "model": "m-1",
            "input": ["a"],
            "input_type": "document",
            "output_dimension": 256,
            "truncation": False,
        }
    ] == sent(plain)
    assert ("user",) == plain.losses
    own = {"input_type": "query", "output_dtype": "int8", "truncation": True}
    fields = {**own, "output_dimension": 512, "encoding_format": "base64"}
    (body,) = sent(translate(adapter, "embeddings", input=["a"], dimensions=256, **fields))
    assert {"model": "m-1", "input": ["a"], **fields} == body


def test_what_jina_is_sent(translate: Translate, sent: Sent) -> None:
    """Its own fields pass, and base64 is a type of embedding."""
    adapter = Jina(api_key="k", task="retrieval.passage")
    plain = translate(adapter, "embeddings", input="a", encoding_format="base64", user="u")
    assert [
        {
            "model": "m-1",
            "input": ["a"],
            "task": "retrieval.passage",
            "embedding_type": "base64",
        }
    ] == sent(plain)
    assert ("user",) == plain.losses
    own = {"task": "text-matching", "dimensions": 64, "normalized": True, "truncate": True}
    fields = {**own, "embedding_type": "binary"}
    (body,) = sent(translate(adapter, "embeddings", input=["a"], **fields))
    assert {"model": "m-1", "input": ["a"], **fields} == body
    with pytest.raises(InvalidRequestError, match="one type is expected"):
        translate(adapter, "embeddings", input="a", embedding_type=["float", "binary"])


@BOTH
def test_an_answer(cls: type[Provider], translate: Translate) -> None:
    """With OpenAI's usage, and numbers in their own digits."""
    adapter: Any = cls(api_key="k")  # type: ignore[call-arg]
    body = answer([0.5, -0.25]).replace(b"0.5", b"0.50")
    found = adapter.parse_response(translate(adapter, "embeddings", input="a"), body)
    document = json.loads(found.body)
    assert [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}] == document["data"]
    assert {"prompt_tokens": 3, "total_tokens": 3} == document["usage"]
    assert "m-1" == document["model"]
    assert b"0.50" in found.body
    assert Usage(input_uncached=3) == found.usage


@BOTH
def test_case_92_base64(cls: type[Provider], translate: Translate) -> None:
    """Passed as it came, or made of numbers; numbers are made of it, too."""
    adapter: Any = cls(api_key="k")  # type: ignore[call-arg]

    def vector(body: bytes, **document: Any) -> Any:
        asked = translate(adapter, "embeddings", input="a", **document)
        return json.loads(adapter.parse_response(asked, body).body)["data"][0]["embedding"]

    expected = packed(0.5, -0.25)
    assert expected == vector(answer(expected), encoding_format="base64")
    assert expected == vector(answer([0.5, -0.25]), encoding_format="base64")
    assert [0.5, -0.25] == vector(answer(expected), encoding_format="float")


@BOTH
def test_case_93_a_length_that_was_not_asked_for_is_a_400(
    cls: type[Provider], translate: Translate
) -> None:
    """In either encoding; nothing is cut silently."""
    adapter: Any = cls(api_key="k")  # type: ignore[call-arg]
    asked = translate(adapter, "embeddings", input="a", dimensions=2)
    assert adapter.parse_response(asked, answer([1, 2])).usage == Usage(input_uncached=3)
    for vector in ([1, 2, 3], packed(1, 2, 3)):
        with pytest.raises(ProviderRejectedError) as caught:
            adapter.parse_response(asked, answer(vector))
        assert ("dimensions", 400) == (caught.value.param, caught.value.status)


@pytest.mark.parametrize(("cls", "limit"), [(Voyage, 1000), (Jina, 512)])
def test_case_93_batches(cls: type[Provider], limit: int, translate: Translate, sent: Sent) -> None:
    """Order and usage are kept over several calls."""
    adapter: Any = cls(api_key="k")  # type: ignore[call-arg]
    texts = [str(index) for index in range(limit + 2)]
    translation = translate(adapter, "embeddings", input=texts)
    inputs = [body["input"] for body in sent(translation)]
    assert [limit, 2] == [len(one) for one in inputs]
    assert texts == [text for one in inputs for text in one]
    bodies = [answer(*([int(text)] for text in one)) for one in inputs]
    found = adapter.parse_response(translation, *bodies)
    data = json.loads(found.body)["data"]
    assert list(range(limit + 2)) == [row["embedding"][0] for row in data]
    assert list(range(limit + 2)) == [row["index"] for row in data]
    assert Usage(input_uncached=6) == found.usage


def test_voyages_calls_are_also_bounded_by_size(translate: Translate, sent: Sent) -> None:
    """In bytes, since a call has a cap on tokens; a large text goes alone."""
    texts = ["a" * 200_000, "ü" * 100_000, "b", "c" * 400_000, "d"]
    found = [
        body["input"] for body in sent(translate(Voyage(api_key="k"), "embeddings", input=texts))
    ]
    assert [texts[:1], texts[1:3], texts[3:4], texts[4:]] == found


@pytest.mark.parametrize("vector", ["?", "é"])
@BOTH
def test_a_vector_that_is_no_base64_is_an_error(
    cls: type[Provider], translate: Translate, vector: str
) -> None:
    """Of the provider."""
    adapter = cls(api_key="k")  # type: ignore[call-arg]
    asked = translate(adapter, "embeddings", input="a", encoding_format="float")
    with pytest.raises(ProviderUnavailableError):
        adapter.parse_response(asked, answer(vector))


def test_late_chunking_needs_all_texts_at_once(translate: Translate, sent: Sent) -> None:
    """The vectors depend on what stands around them."""
    texts = [str(index) for index in range(600)]
    asked = translate(Jina(api_key="k"), "embeddings", input=texts, late_chunking=True)
    assert [texts] == [body["input"] for body in sent(asked)]


def test_other_types_of_numbers_pass_as_they_came(translate: Translate) -> None:
    """Whatever encoding they are in; their length says nothing of the dimensions."""
    voyage, jina = Voyage(api_key="k"), Jina(api_key="k")
    for adapter, fields in (
        (voyage, {"output_dtype": "binary", "dimensions": 16}),
        (jina, {"embedding_type": "ubinary", "dimensions": 16}),
    ):
        asked = translate(adapter, "embeddings", input="a", encoding_format="base64", **fields)
        body = adapter.parse_response(asked, answer([1, -1])).body
        assert [1, -1] == json.loads(body)["data"][0]["embedding"]


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        answer([1], [2]),
        b"{}",
        b'{"data":[{"embedding":[1],"index":1}]}',
        b'{"data":[{"embedding":"%","index":0}]}',
        b'{"data":[{"embedding":"AAA=","index":0}]}',
    ],
)
def test_an_answer_that_does_not_fit_is_a_502(
    cls: type[Provider], body: bytes, translate: Translate
) -> None:
    """Too many vectors, of no text, or none."""
    adapter: Any = cls(api_key="k")  # type: ignore[call-arg]
    with pytest.raises(ProviderUnavailableError):
        adapter.parse_response(translate(adapter, "embeddings", input="a"), body)


@BOTH
def test_case_94_token_ids_are_refused(cls: type[Provider], translate: Translate) -> None:
    """They are OpenAI's own."""
    adapter: Any = cls(api_key="k")  # type: ignore[call-arg]
    with pytest.raises(InvalidRequestError):
        translate(adapter, "embeddings", input=[1, 2])


@BOTH
@pytest.mark.parametrize("option", [{"api_key": ""}, {"base_url": "x"}])
def test_options_are_checked(cls: Any, option: dict[str, Any]) -> None:
    """By their names."""
    with pytest.raises(ConfigurationError) as caught:
        cls(**{"api_key": "k", **option})
    assert next(iter(option)) == caught.value.param


@pytest.mark.parametrize(
    ("cls", "status", "body", "expected"),
    [
        (Voyage, 400, {"detail": "Model x is not supported."}, (400, "Model x is not supported.")),
        (Voyage, 401, {"detail": "Provided API key is invalid."}, (502, None)),
        (Jina, 422, {"detail": [{"loc": ["body", "task"], "msg": "bad"}]}, (422, "task: bad")),
        (Jina, 429, {"detail": "slow"}, (429, "slow")),
    ],
)
def test_case_89_errors(cls: Any, status: int, body: Any, expected: Any) -> None:
    """In the provider's own words, but for those about the key."""
    error = cls(api_key="k").parse_error(status, [], json.dumps(body).encode())
    assert expected[0] == error.status
    if expected[1] is not None:
        assert expected[1] == str(error)


def test_the_recorded_error_of_voyage(recorded: Path) -> None:
    """A model that there is not."""
    row = json.loads((recorded / "voyage.embeddings.jsonl").read_text())
    body = json.dumps(row["response"]["json"]).encode()
    error = Voyage(api_key="k").parse_error(row["response"]["status"], [], body)
    assert 400 == error.status
    assert str(error).startswith("Model nonexistent is not supported")

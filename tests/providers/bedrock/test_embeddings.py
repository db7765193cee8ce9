"""Vectors of Titan and of Cohere's models on Bedrock."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import InvalidRequestError, ProviderError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.bedrock import Bedrock

Translate = Callable[..., Translation]

TITAN, COHERE = "amazon.titan-embed-text-v2:0", "us.cohere.embed-v4:0"
ADAPTER = Bedrock(region="us-east-1", api_key="k")
COUNT = "x-amzn-bedrock-input-token-count"


def bodies(translation: Translation) -> list[dict[str, Any]]:
    """What each call says."""
    requests = (translation.request, *translation.more)
    return [json.loads(bytes(one.body)) for one in requests]  # type: ignore[arg-type]


def embed(translate: Translate, model: str, **document: Any) -> Translation:
    return translate(document, operation="embeddings", model=model)


def vector(*numbers: float, tokens: Any = 2) -> bytes:
    return json.dumps({"embedding": numbers, "inputTextTokenCount": tokens}).encode()


def test_case_93_titan_takes_one_text_a_call(translate: Translate) -> None:
    """In order; dimensions and the rest of its fields are told."""
    translation = embed(translate, TITAN, input=["a", "b"], dimensions=256, normalize=False)
    assert [
        {"inputText": "a", "dimensions": 256, "normalize": False},
        {"inputText": "b", "dimensions": 256, "normalize": False},
    ] == bodies(translation)
    root = "https://bedrock-runtime.us-east-1.amazonaws.com/model"
    assert f"{root}/amazon.titan-embed-text-v2%3A0/invoke" == translation.request.url
    assert () == translation.losses


def test_titan_for_pictures_calls_it_another_name(translate: Translate) -> None:
    """Of the length of its vectors."""
    translation = embed(translate, "amazon.titan-embed-image-v1", input="a", dimensions=384)
    assert [{"inputText": "a", "embeddingConfig": {"outputEmbeddingLength": 384}}] == bodies(
        translation
    )


def test_case_93_cohere_takes_96_texts_a_call(translate: Translate) -> None:
    """With the kind of its input, which it needs."""
    texts = [str(index) for index in range(97)]
    first, second = bodies(embed(translate, COHERE, input=texts, dimensions=512))
    assert (texts[:96], texts[96:]) == (first["texts"], second["texts"])
    assert ("search_document", 512) == (first["input_type"], first["output_dimension"])
    (one,) = bodies(embed(translate, COHERE, input="a", input_type="search_query", truncate="END"))
    assert {"texts": ["a"], "input_type": "search_query", "truncate": "END"} == one


def test_case_92_93_vectors_keep_their_order_and_usage_is_summed(translate: Translate) -> None:
    """As numbers, or as base64 where the client asks for it."""
    translation = embed(translate, TITAN, input=["a", "b"])
    answer = ADAPTER.parse_response(translation, vector(0.5, 1), vector(-2, 0.25, tokens=3))
    document = json.loads(answer.body)
    assert [[0.5, 1], [-2, 0.25]] == [row["embedding"] for row in document["data"]]
    assert ([0, 1], 5) == (
        [row["index"] for row in document["data"]],
        document["usage"]["prompt_tokens"],
    )
    assert answer.usage is not None
    assert (5, False) == (answer.usage.input_tokens, answer.usage.estimated)
    translation = embed(translate, TITAN, input="a", encoding_format="base64")
    (row,) = json.loads(ADAPTER.parse_response(translation, vector(0.5, 1)).body)["data"]
    assert (0.5, 1.0) == struct.unpack("<2f", base64.b64decode(row["embedding"]))


@pytest.mark.parametrize(
    "embeddings", [[[0.5, 1], [2, 3]], {"float": [[0.5, 1], [2, 3]]}], ids=["list", "by type"]
)
def test_coheres_vectors_come_in_two_forms(translate: Translate, embeddings: Any) -> None:
    """And its tokens in a header."""
    translation = embed(translate, COHERE, input=["a", "b"])
    body = json.dumps({"id": "x", "embeddings": embeddings, "texts": ["a", "b"]}).encode()
    counted = ADAPTER.with_headers(translation, [(COUNT.encode(), b"7")], body)
    answer = ADAPTER.parse_response(translation, counted)
    assert [[0.5, 1], [2, 3]] == [row["embedding"] for row in json.loads(answer.body)["data"]]
    assert answer.usage is not None
    assert (7, False) == (answer.usage.input_tokens, answer.usage.estimated)
    for odd in (b"-7", b"x", b"7" * 30):
        body_ = ADAPTER.with_headers(translation, [(COUNT.encode(), odd)], body)
        answer = ADAPTER.parse_response(translation, body_)
        assert answer.usage is not None
        assert answer.usage.estimated


def test_headers_say_nothing_of_other_answers(translate: Translate) -> None:
    """Titan's has its own count, and a chat its own usage."""
    headers = [(COUNT.encode(), b"7")]
    for translation in (embed(translate, TITAN, input="a"), translate()):
        assert b"{}" == ADAPTER.with_headers(translation, headers, b"{}")


def test_case_94_token_ids_are_refused(translate: Translate) -> None:
    """They mean nothing to these models."""
    for given in ([1, 2], [[1], [2]]):
        with pytest.raises(InvalidRequestError) as caught:
            embed(translate, TITAN, input=given)
        assert "input[0]" == caught.value.param


def test_case_95_other_fields_are_reported(translate: Translate) -> None:
    """Each family has its own."""
    assert ("input_type", "user") == embed(
        translate, TITAN, input="a", input_type="x", user="ann"
    ).losses
    assert ("normalize",) == embed(translate, COHERE, input="a", normalize=True).losses


def test_case_93_vectors_of_another_length_are_refused(translate: Translate) -> None:
    """Never passed on as if they were what was asked for."""
    translation = embed(translate, TITAN, input="a", dimensions=3)
    with pytest.raises(ProviderError) as caught:
        ADAPTER.parse_response(translation, vector(1, 2))
    assert (400, "dimensions") == (caught.value.status, caught.value.param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"embeddings":[[1],[2]]}',
        b'{"embeddings":{"int8":[[1]]}}',
        b'{"embeddings":[]}',
        b"\xff",
    ],
)
def test_what_are_no_vectors_is_an_error(translate: Translate, body: bytes) -> None:
    """Of the provider's."""
    with pytest.raises(ProviderError) as caught:
        ADAPTER.parse_response(embed(translate, COHERE, input="a"), body)
    assert "invalid_provider_response" == caught.value.code


def test_other_operations_are_not_there(translate: Translate) -> None:
    """Rerank is another API of Bedrock's."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"query": "a", "documents": ["b"]}, operation="rerank")
    assert "unsupported_operation" == caught.value.code

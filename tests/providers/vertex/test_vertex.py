"""Vertex AI: where it is called, and its embeddings."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, InvalidRequestError, LLMError, ProviderError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.vertex import Vertex
from asgi_llm.types import Deployment

CHAT = {"model": "v/g", "messages": [{"role": "user", "content": "hi"}]}


def vertex(**options: Any) -> Vertex:
    return Vertex(**{"project": "p-1", "token_provider": lambda: "token", **options})


def translate(
    document: dict[str, Any],
    model: str = "text-embedding-005",
    operation: Any = "embeddings",
    **options: Any,
) -> Translation:
    return vertex(**options).translate(operation, document, Deployment(provider="v", model=model))


def url_of(model: str, **options: Any) -> str:
    return translate(CHAT, model, "chat", **options).request.url


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_the_host_is_the_locations(location: str, host: str) -> None:
    """Which is in the path too, with the project and Google as the publisher."""
    assert (
        f"https://{host}/v1/projects/p-1/locations/{location}/publishers/google/models/g"
        ":generateContent"
    ) == url_of("g", location=location)


def test_a_model_may_be_an_endpoint_of_the_project() -> None:
    """As tuned ones are."""
    assert url_of("endpoints/123").endswith(
        "/projects/p-1/locations/global/endpoints/123:generateContent"
    )


@pytest.mark.parametrize(
    "model",
    [
        "publishers/anthropic/models/claude",
        "../../p-2/models/g",
        "endpoints/../g",
        "endpoints/1/2",
        "tunedModels/a",
        "g:predict",
        "g?a=b",
        "g%2e",
        "",
    ],
)
def test_a_name_that_would_lead_elsewhere_is_no_model(model: str) -> None:
    """Other publishers' models are none of this adapter's."""
    with pytest.raises(LLMError) as caught:
        url_of(model)
    assert (404, "model_not_found") == (caught.value.status, caught.value.code)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"project": "a/b"}, "project"),
        ({"location": "../x"}, "location"),
        ({"location": "EU"}, "location"),
        ({"project": None}, "project"),
        ({"api_key": "k"}, "api_key"),
        ({"credentials": object()}, "token_provider"),
        ({"token_provider": None, "credentials": object()}, "credentials"),
        ({"token_provider": None, "api_key": "k"}, "api_key"),
        ({"token_provider": None, "service_account_info": {}}, "service_account_info"),
        ({"token_provider": None, "service_account_file": "/no/such"}, "service_account_file"),
        ({"schemas": "yaml"}, "schemas"),
        ({"base_url": "ftp://a"}, "base_url"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], param: str) -> None:
    """When the adapter is made, by its name."""
    with pytest.raises(ConfigurationError) as caught:
        vertex(**options)
    assert param == caught.value.param


async def test_express_mode_has_a_key_and_no_project() -> None:
    """The key is in a header, and nothing is fetched."""
    adapter = Vertex(api_key="AIza-0123456789")
    request = adapter.translate("chat", CHAT, Deployment(provider="v", model="g")).request
    root = "https://aiplatform.googleapis.com/v1"
    assert f"{root}/publishers/google/models/g:generateContent" == request.url
    assert request is await adapter.authorize(request)
    assert b"AIza-0123456789" == dict(request.headers)[b"x-goog-api-key"]
    error = {"error": {"code": 400, "message": "bad AIza-0123456789"}}
    assert "AIza" not in adapter.parse_error(400, [], json.dumps(error).encode()).message


# Embeddings


def predictions(*vectors: list[float], tokens: Any = 2) -> bytes:
    statistics = {} if tokens is None else {"statistics": {"token_count": tokens}}
    rows = [{"embeddings": {"values": values, **statistics}} for values in vectors]
    return json.dumps({"predictions": rows}).encode()


def test_case_92_vectors_are_numbers_or_base64() -> None:
    """Numbers in the characters that came."""
    document = {"model": "x", "input": ["a", "b"]}
    body = predictions([0.5, 1e-05], [2.0, 1.0])
    answer = vertex().parse_response(translate(document), body)
    assert b'"embedding":[0.5, 1e-05]' in answer.body
    assert answer.usage is not None
    assert (4, False) == (answer.usage.input_tokens, answer.usage.estimated)
    packed = vertex().parse_response(translate({**document, "encoding_format": "base64"}), body)
    row = json.loads(packed.body)["data"][1]["embedding"]
    assert struct.pack("<2f", 2.0, 1.0) == base64.b64decode(row)


def test_case_92_tokens_that_are_not_told_are_estimated() -> None:
    """And the figure says so."""
    answer = vertex().parse_response(
        translate({"model": "x", "input": "four"}), predictions([0.5], tokens=None)
    )
    assert answer.usage is not None
    assert (1, True) == (answer.usage.input_tokens, answer.usage.estimated)


@pytest.mark.parametrize(
    ("model", "texts", "sizes"),
    [
        ("text-embedding-005", ["a"] * 251, [250, 1]),
        ("text-multilingual-embedding-002", ["x" * 15_000] * 5, [2, 2, 1]),
        ("gemini-embedding-001", ["a"] * 3, [1, 1, 1]),
    ],
)
def test_case_93_texts_are_split_as_the_model_takes_them(
    model: str, texts: list[str], sizes: list[int]
) -> None:
    """By count, by their length, or one a call."""
    translation = translate({"model": "x", "input": texts}, model)
    requests = [translation.request, *translation.more]
    assert sizes == [
        len(json.loads(bytes(one.body))["instances"])  # type: ignore[arg-type]
        for one in requests
    ]
    assert {True} == {one.url.endswith(f"/models/{model}:predict") for one in requests}


def test_case_93_dimensions_are_told_and_verified() -> None:
    """A vector of another length is an error, not a surprise; no text is cut unasked."""
    document = {"model": "x", "input": "a", "dimensions": 2, "task_type": "RETRIEVAL_QUERY"}
    translation = translate({**document, "user": "u"})
    assert {
        "instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"}],
        "parameters": {"autoTruncate": False, "outputDimensionality": 2},
    } == json.loads(bytes(translation.request.body))  # type: ignore[arg-type]
    assert ("user",) == translation.losses
    assert vertex().parse_response(translation, predictions([0.5, 1.0])).usage is not None
    with pytest.raises(ProviderError) as caught:
        vertex().parse_response(translation, predictions([0.5, 1.0, 2.0]))
    assert (400, "dimensions") == (caught.value.status, caught.value.param)
    cut = translate({**document, "auto_truncate": True}).request
    assert json.loads(bytes(cut.body))["parameters"]["autoTruncate"]  # type: ignore[arg-type]


def test_case_94_token_ids_are_refused() -> None:
    """They mean something else to every model."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"model": "x", "input": [[1, 2]]})
    assert "input[0]" == caught.value.param


@pytest.mark.parametrize("body", [b"{}", predictions(), predictions([1.0], [2.0]), b"[", b"\xff"])
def test_case_93_vectors_that_are_not_those_of_the_texts_are_an_error(body: bytes) -> None:
    """One for each, in their order."""
    with pytest.raises(ProviderError) as caught:
        vertex().parse_response(translate({"model": "x", "input": "a"}), body)
    assert (502, "invalid_provider_response") == (caught.value.status, caught.value.code)

"""Rerankings by Cohere, Voyage and Jina: one request, one answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.errors import InvalidRequestError, ProviderUnavailableError
from asgi_llm.providers.base import Provider, Translation
from asgi_llm.providers.cohere import Cohere
from asgi_llm.providers.voyage import Voyage
from asgi_llm.types import Deployment, Usage

Translate = Callable[..., Translation]
Ranked = Callable[..., bytes]
Sent = Callable[[Translation], list[dict[str, Any]]]

DOCUMENTS = ["Paris is in France.", {"text": "Bread is baked.", "title": "Bread"}, "Rome."]
ASKED: dict[str, Any] = {"query": "Where is Paris?", "documents": DOCUMENTS}
TEXTS = ["Paris is in France.", "Bread is baked.", "Rome."]


def test_what_is_sent(adapter: Provider, translate: Translate, sent: Sent) -> None:
    """Texts alone, the limit by the provider's name, and what stands beside a text is reported."""
    translation = translate(adapter, "rerank", **ASKED, top_n=2, return_documents=True)
    (body,) = sent(translation)
    top = "top_k" if adapter.name == "voyage" else "top_n"
    extra = {"return_documents": False} if adapter.name == "jina" else {}
    assert {
        "model": "m-1",
        "query": "Where is Paris?",
        "documents": TEXTS,
        top: 2,
        **extra,
    } == body
    assert ("documents.title",) == translation.losses
    path = "/v2/rerank" if adapter.name == "cohere" else "/v1/rerank"
    assert translation.request.url.endswith(path)


def test_fields_of_others_are_reported(adapter: Provider, translate: Translate) -> None:
    """Those that a provider has pass to it; strict refuses the rest."""
    own = {"cohere": "max_tokens_per_doc", "voyage": "truncation", "jina": ""}[adapter.name]
    fields = {"max_tokens_per_doc": 9, "truncation": True, "rank_fields": ["a"]}
    translation = translate(adapter, "rerank", query="q", documents=["d"], **fields)
    assert tuple(name for name in fields if name != own) == translation.losses
    with pytest.raises(InvalidRequestError) as caught:
        translate(adapter, "rerank", query="q", documents=["d"], rank_fields=["a"], strict=True)
    assert "rank_fields" == caught.value.param


def test_voyages_own_name_of_the_limit_is_known(translate: Translate, sent: Sent) -> None:
    """And counts for more than the other."""
    adapter = Voyage(api_key="k")
    translation = translate(adapter, "rerank", query="q", documents=["d"], top_k=1, top_n=2)
    assert 1 == sent(translation)[0]["top_k"]
    assert () == translation.losses


def test_an_answer(adapter: Provider, translate: Translate, answered: Ranked) -> None:
    """Best first, with what was used."""
    translation = translate(adapter, "rerank", **ASKED)
    answer = adapter.parse_response(translation, answered(adapter, (2, 0.75), (0, 0.5)))
    found = json.loads(answer.body)
    assert [
        {"index": 2, "relevance_score": 0.75},
        {"index": 0, "relevance_score": 0.5},
    ] == found["results"]
    assert "m-1" == found["model"]
    if adapter.name == "cohere":
        assert (None, {"search_units": 1}, "r1") == (answer.usage, found["usage"], found["id"])
    else:
        assert Usage(input_uncached=57) == answer.usage
        assert {"prompt_tokens": 57, "total_tokens": 57} == found["usage"]


def test_documents_are_put_back_as_they_were_sent(
    adapter: Provider, translate: Translate, answered: Ranked
) -> None:
    """None of the providers is asked for them."""
    translation = translate(adapter, "rerank", **ASKED, return_documents=True)
    body = adapter.parse_response(translation, answered(adapter, (1, 0.5), (0, 0.25))).body
    assert [DOCUMENTS[1], {"text": DOCUMENTS[0]}] == [
        row["document"] for row in json.loads(body)["results"]
    ]


@pytest.mark.parametrize(
    "rows",
    [
        [(3, 0.5)],
        [(-1, 0.5)],
        [(0, 0.5), (0, 0.25)],
        [("0", 0.5)],
        [(0, None)],
        [(0, "high")],
    ],
)
def test_rows_about_no_document_are_a_502(
    adapter: Provider, translate: Translate, answered: Ranked, rows: list[Any]
) -> None:
    """So are two about one, and rows without a score."""
    with pytest.raises(ProviderUnavailableError) as caught:
        adapter.parse_response(translate(adapter, "rerank", **ASKED), answered(adapter, *rows))
    assert "invalid_provider_response" == caught.value.code


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff"])
def test_an_answer_that_is_none_is_a_502(
    adapter: Provider, translate: Translate, body: bytes
) -> None:
    """Whatever it is instead."""
    with pytest.raises(ProviderUnavailableError):
        adapter.parse_response(translate(adapter, "rerank", **ASKED), body)


def test_nothing_else_is_offered(adapter: Provider, translate: Translate) -> None:
    """Only what the adapter says that it does."""
    assert "moderation" not in adapter.operations
    with pytest.raises(InvalidRequestError) as caught:
        translate(adapter, "moderation", input="x")
    assert "unsupported_operation" == caught.value.code


@pytest.mark.parametrize("dialect", ["cohere", "voyage"])
def test_recorded_rankings(recorded: Path, dialect: str) -> None:
    """The request that was recorded is the one that is sent, and its answer is read in order."""
    adapter: Any = {"cohere": Cohere, "voyage": Voyage}[dialect](api_key="k")
    for line in (recorded / f"{dialect}.rerank.jsonl").read_text().splitlines():
        row = json.loads(line)
        asked, response = row["request"]["json"], row["response"]["json"]
        at = Deployment(provider=adapter.name, model=asked["model"])
        translation = adapter.translate("rerank", asked, at)
        assert {name: value for name, value in asked.items() if value is not None} == json.loads(
            translation.request.body
        )
        assert row["request"]["url"] == translation.request.url
        found = json.loads(adapter.parse_response(translation, json.dumps(response).encode()).body)
        rows = response.get("results") or response["data"]
        assert [(one["index"], one["relevance_score"]) for one in rows] == [
            (one["index"], one["relevance_score"]) for one in found["results"]
        ]


def test_the_sdk_reads_cohere_s_answer_as_we_do(translate: Translate, answered: Ranked) -> None:
    """Indexes and scores in order."""
    v2_types = pytest.importorskip("cohere.v2.types")
    unchecked = pytest.importorskip("cohere.core.unchecked_base_model")
    adapter = Cohere(api_key="k")
    body = answered(adapter, (2, 0.75), (0, 0.5))
    theirs = unchecked.construct_type(type_=v2_types.V2RerankResponse, object_=json.loads(body))
    ours = json.loads(adapter.parse_response(translate(adapter, "rerank", **ASKED), body).body)
    assert [(one.index, one.relevance_score) for one in theirs.results] == [
        (one["index"], one["relevance_score"]) for one in ours["results"]
    ]
    assert theirs.meta.billed_units.search_units == ours["usage"]["search_units"]

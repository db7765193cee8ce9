"""Rankings and embeddings through the app, against a server on a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.base import Provider
from asgi_llm.providers.cohere import Cohere
from asgi_llm.providers.jina import Jina
from asgi_llm.providers.voyage import Voyage
from asgi_llm.testing import Reply, Upstream, call, http_scope
from asgi_llm.testing.recorder import Recorder

Ranked = Callable[..., bytes]

JSON = [("content-type", "application/json")]
ROWS: list[tuple[Any, str, str]] = [
    (Cohere, "", "/v2/rerank"),
    (Voyage, "/v1", "/v1/rerank"),
    (Jina, "/v1", "/v1/rerank"),
]


async def ask(app: ProviderApp, path: str, **document: Any) -> Recorder:
    recorder = await call(app, http_scope("POST", path, headers=JSON), json=document)
    await app.aclose()
    return recorder


@pytest.mark.parametrize(("cls", "prefix", "path"), ROWS)
async def test_a_ranking_over_the_wire(cls: Any, prefix: str, path: str, answered: Ranked) -> None:
    """POST /v1/rerank, with documents put back and what is lost reported."""
    documents = ["Paris is in France.", {"text": "Bread.", "title": "b"}]
    async with Upstream() as upstream:
        adapter: Provider = cls(api_key="key-0123456789", base_url=upstream.url + prefix)
        upstream.script(Reply(headers=JSON, body=answered(adapter, (1, 0.5), (0, 0.25))))
        found = await ask(
            ProviderApp([adapter]),
            "/v1/rerank",
            model=f"{adapter.name}/rank-1",
            query="Where is Paris?",
            documents=documents,
            top_n=2,
            return_documents=True,
        )
        (row,) = await upstream.served(1)
    document = json.loads(found.body)
    assert (200, b"application/json") == (found.status, found.header("content-type"))
    assert [(1, documents[1]), (0, {"text": documents[0]})] == [
        (one["index"], one["document"]) for one in document["results"]
    ]
    assert "rank-1" == document["model"]
    assert b"documents.title" == found.header("x-translation-loss")
    assert (path, b"Bearer key-0123456789") == (
        row.request.path,
        row.request.header("authorization"),
    )
    assert ["Paris is in France.", "Bread."] == json.loads(row.request.body)["documents"]


async def test_a_ranking_that_does_not_fit_is_a_502(answered: Ranked) -> None:
    """A row about a document that there is not."""
    async with Upstream() as upstream:
        adapter = Cohere(api_key="k", base_url=upstream.url)
        upstream.script(Reply(headers=JSON, body=answered(adapter, (7, 0.5))))
        found = await ask(
            ProviderApp([adapter]),
            "/v1/rerank",
            model="cohere/r",
            query="q",
            documents=["d"],
        )
    assert (502, "invalid_provider_response") == (
        found.status,
        json.loads(found.body)["error"]["code"],
    )


@pytest.mark.parametrize(("cls", "prefix", "path"), ROWS)
async def test_a_bad_ranking_request_is_refused_before_it_leaves(
    cls: Any, prefix: str, path: str
) -> None:
    """An empty list of documents, by its name."""
    app = ProviderApp([cls(api_key="k", base_url="http://127.0.0.1:1" + prefix)])
    name = cls(api_key="k").name
    found = await ask(app, "/v1/rerank", model=f"{name}/r", query="q", documents=[])
    assert (400, "documents") == (found.status, json.loads(found.body)["error"]["param"])


async def test_embeddings_over_the_wire() -> None:
    """Voyage's, in the form that OpenAI's SDK asks for."""
    body = (
        b'{"object":"list","data":[{"object":"embedding","embedding":[0.5],"index":0}],'
        b'"model":"v","usage":{"total_tokens":2}}'
    )
    async with Upstream() as upstream:
        adapter = Voyage(api_key="k", base_url=upstream.url + "/v1")
        upstream.script(Reply(headers=JSON, body=body))
        found = await ask(
            ProviderApp([adapter]),
            "/v1/embeddings",
            model="voyage/v",
            input="a",
            encoding_format="base64",
        )
    document = json.loads(found.body)
    assert "AAAAPw==" == document["data"][0]["embedding"]
    assert 2 == document["usage"]["prompt_tokens"]

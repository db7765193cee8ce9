"""What the tests of rerankers and of Voyage's and Jina's embeddings share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.providers.base import Provider, Translation
from asgi_llm.providers.cohere import Cohere
from asgi_llm.providers.jina import Jina
from asgi_llm.providers.voyage import Voyage
from asgi_llm.types import Deployment

Adapter = Callable[..., Provider]
Ranked = Callable[..., bytes]
Sent = Callable[[Translation], list[dict[str, Any]]]


ADAPTERS: list[Any] = [Cohere, Voyage, Jina]


@pytest.fixture(params=ADAPTERS, ids=["cohere", "voyage", "jina"])
def adapter(request: pytest.FixtureRequest) -> Provider:
    """Each adapter that ranks."""
    found: Provider = request.param(api_key="key-0123456789")
    return found


@pytest.fixture
def answered() -> Ranked:
    """An upstream's answer with rows of (index, score), in the form of an adapter's provider."""

    def answered(adapter: Provider, *rows: tuple[Any, Any]) -> bytes:
        made = [{"index": index, "relevance_score": score} for index, score in rows]
        if adapter.name == "cohere":
            meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
            return json.dumps({"id": "r1", "results": made, "meta": meta}).encode()
        name = "data" if adapter.name == "voyage" else "results"
        usage = {"total_tokens": 57}
        return json.dumps({"object": "list", name: made, "model": "m", "usage": usage}).encode()

    return answered


@pytest.fixture
def sent() -> Sent:
    """The bodies of a translation's calls."""

    def sent(translation: Translation) -> list[dict[str, Any]]:
        bodies = [one.body for one in (translation.request, *translation.more)]
        assert all(isinstance(body, bytes) for body in bodies)
        return [json.loads(body) for body in bodies if isinstance(body, bytes)]

    return sent


@pytest.fixture
def translate() -> Callable[..., Translation]:
    """The translation of a request by an adapter."""

    def translate(adapter: Provider, operation: Any, **document: Any) -> Translation:
        at = Deployment(provider=adapter.name, model="m-1", strict=document.pop("strict", False))
        return adapter.translate(operation, {"model": f"{adapter.name}/m-1", **document}, at)

    return translate

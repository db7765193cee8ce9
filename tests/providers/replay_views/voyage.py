"""Voyage AI's embeddings and reranking, as a test reads them.

Its SDK is not needed to read two lists.
"""

from __future__ import annotations

import json
from typing import Any

from asgi_llm.providers.base import Provider
from asgi_llm.providers.voyage import Voyage
from tests.providers.replay_views.exchanges import (
    Counts,
    Exchange,
    Reading,
    expected_error,
    without_none,
)


class VoyageView:
    """See ``View``."""

    def adapter(self, exchange: Exchange, root: str, name: str) -> Provider:
        return Voyage(api_key="pa-recorded-0123456789", base_url=root + "/v1", name=name)

    def model(self, exchange: Exchange) -> str:
        return str((exchange.sent or {}).get("model", "voyage-recorded"))

    def path(self, exchange: Exchange) -> str:
        return "/v1/rerank" if exchange.operation == "rerank" else "/v1/embeddings"

    def document(self, exchange: Exchange) -> dict[str, Any]:
        document = without_none(exchange.sent)
        if "top_k" in document:
            document["top_n"] = document.pop("top_k")
        if "output_dimension" in document:
            document["dimensions"] = document.pop("output_dimension")
        return dict(document)

    def meaning(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        said = without_none(body)
        # Voyage's own default.
        if said.get("truncation") is True:
            del said["truncation"]
        return dict(said)

    def read(self, exchange: Exchange) -> Reading:
        if exchange.status >= 400:
            return Reading(error=expected_error(exchange.status))
        body = json.loads(exchange.body)
        counts = Counts(input=body["usage"]["total_tokens"])
        if exchange.operation == "rerank":
            rows = tuple((row["index"], row["relevance_score"]) for row in body["data"])
            return Reading(ranking=rows, counts=counts)
        vectors = tuple(tuple(row["embedding"]) for row in body["data"])
        return Reading(vectors=vectors, counts=counts)

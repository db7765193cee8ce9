"""Rerankings: what every adapter of a reranker does alike.

Source: Cohere API reference, "Rerank" (v2); Voyage AI and Jina AI in theirs; November 2026.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from asgi_llm import _json
from asgi_llm.errors import ProviderUnavailableError
from asgi_llm.providers._losses import Losses
from asgi_llm.providers.base import Answer
from asgi_llm.types import Document, Usage
from asgi_llm.wire.usage import MAX_TOKENS

__all__ = ["Ranked", "document_texts", "ranking", "rerank_body", "token_count"]

_TOLD = frozenset(("asgi_llm", "documents", "model", "query", "return_documents", "top_n"))


class Ranked(msgspec.Struct, gc=False):
    """One row of an answer: which document, and how well it fits."""

    index: int
    relevance_score: float


def document_texts(document: Document, losses: Losses) -> list[str]:
    """The texts to rank; what stands beside a text in its object is reported."""
    texts: list[str] = []
    for index, given in enumerate(document["documents"]):
        if isinstance(given, str):
            texts.append(given)
            continue
        texts.append(given["text"])
        for name in given:
            if name != "text":
                losses.add(f"documents[{index}].{name}")
    return texts


def rerank_body(
    document: Document,
    model: str,
    losses: Losses,
    *,
    top_name: str = "top_n",
    passed: frozenset[str] = frozenset(),
) -> Document:
    """The body of the call, in the form that all of them share.

    Args:
        document: Valid for ``rerank``.
        model: The provider's name of the model.
        losses: Where every field goes that the provider has not.
        top_name: What the provider calls ``top_n``; a client that says it so is understood, too.
        passed: Fields that go out as they are.
    """
    body: Document = {
        "model": model,
        "query": document["query"],
        "documents": document_texts(document, losses),
    }
    top = document.get(top_name)
    if top is None:
        top = document.get("top_n")
    if top is not None:
        body[top_name] = top
    for name, value in document.items():
        if name in passed:
            if value is not None:
                body[name] = value
        elif name not in _TOLD and name != top_name and value is not None:
            losses.add(name)
    return body


def ranking(
    document: Document,
    model: str,
    rows: list[Ranked],
    *,
    id: str | None = None,
    usage: Usage | None = None,
    search_units: int | None = None,
) -> Answer:
    """The answer.

    Documents are put back from the request where they are asked for: not every provider returns
    them, and what the client sent is what it knows.

    Args:
        document: What was asked.
        model: The provider's name of the model.
        rows: Best first.
        id: The provider's name of the answer.
        usage: Of the call.
        search_units: What Cohere counts in place of tokens.

    Raises:
        ProviderUnavailableError: A row is about no document, about one that another row is about,
            or without a score.
    """
    documents = document["documents"]
    echoed = bool(document.get("return_documents"))
    seen: set[int] = set()
    results: list[Document] = []
    for row in rows:
        if not 0 <= row.index < len(documents) or row.index in seen:
            raise _broken("ranks a document that it was not given, or ranks one twice")
        if not math.isfinite(row.relevance_score):
            raise _broken("has a score that is no number")
        seen.add(row.index)
        result: Document = {"index": row.index, "relevance_score": row.relevance_score}
        if echoed:
            given = documents[row.index]
            result["document"] = {"text": given} if isinstance(given, str) else given
        results.append(result)
    answer: Document = {"object": "list", "model": model, "results": results}
    if id is not None:
        answer["id"] = id
    spent: Document = {}
    if usage is not None:
        spent = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.total_tokens}
    if search_units is not None:
        spent["search_units"] = search_units
    if spent:
        answer["usage"] = spent
    return Answer(_json.encode(answer), usage)


def token_count(value: Any) -> int | None:
    """A count that a provider sent, which may be written as a fraction; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= MAX_TOKENS else None


def _broken(what: str) -> ProviderUnavailableError:
    return ProviderUnavailableError(
        f"The provider's answer {what}.", code="invalid_provider_response"
    )

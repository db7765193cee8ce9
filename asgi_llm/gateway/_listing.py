"""What can be asked for here, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from asgi_llm._semconv import Operation
from asgi_llm.errors import InvalidRequestError
from asgi_llm.gateway.build import Build
from asgi_llm.gateway.config import Loaded
from asgi_llm.providers.capabilities import PROVIDER_TYPES, lacks
from asgi_llm.types import Document
from asgi_llm.wire.validation import validate

__all__ = ["capability_rows", "columns", "fitting_rows", "model_rows"]

_TOLD_BY: Final[dict[str, Operation]] = {
    "messages": "chat",
    "documents": "rerank",
    "prompt": "text_completion",
    "voice": "speech",
    "input": "embeddings",
}
"""The field that tells which operation a request is of, the first that is there."""

_WORDS: Final = {"fan_out": "several calls"}


def model_rows(build: Build) -> list[tuple[str, str]]:
    """Each name that is known without asking a provider, and what it calls."""
    rows = [(name, f"{one.provider}/{one.model}") for name, one in build.models.items()]
    for name, provider in build.providers.items():
        known = [(f"{name}/{model}", "") for model in provider.models]
        rows += known or [(f"{name}/MODEL", "any model of this provider")]
    return rows


def capability_rows(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Each provider, its type, and what it can be asked for, one thing a row."""
    rows = []
    for name, definition in loaded.configuration.providers.items():
        known = PROVIDER_TYPES[definition.type].capabilities.document()
        head = (name, definition.type)
        for fact in _facts_of(known):
            rows.append((*head, fact))
            head = ("", "")
    return rows


def fitting_rows(loaded: Loaded, build: Build, document: Any) -> list[tuple[str, str]]:
    """Each name of ``model_rows``, and whether it can serve a request, or what it lacks.

    Raises:
        InvalidRequestError: It is no request.
    """
    operation = _operation_of(document)
    fetched = loaded.configuration.server.fetch_images.enabled
    types = {name: one.type for name, one in loaded.configuration.providers.items()}
    rows = []
    for name, _ in model_rows(build):
        target = build.models.get(name)
        provider = target.provider if target else name.partition("/")[0]
        lacking = lacks(types[provider], operation, document, fetch_images=fetched)
        rows.append((name, f"lacks {lacking}" if lacking else "fits"))
    return rows


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """``rows`` with their cells aligned, two spaces apart."""
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _facts_of(known: Document) -> Iterator[str]:
    yield ", ".join(one.replace("_", " ") for one in known.pop("operations"))
    vectors = known.pop("embeddings")
    if vectors and vectors["batch_limit"]:
        yield f"{vectors['batch_limit']} texts a call"
    for state, answer in (("has", True), ("has not", False), ("passes on", None)):
        names = [name.replace("_", " ") for name, value in known.items() if value is answer]
        if names:
            yield f"{state} {', '.join(names)}"
    for name, value in known.items():
        if isinstance(value, str | tuple):
            shown = _WORDS.get(value, value) if isinstance(value, str) else ", ".join(value)
            yield f"{name.replace('_', ' ')}: {shown}"


def _operation_of(document: Any) -> Operation:
    for field, operation in _TOLD_BY.items():
        if isinstance(document, dict) and field in document:
            validate(operation, {"model": "any", **document})
            return operation
    raise InvalidRequestError("The request has none of the fields " + ", ".join(_TOLD_BY) + ".")

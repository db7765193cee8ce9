"""Sources of Gemini's answers as OpenAI's annotations.

Source: Gemini API reference, "GroundingMetadata" and "CitationMetadata"; November 2026.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from asgi_llm.types import Document

__all__ = ["citations", "grounded"]


class _Page(msgspec.Struct, gc=False):
    uri: str = ""
    title: str | None = None


class _Chunk(msgspec.Struct, gc=False, rename="camel"):
    web: _Page | None = None
    maps: _Page | None = None
    retrieved_context: _Page | None = None


class _Segment(msgspec.Struct, gc=False, rename="camel"):
    start_index: int = 0
    end_index: int = 0


class _Support(msgspec.Struct, gc=False, rename="camel"):
    segment: _Segment | None = None
    grounding_chunk_indices: list[int] = []


class _Grounding(msgspec.Struct, gc=False, rename="camel"):
    grounding_chunks: list[_Chunk] = []
    grounding_supports: list[_Support] = []


class _Citation(msgspec.Struct, gc=False, rename="camel"):
    start_index: int = 0
    end_index: int = 0
    uri: str = ""
    title: str | None = None


class _Citations(msgspec.Struct, gc=False, rename="camel"):
    citation_sources: list[_Citation] = []
    citations: list[_Citation] = []
    """Vertex AI's name for the same."""


def grounded(metadata: Any, text: str) -> list[Document]:
    """Annotations for what is supported by pages with an address; none where it is malformed.

    Args:
        metadata: Google's.
        text: The answer, in whose UTF-8 bytes Google counts, and OpenAI in characters.
    """
    try:
        found = msgspec.convert(metadata, _Grounding)
    except msgspec.ValidationError:
        return []
    return list(_supported(found, text.encode()))


def _supported(found: _Grounding, data: bytes) -> Iterator[Document]:
    chunks = found.grounding_chunks
    for support in found.grounding_supports:
        segment = support.segment or _Segment()
        for index in support.grounding_chunk_indices:
            chunk = chunks[index] if 0 <= index < len(chunks) else _Chunk()
            page = chunk.web or chunk.maps or chunk.retrieved_context
            if page is not None and page.uri:
                yield _annotation(
                    page.uri, page.title, data, segment.start_index, segment.end_index
                )


def citations(metadata: Any, text: str) -> list[Document]:
    """Annotations for what is quoted from pages with an address; see ``grounded``."""
    try:
        found = msgspec.convert(metadata, _Citations)
    except msgspec.ValidationError:
        return []
    data = text.encode()
    return [
        _annotation(one.uri, one.title, data, one.start_index, one.end_index)
        for one in found.citation_sources + found.citations
        if one.uri
    ]


def _annotation(url: str, title: str | None, data: bytes, start: int, end: int) -> Document:
    place = {"start_index": _characters(data, start), "end_index": _characters(data, end)}
    return {
        "type": "url_citation",
        "url_citation": {"url": url, "title": title or "", **place},
    }


def _characters(data: bytes, at: int) -> int:
    return len(data[: max(0, at)].decode("utf-8", "ignore"))

"""What a call used beside tokens, read from its request and its answer.

Nothing that a server sends raises or counts below 0; what cannot be read counts for nothing.

Source: OpenAI API reference (images, audio), Cohere and Anthropic API references (``billed_units``,
``server_tool_use``), November 2026.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from asgi_llm.pricing.rows import Quantities
from asgi_llm.types import Document

__all__ = ["read_quantities"]

_MAX_COUNT: Final = 10**9


def read_quantities(request: Document, answer: Document | None) -> Quantities:
    """Quantities of one call.

    Args:
        request: ``input`` of a speech request (its characters), ``n`` of an image request, the
            documents of a rerank.
        answer: The parsed JSON: its images, tokens of images, seconds of audio, searches. None
            where there is none yet, or it is no JSON; then the request alone says what it can.
    """
    answer = answer if isinstance(answer, dict) else {}
    usage = _mapping(answer.get("usage"))
    given, made = (
        _mapping(usage.get(name)) for name in ("input_tokens_details", "output_tokens_details")
    )
    return Quantities(
        images=_images(request, answer),
        image_tokens_in=_count(given.get("image_tokens")),
        image_tokens_out=_count(made.get("image_tokens")),
        characters=_characters(request),
        audio_seconds=_seconds(usage, answer),
        searches=_searches(request, usage, answer),
        web_searches=_web_searches(usage),
    )


def _images(request: Document, answer: Document) -> int:
    """Images of an answer: those of ``data`` that are one; what was asked for, before it came."""
    made = answer.get("data")
    if isinstance(made, list):
        return sum(isinstance(one, dict) and ("b64_json" in one or "url" in one) for one in made)
    is_image_request = isinstance(request.get("prompt"), str) and not _LIMITED & request.keys()
    return max(1, _count(request.get("n"))) if is_image_request and not answer else 0


_LIMITED: Final = frozenset(("max_tokens", "best_of", "logprobs", "echo", "suffix", "stream"))
"""Fields of a text completion, whose prompt asks for no image."""


def _characters(request: Document) -> int:
    spoken = request.get("input")
    return len(spoken) if isinstance(spoken, str) and "voice" in request else 0


def _seconds(usage: Document, answer: Document) -> Decimal | int:
    """Whole answers of transcriptions say it in ``usage``, verbose ones in ``duration``."""
    is_duration = usage.get("type") == "duration"
    value = usage.get("seconds") if is_duration else answer.get("duration")
    if isinstance(value, str):
        # A number's notation has no more than these; anything longer is no duration.
        is_number = len(value) < 20 and value.replace(".", "", 1).isascii()
        value = Decimal(value) if is_number and value.replace(".", "", 1).isdigit() else 0
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return 0
    # The shortest notation of a float is what was written.
    seconds = Decimal(repr(value) if isinstance(value, float) else value)
    return seconds if seconds.is_finite() and 0 <= seconds <= _MAX_COUNT else 0


def _searches(request: Document, usage: Document, answer: Document) -> int:
    """Search units as Cohere bills them; before they are told, one for each 100 documents."""
    for billed in (usage, _mapping(_mapping(answer.get("meta")).get("billed_units"))):
        if "search_units" in billed:
            return _count(billed["search_units"])
    documents = request.get("documents")
    if isinstance(documents, list) and isinstance(request.get("query"), str):
        return max(1, -(-len(documents) // 100))
    return 0


def _web_searches(usage: Document) -> int:
    for name in ("server_tool_use", "server_tool_use_details"):
        tools = _mapping(usage.get(name))
        if "web_search_requests" in tools:
            return _count(tools["web_search_requests"])
    return 0


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else 0

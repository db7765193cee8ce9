"""Tokens as Bedrock counts them.

Source: Amazon Bedrock API reference, "TokenUsage" and "CacheDetail"; November 2026.
"""

from __future__ import annotations

from typing import Any

import msgspec

from asgi_llm.providers._rerank import token_count
from asgi_llm.types import Usage

__all__ = ["TokenUsage", "buckets"]


class TokenUsage(msgspec.Struct, gc=False, rename="camel"):
    """What an answer tells; nothing that it may hold makes the answer unreadable."""

    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_write_input_tokens: Any = None
    cache_details: Any = None


def buckets(usage: TokenUsage) -> Usage:
    """Disjoint buckets: Bedrock's input counts neither cache reads nor cache writes."""
    given, made = token_count(usage.input_tokens), token_count(usage.output_tokens)
    read = token_count(usage.cache_read_input_tokens or 0)
    written = token_count(usage.cache_write_input_tokens or 0)
    hours = 0
    for detail in usage.cache_details if isinstance(usage.cache_details, list) else ():
        if isinstance(detail, dict) and detail.get("ttl") == "1h":
            hours += token_count(detail.get("inputTokens")) or 0
    hours = min(hours, written or 0)
    return Usage(
        input_uncached=given or 0,
        input_cached=read or 0,
        cache_write_5m=(written or 0) - hours,
        cache_write_1h=hours,
        output_text=made or 0,
        estimated=None in (given, made, read, written),
    )

"""Tokens as Anthropic counts them.

Source: Anthropic API reference, "Create a Message" and "Streaming Messages"; November 2026.
"""

from __future__ import annotations

import msgspec

from asgi_llm.types import Usage
from asgi_llm.wire.usage import MAX_TOKENS

__all__ = ["TokenUsage", "buckets"]


class CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class TokenUsage(msgspec.Struct, gc=False):
    """What an answer tells, or an event of one so far."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputDetails | None = None


def buckets(usage: TokenUsage) -> Usage:
    """Disjoint buckets: Anthropic's input counts neither cache reads nor cache writes."""
    given, made = usage.input_tokens, usage.output_tokens
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    split, details = usage.cache_creation, usage.output_tokens_details
    hours = (split.ephemeral_1h_input_tokens or 0) if split is not None else 0
    thoughts = (details.thinking_tokens or 0) if details is not None else 0
    is_sane = given is not None and made is not None
    given, made = given or 0, made or 0
    counts = (given, made, read, written, hours, thoughts)
    if min(counts) < 0 or max(counts) > MAX_TOKENS:
        is_sane = False
        given, made, read, written, hours, thoughts = (
            min(max(0, count), MAX_TOKENS) for count in counts
        )
    hours, thoughts = min(written, hours), min(made, thoughts)
    return Usage(
        input_uncached=given,
        input_cached=read,
        # The total counts: a loop of server tools writes more than the first breakdown says.
        cache_write_5m=written - hours,
        cache_write_1h=hours,
        output_text=made - thoughts,
        reasoning=thoughts,
        estimated=not is_sane,
    )

"""Token counts as OpenAI-compatible servers report them, to disjoint buckets and back.

Nothing that a server sends raises, or makes a count negative: what cannot be is clipped to what
can, and the result says that it is an estimate.

Source: OpenAI API reference (the ``usage`` objects of chat completions, embeddings, images and
transcriptions); DeepSeek, Groq, Mistral, Moonshot, OpenRouter and xAI in their own references and
recorded answers, November 2026.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from asgi_llm.types import Usage

__all__ = ["MAX_TOKENS", "PlainUsage", "usage_from_openai", "usage_to_openai"]

MAX_TOKENS = 100_000_000
"""A count above this is taken for this. The largest context windows hold a tenth of it."""

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_TOTAL = ("total_tokens",)
_KNOWN = frozenset((*_INPUT, *_OUTPUT, *_TOTAL))
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_CACHED_BESIDE = ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")


_Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


class _InputDetails(Struct, forbid_unknown_fields=True, gc=False):
    cached_tokens: _Count = 0
    audio_tokens: _Count = 0
    cache_write_tokens: _Count = 0


class _OutputDetails(Struct, forbid_unknown_fields=True, gc=False):
    reasoning_tokens: _Count = 0
    audio_tokens: _Count = 0
    accepted_prediction_tokens: _Count = 0
    rejected_prediction_tokens: _Count = 0


class PlainUsage(Struct, forbid_unknown_fields=True, gc=False):
    """A ``usage`` object that has nothing but what OpenAI's own has, to be decoded as it is read.

    Whatever does not fit it is for ``usage_from_openai``.
    """

    prompt_tokens: _Count
    total_tokens: _Count
    completion_tokens: _Count = 0
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None

    def to_usage(self) -> Usage | None:
        """The buckets; None where the parts do not sum to the totals."""
        given = self.prompt_tokens_details or _NOTHING_GIVEN
        made = self.completion_tokens_details or _NOTHING_MADE
        prompt, completion = self.prompt_tokens, self.completion_tokens
        text_in = prompt - given.cached_tokens - given.audio_tokens - given.cache_write_tokens
        text_out = completion - made.reasoning_tokens - made.audio_tokens
        if text_in < 0 or text_out < 0 or self.total_tokens != prompt + completion:
            return None
        return Usage(
            input_uncached=text_in,
            input_cached=given.cached_tokens,
            cache_write_5m=given.cache_write_tokens,
            audio_in=given.audio_tokens,
            output_text=text_out,
            reasoning=made.reasoning_tokens,
            audio_out=made.audio_tokens,
        )


_NOTHING_GIVEN = _InputDetails()
_NOTHING_MADE = _OutputDetails()


def usage_from_openai(obj: Any) -> Usage | None:
    """Read a ``usage`` object, or the one inside an answer or a chunk; None where there is none.

    Cached and audio tokens are taken out of the input, reasoning and audio tokens out of the
    output. Where the total is larger than input and output together, the rest is reasoning that
    the server left out of its output count (xAI says so in the details, Gemini does not).
    """
    usage = _usage_object(obj)
    if usage is None:
        return None
    counts = _Counts()
    prompt, completion, total = (counts.take(usage, names) for names in (_INPUT, _OUTPUT, _TOTAL))
    given = counts.details(usage, _INPUT_DETAILS)
    made = counts.details(usage, _OUTPUT_DETAILS)
    cached = counts.take(given, ("cached_tokens",))
    if cached is None:
        cached = counts.take(usage, _CACHED_BESIDE)
    reasoning = counts.take(made, ("reasoning_tokens",))
    prompt, completion, unsaid = counts.settle(prompt, completion, total, reasoning or 0)

    input_parts = counts.fit(
        prompt,
        cached,
        counts.take(given, ("cache_write_tokens",)),
        counts.take(given, ("audio_tokens",)),
    )
    output_parts = counts.fit(completion, reasoning, counts.take(made, ("audio_tokens",)))
    return Usage(
        input_uncached=prompt - sum(input_parts),
        input_cached=input_parts[0],
        cache_write_5m=input_parts[1],
        audio_in=input_parts[2],
        output_text=completion - sum(output_parts),
        reasoning=output_parts[0] + unsaid,
        audio_out=output_parts[1],
        estimated=counts.estimated,
    )


def usage_to_openai(usage: Usage) -> dict[str, Any]:
    """The ``usage`` object of a chat completion, in OpenAI's convention: totals include the parts.

    Cache writes, which OpenAI's own object lacks for most models, are named only where there are
    any.
    """
    prompt, completion = usage.input_tokens, usage.output_tokens
    given = {"cached_tokens": usage.input_cached, "audio_tokens": usage.audio_in}
    if written := usage.cache_write_5m + usage.cache_write_1h:
        given["cache_write_tokens"] = written
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": given,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.audio_out,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _usage_object(obj: Any) -> dict[str, Any] | None:
    if not isinstance(obj, dict):
        return None
    groq = obj.get("x_groq")
    inner = (obj, obj.get("usage"), groq.get("usage") if isinstance(groq, dict) else None)
    for candidate in inner:
        if isinstance(candidate, dict) and any(candidate.get(name) is not None for name in _KNOWN):
            return candidate
    return None


class _Counts:
    """Reads counts, and remembers whether one of them could not be."""

    __slots__ = ("estimated",)

    def __init__(self) -> None:
        self.estimated = False

    def take(self, source: dict[str, Any], names: tuple[str, ...]) -> int | None:
        """The first count that is there; null is as good as left out."""
        for name in names:
            value = source.get(name)
            if value is not None:
                return self._sane(value)
        return None

    def details(self, usage: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        for name in names:
            value = usage.get(name)
            if isinstance(value, dict):
                return value
            if value is not None:
                self.estimated = True
        return {}

    def settle(
        self, prompt: int | None, completion: int | None, total: int | None, reasoning: int
    ) -> tuple[int, int, int]:
        """Input, output, and what the total holds beyond them."""
        if prompt is None and completion is None:
            self.estimated = True
            return total or 0, 0, 0
        if total is None:
            self.estimated |= prompt is None
            return prompt or 0, completion or 0, 0
        if prompt is None:
            return self._rest(total, completion or 0), completion or 0, 0
        if completion is None:
            return prompt, self._rest(total, prompt), 0
        unsaid = total - prompt - completion
        if unsaid == reasoning > 0:
            return prompt, completion + unsaid, 0
        self.estimated |= unsaid != 0
        return prompt, completion, max(0, unsaid)

    def _rest(self, total: int, part: int) -> int:
        self.estimated |= part > total
        return max(0, total - part)

    def fit(self, whole: int, *parts: int | None) -> list[int]:
        """The parts, each cut to what those before it leave of the whole."""
        fitting = []
        for part in parts:
            size = min(part or 0, whole)
            self.estimated |= size != (part or 0)
            whole -= size
            fitting.append(size)
        return fitting

    def _sane(self, value: Any) -> int:
        if type(value) is int and 0 <= value <= MAX_TOKENS:
            return value
        self.estimated = True
        if isinstance(value, bool):
            return 0
        if isinstance(value, str):
            value = int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0
        if not isinstance(value, int | float) or not value > 0:
            return 0
        return MAX_TOKENS if value > MAX_TOKENS else int(value)

"""What is read of Gemini's answers, and its counts and probabilities in OpenAI's terms.

Source: Gemini API reference, "GenerateContentResponse"; November 2026.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm.types import Document, Usage
from asgi_llm.wire.usage import MAX_TOKENS

__all__ = ["Candidate", "Part", "Response", "TokenCounts", "decode_response", "logprob_rows"]


class Call(msgspec.Struct, gc=False, rename="camel"):
    name: str = ""
    id: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")
    partial_args: Any = None
    will_continue: bool = False


class Blob(msgspec.Struct, gc=False, rename="camel"):
    mime_type: str = ""
    data: str = ""


class Part(msgspec.Struct, gc=False, rename="camel"):
    """One part; exactly one kind of content is there."""

    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: Call | None = None
    inline_data: Blob | None = None
    executable_code: Any = None
    code_execution_result: Any = None
    tool_call: Any = None
    tool_response: Any = None


class Content(msgspec.Struct, gc=False):
    parts: list[Part] | None = None


class Token(msgspec.Struct, gc=False, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class Tops(msgspec.Struct, gc=False):
    candidates: list[Token] = []


class Logprobs(msgspec.Struct, gc=False, rename="camel"):
    chosen_candidates: list[Token] = []
    top_candidates: list[Tops] = []


class Candidate(msgspec.Struct, gc=False, rename="camel"):
    """One choice, or what is new of it."""

    index: int = 0
    content: Content | None = None
    finish_reason: str | int | None = None
    finish_message: str | None = None
    safety_ratings: Any = None
    grounding_metadata: Any = None
    citation_metadata: Any = None
    url_context_metadata: Any = None
    logprobs_result: Logprobs | None = None


class Modality(msgspec.Struct, gc=False, rename="camel"):
    modality: str | int = ""
    token_count: int = 0


class TokenCounts(msgspec.Struct, gc=False, rename="camel"):
    """Gemini's counts."""

    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    prompt_tokens_details: list[Modality] | None = None
    cache_tokens_details: list[Modality] | None = None
    candidates_tokens_details: list[Modality] | None = None

    def buckets(self) -> Usage | None:
        """Disjoint ones; None where nothing is counted yet.

        The prompt holds what was cached, while thoughts and what tools put into the prompt stand
        beside the rest.
        """
        given, made = self.prompt_token_count, self.candidates_token_count
        cached, thoughts = self.cached_content_token_count, self.thoughts_token_count
        tools = self.tool_use_prompt_token_count
        if given is None and made is None and thoughts is None:
            return None
        is_sane = given is not None
        given, made, cached = given or 0, made or 0, cached or 0
        thoughts, tools = thoughts or 0, tools or 0
        counts = (given, made, cached, thoughts, tools)
        if min(counts) < 0 or max(counts) > MAX_TOKENS or cached > given:
            is_sane = False
            given, made, cached, thoughts, tools = (
                min(max(0, count), MAX_TOKENS) for count in counts
            )
            cached = min(cached, given)
        heard = spoken = 0
        if self.prompt_tokens_details is not None:
            heard = _audio(self.prompt_tokens_details) - _audio(self.cache_tokens_details)
            heard = min(max(0, heard), given - cached)
        if self.candidates_tokens_details is not None:
            spoken = min(_audio(self.candidates_tokens_details), made)
        return Usage(
            input_uncached=given - cached - heard + tools,
            input_cached=cached,
            audio_in=heard,
            output_text=made - spoken,
            reasoning=thoughts,
            audio_out=spoken,
            estimated=not is_sane,
        )


class Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | int | None = None
    block_reason_message: str | None = None
    safety_ratings: Any = None


class Response(msgspec.Struct, gc=False, rename="camel"):
    """A whole answer, or one event of a stream."""

    candidates: list[Candidate] | None = None
    usage_metadata: TokenCounts | None = None
    prompt_feedback: Feedback | None = None
    response_id: str | None = None
    model_version: str | None = None
    error: Any = None


decode_response: Final = msgspec.json.Decoder(Response).decode

_AUDIO: Final = ("AUDIO", 4)
"""The word, and its number where the API was asked for numbers."""


def _audio(details: list[Modality] | None) -> int:
    return sum(max(0, one.token_count) for one in details or () if one.modality in _AUDIO)


def logprob_rows(result: Logprobs) -> list[Document]:
    """The rows of OpenAI's ``logprobs.content``."""
    tops = result.top_candidates
    return [
        {
            **_row(chosen),
            "top_logprobs": (
                [_row(one) for one in tops[index].candidates] if index < len(tops) else []
            ),
        }
        for index, chosen in enumerate(result.chosen_candidates)
    ]


def _row(token: Token) -> Document:
    return {
        "token": token.token,
        "logprob": token.log_probability,
        "bytes": list(token.token.encode()),
    }

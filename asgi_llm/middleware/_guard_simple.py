"""Answers of the shape that most have, read in one step; all others are walked."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from asgi_llm.middleware._guard_texts import LEAST_LONG_NUMBER, LONGEST_WORD

__all__ = ["read_simple_answer"]

_Word = Annotated[str, msgspec.Meta(max_length=LONGEST_WORD)] | None
_Number = Annotated[int, msgspec.Meta(gt=-LEAST_LONG_NUMBER, lt=LEAST_LONG_NUMBER)] | None


class _Message(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    content: str | None = None
    role: _Word = None
    refusal: None = None
    annotations: Annotated[list[None], msgspec.Meta(max_length=0)] | None = None


class _Choice(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    message: _Message
    index: _Number = 0
    finish_reason: _Word = None
    logprobs: None = None


class _Details(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    cached_tokens: _Number = None
    audio_tokens: _Number = None
    reasoning_tokens: _Number = None
    accepted_prediction_tokens: _Number = None
    rejected_prediction_tokens: _Number = None
    cache_write_tokens: _Number = None


class _Usage(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    prompt_tokens: _Number = None
    completion_tokens: _Number = None
    total_tokens: _Number = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Answer(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    choices: list[_Choice]
    id: _Word = None
    object: _Word = None
    created: Annotated[int, msgspec.Meta(ge=0, lt=10 * LEAST_LONG_NUMBER)] | None = None
    model: _Word = None
    usage: _Usage | None = None
    service_tier: _Word = None
    system_fingerprint: _Word = None


_decode = msgspec.json.Decoder(_Answer).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read_simple_answer(data: bytes) -> str | None:
    """The text of a chat completion that has no more than its content; None: it has more."""
    try:
        choices = _decode(data).choices
    except _UNREADABLE:
        return None
    return (choices[0].message.content or "") if len(choices) == 1 else None

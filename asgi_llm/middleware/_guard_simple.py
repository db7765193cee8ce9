"""Documents of the shape that most have, read in one step; all others are walked."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from asgi_llm.middleware._guard_texts import LEAST_LONG_NUMBER, LONGEST_WORD, SHORT_ROLE, Text
from asgi_llm.types import Document

__all__ = ["list_simple_texts", "read_simple_answer", "read_simple_request"]

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


class _Said(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: Annotated[str, msgspec.Meta(max_length=LONGEST_WORD)]
    content: str


class _StreamOptions(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    include_usage: bool


_Setting = _Number | float


class _Request(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    messages: list[_Said]
    model: _Word = None
    temperature: _Setting = None
    max_tokens: _Setting = None
    max_completion_tokens: _Setting = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    top_p: _Setting = None
    n: _Setting = None
    seed: _Setting = None
    presence_penalty: _Setting = None
    frequency_penalty: _Setting = None
    logprobs: bool | None = None
    top_logprobs: _Setting = None
    store: bool | None = None
    service_tier: _Word = None
    reasoning_effort: _Word = None


def read_simple_request(document: Document) -> tuple[list[str], list[str]] | None:
    """The texts of a chat that is no more than its messages, and their roles; None: it is more.

    They are those that ``read_texts`` gives.
    """
    try:
        said = msgspec.convert(document, _Request).messages
    except msgspec.ValidationError:
        return None
    texts: list[str] = []
    roles: list[str] = []
    for one in said:
        text = one.content
        if text:
            if text.startswith("data:"):
                return None
            role = one.role
            texts.append(text)
            roles.append(_SHORT_ROLE(role, role))
    return texts, roles


def list_simple_texts(document: Document) -> list[Text]:
    """The same texts, each with its place, of a document that ``read_simple_request`` has read."""
    return [
        Text(("messages", number, "content"), _SHORT_ROLE(one["role"], one["role"]), one["content"])
        for number, one in enumerate(document["messages"])
        if one["content"]
    ]


_SHORT_ROLE: Final = SHORT_ROLE.get

"""Which answers may be kept, and what is kept of them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm import _sse
from asgi_llm.errors import RawHeaders
from asgi_llm.middleware._cache_controls import NO_CONTROLS
from asgi_llm.middleware._cache_headers import values_of
from asgi_llm.middleware._cache_plain import READS_BYTES, peek_answer
from asgi_llm.middleware._cache_request import CacheRequest
from asgi_llm.state import (
    CACHE_STATUS,
    DEPLOYMENT,
    FAILURE,
    PRINCIPAL,
    RESPONSE_MODEL,
    UNCACHEABLE,
    USAGE,
    State,
)
from asgi_llm.stores._kept_answer import KeptAnswer, entry_size
from asgi_llm.stores.cache import JSON_HEADERS, StoredAnswer
from asgi_llm.types import Usage
from asgi_llm.wire.usage import PlainUsage, usage_from_openai

__all__ = ["CACHE_HEADERS", "AnswerHead", "judge_answer", "read_head", "read_whole", "usage_of"]

KEPT_HEADERS: Final = frozenset((b"content-type", b"x-provider", b"x-model", b"x-translation-loss"))
"""Headers of an answer that those who get it from a cache get too. What is about one request alone
(ids, cookies, limits, prices) is not among them."""

CACHE_HEADERS: Final = frozenset((b"x-cache-status", b"x-cache-type"))

# What is done with a header. Names that answers often have are here as they are sent, so that they
# need not be put in lower case first.
_PASSED_OVER: Final = 0
_MEDIA: Final = 1
_KEPT: Final = 2
_ENCODING: Final = 3
_CONTROL: Final = 4
_VARY: Final = 5
_OF_CACHES: Final = 6
_MEANINGS: Final = {
    **dict.fromkeys(
        (
            b"content-length",
            b"date",
            b"server",
            b"x-request-id",
            b"x-client-request-id",
            b"x-accel-buffering",
        ),
        _PASSED_OVER,
    ),
    **dict.fromkeys(KEPT_HEADERS, _KEPT),
    **dict.fromkeys(CACHE_HEADERS, _OF_CACHES),
    b"content-type": _MEDIA,
    b"content-encoding": _ENCODING,
    b"cache-control": _CONTROL,
    b"vary": _VARY,
}

_READS_BYTES: Final = READS_BYTES
_GOOD_ENDS: Final = frozenset(("stop", "tool_calls", "function_call"))
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_UNREADABLE_USAGE: Final = (*_UNREADABLE, _sse.SSEError)


class AnswerHead:
    """What the start of an answer says of the rest.

    Args:
        is_stream: Whether events follow.
        headers: Those that are kept.
        may_be_stored: Whether whoever made the answer has nothing against it.
        tells_of_caches: Whether it has headers of a cache already.
    """

    __slots__ = ("headers", "is_stream", "may_be_stored", "tells_of_caches")

    def __init__(
        self,
        is_stream: bool,
        headers: tuple[tuple[bytes, bytes], ...],
        may_be_stored: bool,
        tells_of_caches: bool,
    ) -> None:
        self.is_stream = is_stream
        self.headers = headers
        self.may_be_stored = may_be_stored
        self.tells_of_caches = tells_of_caches


# As a rule an answer begins like this: one object is then kept for all of them.
_JSON: Final = b"application/json"
_PLAIN: Final = AnswerHead(False, JSON_HEADERS, True, False)


def read_head(status: int, headers: RawHeaders) -> AnswerHead | None:
    """Read the start of an answer; None: it is no answer that a cache could serve."""
    if status != 200:
        return None
    kept: list[tuple[bytes, bytes]] | None = None
    media: bytes | None = None
    may_be_stored = True
    tells_of_caches = False
    for name, value in headers:
        if name == b"content-length":
            continue
        if name == b"content-type" and media is None and kept is None and value == _JSON:
            media = value
            continue
        found = _MEANINGS.get(name)
        if found is None:
            name = name.lower()
            found = _MEANINGS.get(name)
            if found is None:
                continue
        meaning = found
        if meaning == _PASSED_OVER:
            continue
        if meaning <= _KEPT:
            if meaning == _MEDIA:
                if media is None and kept is None and value == _JSON:
                    media = value
                    continue
                if kept is None:
                    kept = [] if media is None else [*JSON_HEADERS]
                media = value
            elif kept is None:
                kept = [] if media is None else [*JSON_HEADERS]
            kept.append((name, value))
        elif meaning == _ENCODING:
            if value.lower() != b"identity":
                return None
        elif meaning == _CONTROL:
            directives = value.lower()
            # `no-cache` is on every stream, and means caches that are not asked.
            if b"no-store" in directives or b"private" in directives:
                may_be_stored = False
        elif meaning == _VARY:
            if b"*" in value:
                may_be_stored = False
        else:
            tells_of_caches = True
    if media is None:
        return None
    if kept is None:
        if may_be_stored and not tells_of_caches:
            return _PLAIN
        return AnswerHead(False, JSON_HEADERS, may_be_stored, tells_of_caches)
    media = media.lower()
    is_stream = media.startswith(b"text/event-stream")
    if not is_stream and not media.startswith(_JSON):
        return None
    return AnswerHead(is_stream, tuple(kept), may_be_stored, tells_of_caches)


class _Said(msgspec.Struct, gc=False):
    audio: Any = None
    """A recording, which expires."""


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None
    message: _Said | None = None
    delta: _Said | None = None
    index: int = 0


_ABSENT: Final = msgspec.Raw()


class _Peek(msgspec.Struct, gc=False):
    """What is read of an answer, or of an event; the rest is skipped."""

    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _ABSENT
    error: Any = None
    x_groq: msgspec.Raw = _ABSENT


class _Peeked(msgspec.Struct, gc=False):
    usage: PlainUsage


class _Part(msgspec.Struct, gc=False):
    """An object of which nothing is read."""


class _WholePeek(msgspec.Struct, gc=False):
    """What is read of an answer that is as OpenAI has it; any other is read as a ``_Peek``."""

    choices: list[_Choice] | None = None
    usage: _Part | None = None
    error: Any = None


_peek = msgspec.json.Decoder(_Peek).decode
_peek_whole = msgspec.json.Decoder(_WholePeek).decode
_peek_usage = msgspec.json.Decoder(_Peeked).decode


def judge_answer(
    request: CacheRequest,
    head: AnswerHead,
    body: bytes,
    state: State,
    fresh_seconds: float,
    keep_seconds: float,
) -> KeptAnswer | None:
    """Judge an answer that was sent to its end; None: it is an error, or not whole.

    It may be kept if every choice ended by itself (``stop``, ``tool_calls``): not where it was cut
    off, filtered or changed on its way, not where it names a recording that expires, and not where
    a cache further in had it, which then decides for how long.

    Args:
        request: Whose answer it is.
        head: From ``read_head``.
        body: All of it.
        state: Of the request.
        fresh_seconds: For ``StoredAnswer``.
        keep_seconds: For ``StoredAnswer``.
    """
    said = values_of(state)
    principal = said.get(PRINCIPAL)
    report = said.get(CACHE_STATUS)
    provider = model = usage = deployment = None
    may_be_stored = head.may_be_stored and (report is None or report.status != "hit")
    # Often nothing else has been said of the request.
    if len(said) > (principal is not None) + (report is not None):
        if FAILURE in said:
            return None
        usage = said.get(USAGE)
        model = said.get(RESPONSE_MODEL)
        deployment = said.get(DEPLOYMENT)
        if deployment is not None:
            provider = deployment.provider
            model = model or deployment.model
        if UNCACHEABLE in said:
            may_be_stored = False
    if head.is_stream:
        found = _read_stream(body)
    else:
        told = peek_answer(body) if _READS_BYTES else -1
        found = told if told >= 0 else read_whole(body, request.operation == "embeddings")
    if found < 0:
        return None
    written_by = None if principal is None else principal.key_id or principal.user_id
    namespace = "" if request.controls is NO_CONTROLS else request.controls.namespace
    kept = KeptAnswer.__new__(KeptAnswer)
    kept._answer = None
    kept.report = None
    kept.body = body
    kept.operation = request.operation
    kept.scope = request.partition
    kept.model = request.model
    kept.fresh_seconds = fresh_seconds
    kept.keep_seconds = keep_seconds
    kept.is_stream = head.is_stream
    kept.tells_usage = (found & _TELLS_USAGE) != 0
    kept.headers = head.headers
    kept.namespace = namespace
    kept.written_by = written_by
    kept.provider = provider
    kept.response_model = model
    kept.usage = usage
    kept.may_be_stored = may_be_stored and found < _ENDS_BADLY and head.is_stream == request.streams
    kept.size = entry_size(
        body,
        head.headers,
        request.partition,
        request.model,
        namespace,
        written_by,
        provider,
        model,
    )
    return kept


# What is found of an answer: below 0, it is none.
_NO_ANSWER: Final = -1
_TELLS_USAGE: Final = 1
_ENDS_BADLY: Final = 2


def read_whole(body: bytes, is_embedding: bool) -> int:
    """What is found of an answer that is one document."""
    peek: _WholePeek | _Peek
    try:
        peek = whole = _peek_whole(body)
        tells_usage = whole.usage is not None
    except msgspec.ValidationError:
        try:
            peek = other = _peek(body)
        except _UNREADABLE:
            return _NO_ANSWER
        tells_usage = other.usage is not _ABSENT and bytes(other.usage) != b"null"
    except _UNREADABLE:
        return _NO_ANSWER
    if peek.error is not None:
        return _NO_ANSWER
    if peek.choices:
        ends_well = _all_end_well(peek.choices)
    elif is_embedding:
        # Those are kept by item, by who knows the items.
        ends_well = False
    else:
        return _NO_ANSWER
    return _found(ends_well, tells_usage)


def _found(ends_well: bool, tells_usage: bool) -> int:
    return (0 if ends_well else _ENDS_BADLY) | (_TELLS_USAGE if tells_usage else 0)


def _all_end_well(choices: list[_Choice]) -> bool:
    for choice in choices:
        if choice.finish_reason not in _GOOD_ENDS:
            return False
        told = choice.message
        if told is not None and told.audio is not None:
            return False
    return True


def usage_of(answer: StoredAnswer) -> Usage | None:
    """What it took to make an answer: as was noted then, else as it says itself."""
    if answer.usage is None and answer.tells_usage:
        usage = _read_usage(answer)
        if usage is not None:
            # Read once for all who are served with it.
            msgspec.structs.force_setattr(answer, "usage", usage)
    return answer.usage


def _read_usage(answer: StoredAnswer) -> Usage | None:
    try:
        if answer.is_stream:
            return _usage_in_stream(answer.body)
        return _peek_usage(answer.body).usage.to_usage() or _usage_in_body(answer.body)
    except msgspec.ValidationError:
        # Not OpenAI's own object.
        return _usage_in_body(answer.body)
    except _UNREADABLE_USAGE:
        return None


def _usage_in_body(body: bytes) -> Usage | None:
    try:
        return usage_from_openai(msgspec.json.decode(body))
    except _UNREADABLE:
        return None


def _usage_in_stream(body: bytes) -> Usage | None:
    decoder = _sse.Decoder(max_event_bytes=max(1, len(body)))
    for event in reversed([*decoder.feed(body), *decoder.close()]):
        if b'"usage"' in event.data:
            usage = usage_from_openai(event.json())
            if usage is not None:
                return usage
    return None


def _read_stream(body: bytes) -> int:
    """What is found of an answer that is a stream."""
    decoder = _sse.Decoder(max_event_bytes=max(1, len(body)))
    try:
        events = [*decoder.feed(body), *decoder.close()]
    except _sse.SSEError:
        return _NO_ANSWER
    if not events or not events[-1].done:
        return _NO_ANSWER
    ended: dict[int, bool] = {}
    tells_usage = has_recording = False
    for event in events[:-1]:
        try:
            peek = _peek(event.data)
        except _UNREADABLE:
            return _NO_ANSWER
        if peek.error is not None:
            return _NO_ANSWER
        if not tells_usage:
            tells_usage = (
                peek.usage is not _ABSENT and bytes(peek.usage) != b"null"
            ) or b'"usage"' in bytes(peek.x_groq)
        for choice in peek.choices or ():
            reason, told = choice.finish_reason, choice.delta
            if told is not None and told.audio is not None:
                has_recording = True
            if reason is not None:
                ended[choice.index] = reason in _GOOD_ENDS
            elif choice.index not in ended:
                ended[choice.index] = False
    if not ended:
        return _NO_ANSWER
    return _found(not has_recording and all(ended.values()), tells_usage)

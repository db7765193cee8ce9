"""What an answer says of its own usage, and what can be told of one that does not say it.

While it passes, its chunks are only kept; what they hold is looked at when it is over.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from asgi_llm import _sse
from asgi_llm.middleware._cost_quick import tells_tier
from asgi_llm.types import Usage
from asgi_llm.wire.tokens import TokenCounter
from asgi_llm.wire.usage import PlainUsage, usage_from_openai

__all__ = ["AnswerMeter", "Said", "has_usage_event", "simple_events", "usage_event"]

MAX_STREAM_BYTES: Final = 64 * 1024
"""How much of a stream is kept at most; what came before is told by what is kept."""
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""How much of a whole answer is kept at most; of a longer one only the length is known."""

_USAGE: Final = b'"usage"'
_NO_USAGE: Final = (b'"usage":null', b'"usage": null')
_TIER: Final = b'"service_tier"'
_ERROR: Final = b'"error"'
_BORDER: Final = b"\n\n"
_SEARCHES: Final = b'"server_tool_use'
# What stands behind the name of a tier that is none of its own.
_DEFAULT: Final = (b':"default"', b': "default"')
_STANDARD: Final = (*_DEFAULT, b":null", b": null")
_TIER_LENGTH: Final = len(_TIER)
_NO_CHOICES: Final = (b'"choices":[]', b'"choices": []')
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Said(NamedTuple):
    """What an answer says of itself."""

    usage: Usage | None
    service_tier: str | None


_NOTHING: Final = Said(None, None)


class _Inner(msgspec.Struct, gc=False):
    usage: Any = None
    service_tier: Any = None


class _Peek(msgspec.Struct, gc=False):
    """What is read of an answer; the rest, such as a long list of numbers, is skipped."""

    usage: Any = None
    x_groq: Any = None
    service_tier: Any = None
    response: _Inner | None = None
    """Of the last event of ``/v1/responses``."""


class _Choices(msgspec.Struct, gc=False):
    choices: Any = None


class _Error(msgspec.Struct, gc=False):
    error: Any = None


class _EventPeek(msgspec.Struct, gc=False):
    choices: Any = None
    usage: Any = None


class _PlainEvent(msgspec.Struct, gc=False):
    choices: list[Any]
    usage: PlainUsage


_plain_event = msgspec.json.Decoder(_PlainEvent).decode
_peek = msgspec.json.Decoder(_Peek).decode
_choices = msgspec.json.Decoder(_Choices).decode
_error = msgspec.json.Decoder(_Error).decode
_event = msgspec.json.Decoder(_EventPeek).decode


def has_usage_event(chunk: bytes) -> bool:
    """Whether ``chunk`` may hold the event with the usage of an OpenAI stream."""
    return _NO_CHOICES[0] in chunk or _NO_CHOICES[1] in chunk


def simple_events(data: bytes) -> list[bytes] | None:
    """The events of ``data``, where each is one line of data and a blank one, as most are.

    They are what ``_sse.split`` gives, in a tenth of the time; None: there are others among them.
    """
    if b"\r" in data:
        return None
    lines = data.split(b"\n\n")
    if lines.pop():
        return None
    for line in lines:
        if not line.startswith(b"data: ") or b"\n" in line:
            return None
    return [line + b"\n\n" for line in lines]


def usage_event(data: bytes) -> Usage | None:
    """The usage of the event that a stream has for it alone; None: it is another event."""
    try:
        plain = _plain_event(data)
    except _UNREADABLE:
        # Most are as plain as that; what is not is read in full.
        pass
    else:
        said = None if plain.choices else plain.usage.to_usage()
        if said is not None:
            return said
    try:
        event = _event(data)
    except _UNREADABLE:
        return None
    if event.choices != [] or not isinstance(event.usage, dict):
        return None
    return usage_from_openai(event.usage)


class AnswerMeter:
    """Keeps of one answer what its usage can be read from.

    Streaming: holds references to the last 64 KiB of a stream, or to the first 8 MiB of a whole
    answer.

    Args:
        is_stream: Whether it is a stream of events.
        is_json: Whether it is a JSON document.

    Attributes:
        parts: The chunks that are kept. Whoever adds one takes its size from ``room``.
        room: How many bytes more may be kept before ``drop`` is to be called.
    """

    __slots__ = (
        "_dropped",
        "_is_json",
        "_is_stream",
        "_tier",
        "_tier_at",
        "_usage",
        "parts",
        "room",
    )

    def __init__(self, is_stream: bool, is_json: bool) -> None:
        self.parts: list[bytes] = []
        self.room = MAX_STREAM_BYTES if is_stream else MAX_BODY_BYTES
        self._is_stream = is_stream
        self._is_json = is_json
        self._dropped = 0
        self._usage = b""
        # The service tier of a stream, as of so many parts.
        self._tier: str | None = None
        self._tier_at = -1

    def drop(self) -> None:
        """Let go of what is too much to keep."""
        data = b"".join(self.parts)
        kept = b""
        if self._is_stream:
            end = _sse.last_border(data)
            # Without a border this is one event of more than it could be.
            kept = data[end:] if end else b""
            if _told(data[:end]):
                self._usage = data[:end]
        self.parts = [kept] if kept else []
        self._tier_at = -1
        self.room = (MAX_STREAM_BYTES if self._is_stream else MAX_BODY_BYTES) - len(kept)
        self._dropped += len(data) - len(kept)

    def _body(self) -> bytes | None:
        """A whole JSON answer; None where it is none, or too long to be kept."""
        if not self._is_json or self._dropped:
            return None
        parts = self.parts
        if len(parts) != 1:
            parts[:] = [b"".join(parts)]
        return parts[0]

    def document(self) -> Any:
        """A whole JSON answer, parsed; None where there is none that can be read."""
        body = self._body()
        try:
            return None if body is None else msgspec.json.decode(body)
        except _UNREADABLE:
            return None

    def has_searches(self) -> bool:
        """Whether the answer may tell of searches that the provider ran for it."""
        if self._is_json:
            for part in self.parts:
                if part.rfind(_SEARCHES) >= 0:
                    return True
        return False

    def only(self) -> bytes:
        """A whole JSON answer that came in one piece; empty where it is none."""
        parts = self.parts
        return parts[0] if self._is_json and not self._dropped and len(parts) == 1 else b""

    def said(self) -> Said:
        """What the answer says of its usage and of how it was served."""
        if self._is_stream:
            return self._in_stream()
        body = self._body()
        return _read(body) if body is not None and (_told(body) or _TIER in body) else _NOTHING

    def service_tier(self) -> str | None:
        """How the answer says that it was served, for an answer whose usage need not be read."""
        if not self._is_stream:
            if not self._is_json:
                return None
            body = self.parts[0] if len(self.parts) == 1 and not self._dropped else self._body()
            if body is None or (at := body.rfind(_TIER)) < 0:
                return None
            if body.startswith(_STANDARD, at + _TIER_LENGTH) and body.rfind(_TIER, 0, at) < 0:
                # It is all that is said of a tier, wherever it stands: nothing has to be parsed.
                return "default" if body.startswith(_DEFAULT, at + _TIER_LENGTH) else None
            return _read(body).service_tier
        if self._tier_at != len(self.parts):
            self._tier, self._tier_at = self._tier_in_stream(), len(self.parts)
        return self._tier

    def _tier_in_stream(self) -> str | None:
        for data in (b"".join(self.parts), self._usage):
            end = len(data) if tells_tier(data) else 0
            while (at := data.rfind(_TIER, 0, end)) >= 0:
                # The event that it stands in; all of them, where their borders are others.
                end = max(0, data.rfind(_BORDER, 0, at))
                border = data.find(_BORDER, at)
                for event in reversed(_events(data[end : None if border < 0 else border])):
                    tier = _read(event).service_tier
                    if tier is not None:
                        return tier
        return None

    def _in_stream(self) -> Said:
        data = b"".join(self.parts)
        if not _told(data):
            data = self._usage
        tier = None
        for event in reversed(_events(data)):
            if _told(event) or (tier is None and _TIER in event):
                said = _read(event)
                tier = tier or said.service_tier
                if said.usage is not None:
                    return Said(said.usage, tier)
        return Said(None, tier)

    def error_code(self) -> str | None:
        """Why a stream broke off, as its last event says; None where it did not."""
        if not self._is_stream or not any(_ERROR in part for part in self.parts[-2:]):
            return None
        for event in _events(b"".join(self.parts[-2:])):
            try:
                error = _error(event).error
            except _UNREADABLE:
                continue
            if isinstance(error, dict):
                code = error.get("code")
                return code if isinstance(code, str) else "error"
        return None

    async def count(self, counter: TokenCounter, model: str, input_tokens: int) -> Usage:
        """The usage by what came of the answer, for one that does not say it."""
        data = b"".join(self.parts)
        texts: list[str] = []
        deltas = output = 0
        if self._is_stream:
            for event in _events(data):
                deltas += _add_texts(event, texts)
        elif self._is_json and not self._dropped:
            _add_texts(data, texts)
        elif not self._is_json:
            # Compressed, for one: its length is all that is known.
            output = len(data) // 4
        if texts:
            counted = await counter.count({"prompt": "".join(texts)}, model)
            # A piece of a stream is a token or more.
            output = max(counted.tokens, deltas)
        if self._dropped:
            share = output / len(data) if len(data) > 1024 else 0.25
            output += int(self._dropped * share)
        return Usage(input_uncached=input_tokens, output_text=output, estimated=True)


def _told(data: bytes) -> bool:
    """Whether there may be a usage in ``data``, and not only the word that there is none."""
    said = data.count(_USAGE)
    return said > 0 and said > sum(map(data.count, _NO_USAGE))


def _events(data: bytes) -> list[bytes]:
    decoder = _sse.Decoder()
    try:
        return [event.data for event in (*decoder.feed(data), *decoder.close())]
    except _sse.SSEError:
        return []


def _read(data: bytes) -> Said:
    try:
        peek = _peek(data)
    except _UNREADABLE:
        return _NOTHING
    usage, tier = peek.usage, peek.service_tier
    if peek.response is not None:
        usage, tier = usage or peek.response.usage, tier or peek.response.service_tier
    if not isinstance(tier, str):
        tier = None
    if usage is None and peek.x_groq is None:
        return Said(None, tier)
    return Said(usage_from_openai({"usage": usage, "x_groq": peek.x_groq}), tier)


def _add_texts(data: bytes, texts: list[str]) -> int:
    """Add what the choices of an answer, or of an event, say; how many of them say something."""
    try:
        choices = _choices(data).choices
    except _UNREADABLE:
        return 0
    speaking = 0
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        before = len(texts)
        left: list[Any] = [choice.get(name) for name in ("message", "delta", "text")]
        while left:
            one = left.pop()
            if isinstance(one, str):
                if one:
                    texts.append(one)
            elif isinstance(one, list):
                left += reversed(one)
            elif isinstance(one, dict):
                left += [value for name, value in one.items() if name not in _NO_TEXT]
        speaking += len(texts) > before
    return speaking


_NO_TEXT: Final = frozenset(("role", "id", "type", "index", "obfuscation", "annotations"))

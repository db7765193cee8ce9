"""Thoughts that a model writes into its text, between ``<think>`` and ``</think>``, taken out.

Only on demand (the quirk ``think_tags``): the same characters may also be a plain answer.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm import _sse
from asgi_llm.errors import ProviderError
from asgi_llm.providers.base import StreamDecoder
from asgi_llm.types import Usage

__all__ = ["ThinkSplitter", "ThinkTagStream", "split_answer"]

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"

# A model that loses its way may write blanks without end, which must not all be held back.
_MAX_BLANKS: Final = 64

_BEFORE, _OPENED, _WITHIN, _CLOSED, _AFTER = range(5)


class ThinkSplitter:
    """Splits the text of one choice, at any cut of it.

    White space before the tag (up to 64 characters), after it and after the closing tag is left
    out. A text that does not begin with the tag stays as it is, white space included. Without a
    closing tag all is thought.

    Streaming: holds back what may be the beginning of a tag, and white space at those places.
    """

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._held = ""
        self._state = _BEFORE

    @property
    def settled(self) -> bool:
        """Whether all that follows is text."""
        return self._state == _AFTER

    def feed(self, text: str) -> tuple[str, str]:
        """The thoughts, and the text, that are certain after ``text``."""
        if self._state == _AFTER:
            return "", text
        text = self._held + text
        self._held = ""
        if self._state == _BEFORE:
            begun = text.lstrip()
            few_blanks = len(text) - len(begun) <= _MAX_BLANKS
            if not (few_blanks and begun.startswith(_OPEN)):
                if few_blanks and _OPEN.startswith(begun):
                    self._held = text
                    return "", ""
                self._state = _AFTER
                return "", text
            self._state = _OPENED
            text = begun[len(_OPEN) :]
        if self._state == _OPENED:
            text = text.lstrip()
            if not text:
                return "", ""
            self._state = _WITHIN
        thoughts = ""
        if self._state == _WITHIN:
            thoughts, tag, text = text.partition(_CLOSE)
            if not tag:
                kept = len(thoughts) - _overlap(thoughts)
                self._held = thoughts[kept:]
                return thoughts[:kept], ""
            self._state = _CLOSED
        text = text.lstrip()
        if text:
            self._state = _AFTER
        return thoughts, text

    def close(self) -> tuple[str, str]:
        """The thoughts, and the text, that were held back; nothing follows."""
        held, self._held = self._held, ""
        within = self._state == _WITHIN
        self._state = _AFTER
        return (held, "") if within else ("", held)


def _overlap(text: str) -> int:
    """How many characters at the end of ``text`` may begin the closing tag."""
    for size in range(min(len(text), len(_CLOSE) - 1), 0, -1):
        if _CLOSE.startswith(text[-size:]):
            return size
    return 0


class _Message(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None


class _Choice(msgspec.Struct):
    index: int | None = None
    message: msgspec.Raw = msgspec.Raw(b"null")
    delta: msgspec.Raw = msgspec.Raw(b"null")
    finish_reason: Any = None


class _Body(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None


_Fields = dict[str, msgspec.Raw]

_fields = msgspec.json.Decoder(_Fields).decode
_body = msgspec.json.Decoder(_Body).decode
_choice = msgspec.json.Decoder(_Choice).decode
_message = msgspec.json.Decoder(_Message | None).decode
_encode = msgspec.json.Encoder().encode


def split_answer(body: bytes) -> bytes:
    """A whole chat answer with its thoughts in ``reasoning_content``.

    What is not changed keeps its bytes; the very ``body`` comes back where nothing is.
    """
    try:
        choices = _body(body).choices or []
        changed = [_split_choice(raw) for raw in choices]
        if all(after is before for before, after in zip(choices, changed, strict=True)):
            return body
        return _encode({**_fields(body), "choices": changed})
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Not in the form of a chat; it passes as it came.
        return body


def _split_choice(raw: msgspec.Raw) -> msgspec.Raw:
    data = _choice(raw).message
    message = _message(data)
    if message is None or not isinstance(message.content, str):
        return raw
    splitter = ThinkSplitter()
    thoughts, text = splitter.feed(message.content)
    more, rest = splitter.close()
    if text + rest == message.content:
        return raw
    return _with(raw, "message", _edited(data, message, thoughts + more, text + rest))


def _with(raw: msgspec.Raw, name: str, value: dict[str, Any]) -> msgspec.Raw:
    """The object ``raw`` with another value for ``name``."""
    return msgspec.Raw(_encode({**_fields(raw), name: value}))


def _edited(data: msgspec.Raw, message: _Message, thoughts: str, text: str) -> dict[str, Any]:
    """A message or a delta with ``text``, and ``thoughts`` after those that it has."""
    fields: dict[str, Any] = {**_fields(data), "content": text}
    if thoughts:
        known = message.reasoning_content
        fields["reasoning_content"] = (known if isinstance(known, str) else "") + thoughts
    return fields


class ThinkTagStream:
    """A stream of the OpenAI format with its thoughts in ``reasoning_content``.

    Args:
        inner: Decides what passes and how the stream ends; its events are rewritten until the text
            of each choice has begun.
        choices: How many choices the answer has.

    Streaming: holds back what ``inner`` does, and what ``ThinkSplitter`` does.
    """

    __slots__ = ("_choices", "_head", "_inner", "_splitters", "done", "error", "usage")

    def __init__(self, inner: StreamDecoder, *, choices: int = 1) -> None:
        self._inner = inner
        self._choices = choices
        self._splitters: dict[int, ThinkSplitter] = {}
        self._head: _Fields = {}
        self.done = False
        self.error: ProviderError | None = None
        self.usage: Usage | None = None

    @property
    def output_characters(self) -> int:
        """See ``StreamDecoder``."""
        return self._inner.output_characters

    def feed(self, chunk: bytes) -> bytes:
        """See ``StreamDecoder``."""
        return self._rewritten(self._inner.feed(chunk))

    def close(self, *, framed: bool = True) -> bytes:
        """See ``StreamDecoder``."""
        return self._rewritten(self._inner.close(framed=framed))

    def _rewritten(self, events: bytes) -> bytes:
        inner = self._inner
        self.done, self.error, self.usage = inner.done, inner.error, inner.usage
        if not events or self._settled():
            return events
        out: list[bytes] = []
        for raw, event in _sse.split(events):
            if event is None:
                out.append(raw)
            elif event.done:
                out += [*self._left_over(), raw]
            else:
                out.append(self._event(raw, event.data))
        return b"".join(out)

    def _settled(self) -> bool:
        splitters = self._splitters
        return len(splitters) >= self._choices and all(
            splitter.settled for splitter in splitters.values()
        )

    def _event(self, raw: bytes, data: bytes) -> bytes:
        try:
            choices = _body(data).choices
            if not choices:
                return raw
            changed = [self._split_delta(one) for one in choices]
            self._head = _fields(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # Not in the form of a chunk; it passes as it came.
            return raw
        if all(after is before for before, after in zip(choices, changed, strict=True)):
            return raw
        return _sse.encode(_encode({**self._head, "choices": changed}))

    def _split_delta(self, raw: msgspec.Raw) -> msgspec.Raw:
        choice = _choice(raw)
        delta = _message(choice.delta)
        if delta is None:
            return raw
        content = delta.content
        splitter = self._splitters.setdefault(choice.index or 0, ThinkSplitter())
        thoughts, text = splitter.feed(content) if isinstance(content, str) else ("", "")
        if choice.finish_reason:
            more, rest = splitter.close()
            thoughts, text = thoughts + more, text + rest
        if text == (content or "") and not thoughts:
            return raw
        return _with(raw, "delta", _edited(choice.delta, delta, thoughts, text))

    def _left_over(self) -> list[bytes]:
        """What choices without a finish reason held back, as an event of its own."""
        rows: list[dict[str, Any]] = []
        for index, splitter in sorted(self._splitters.items()):
            thoughts, text = splitter.close()
            if thoughts or text:
                delta = {"reasoning_content": thoughts} if thoughts else {"content": text}
                rows.append({"index": index, "delta": delta, "finish_reason": None})
        return [_sse.encode(_encode({**self._head, "choices": rows}))] if rows else []

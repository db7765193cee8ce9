"""Mistral's answers as OpenAI's: the few of them, and the few events, that differ.

What is as OpenAI has it keeps its bytes; of the rest, every field that is not about the difference
does. Whole answers and streams go through the same functions.

Source: Mistral AI API reference, "Chat" and "Reasoning", and recorded answers; November 2026.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from asgi_llm import _sse
from asgi_llm.errors import ProviderError, ProviderUnavailableError
from asgi_llm.providers._mistral_messages import OWN_BLOCK
from asgi_llm.providers._native import malformed
from asgi_llm.providers.base import StreamDecoder
from asgi_llm.types import Document, Usage

__all__ = ["MistralStream", "plain_answer"]

_Fields = dict[str, msgspec.Raw]
_NULL: Final = msgspec.Raw(b"null")


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: msgspec.Raw = _NULL


class _Call(msgspec.Struct):
    id: str | None = None
    type: str | None = None
    index: int | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    content: msgspec.Raw = _NULL
    tool_calls: msgspec.Raw = _NULL


class _Choice(msgspec.Struct):
    index: int | None = None
    finish_reason: str | None = None
    message: _Message | None = None
    delta: _Message | None = None


class _Body(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None


_body: Final = msgspec.json.Decoder(_Body).decode
_choice: Final = msgspec.json.Decoder(_Choice).decode
_fields: Final = msgspec.json.Decoder(_Fields).decode
_calls: Final = msgspec.json.Decoder(list[_Call] | None).decode
_rows: Final = msgspec.json.Decoder(list[_Fields]).decode
_parts: Final = msgspec.json.Decoder(list[dict[str, Any]]).decode
_encode: Final = msgspec.json.Encoder().encode

# Words of OpenAI's pass; of Mistral's, "error" is none of them and is handled by itself.
_FINISH: Final[Mapping[str, str]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "model_length": "length",
}


def plain_answer(body: bytes, provider: str, *, legacy: bool = False) -> bytes:
    """A whole answer as OpenAI has it; the very ``body`` where it is so.

    Args:
        body: As it came.
        provider: The provider's name here, for errors.
        legacy: The client knows functions and no tools: see ``_legacy_functions``.

    Raises:
        ProviderUnavailableError: Mistral says that it failed.
    """
    try:
        choices = _body(body).choices or []
        changed = [
            _Edits(provider, streamed=False, legacy=legacy).choice(raw, _choice(raw))
            for raw in choices
        ]
        if all(after is before for before, after in zip(choices, changed, strict=True)):
            return body
        return _encode({**_fields(body), "choices": changed})
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Not in the form of a chat; it passes as it came.
        return body


_PLAIN: Final = frozenset(("stop", "tool_calls"))


class _Edits:
    """What is known of one choice while its pieces are looked at.

    Args:
        provider: The provider's name here, for errors.
        streamed: The pieces are those of a stream.
        legacy: The client knows functions and no tools.
    """

    __slots__ = ("_called", "_last", "_legacy", "_places", "_provider", "_streamed")

    def __init__(self, provider: str, *, streamed: bool, legacy: bool) -> None:
        self._provider = provider
        self._streamed = streamed
        self._legacy = legacy
        self._places: dict[int, tuple[str | None, int]] = {}  # their index: id, our index
        self._last = 0
        self._called = 0

    def choice(self, raw: msgspec.Raw, known: _Choice) -> msgspec.Raw:
        """The choice, or a piece of it, as OpenAI has it; the very ``raw`` where it is so.

        Args:
            raw: As it came.
            known: What is read of it.
        """
        where, message = ("delta", known.delta) if self._streamed else ("message", known.message)
        fields = None if message is None else self._message(message)
        finish = None if known.finish_reason is None else self._finish(known.finish_reason)
        if not fields and not finish:
            return raw
        edited: Document = dict(_fields(raw))
        if fields:
            edited[where] = {**_fields(edited[where]), **fields}
            if self._legacy:
                edited[where].pop("tool_calls", None)
        if finish:
            edited.update(finish)
        return msgspec.Raw(_encode(edited))

    def _message(self, message: _Message) -> Document:
        fields: Document = {}
        if bytes(message.content).startswith(b"["):
            fields = _content_fields(_parts(message.content), streamed=self._streamed)
        if message.tool_calls is not _NULL and (calls := _calls(message.tool_calls)):
            places, edits = zip(*map(self._call, calls), strict=True)
            rows = _rows(message.tool_calls) if self._legacy or any(edits) else []
            changed = [{**row, **edit} for row, edit in zip(rows, edits, strict=bool(rows))]
            if self._legacy:
                # There is a place for one call.
                first = next((row for row, at in zip(changed, places, strict=True) if at == 0), {})
                fields["function_call"] = first.get("function")
            elif changed:
                fields["tool_calls"] = changed
        return fields

    def _call(self, call: _Call) -> tuple[int, Document]:
        """The index of a call, and what of it, or of the piece of it, has to be otherwise."""
        edit: Document = {}
        function = call.function or _Function()
        known = self._places.get(self._last if call.index is None else call.index)
        begins = bool(function.name) and (known is None or known[0] != call.id)
        if begins or known is None or not self._streamed:
            ours = self._called
            self._called += 1
            self._last = ours if call.index is None else call.index
            self._places[self._last] = call.id, ours
            if call.id is None or call.id == _NO_ID:
                edit["id"] = os.urandom(5).hex()[:9]
            if call.type is None:
                edit["type"] = "function"
        else:
            ours = known[1]
        if self._streamed and call.index != ours:
            edit["index"] = ours
        arguments = bytes(function.arguments)
        if not arguments.startswith(b'"'):
            text = "" if arguments == b"null" else arguments.decode()
            named = {"name": function.name} if function.name is not None else {}
            edit["function"] = {**named, "arguments": text}
        return ours, edit

    def _finish(self, word: str) -> Document:
        if word == "error":
            raise ProviderUnavailableError(
                f"The provider {self._provider!r} broke its answer off with an error."
            )
        ours = _FINISH.get(word, "stop")
        if ours == "stop" and self._called:
            ours = "tool_calls"
        if ours == "tool_calls" and self._legacy:
            ours = "function_call"
        fields: Document = {} if ours == word else {"finish_reason": ours}
        if fields and word not in _PLAIN:
            fields["native_finish_reason"] = word
        return fields


# What Mistral's own SDK has for a call without an id.
_NO_ID: Final = "null"


def _content_fields(parts: list[dict[str, Any]], *, streamed: bool) -> Document:
    """Fields of a message whose content came in parts."""
    texts: list[str] = []
    thoughts: list[str] = []
    signed: list[Document] = []
    others: list[dict[str, Any]] = []
    for part in parts:
        kind = part.get("type")
        if kind == "text":
            texts.append(_text(part))
        elif kind == "thinking":
            thought = _thought(part.get("thinking"))
            thoughts.append(thought)
            if signature := part.get("signature"):
                signed.append(
                    {
                        "type": "thinking",
                        "thinking": thought,
                        "signature": signature,
                        "provider": OWN_BLOCK,
                    }
                )
        else:
            others.append(part)
    text = "".join(texts)
    fields: Document = {"content": text if text or not streamed else None}
    if any(thoughts):
        fields["reasoning_content"] = "".join(thoughts)
    if signed:
        fields["thinking_blocks"] = signed
    if others:
        fields["content_parts"] = others
    return fields


def _thought(given: Any) -> str:
    """A string, or a list of texts among which references may stand."""
    if isinstance(given, list):
        return "".join(_text(part) for part in given if isinstance(part, dict))
    return given if isinstance(given, str) else ""


def _text(part: dict[str, Any]) -> str:
    text = part.get("text")
    if isinstance(text, str | None):
        return text or ""
    raise malformed()


_CR: Final = ord("\r")


def _is_one_event(events: bytes) -> bool:
    """Whether it is a single line of data, as nearly every chunk is."""
    return (
        events.startswith(b"data: {")
        and events.find(b"\n") == len(events) - 2
        and _CR not in events
    )


class MistralStream:
    """Rewrites what differs in a stream that passes otherwise.

    Args:
        inner: Passes it, and says how it ended.
        choices: How many there are.
        include_usage: The client asked for a chunk with the usage, which Mistral has in its last
            one with content.
        provider: The provider's name here, for errors.
        legacy: The client knows functions and no tools.

    Streaming: holds nothing back that ``inner`` does not.
    """

    __slots__ = (
        "_edits",
        "_include_usage",
        "_inner",
        "_legacy",
        "_provider",
        "_several",
        "_usage_chunk",
        "done",
        "error",
        "usage",
    )

    def __init__(
        self,
        inner: StreamDecoder,
        *,
        choices: int,
        include_usage: bool,
        provider: str,
        legacy: bool = False,
    ) -> None:
        self._inner = inner
        self._include_usage = include_usage
        self._provider = provider
        self._legacy = legacy
        self._several = choices > 1
        self._edits: dict[int, _Edits] = {}
        self._usage_chunk = b""
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
        if self.error is None:
            self.done, self.error, self.usage = inner.done, inner.error, inner.usage
        if not events:
            return events
        # Parts have a type, and the finish of the last choice comes when the stream is done; within
        # a text the quotes would be escaped.
        if (
            b'"type"' not in events
            and b'"tool_calls"' not in events
            and not inner.done
            and not self._several
        ):
            return events
        out: list[bytes] = []
        try:
            if not inner.done and _is_one_event(events):
                return self._event(events, events[6:-2])
            for raw, event in _sse.split(events):
                if event is None:
                    out.append(raw)
                elif event.done:
                    out += (self._usage_chunk, raw)
                    self._usage_chunk = b""
                else:
                    out.append(self._event(raw, event.data))
        except ProviderError as error:
            self.done, self.error = False, error
        if self.done and self._usage_chunk:
            out.append(self._usage_chunk)
        return b"".join(out)

    def _event(self, raw: bytes, data: bytes) -> bytes:
        try:
            choices = _body(data).choices
            if not choices:
                return raw
            changed = [self._edit(one) for one in choices]
            same = all(after is before for before, after in zip(choices, changed, strict=True))
            wants_chunk = self._include_usage and b'"usage"' in data
            if same and not wants_chunk:
                return raw
            fields = _fields(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # Not in the form of a chunk; it passes as it came.
            return raw
        usage = fields.pop("usage", None) if wants_chunk else None
        if usage is not None and bytes(usage) != b"null":
            chunk = {**fields, "choices": [], "usage": usage}
            self._usage_chunk = _sse.encode(_encode(chunk))
        return _sse.encode(_encode({**fields, "choices": changed}))

    def _edit(self, raw: msgspec.Raw) -> msgspec.Raw:
        known = _choice(raw)
        index = known.index or 0
        edits = self._edits.get(index)
        if edits is None:
            edits = self._edits[index] = _Edits(self._provider, streamed=True, legacy=self._legacy)
        return edits.choice(raw, known)

"""An OpenAI stream on its way from upstream to the client: what may pass, and when it is whole."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm import _sse
from asgi_llm.errors import ProviderError, ProviderUnavailableError
from asgi_llm.providers._errors import parse_stream_error
from asgi_llm.types import Usage
from asgi_llm.wire.usage import usage_from_openai

__all__ = ["PassThroughStream"]


class PassThroughStream:
    """Passes an OpenAI stream on as it came, and tells a finished stream from one that broke off.

    A chunk whose events finish nothing is passed as the very object that came. Each event is parsed
    for the few fields that decide about it, which also keeps broken JSON from the client.

    Args:
        choices: How many choices the answer has.
        done_optional: The provider ends without ``[DONE]``.
        finish_reason_optional: ``[DONE]`` finishes a stream that gave no finish reason.
        provider: Name of the provider, for messages.
        secrets: Strings that no error may show.
        max_event_bytes: Cap on one event.

    Streaming: holds back an unfinished event, and everything from the event that finishes the last
    choice on, until ``[DONE]`` or the end of the body. Where a finish reason is optional, an event
    with usage waits for the next one.
    """

    __slots__ = (
        "_choices",
        "_done_optional",
        "_finish_reason_optional",
        "_finished",
        "_held",
        "_max",
        "_parts",
        "_passed",
        "_provider",
        "_secrets",
        "_size",
        "_tail",
        "done",
        "error",
        "usage",
    )

    def __init__(
        self,
        *,
        choices: int = 1,
        done_optional: bool = False,
        finish_reason_optional: bool = False,
        provider: str = "",
        secrets: tuple[str, ...] = (),
        max_event_bytes: int = _sse.MAX_EVENT_BYTES,
    ) -> None:
        self._choices = choices
        self._done_optional = done_optional
        self._finish_reason_optional = finish_reason_optional
        self._provider = provider
        self._secrets = secrets
        self._max = max_event_bytes
        self._parts: list[bytes] = []  # an event without its end
        self._size = 0
        self._tail = b""  # the last bytes of _parts, where a border may begin
        self._held: list[bytes] = []
        self._passed = 0
        self._finished: set[int] = set()
        self.done = False
        self.error: ProviderError | None = None
        self.usage: Usage | None = None

    @property
    def output_characters(self) -> int:
        """A guess from the number of events, most of which hold one token."""
        return self._passed * 4

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to send now; the very ``chunk`` in the plain case."""
        if self.done or self.error is not None:
            return b""
        self._passed += 1
        if (
            not self._parts
            and not self._held
            and chunk.endswith(b"}\n\n")
            and chunk.startswith(b"data: {")
            and chunk.find(b"\n") == len(chunk) - 2
            and _CR not in chunk
        ):
            # One event, as most servers write them: what ``_is_plain`` does, without the calls.
            try:
                event = _peek_event(chunk[6:-2])
            except _UNREADABLE:
                return self._inspect(chunk)
            choices = event.choices
            if (
                (not choices or (len(choices) == 1 and not choices[0].finish_reason))
                and not event.usage
                and not event.error
                and not event.x_groq
            ):
                return chunk
            return self._inspect(chunk)
        if self._parts:
            if not _sse.has_border(self._tail + chunk):
                self._keep(chunk)
                return b""
            self._parts.append(chunk)
            chunk = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
        if not chunk.endswith(b"\n\n"):
            border = _sse.last_border(chunk)
            if border < len(chunk):
                self._keep(chunk[border:])
                chunk = chunk[:border]
        # What was put together may be an event over the cap, which is seen where it is looked into.
        if not self._held and len(chunk) <= self._max and _is_plain(chunk):
            return chunk
        return self._inspect(chunk)

    def close(self, *, framed: bool = True) -> bytes:
        """The held-back end, or none of it and an ``error``."""
        if self._is_over():
            return b""
        out = b""
        if self._parts:
            # Some servers leave out the last blank line.
            last = b"".join(self._parts)
            self._parts.clear()
            out = self._inspect(last.rstrip(b"\r\n") + b"\n\n")
        if self._is_over():
            return out
        if len(self._finished) >= self._choices and (framed or self._done_optional):
            self.done = True
            return out + self._release()
        self._fail(_truncated())
        return out

    def _is_over(self) -> bool:
        return self.done or self.error is not None

    def _keep(self, rest: bytes) -> None:
        if not rest:
            return
        self._size += len(rest)
        if self._size > self._max:
            self._parts.clear()
            self._fail_over_cap()
            return
        self._parts.append(rest)
        self._tail = (self._tail + rest)[-3:] if len(self._parts) > 1 else rest[-3:]

    def _inspect(self, chunk: bytes) -> bytes:
        """Look into each event of ``chunk``, which holds whole events only."""
        out: list[bytes] = []
        try:
            for raw, event in _sse.split(chunk, self._max):
                if event is None:
                    (self._held if self._held else out).append(raw)
                    continue
                if event.done:
                    if not self._finished and not self._finish_reason_optional:
                        self._fail(_truncated())
                    else:
                        self.done = True
                        out += [*self._held, raw]
                        self._held.clear()
                    break
                known = self.usage
                try:
                    self._look(event.json())
                except _sse.SSEError:
                    self._fail(
                        ProviderUnavailableError(
                            "The provider sent an event that cannot be read.",
                            code="invalid_provider_response",
                        )
                    )
                if self.error is not None:
                    break
                finishing = len(self._finished) >= self._choices
                if self._held and not finishing:
                    out += self._held
                    self._held.clear()
                # Where nothing but the end mark finishes a stream, usage may be all that is before.
                may_finish = self._finish_reason_optional and self.usage is not known
                (self._held if finishing or may_finish else out).append(raw)
        except _sse.SSEError:
            # Of ``split``: what cannot be read is seen to above.
            self._fail_over_cap()
        return out[0] if len(out) == 1 else b"".join(out)

    def _look(self, data: Any) -> None:
        if not isinstance(data, dict):
            raise _sse.SSEError
        if data.get("error"):
            self._fail(parse_stream_error(data, secrets=self._secrets, provider=self._provider))
            return
        choices = data.get("choices") or []
        groq = data.get("x_groq") or {}
        if not isinstance(choices, list) or not isinstance(groq, dict):
            raise _sse.SSEError
        for choice in choices:
            if isinstance(choice, dict) and choice.get("finish_reason"):
                index = choice.get("index") or 0
                if isinstance(index, (list, dict)):
                    raise _sse.SSEError
                self._finished.add(index)
        usage = data.get("usage") or groq.get("usage")
        if usage:
            # Usage on several events is cumulative: the last one counts.
            self.usage = usage_from_openai(usage) or self.usage

    def _fail_over_cap(self) -> None:
        self._fail(
            ProviderUnavailableError(
                f"The provider sent an event of more than {self._max} bytes.",
                code="invalid_provider_response",
            )
        )

    def _release(self) -> bytes:
        held = b"".join(self._held)
        self._held.clear()
        return held

    def _fail(self, error: ProviderError) -> None:
        self.error = error
        self._held.clear()


class _ChoicePeek(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _EventPeek(msgspec.Struct, gc=False):
    """What decides whether an event may pass unseen; the rest is skipped, but must be JSON."""

    choices: list[_ChoicePeek] | None = None
    usage: Any = None
    x_groq: Any = None
    error: Any = None


_peek_event = msgspec.json.Decoder(_EventPeek).decode


_CR: Final = ord("\r")
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _is_plain(chunk: bytes) -> bool:
    """Whether ``chunk`` holds but events that are well-formed and finish nothing."""
    if _CR in chunk or not chunk.endswith(b"}\n\n") or not chunk.startswith(b"data: {"):
        return False
    if chunk.find(b"\n") == len(chunk) - 2:
        return _finishes_nothing(chunk[6:-2])
    return all(
        block.startswith(b"data: {") and b"\n" not in block and _finishes_nothing(block[6:])
        for block in chunk[:-2].split(b"\n\n")
    )


def _finishes_nothing(data: bytes) -> bool:
    try:
        event = _peek_event(data)
    except _UNREADABLE:
        return False
    if event.usage or event.error or event.x_groq:
        return False
    choices = event.choices
    if not choices:
        return True
    if len(choices) == 1:
        return not choices[0].finish_reason
    return not any(choice.finish_reason for choice in choices)


def _truncated() -> ProviderUnavailableError:
    return ProviderUnavailableError(
        "The provider's stream ended before it was finished.", code="stream_truncated"
    )

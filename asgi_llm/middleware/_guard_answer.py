"""The answer of an app that is guarded: held until it is judged, or let through as far as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm._asgi import send_error, stream_error
from asgi_llm._sending import send_both
from asgi_llm.errors import ProviderUnavailableError
from asgi_llm.middleware._guard_checks import UNREADABLE, Hit
from asgi_llm.middleware._guard_content import content_of
from asgi_llm.middleware._guard_guarding import Blocked, Guarding
from asgi_llm.middleware._guard_lane import Lane
from asgi_llm.middleware._guard_outcome import publish, refusal, verdict_header
from asgi_llm.middleware._guard_sending import (
    NOTHING,
    Refused,
    holds_text,
    is_refusal,
    with_length,
)
from asgi_llm.middleware._guard_shared import Guarded
from asgi_llm.middleware._guard_stream import GuardedStream
from asgi_llm.middleware._guard_whole import Found
from asgi_llm.middleware._guard_whole_answer import judge_answer
from asgi_llm.state import FAILURE

__all__ = ["GuardedAnswer", "to_answer"]

_JSON: Final = b"application/json"
_MEDIA_LENGTH: Final = len("content-type")
_CODING_LENGTH: Final = len("content-encoding")


def to_answer(guarded: Guarded, send: Send) -> GuardedAnswer:
    """``GuardedAnswer(guarded, send)``, in less time."""
    answer = GuardedAnswer.__new__(GuardedAnswer)
    answer._set_up(guarded, send)
    return answer


class GuardedAnswer:
    """The ``send`` of an app whose answer is guarded.

    Args:
        guarded: What it shares with the request.
        send: The client's.
        gate: Nothing leaves before it is done; what it gives is what the request was refused for.
        may_retry: Whether the app may be asked once more.

    Attributes:
        held: What waits until the whole answer has been judged.
        wants_retry: Whether it is to be.

    Streaming: see ``GuardedStream``. Other answers are held until they are whole.
    """

    __slots__ = (
        "_gate",
        "_guarded",
        "_is_whole",
        "_may_retry",
        "_parts",
        "_refused",
        "_send",
        "_size",
        "_stream",
        "held",
        "wants_retry",
    )

    def __init__(
        self,
        guarded: Guarded,
        send: Send,
        *,
        gate: asyncio.Task[Found | None] | None = None,
        may_retry: bool = False,
    ) -> None:
        self._set_up(guarded, send)
        self._gate = gate
        self._may_retry = may_retry

    def _set_up(self, guarded: Guarded, send: Send) -> None:
        self._guarded = guarded
        self._send = send
        self._gate = None
        self._may_retry = False
        # Most apps send a start and one body.
        self.held: tuple[Message, ...] = ()
        self._parts: list[bytes] | None = None
        self._is_whole = False
        self._stream: GuardedStream | None = None
        self._refused = False
        self.wants_retry = False

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run ``app``; what it raises because it was refused ends here."""
        try:
            await app(scope, receive, self)
        except Exception as error:
            if not await self.is_over(error):
                raise
        if self.held:
            await self.let_go()

    async def is_over(self, error: Exception) -> bool:
        """Whether what the app raised is no more than that it was refused."""
        if self._refused and is_refusal(error):
            return True
        await self.let_go()
        return False

    def __call__(self, message: Message) -> Awaitable[None]:
        return self._take_now(message if type(message) is dict else dict(message))

    def _take_now(self, message: dict[str, Any]) -> Awaitable[None]:
        """Take a message; most need no more than to be held, or handed on."""
        kind = message["type"]
        stream = self._stream
        if stream is not None:
            if kind == "http.response.body":
                if not message.get("more_body", False):
                    return self._feed(stream, message, None)
                taken = stream.swallow(message.get("body", b""))
                if taken is True:
                    return NOTHING
                if type(taken) is bytes:
                    return self._send({**message, "body": taken}) if taken else NOTHING
                return self._feed(stream, message, cast("Lane | None", taken or None))
        elif not self._refused and self._gate is None:
            if kind == "http.response.body":
                if (
                    self._is_whole
                    and self._parts is None
                    and self._guarded.notes_if_any is None
                    and not message.get("more_body", False)
                ):
                    held = self.held
                    if len(held) == 1 and self._is_clean(message.get("body", b"")):
                        self.held = ()
                        self._is_whole = False
                        return send_both(self._send, held[0], message)
                    return self._collect(message, may_be_clean=len(held) != 1)
            elif kind == "http.response.start":
                start = self._start(message)
                if not self._is_whole:
                    return self._send(start)
                self.held = (start,)
                return NOTHING
        return self._take(message)

    async def _take(self, message: Message) -> None:
        if self._refused:
            raise Refused
        if self._gate is not None:
            await self._pass_gate(self._gate)
        kind = message["type"]
        if kind == "http.response.body":
            if self._is_whole:
                await self._collect(message)
                return
        elif kind == "http.response.start":
            message = self._start(message)
            if self._is_whole:
                self.held = (message,)
                return
        elif self.held:
            if kind in _BODY_BY_OTHER_MEANS:
                # What is not sent as a body is not seen here.
                await self.let_go()
            else:
                self.held = (*self.held, message)
                return
        await self._send(message)

    async def _pass_gate(self, gate: asyncio.Task[Found | None]) -> None:
        # The task is also waited for by whoever started it.
        refused = await asyncio.shield(gate)
        if refused is not None:
            self._refuse_all()
            raise Refused
        self._gate = None

    def _start(self, message: Message) -> Message:
        headers = message.get("headers", ())
        if type(headers) is not list:
            # They may be an iterator, which can be read but once.
            headers = list(headers)
            message = {**message, "headers": headers}
        guarded = self._guarded
        panel = guarded.panel
        if not panel.rails and (guarded.vault_if_any is None or not guarded.restores):
            return self._told(message)
        media, is_coded = b"", False
        for name, value in headers:
            if type(name) is not bytes:
                name = bytes(name)
            known = name
            length = len(known)
            if length == _MEDIA_LENGTH:
                if known == b"content-type" and type(value) is bytes and value == _JSON:
                    media = _JSON
                elif known[0] in b"cC" and known.lower() == b"content-type":
                    media = bytes(value).lower()
            elif length == _CODING_LENGTH and known.lower() == b"content-encoding":
                is_coded = is_coded or bytes(value).lower() != b"identity"
        if media == _JSON and not is_coded:
            self._is_whole = True
            return message
        if media != _JSON and not holds_text(media):
            return self._told(message)
        if media.startswith(b"text/event-stream") and not is_coded:
            guarding = Guarding(
                panel.acting, guarded.asked, guarded.notes, guarded.vault, guarded.settings.threads
            )
            self._stream = GuardedStream(
                guarding,
                panel.noting,
                guarded.state.event_log,
                max_held=guarded.settings.max_held_characters,
            )
            if panel.acts or guarded.restores:
                message = with_length(message, None)
            return self._told(message)
        self._is_whole = True
        if is_coded:
            # Nothing of it is read.
            self._parts = []
            self._size = guarded.settings.max_answer_bytes + 1
        return message

    def _told(self, message: Message) -> Message:
        """The start of an answer, with the header that says what was done."""
        notes = self._guarded.notes_if_any
        if notes is not None and notes.verdicts and self._guarded.settings.tell_header:
            value = verdict_header(notes)
            if value:
                headers = [*message["headers"], (b"x-guardrail", value)]
                return {**message, "headers": headers}
        return message

    async def _feed(self, stream: GuardedStream, message: Message, lane: Lane | None) -> None:
        chunk: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        try:
            out = await (stream.feed(chunk, more) if lane is None else stream.look(lane))
        except Blocked as blocked:
            await self._cut_off(stream, blocked)
            raise Refused from blocked
        except _sse.SSEError as error:
            self._refuse_all()
            self._publish()
            failure = ProviderUnavailableError("The stream that came cannot be read.")
            self._guarded.state.set(FAILURE, failure)
            await self._send({"type": "http.response.body", "body": stream_error(failure)})
            raise Refused from error
        if out is not chunk:
            if not out and more:
                return
            message = {**message, "body": out}
        if not more:
            self._publish()
        await self._send(message)

    async def _cut_off(self, stream: GuardedStream, blocked: Blocked) -> None:
        """End a stream in which a guard has found something."""
        self._refuse_all()
        notes = self._guarded.notes
        notes.add(blocked.hit, "output", blocked.path)
        notes.blocked = notes.changed = True
        error = refusal(blocked.hit, "", is_request=False)
        self._guarded.state.set(FAILURE, error)
        self._publish()
        out = stream.refusal()
        if self._guarded.settings.stream_error_event or stream.is_foreign:
            out += stream_error(error)
        else:
            out += _sse.DONE
        await self._send({"type": "http.response.body", "body": out})

    def _refuse_all(self) -> None:
        self._refused = True
        self._stream = None

    def _is_clean(self, data: bytes) -> bool:
        """Whether a whole answer says at one look that it can go as it is."""
        guarded = self._guarded
        look = guarded.panel.look
        if (
            look is None
            or (guarded.vault_if_any is not None and guarded.restores)
            or len(data) > guarded.settings.max_answer_bytes
        ):
            return False
        content = content_of(data)
        return content is not None and look.judge_line(content) == "clean"

    async def _collect(self, message: Message, *, may_be_clean: bool = True) -> None:
        chunk: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        parts = self._parts
        if parts is None and not more:
            whole = chunk
            if len(chunk) > self._guarded.settings.max_answer_bytes:
                await self._give_up([chunk], message)
                return
        else:
            if parts is None:
                self._parts = parts = []
                self._size = 0
            parts.append(chunk)
            self._size += len(chunk)
            if self._size > self._guarded.settings.max_answer_bytes:
                await self._give_up(parts, message)
                return
            if more:
                return
            whole = parts[0] if len(parts) == 1 else b"".join(parts)
        if may_be_clean and self._is_clean(whole):
            self._publish()
            await self._release()
            await self._send(message if whole is chunk else {**message, "body": whole})
            return
        try:
            out = await judge_answer(whole, self._guarded)
        except Blocked as blocked:
            await self._refuse(blocked)
            raise Refused from blocked
        self._publish()
        if out is not whole:
            self.held = (with_length(self.held[0], len(out)), *self.held[1:])
        await self._release()
        await self._send(message if out is chunk else {**message, "body": out})

    async def _give_up(self, parts: list[bytes], message: Message) -> None:
        """An answer that is compressed or too long passes only if no guard minds."""
        for rail in self._guarded.panel.rails:
            hit = Hit(rail, 0, 0, UNREADABLE, 1.0, "it cannot be read", rail.denies, False)
            self._guarded.notes.add(hit, "output", "")
            if hit.blocks:
                blocked = Blocked(hit, "")
                await self._refuse(blocked)
                raise Refused from blocked
        self._publish()
        await self._release()
        body = b"".join(parts)
        parts.clear()
        await self._send({**message, "body": body})

    async def _release(self) -> None:
        held, self.held = self.held, ()
        self._is_whole = False
        for message in held:
            is_start = message["type"] == "http.response.start"
            await self._send(self._told(message) if is_start else message)

    async def let_go(self) -> None:
        """The app sends no more: what was held without being judged stays here, but its start."""
        if self.held and not self._refused:
            await self._release()

    async def _refuse(self, blocked: Blocked) -> None:
        self._refuse_all()
        self.held = ()
        rail = blocked.hit.rail
        if rail.retries and self._may_retry and blocked.hit.category != UNREADABLE:
            self.wants_retry = True
            return
        guarded = self._guarded
        guarded.notes.blocked = guarded.notes.changed = True
        self._publish()
        error = refusal(blocked.hit, "", is_request=False)
        if self._guarded.settings.tell_header:
            error.headers = ((b"x-guardrail", verdict_header(guarded.notes)),)
        guarded.state.set(FAILURE, error)
        await send_error(self._send, guarded.state, error)

    def _publish(self) -> None:
        notes = self._guarded.notes_if_any
        if notes is not None:
            publish(self._guarded.state, notes)


_BODY_BY_OTHER_MEANS: Final = frozenset(("http.response.pathsend", "http.response.zerocopysend"))

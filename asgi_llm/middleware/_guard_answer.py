"""The answer of an app that is guarded: held until it is judged, or let through as far as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import _json, _sse
from asgi_llm._asgi import send_error, stream_error
from asgi_llm.errors import ProviderUnavailableError, RawHeaders
from asgi_llm.middleware._guard_checks import UNREADABLE, Asked, Hit, Notes, Place, to_context
from asgi_llm.middleware._guard_lane import Blocked, Guarding, Lane
from asgi_llm.middleware._guard_outcome import (
    publish,
    refusal,
    verdict_header,
    without_echoes,
)
from asgi_llm.middleware._guard_quick import read_simple_answer
from asgi_llm.middleware._guard_rules import Panel
from asgi_llm.middleware._guard_stream import GuardedStream
from asgi_llm.middleware._guard_texts import Text, path_text, read_texts, with_texts
from asgi_llm.middleware._guard_threads import Threads
from asgi_llm.middleware._guard_vault import Vault
from asgi_llm.middleware._guard_whole import (
    Found,
    check_inline,
    check_slowly,
    first_block,
    is_large,
    note,
    rewrite,
)
from asgi_llm.state import FAILURE, State
from asgi_llm.types import Document

__all__ = ["Guarded", "GuardedAnswer", "Settings"]

_MEDIA_LENGTH: Final = len("content-type")
_CODING_LENGTH: Final = len("content-encoding")
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Settings(NamedTuple):
    """What all answers of a layer share."""

    threads: Threads
    tell_header: bool
    stream_error_event: bool
    max_answer_bytes: int
    max_held_characters: int


class Guarded:
    """What the answers to one request share."""

    __slots__ = ("asked", "notes", "panel", "state", "vault")

    panel: Panel
    asked: Asked
    notes: Notes
    vault: Vault
    state: State


class _Refused(OSError):
    """Raised out of ``send``, as where the client has left, to stop an app that was refused."""


class GuardedAnswer:
    """The ``send`` of an app whose answer is guarded.

    Args:
        settings: Of the layer.
        guarded: Of the request.
        send: The client's.
        gate: Nothing leaves before it is done; what it gives is what the request was refused for.
        may_retry: Whether the app may be asked once more.

    Attributes:
        wants_retry: Whether it is to be.

    Streaming: see ``GuardedStream``. Other answers are held until they are whole.
    """

    __slots__ = (
        "_gate",
        "_guarded",
        "_held",
        "_is_whole",
        "_may_retry",
        "_parts",
        "_refused",
        "_send",
        "_settings",
        "_size",
        "_stream",
        "wants_retry",
    )

    def __init__(
        self,
        settings: Settings,
        guarded: Guarded,
        send: Send,
        *,
        gate: asyncio.Task[Found | None] | None,
        may_retry: bool,
    ) -> None:
        self._settings = settings
        self._guarded = guarded
        self._send = send
        self._gate = gate
        self._may_retry = may_retry
        # Most apps send a start and one body.
        self._held: tuple[Message, ...] = ()
        self._parts: list[bytes] | None = None
        self._is_whole = False
        self._stream: GuardedStream | None = None
        self._refused = False
        self.wants_retry = False

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run ``app``; what it raises because it was refused ends here."""
        try:
            await app(scope, receive, self._take)
        except Exception as error:
            if self._refused and _is_refusal(error):
                return
            await self._let_go()
            raise
        await self._let_go()

    async def _take(self, message: Message) -> None:
        stream = self._stream
        if stream is not None and message["type"] == "http.response.body":
            if message.get("more_body", False):
                taken = stream.swallow(message.get("body", b""))
                if type(taken) is bytes:
                    if taken:
                        await self._send({**message, "body": taken})
                elif taken is not True:
                    await self._feed(stream, message, cast("Lane | None", taken or None))
            else:
                await self._feed(stream, message, None)
            return
        if self._refused:
            raise _Refused
        if self._gate is not None:
            await self._pass_gate(self._gate)
        kind = message["type"]
        if kind == "http.response.body":
            if self._is_whole:
                if (
                    self._parts is not None
                    or message.get("more_body", False)
                    or self._guarded.notes.verdicts
                ):
                    await self._collect(message)
                elif self._is_clean(message.get("body", b"")):
                    held, self._held = self._held, ()
                    self._is_whole = False
                    for start in held:
                        await self._send(start)
                    await self._send(message)
                else:
                    await self._collect(message, may_be_clean=False)
                return
        elif kind == "http.response.start":
            message = self._start(message)
            if self._is_whole:
                self._held = (message,)
                return
        elif self._held:
            if kind in _BODY_BY_OTHER_MEANS:
                # What is not sent as a body is not seen here.
                await self._let_go()
            else:
                self._held = (*self._held, message)
                return
        await self._send(message)

    async def _pass_gate(self, gate: asyncio.Task[Found | None]) -> None:
        # The task is also waited for by whoever started it.
        refused = await asyncio.shield(gate)
        if refused is not None:
            self._refuse_all()
            raise _Refused
        self._gate = None

    def _start(self, message: Message) -> Message:
        headers = message.get("headers", ())
        if type(headers) is not list:
            # They may be an iterator, which can be read but once.
            headers = list(headers)
            message = {**message, "headers": headers}
        guarded = self._guarded
        panel = guarded.panel
        if not panel.rails and not guarded.vault.restores:
            return self._told(message)
        media, is_coded = b"", False
        for name, value in headers:
            length = len(name)
            if length == _MEDIA_LENGTH:
                if bytes(name).lower() == b"content-type":
                    media = bytes(value).lower()
            elif length == _CODING_LENGTH and bytes(name).lower() == b"content-encoding":
                is_coded = is_coded or value.lower() != b"identity"
        if media != b"application/json" and not _holds_text(media):
            return self._told(message)
        if media.startswith(b"text/event-stream") and not is_coded:
            guarding = Guarding(
                panel.acting, guarded.asked, guarded.notes, guarded.vault, self._settings.threads
            )
            self._stream = GuardedStream(
                guarding,
                panel.noting,
                guarded.state.event_log,
                max_held=self._settings.max_held_characters,
            )
            if panel.acts or guarded.vault.restores:
                message = _with_length(message, None)
            return self._told(message)
        self._is_whole = True
        if is_coded:
            # Nothing of it is read.
            self._parts = []
            self._size = self._settings.max_answer_bytes + 1
        return message

    def _told(self, message: Message) -> Message:
        """The start of an answer, with the header that says what was done."""
        if self._guarded.notes.verdicts and self._settings.tell_header:
            value = verdict_header(self._guarded.notes)
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
            raise _Refused from blocked
        except _sse.SSEError as error:
            self._refuse_all()
            self._publish()
            failure = ProviderUnavailableError("The stream that came cannot be read.")
            self._guarded.state.set(FAILURE, failure)
            await self._send({"type": "http.response.body", "body": stream_error(failure)})
            raise _Refused from error
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
        if self._settings.stream_error_event or stream.is_foreign:
            out += stream_error(error)
        else:
            out += _sse.DONE
        await self._send({"type": "http.response.body", "body": out})

    def _refuse_all(self) -> None:
        self._refused = True
        self._stream = None

    def _is_clean(self, data: bytes) -> bool:
        """Whether a whole answer says at one look that it can go as it is."""
        look = self._guarded.panel.look
        if (
            look is None
            or self._guarded.vault.restores
            or len(data) > self._settings.max_answer_bytes
        ):
            return False
        text = read_simple_answer(data)
        return text is not None and look.judge(text) == "clean"

    async def _collect(self, message: Message, *, may_be_clean: bool = True) -> None:
        chunk: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        parts = self._parts
        if parts is None and not more:
            whole = chunk
            if len(chunk) > self._settings.max_answer_bytes:
                await self._give_up([chunk], message)
                return
        else:
            if parts is None:
                self._parts = parts = []
                self._size = 0
            parts.append(chunk)
            self._size += len(chunk)
            if self._size > self._settings.max_answer_bytes:
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
            out = await self._judge(whole)
        except Blocked as blocked:
            await self._refuse(blocked)
            raise _Refused from blocked
        self._publish()
        if out is not whole:
            self._held = (_with_length(self._held[0], len(out)), *self._held[1:])
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
                raise _Refused from blocked
        self._publish()
        await self._release()
        body = b"".join(parts)
        parts.clear()
        await self._send({**message, "body": body})

    async def _release(self) -> None:
        held, self._held = self._held, ()
        self._is_whole = False
        for message in held:
            is_start = message["type"] == "http.response.start"
            await self._send(self._told(message) if is_start else message)

    async def _let_go(self) -> None:
        """The app sends no more: what was held without being judged stays here, but its start."""
        if self._held and not self._refused:
            await self._release()

    async def _refuse(self, blocked: Blocked) -> None:
        self._refuse_all()
        self._held = ()
        rail = blocked.hit.rail
        if rail.retries and self._may_retry and blocked.hit.category != UNREADABLE:
            self.wants_retry = True
            return
        guarded = self._guarded
        guarded.notes.blocked = guarded.notes.changed = True
        self._publish()
        error = refusal(blocked.hit, "", is_request=False)
        if self._settings.tell_header:
            error.headers = ((b"x-guardrail", verdict_header(guarded.notes)),)
        guarded.state.set(FAILURE, error)
        await send_error(self._send, guarded.state, error)

    def _publish(self) -> None:
        publish(self._guarded.state, self._guarded.notes)

    async def _judge(self, data: bytes, *, may_repair: bool = True) -> bytes:
        """What to send for a whole answer.

        Raises:
            Blocked: Nothing.
        """
        if not data:
            return data
        guarded, settings = self._guarded, self._settings
        document: Document | None = None
        try:
            parsed = _json.decode_unchecked(data)
        except _UNREADABLE:
            parsed = None
        if type(parsed) is dict:
            document = parsed
            texts = read_texts(document, role="assistant")
        else:
            texts = [Text(("body",), "assistant", data.decode("utf-8", "replace"))]
        found = await check(texts, guarded.panel, guarded.asked, settings.threads)
        block = first_block(found)
        if block is not None and may_repair and block.hit.rail.repairer and document is not None:
            repaired = self._repaired(block, texts)
            if repaired is not None:
                note([block], texts, guarded.notes, "output")
                guarded.notes.changed = True
                return await self._judge(
                    _json.encode(with_texts(document, [repaired])), may_repair=False
                )
        note(found, texts, guarded.notes, "output")
        if block is not None:
            raise Blocked(
                block.hit, path_text(texts[block.parts[0][0]].path) if block.parts else ""
            )
        changes = rewrite(found, texts, guarded.vault, keep=False, restore=True)
        if not changes:
            return data
        if any(one.hit.redacts for one in found):
            guarded.notes.changed = True
        if document is None:
            return changes[0][1].encode("utf-8", "replace")
        return _json.encode(without_echoes(with_texts(document, changes), changes))

    def _repaired(self, block: Found, texts: Sequence[Text]) -> tuple[Text, str] | None:
        text = texts[block.parts[0][0]] if block.parts else None
        if text is None:
            return None
        place = Place("output", text.role, path_text(text.path), text.kind == "json")
        guard = block.hit.rail.repairer
        new = (
            None
            if guard is None
            else guard.repair(text.text, to_context(place, self._guarded.asked))
        )
        return None if new is None else (text, new)


_BODY_BY_OTHER_MEANS: Final = frozenset(("http.response.pathsend", "http.response.zerocopysend"))


async def check(texts: Sequence[Text], panel: Panel, asked: Asked, threads: Threads) -> list[Found]:
    """What the guards find in an answer."""
    if not texts or not panel.rails:
        return []
    if is_large(texts):
        found = await threads.run(lambda: check_inline(texts, panel, "output", asked))
    else:
        found = check_inline(texts, panel, "output", asked)
    if panel.slow:
        found += await check_slowly(texts, panel.slow, "output", asked, threads)
    return found


def _holds_text(media: bytes) -> bool:
    return not media or media.startswith(b"text/") or b"json" in media or b"xml" in media


def _with_length(start: Message, length: int | None) -> Message:
    """The start of an answer that is so long; None: nobody knows."""
    headers: RawHeaders = [
        pair for pair in start["headers"] if bytes(pair[0]).lower() != b"content-length"
    ]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {**start, "headers": headers}


def _is_refusal(error: BaseException | None) -> bool:
    """Whether ``error`` is what a host made of our ``_Refused``."""
    while error is not None:
        if isinstance(error, _Refused):
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(_is_refusal(one) for one in error.exceptions)
        error = error.__cause__ or error.__context__
    return False

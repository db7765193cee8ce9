"""The answer of an app that is guarded: held until it is judged, or let through as far as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

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

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Settings(NamedTuple):
    """What all answers of a layer share."""

    threads: Threads
    tell_header: bool
    stream_error_event: bool
    max_answer_bytes: int
    max_held_characters: int


class Guarded(NamedTuple):
    """What the answers to one request share."""

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
        self._held: list[Message] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._is_whole = False
        self._stream: GuardedStream | None = None
        self._refused = False
        self.wants_retry = False

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run ``app``; what it raises because it was refused ends here."""
        try:
            await app(scope, receive, self)
        except Exception as error:
            if self._refused and _is_refusal(error):
                return
            await self._let_go()
            raise
        await self._let_go()

    async def __call__(self, message: Message) -> None:
        if self._refused:
            raise _Refused
        kind = message["type"]
        stream = self._stream
        if (
            stream is not None
            and kind == "http.response.body"
            and message.get("more_body", False)
            and self._gate is None
        ):
            chunk = message.get("body", b"")
            taken = stream.swallow(chunk)
            if taken is not True:
                await self._feed(stream, message, taken or None)
            return
        if self._gate is not None:
            await self._pass_gate(self._gate)
        if kind == "http.response.body":
            if stream is not None:
                await self._feed(stream, message)
                return
            if self._is_whole:
                await self._collect(message)
                return
        elif kind == "http.response.start":
            message = self._start(message)
            if self._is_whole:
                self._held.append(message)
                return
        elif self._held:
            if kind in _BODY_BY_OTHER_MEANS:
                # What is not sent as a body is not seen here.
                await self._let_go()
            else:
                self._held.append(message)
                return
        await self._send(message)

    async def _pass_gate(self, gate: asyncio.Task[Found | None]) -> None:
        # The task is also waited for by whoever started it.
        refused = await asyncio.shield(gate)
        if refused is not None:
            self._refused = True
            raise _Refused
        self._gate = None

    def _start(self, message: Message) -> Message:
        headers: RawHeaders = list(message.get("headers", ()))
        message = {**message, "headers": headers}
        guarded = self._guarded
        looks = guarded.panel.rails or guarded.vault.restores
        media, is_coded = b"", False
        for name, value in headers:
            name = bytes(name).lower()
            if name == b"content-type":
                media = bytes(value).lower()
            elif name == b"content-encoding" and value.lower() != b"identity":
                is_coded = True
        if not looks or not _holds_text(media):
            self._tell(headers)
            return message
        if media.startswith(b"text/event-stream") and not is_coded:
            guarding = Guarding(
                guarded.panel.acting,
                guarded.asked,
                guarded.notes,
                guarded.vault,
                self._settings.threads,
            )
            self._stream = GuardedStream(
                guarding,
                guarded.panel.noting,
                guarded.state.event_log,
                max_held=self._settings.max_held_characters,
            )
            if guarded.panel.acts or guarded.vault.restores:
                headers[:] = [
                    pair for pair in headers if bytes(pair[0]).lower() != b"content-length"
                ]
            self._tell(headers)
            return message
        self._is_whole = True
        if is_coded:
            # Nothing of it is read.
            self._size = self._settings.max_answer_bytes + 1
        return message

    def _tell(self, headers: RawHeaders) -> None:
        verdicts = self._guarded.notes.verdicts
        if verdicts and self._settings.tell_header:
            value = verdict_header(self._guarded.notes)
            if value:
                headers.append((b"x-guardrail", value))

    async def _feed(
        self, stream: GuardedStream, message: Message, lane: Lane | None = None
    ) -> None:
        chunk: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        try:
            out = await (stream.feed(chunk, more) if lane is None else stream.look(lane))
        except Blocked as blocked:
            await self._cut_off(stream, blocked)
            raise _Refused from blocked
        except _sse.SSEError as error:
            self._refused = True
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
        self._refused = True
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

    async def _collect(self, message: Message) -> None:
        chunk: bytes = message.get("body", b"")
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > self._settings.max_answer_bytes:
            await self._give_up(message)
            return
        if message.get("more_body", False):
            return
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        guarded = self._guarded
        quick = guarded.panel.quick
        if quick is not None and not guarded.vault.restores:
            texts = read_simple_answer(whole)
            if texts is not None and quick.judge(texts) == "clean":
                if guarded.notes.verdicts:
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
        start = self._held[0]
        if out is not whole:
            _set_length(start["headers"], len(out))
        await self._release()
        await self._send(message if out is chunk else {**message, "body": out})

    async def _give_up(self, message: Message) -> None:
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
        body, self._parts = b"".join(self._parts), []
        await self._send({**message, "body": body})

    async def _release(self) -> None:
        held, self._held = self._held, []
        self._is_whole = False
        if held:
            self._tell(held[0]["headers"])
        for message in held:
            await self._send(message)

    async def _let_go(self) -> None:
        """The app sends no more: what was held without being judged stays here, but its start."""
        if self._held and not self._refused:
            await self._release()

    async def _refuse(self, blocked: Blocked) -> None:
        self._refused = True
        self._held = []
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


def _set_length(headers: RawHeaders, length: int) -> None:
    headers[:] = [pair for pair in headers if bytes(pair[0]).lower() != b"content-length"]
    headers.append((b"content-length", b"%d" % length))


def _is_refusal(error: BaseException | None) -> bool:
    """Whether ``error`` is what a host made of our ``_Refused``."""
    while error is not None:
        if isinstance(error, _Refused):
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(_is_refusal(one) for one in error.exceptions)
        error = error.__cause__ or error.__context__
    return False

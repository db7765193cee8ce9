"""The answer of an app whose call is paid for: metered as it passes, noted before its last byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from starlette.types import Message, Receive, Send

from asgi_llm import _sse
from asgi_llm._sending import DONE, hand_on
from asgi_llm.middleware._cost_account import AnswerAccount, Meterage
from asgi_llm.middleware._cost_budgets import BudgetPlan
from asgi_llm.middleware._cost_kinds import Kind
from asgi_llm.middleware._cost_quick import (
    find_choices,
    is_body,
    is_event,
    is_start,
    last_header,
    monotonic,
    row_id,
    to_microseconds,
    with_header,
)
from asgi_llm.middleware._cost_usage import (
    AnswerMeter,
    has_usage_event,
    simple_events,
    usage_event,
)
from asgi_llm.pricing import format_usd
from asgi_llm.pricing.rows import ONE_REQUEST
from asgi_llm.state import USAGE, State
from asgi_llm.types import CacheReport, Cost, Document, Outcome, Usage

__all__ = ["CostedAnswer", "make_answer"]

_DONE: Final = b"[DONE]\n\n"
_EVENT_END: Final = b"\n\n"
_MEDIA: Final = b"content-type"
_CODING: Final = b"content-encoding"
_JSON: Final = b"application/json"
_MAX_TAIL: Final = _sse.MAX_EVENT_BYTES


class CostedAnswer(AnswerAccount):
    """The ``send`` of an app whose answer is metered: made by ``make_answer``.

    Attributes:
        receive: The ``receive`` for the app.

    Streaming: chunks pass as they come. In a stream with an event for the usage an event that came
    in pieces is held back until it is whole, so that the one of the usage can be told.
    """

    # Those of streams are set when one begins.
    __slots__ = ("_choices_at", "_done", "_parts", "_tail", "_watches", "receive")

    receive: Receive
    # Where the choices of a chunk begin.
    _choices_at: int
    _done: bool
    # Where a stream is kept, once it may pass without another look.
    _parts: list[bytes]
    _tail: bytes
    _watches: bool

    def reserve(self, lease: str) -> None:
        """Note that what it may cost is reserved; see ``hold_at_once`` of budgets."""
        self._lease = lease

    def expect_usage(self, told: bool, hides: bool) -> None:
        """Note whether the client, or only we, asked for the usage of a stream."""
        self._told, self._hides = told, hides

    def is_over(self) -> bool:
        """Whether the answer was noted, and all of it sent on."""
        return self._ended and self._held is None

    async def finish(self, error: BaseException | None) -> None:
        """Note what came of an app that has come to its end, or failed."""
        failed = isinstance(error, Exception)
        try:
            if error is None or failed:
                await self._release()
        except Exception:
            failed = True
            raise
        finally:
            if not self._ended:
                has_left = self._left is not None or not failed
                await self._end(Outcome.DISCONNECTED if has_left else Outcome.FAILED)

    def send(self, message: Message) -> Awaitable[None]:
        """The ``send`` for the app."""
        # Some hosts have messages of another type.
        fields = message if type(message) is dict else dict(message)
        if self._room > 0 and self._passes(fields):
            return hand_on(self._send, message, None, self)
        kind = fields["type"]
        if is_body(kind):
            if self._is_stream or self._left is not None or fields.get("more_body"):
                return self._send_part(message)
            if not self._ended and not self._end_usual(fields.get("body", b"")):
                return self._send_part(message)
            held = self._told_start()
            if held is None:
                return hand_on(self._send, message, None, self)
            return hand_on(self._send, held, message, self)
        if is_start(kind):
            fields = self._start(fields)
            return DONE if self._held is not None else hand_on(self._send, fields, None, self)
        return self._send_other(message)

    def _passes(self, message: dict[str, Any]) -> bool:
        """Keep a message of a stream that has begun, if it is a usual one."""
        chunk = message.get("body")
        return type(chunk) is bytes and bool(message.get("more_body")) and self._takes(chunk)

    def _takes(self, chunk: bytes) -> bool:
        # A usual chunk ends with an event that is neither the one of the usage nor the end mark.
        room = self._room - len(chunk)
        if room <= 0 or not is_event(chunk):
            return False
        if self._watches:
            at = find_choices(chunk, self._choices_at)
            if at < 0:
                return False
            self._choices_at = at
        self._room = room
        self._parts.append(chunk)
        return True

    async def _send_part(self, message: Message) -> None:
        """Send a part of the body that is no usual one."""
        if not self._ended:
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            if chunk:
                self._keep(chunk)
            if self._is_stream:
                out = await self._pass(chunk, more)
                if out is None:
                    return
                if out is not chunk:
                    message = {**message, "body": out}
            elif not more:
                await self._end(self._whole())
        held = None if self._is_stream else self._told_start()
        if held is None:
            await hand_on(self._send, message, None, self)
        else:
            await hand_on(self._send, held, message, self)

    async def _send_other(self, message: Message) -> None:
        """Send what is neither the start of an answer nor a part of its body."""
        held = self._told_start()
        if message["type"] == "http.response.pathsend" and not self._ended:
            await self._end(self._whole())
        if held is None:
            await hand_on(self._send, message, None, self)
        else:
            await hand_on(self._send, held, message, self)

    def _keep(self, chunk: bytes) -> None:
        """Keep a chunk, and let the usual ones of a stream behind it pass where that may be."""
        meter = self._keeper()
        if meter is None:
            return
        if self._first is None:
            self._first = self._meterage.clock()
        if self._room:
            meter.room = self._room
        meter.parts.append(chunk)
        meter.room -= len(chunk)
        if meter.room < 0:
            meter.drop()
        if self._is_stream:
            self._parts = meter.parts
            self._room = meter.room

    async def _pass(self, chunk: bytes, more: bool) -> bytes | None:
        """What to send for a chunk of a stream; None: nothing yet."""
        out = chunk
        if self._watches and not (
            more
            and not self._tail
            and chunk.endswith(_EVENT_END)
            and not chunk.endswith(_DONE)
            and not has_usage_event(chunk)
        ):
            out = self._rewritten(chunk, more)
            if self._tail:
                self._room = 0
            if out is not chunk and not out and more and not self._done:
                return None
        if not more or self._done or chunk.endswith(_DONE):
            await self._end(self._whole())
        return out

    async def linger(self) -> None:
        """The client has left; wait until the app need not go on any more."""
        if self._left is None:
            self._left = self._meterage.clock()
        if self._ended:
            return
        if self._over is None:
            self._over = asyncio.get_running_loop().create_future()
        # A future that is waited for by several must not be cancelled by one of them.
        await asyncio.wait((self._over,), timeout=self._meterage.drain_seconds)

    def _whole(self) -> Outcome:
        return Outcome.COMPLETE if self._left is None else Outcome.DISCONNECTED

    def goes_on(self) -> bool:
        """Whether the app is to go on, though its client has left."""
        now = self._meterage.clock()
        if self._left is None:
            self._left = now
        drain_seconds = self._meterage.drain_seconds
        return drain_seconds is None or now < self._left + drain_seconds

    def _start(self, message: dict[str, Any]) -> dict[str, Any]:
        status = self._status = message["status"]
        if status >= 300:
            return message
        given = message.get("headers", ())
        if type(given) is not list and type(given) is not tuple:
            # It may be one that can be gone through but once.
            given = list(given)
            message = {**message, "headers": given}
        # Some apps write names as they like.
        media, coding = last_header(given, _MEDIA), last_header(given, _CODING)
        is_stream = is_json = False
        if coding is None or coding.lower() == b"identity":
            is_json = media == _JSON
            if not is_json and media is not None:
                media = media.lower()
                is_json = media.startswith(_JSON)
                is_stream = not is_json and media.startswith(b"text/event-stream")
        self._is_json = is_json
        if not is_json:
            self._meter = AnswerMeter(is_stream, False)
        headers = given
        if is_stream:
            self._is_stream, self._done, self._tail, self._choices_at = True, False, b"", 0
            self._watches = self._hides or (self._told and self._meterage.tells)
            if self._watches:
                # The body gets longer or shorter.
                headers = [pair for pair in given if pair[0].lower() != b"content-length"]
        if self._meterage.tells:
            cached = self._hit()
            if cached is not None:
                headers = [*headers, *self._saved(cached)]
            elif is_json:
                self._held = message
            elif not is_stream and not self.kind.by_tokens:
                # Speech, for one, is paid for by the request.
                cost = self._priced(None, self._quantities(None))
                headers = [*headers, *_cost_header(cost)]
        return message if headers is given else {**message, "headers": headers}

    def _told_start(self) -> dict[str, Any] | None:
        """The start, if it was held back, with the cost where that is known by now."""
        message = self._held
        if message is not None:
            self._held = None
            if self._cost_text:
                told = with_header(message.get("headers", ()), b"x-cost", self._cost_text)
                message = {**message, "headers": told}
        return message

    async def _release(self) -> None:
        """Let the start go, if it was held back."""
        message = self._told_start()
        if message is not None:
            try:
                await self._send(message)
            except OSError:
                if not self.goes_on():
                    raise

    def _rewritten(self, chunk: bytes, more: bool) -> bytes:
        """What to send for ``chunk``; the very object where that is it."""
        data = self._tail + chunk if self._tail else chunk
        simple = simple_events(data)
        if simple is not None:
            self._tail = b""
            whole = b"".join([self._event(raw, raw[6:-2]) for raw in simple])
            return chunk if whole == chunk else whole
        end = _sse.last_border(data)
        if not more:
            # The last event may lack its blank line.
            rest, self._tail = data[end:], b""
        else:
            rest, self._tail = b"", data[end:]
            if len(self._tail) > _MAX_TAIL:
                # No event of ours: it passes, and nothing is looked for any more.
                rest, self._tail, self._watches = self._tail, b"", False
        events = list(_sse.split(data[:end]))
        if rest:
            (last,) = _sse.Decoder().feed(rest + _EVENT_END)[:1] or (None,)
            events.append((rest, last))
        out = [self._event(raw, None if one is None else one.data) for raw, one in events]
        whole = b"".join(out)
        return chunk if whole == chunk else whole

    def _event(self, raw: bytes, data: bytes | None) -> bytes:
        """The bytes to send for an event, which has data or has none."""
        if data is None:
            return raw
        if data == b"[DONE]":
            self._done = True
        elif has_usage_event(raw):
            usage = usage_event(data)
            if usage is not None:
                return b"" if self._hides else self._with_cost(raw, usage)
        return raw

    def _with_cost(self, raw: bytes, usage: Usage) -> bytes:
        """The event with the usage, told what it cost in a field at its end."""
        cached = self._hit()
        if cached is not None:
            text = "0"
        else:
            tier = None if self._meter is None else self._meter.service_tier()
            cost = self._priced(self._state.get(USAGE) or usage, ONE_REQUEST, tier)
            text = "null" if cost.amount_usd is None else format_usd(cost.amount_usd)
        at = raw.rindex(b"}")
        return raw[:at] + b',"cost":' + text.encode() + raw[at:]

    def _saved(self, cached: CacheReport) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-cost", b"0")]
        price = self.kind.place(cached.provider, cached.model).price
        saved = self._meterage.pricer.cost(price, cached.usage, self.seconds).amount_usd
        if saved is not None:
            headers.append((b"x-cost-saved", format_usd(saved).encode()))
        return headers


def make_answer(
    meterage: Meterage,
    receive: Receive,
    send: Send,
    state: State,
    seconds: float,
    kind: Kind,
    plan: BudgetPlan,
    document: Document,
    tokens: int,
    is_plain: bool,
) -> CostedAnswer:
    """A request that has just come, and what will be its answer.

    Args:
        meterage: What all answers share.
        receive: For the app.
        send: The client's.
        state: Of the request.
        seconds: As in ``Asked``, like the following.
        kind: As there.
        plan: As there.
        document: As there.
        tokens: Its ``input_tokens``.
        is_plain: As there.
    """
    one = CostedAnswer.__new__(CostedAnswer)
    one.id = row_id()
    one.request_id = state.request_id
    one.seconds = seconds
    one.microseconds = to_microseconds(seconds)
    one.kind = kind
    one.plan = plan
    one.document = document
    one.streamed = document.get("stream") is True
    one.input_tokens = tokens
    one.is_plain = is_plain
    one.call = None
    one._meterage = meterage
    one._send = send
    one._state = state
    one._begun = meterage.clock() if meterage.has_own_clock else monotonic()
    one._lease = one._cost_text = ""
    one._first = one._left = one._status = one._meter = one._held = one._over = None
    one._hides = one._told = one._is_stream = one._is_json = one._ended = False
    one._room = 0
    one.receive = receive if meterage.drain_seconds == 0 else _PatientReceive(one, receive)
    return one


class _PatientReceive:
    """The ``receive`` of an app that is to go on for a while when its client has left."""

    __slots__ = ("_answer", "_receive")

    def __init__(self, answer: CostedAnswer, receive: Receive) -> None:
        self._answer = answer
        self._receive = receive

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            await self._answer.linger()
        return message


def _cost_header(cost: Cost | None) -> list[tuple[bytes, bytes]]:
    if cost is None or cost.amount_usd is None:
        return []
    return [(b"x-cost", format_usd(cost.amount_usd).encode())]

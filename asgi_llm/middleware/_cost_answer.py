"""The answer of an app whose call is paid for: metered as it passes, noted before its last byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm._tasks import finish
from asgi_llm.middleware._cost_books import Books
from asgi_llm.middleware._cost_prices import Pricer
from asgi_llm.middleware._cost_rows import Asked, Entry, Served, make_entries, make_usual, sum_costs
from asgi_llm.middleware._cost_usage import AnswerMeter, has_usage_event, usage_event
from asgi_llm.pricing import Quantities, format_usd, read_quantities
from asgi_llm.pricing.rows import ONE_REQUEST
from asgi_llm.state import (
    ATTEMPTS,
    CACHE_STATUS,
    COST,
    DEPLOYMENT,
    FAILURE,
    OPERATION,
    USAGE,
    State,
)
from asgi_llm.types import Attempt, CacheReport, Cost, Outcome, Usage
from asgi_llm.wire.tokens import TokenCounter

__all__ = ["CostedAnswer", "Meterage"]

_DONE: Final = b"[DONE]\n\n"
_EVENT_END: Final = b"\n\n"
_JSON_EVENT_END: Final = b"}\n\n"
_EMPTY_LIST: Final = b"[]"
_MAX_TAIL: Final = _sse.MAX_EVENT_BYTES


class Meterage:
    """What all answers of a layer share.

    Args:
        pricer: Prices what was used.
        books: Where it is noted.
        counter: Counts tokens where an answer does not say them.
        clock: Seconds, monotonic.
        tells: Whether clients are told what they cost.
        drain_seconds: How long an answer goes on without its client: 0 is not at all, None to its
            end.
    """

    __slots__ = ("books", "clock", "counter", "drain_seconds", "pricer", "tells")

    def __init__(
        self,
        pricer: Pricer,
        books: Books,
        counter: TokenCounter,
        clock: Callable[[], float],
        *,
        tells: bool,
        drain_seconds: float | None,
    ) -> None:
        self.pricer = pricer
        self.books = books
        self.counter = counter
        self.clock = clock
        self.tells = tells
        self.drain_seconds = drain_seconds


_Used = tuple[Usage | None, str | None, Quantities]
"""What an answer took: tokens, at which service tier, and what is paid for beside tokens."""

_NOTHING_USED: Final[_Used] = (None, None, ONE_REQUEST)


class CostedAnswer:
    """The ``send`` of an app whose answer is metered.

    Args:
        meterage: What all answers share.
        send: The client's.
        state: Of the request.
        asked: The request.
        lease: Its reservation; empty where it has none.
        hides_usage: Whether the usage of a stream was asked for on our own account.
        told_usage: Whether the client asked for it.

    Streaming: chunks pass as they come. In a stream with an event for the usage an event that came
    in pieces is held back until it is whole, so that the one of the usage can be told.
    """

    # Where an answer begins; most of them change few of these, so that they are not set one by one.
    _first: float | None = None
    _status: int | None = None
    _meter: AnswerMeter | None = None
    _held: Message | None = None
    _cost: Cost | None = None
    _tail = b""
    _is_stream = _watches = _done = _ended = _failed = False
    _left: float | None = None
    _over: asyncio.Future[None] | None = None
    # How much of a stream may pass without another look, and where it is kept; 0 while there is
    # something to be looked at.
    _room = 0
    _parts: list[bytes]

    def __init__(
        self,
        meterage: Meterage,
        send: Send,
        state: State,
        asked: Asked,
        lease: str,
        hides_usage: bool,
        told_usage: bool,
    ) -> None:
        self._meterage = meterage
        self._send = send
        self._state = state
        self._asked = asked
        self._lease = lease
        self._hides = hides_usage
        self._told = told_usage
        self._begun = meterage.clock()

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run ``app``, and note what came of it however it ends."""
        if self._meterage.drain_seconds != 0:
            receive = _PatientReceive(self, receive)
        try:
            await app(scope, receive, self.send)
            if self._held is not None:
                await self._release()
        except Exception:
            self._failed = True
            await self._release()
            raise
        finally:
            if not self._ended:
                has_left = self._left is not None or not self._failed
                await self._end(Outcome.DISCONNECTED if has_left else Outcome.FAILED)

    async def send(self, message: Message) -> None:
        """The ``send`` for the app."""
        if self._room:
            # A stream that has begun. A usual chunk ends with an event that is neither the one of
            # the usage nor the end mark. (To search from behind takes a third of the time.)
            chunk = message.get("body", b"")
            if (
                chunk.endswith(_JSON_EVENT_END)
                and message.get("more_body")
                and not (self._watches and chunk.rfind(_EMPTY_LIST) >= 0)
            ):
                room = self._room - len(chunk)
                if room > 0:
                    self._room = room
                    self._parts.append(chunk)
                    try:
                        await self._send(message)
                    except OSError:
                        if not self._goes_on():
                            raise
                    return
        held: Message | None = None
        kind = message["type"]
        if kind == "http.response.body":
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
                else:
                    if not more:
                        outcome = Outcome.COMPLETE if self._left is None else Outcome.DISCONNECTED
                        if not self._end_at_once(outcome):
                            await self._end(outcome)
                    if self._held is not None:
                        held = self._told_start()
        elif kind == "http.response.start":
            message = self._start(message)
            if self._held is not None:
                return
        else:
            held = self._told_start()
            if kind == "http.response.pathsend" and not self._ended:
                await self._end(self._whole())
        try:
            if held is not None:
                await self._send(held)
            await self._send(message)
        except OSError:
            if not self._goes_on():
                raise

    def _keep(self, chunk: bytes) -> None:
        """Keep a chunk, and let the usual ones of a stream behind it pass where that may be."""
        meter = self._meter
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

    def _goes_on(self) -> bool:
        """Whether the app is to go on, though its client has left."""
        now = self._meterage.clock()
        if self._left is None:
            self._left = now
        drain_seconds = self._meterage.drain_seconds
        return drain_seconds is None or now < self._left + drain_seconds

    def _start(self, message: Message) -> Message:
        status = self._status = message["status"]
        if status >= 300:
            return message
        headers = list(message.get("headers", ()))
        named = dict(headers)
        media = named.get(b"content-type")
        coding = named.get(b"content-encoding") or named.get(b"Content-Encoding")
        if media is None:
            # Some apps write names as they like.
            named = {name.lower(): value for name, value in headers}
            media, coding = named.get(b"content-type", b""), named.get(b"content-encoding")
        if coding is None or coding.lower() == b"identity":
            media = media.lower()
            is_json = media.startswith(b"application/json")
            is_stream = not is_json and media.startswith(b"text/event-stream")
        else:
            is_json = is_stream = False
        self._meter = AnswerMeter(is_stream, is_json)
        if is_stream:
            self._is_stream = True
            self._watches = self._hides or (self._told and self._meterage.tells)
            if self._watches:
                # The body gets longer or shorter.
                headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
        message = {**message, "headers": headers}
        if self._meterage.tells:
            cached = self._hit()
            if cached is not None:
                headers += self._saved(cached)
            elif is_json:
                self._held = message
            elif not is_stream and not self._asked.kind.by_tokens:
                # Speech, for one, is paid for by the request.
                headers += _cost_header(self._priced(None, self._quantities(None)))
        return message

    def _told_start(self) -> Message | None:
        """The start, if it was held back, with the cost where that is known by now."""
        message = self._held
        if message is not None:
            self._held = None
            message["headers"].extend(_cost_header(self._cost))
        return message

    async def _release(self) -> None:
        """Let the start go, if it was held back."""
        message = self._told_start()
        if message is not None:
            try:
                await self._send(message)
            except OSError:
                if not self._goes_on():
                    raise

    def _rewritten(self, chunk: bytes, more: bool) -> bytes:
        """What to send for ``chunk``; the very object where that is it."""
        data = self._tail + chunk if self._tail else chunk
        end = _sse.last_border(data)
        if not more:
            # The last event may lack its blank line.
            rest, self._tail = data[end:], b""
        else:
            rest, self._tail = b"", data[end:]
            if len(self._tail) > _MAX_TAIL:
                # No event of ours: it passes, and nothing is looked for any more.
                rest, self._tail, self._watches = self._tail, b"", False
        out = [raw for raw in map(self._event, _sse.split(data[:end])) if raw]
        if rest:
            (last,) = _sse.Decoder().feed(rest + _EVENT_END)[:1] or (None,)
            out.append(self._event((rest, last)))
        whole = b"".join(out)
        return chunk if whole == chunk else whole

    def _event(self, one: tuple[bytes, _sse.Event | None]) -> bytes:
        """The bytes to send for an event."""
        raw, event = one
        if event is None:
            return raw
        if event.done:
            self._done = True
        elif has_usage_event(raw):
            usage = usage_event(event.data)
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

    def _priced(
        self, usage: Usage | None, quantities: Quantities, service_tier: str | None = None
    ) -> Cost:
        deployment = self._state.get(DEPLOYMENT)
        kind = self._asked.kind
        place = kind.first
        if deployment is not None:
            place = kind.place(deployment.provider, deployment.model)
        return self._meterage.pricer.cost(
            place.price, usage, self._asked.seconds, service_tier, quantities
        )

    def _hit(self) -> CacheReport | None:
        report = self._state.get(CACHE_STATUS)
        return report if report is not None and report.status == "hit" else None

    def _saved(self, cached: CacheReport) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-cost", b"0")]
        price = self._asked.kind.place(cached.provider, cached.model).price
        saved = self._meterage.pricer.cost(price, cached.usage, self._asked.seconds).amount_usd
        if saved is not None:
            headers.append((b"x-cost-saved", format_usd(saved).encode()))
        return headers

    def _end_at_once(self, outcome: Outcome) -> bool:
        """``_end`` without a wait; False: nothing was done, for something has to be waited for."""
        books = self._meterage.books
        if not books.answer_at_once:
            return False
        # A start that is held back is that of a JSON answer that no cache had.
        if outcome is Outcome.COMPLETE and (self._held is not None or self._is_untold()):
            entry = self._usual_entry()
            if entry is not None:
                self._ended = True
                self._cost = cost = entry.cost
                self._state.set(COST, cost)
                if self._over is not None:
                    self._note_over()
                books.close_at_once(self._asked, (entry,), cost, self._lease)
                return True
        cached = self._hit()
        used = self._used(outcome, cached)
        if used is None:
            return False
        self._note_over()
        entries, cost = self._noted(outcome, cached, used)
        books.close_at_once(self._asked, entries, cost, self._lease)
        return True

    def _is_untold(self) -> bool:
        """Whether the start of such an answer was not held back, as nobody is told of costs."""
        return not self._meterage.tells and not self._is_stream and self._hit() is None

    def _usual_entry(self) -> Entry | None:
        """What ``_noted`` makes of a whole JSON answer to one call that went well.

        It leaves out to look at all that can go wrong. None: something did.
        """
        get, meter = self._state.get, self._meter
        usage = get(USAGE)
        if usage is None or meter is None or self._status != 200 or get(FAILURE) is not None:
            return None
        now = self._meterage.clock()
        first = None if self._first is None else self._first - self._begun
        attempts = get(ATTEMPTS)
        if not attempts:
            # As a rule an attempt is noted when it is over: this is the one.
            made = get(DEPLOYMENT)
            if made is None or (attempts is None and get(OPERATION) is None):
                return None
            provider, model, seconds = made.provider, made.model, now - self._begun
        else:
            attempt = attempts[0]
            if len(attempts) > 1 or attempt.status != 200 or attempt.error_code is not None:
                return None
            provider, model, seconds = attempt.provider, attempt.model, attempt.duration_seconds
            first = first or attempt.time_to_first_byte_seconds
        used = self._used_of(meter, usage, meter.service_tier())
        pricer = self._meterage.pricer
        return make_usual(self._asked, pricer, provider, model, seconds, first, *used)

    async def _end(self, outcome: Outcome) -> None:
        """Note the request. Not left undone by a cancellation."""
        if not self._end_at_once(outcome):
            self._note_over()
            await finish(self._close(outcome))

    async def _close(self, outcome: Outcome) -> None:
        cached = self._hit()
        used = self._used(outcome, cached) or await self._counted()
        entries, cost = self._noted(outcome, cached, used)
        await self._meterage.books.close(self._asked, entries, cost, self._lease)

    def _note_over(self) -> None:
        self._ended = True
        self._room = 0
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def _noted(
        self, outcome: Outcome, cached: CacheReport | None, used: _Used
    ) -> tuple[list[Entry], Cost]:
        """What the books say of the request, and what it cost as a whole."""
        state = self._state
        failure = state.get(FAILURE)
        error_code = None if failure is None else failure.code or "error"
        if error_code is None and self._is_stream and self._meter is not None:
            # A stream that breaks off says so in its last event, before anybody else does.
            error_code = self._meter.error_code()
        served = Served(
            outcome,
            self._status,
            *used,
            error_code,
            self._meterage.clock() - self._begun,
            None if self._first is None else self._first - self._begun,
        )
        attempts = state.get(ATTEMPTS)
        if attempts is None and (state.get(OPERATION) is not None or failure is not None):
            # Whoever refused it has let it reach no provider, unless it is being answered.
            attempts = ()
        if attempts is not None and cached is None:
            attempts = self._with_own(attempts, served)
        entries = make_entries(self._asked, served, self._meterage.pricer, attempts, cached)
        self._cost = cost = sum_costs(entries)
        state.set(COST, cost)
        return entries, cost

    def _with_own(self, attempts: tuple[Attempt, ...], served: Served) -> tuple[Attempt, ...]:
        """The attempts with the one whose answer this is, which is noted when it is over."""
        if self._meter is None:
            return attempts
        for one in attempts:
            if one.status == self._status and one.error_code is None:
                return attempts
        deployment = self._state.get(DEPLOYMENT)
        if deployment is None or (self._state.get(FAILURE) is not None and attempts):
            return attempts
        own = Attempt(
            provider=deployment.provider,
            model=deployment.model,
            status=self._status,
            error_code=served.error_code,
            duration_seconds=served.latency_seconds,
            time_to_first_byte_seconds=served.time_to_first_token_seconds,
        )
        return (*attempts, own)

    def _used(self, outcome: Outcome, cached: CacheReport | None) -> _Used | None:
        """Usage, service tier, and what is paid for beside tokens; None: it has to be counted."""
        usage = self._state.get(USAGE)
        meter = self._meter
        if cached is not None:
            return cached.usage, None, ONE_REQUEST
        if meter is None:
            if usage is None:
                if self._status is not None or outcome is not Outcome.DISCONNECTED:
                    return _NOTHING_USED
                # Whoever left before the answer began may have been heard all the same.
                usage = Usage(input_uncached=self._asked.input_tokens, estimated=True)
            return usage, None, ONE_REQUEST
        if usage is None:
            usage, service_tier = meter.said()
            if usage is None and self._asked.kind.by_tokens:
                return None
        else:
            service_tier = meter.service_tier()
        return self._used_of(meter, usage, service_tier)

    async def _counted(self) -> _Used:
        """What an answer took that does not say it."""
        asked, meter = self._asked, self._meter
        if meter is None:
            return _NOTHING_USED
        counter = self._meterage.counter
        usage = await meter.count(counter, asked.kind.model, asked.input_tokens)
        return self._used_of(meter, usage, meter.service_tier())

    def _used_of(self, meter: AnswerMeter, usage: Usage | None, service_tier: str | None) -> _Used:
        asked = self._asked
        if service_tier is None:
            wanted = asked.document.get("service_tier")
            service_tier = wanted if isinstance(wanted, str) else None
        quantities = ONE_REQUEST
        if not asked.kind.by_tokens or meter.has_searches():
            quantities = self._quantities(meter)
        return usage, service_tier, quantities

    def _quantities(self, meter: AnswerMeter | None) -> Quantities:
        return read_quantities(self._asked.document, None if meter is None else meter.document())


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

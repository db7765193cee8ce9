"""The answer of an app whose call is paid for: metered as it passes, noted before its last byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import _sse
from asgi_llm._asgi import go_on
from asgi_llm.middleware._cost_books import Books
from asgi_llm.middleware._cost_budgets import BudgetPlan
from asgi_llm.middleware._cost_prices import Pricer
from asgi_llm.middleware._cost_rows import Asked, Served, make_rows, sum_costs
from asgi_llm.middleware._cost_usage import AnswerMeter, has_usage_event, usage_event
from asgi_llm.pricing import Quantities, format_usd, read_quantities
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
from asgi_llm.types import Attempt, CacheReport, Cost, Document, Outcome, Usage
from asgi_llm.wire.tokens import TokenCounter

__all__ = ["CostedAnswer", "Meterage"]

_BY_TOKENS: Final = frozenset(("chat", "text_completion", "embeddings", "moderation"))
_DONE: Final = b"[DONE]\n\n"
_EVENT_END: Final = b"\n\n"
_ONE_REQUEST: Final = Quantities()
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


class CostedAnswer:
    """The ``send`` of an app whose answer is metered.

    Args:
        meterage: What all answers share.
        send: The client's.
        state: Of the request.
        asked: What its rows say of the request.
        document: The request.
        plan: The budgets that it spends from.
        lease: Its reservation.
        hides_usage: Whether the usage of a stream was asked for on our own account.
        told_usage: Whether the client asked for it.

    Streaming: chunks pass as they come. In a stream with an event for the usage an event that came
    in pieces is held back until it is whole, so that the one of the usage can be told.
    """

    __slots__ = (
        "_asked",
        "_begun",
        "_document",
        "_done",
        "_ended",
        "_failed",
        "_first",
        "_held",
        "_hides",
        "_is_stream",
        "_lease",
        "_left",
        "_meter",
        "_meterage",
        "_opaque",
        "_over",
        "_plan",
        "_send",
        "_state",
        "_status",
        "_tail",
        "_told",
        "_watches",
    )

    def __init__(
        self,
        meterage: Meterage,
        send: Send,
        state: State,
        asked: Asked,
        document: Document,
        plan: BudgetPlan,
        lease: str,
        *,
        hides_usage: bool,
        told_usage: bool,
    ) -> None:
        self._meterage = meterage
        self._send = send
        self._state = state
        self._asked = asked
        self._document = document
        self._plan = plan
        self._lease = lease
        self._hides = hides_usage
        self._told = told_usage and meterage.tells
        self._begun = meterage.clock()
        self._first: float | None = None
        self._status: int | None = None
        self._meter: AnswerMeter | None = None
        self._held: Message | None = None
        self._tail = b""
        self._is_stream = self._watches = self._opaque = False
        self._done = self._ended = self._failed = False
        self._left: float | None = None
        self._over: asyncio.Future[None] | None = None

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run ``app``, and note what came of it however it ends."""
        if self._meterage.drain_seconds != 0:
            receive = _PatientReceive(self, receive)
        try:
            await app(scope, receive, self)
            await self._release(None)
        except Exception:
            self._failed = True
            await self._release(None)
            raise
        finally:
            if not self._ended:
                has_left = self._left is not None or not self._failed
                await self._end(Outcome.DISCONNECTED if has_left else Outcome.FAILED)

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            if self._ended:
                await self._forward(message)
                return
            chunk: bytes = message.get("body", b"")
            more: bool = message.get("more_body", False)
            meter = self._meter
            if meter is not None and chunk:
                if self._first is None:
                    self._first = self._meterage.clock()
                meter.parts.append(chunk)
                meter.held += len(chunk)
                if meter.held > meter.most:
                    meter.drop()
            if self._is_stream:
                if self._watches and not (
                    more
                    and not self._tail
                    and chunk.endswith(_EVENT_END)
                    and not chunk.endswith(_DONE)
                    and not has_usage_event(chunk)
                ):
                    out = self._rewritten(chunk, more)
                    if out is not chunk:
                        if not out and more and not self._done:
                            return
                        message = {**message, "body": out}
                if not more or self._done or chunk.endswith(_DONE):
                    await self._end(self._whole())
            elif not more:
                await self._end(self._whole())
                if self._held is not None:
                    await self._release(self._state.get(COST))
            elif self._held is not None:
                await self._release(None)
        elif kind == "http.response.start":
            message = self._start(message)
            if self._held is not None:
                return
        elif self._held is not None:
            await self._release(None)
        if kind == "http.response.pathsend" and not self._ended:
            await self._end(self._whole())
        await self._forward(message)

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

    async def _forward(self, message: Message) -> None:
        drain_seconds = self._meterage.drain_seconds
        try:
            await self._send(message)
        except OSError:
            now = self._meterage.clock()
            if self._left is None:
                self._left = now
            if drain_seconds is None or now < self._left + drain_seconds:
                return
            raise

    def _start(self, message: Message) -> Message:
        status = self._status = message["status"]
        if status >= 300:
            return message
        headers = list(message.get("headers", ()))
        is_json = False
        for name, value in headers:
            name = name.lower()
            if name == b"content-type":
                media = value.lower()
                self._is_stream = media.startswith(b"text/event-stream")
                is_json = media.startswith(b"application/json")
            elif name == b"content-encoding" and value.lower() != b"identity":
                self._opaque = True
        if self._opaque:
            self._is_stream = is_json = False
        self._watches = self._is_stream and (self._hides or self._told)
        self._meter = AnswerMeter(is_stream=self._is_stream, is_json=is_json)
        tells = self._meterage.tells
        if self._watches:
            # The body gets longer or shorter.
            headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
        message = {**message, "headers": headers}
        if tells:
            cached = self._hit()
            if cached is not None:
                headers += self._saved(cached)
            elif is_json:
                self._held = message
            elif not self._is_stream and self._asked.operation not in _BY_TOKENS:
                # Speech, for one, is paid for by the request.
                headers += _cost_header(self._priced(None, self._quantities(None)))
        return message

    async def _release(self, cost: Cost | None) -> None:
        """Let the start go, with the cost where it is known by now."""
        message, self._held = self._held, None
        if message is not None:
            message["headers"].extend(_cost_header(cost))
            await self._forward(message)

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
            said = self._meter.said() if self._meter is not None else None
            tier = said.service_tier if said is not None else None
            cost = self._priced(self._state.get(USAGE) or usage, _ONE_REQUEST, tier)
            text = "null" if cost.amount_usd is None else format_usd(cost.amount_usd)
        at = raw.rindex(b"}")
        return raw[:at] + b',"cost":' + text.encode() + raw[at:]

    def _priced(
        self, usage: Usage | None, quantities: Quantities, service_tier: str | None = None
    ) -> Cost:
        deployment = self._state.get(DEPLOYMENT)
        return self._meterage.pricer.cost(
            self._asked.resolved,
            None if deployment is None else deployment.provider,
            None if deployment is None else deployment.model,
            usage,
            at=self._asked.at,
            service_tier=service_tier,
            quantities=quantities,
        )

    def _hit(self) -> CacheReport | None:
        report = self._state.get(CACHE_STATUS)
        return report if report is not None and report.status == "hit" else None

    def _saved(self, cached: CacheReport) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-cost", b"0")]
        saved = self._meterage.pricer.cost(
            self._asked.resolved, cached.provider, cached.model, cached.usage, at=self._asked.at
        ).amount_usd
        if saved is not None:
            headers.append((b"x-cost-saved", format_usd(saved).encode()))
        return headers

    async def _end(self, outcome: Outcome) -> None:
        """Note the request. Not left undone by a cancellation."""
        self._ended = True
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        closing = self._close(outcome)
        if self._meterage.books.answer_at_once:
            try:
                waits_for = closing.send(None)
            except StopIteration:
                return
            closing = _awaited(closing, waits_for)
        await _finished(closing)

    async def _close(self, outcome: Outcome) -> None:
        state, meterage = self._state, self._meterage
        cached = self._hit()
        served = await self._served(outcome, cached)
        attempts = state.get(ATTEMPTS)
        if attempts is None and (
            state.get(OPERATION) is not None or state.get(FAILURE) is not None
        ):
            # Whoever refused it has let it reach no provider, unless it is being answered.
            attempts = ()
        if attempts is not None and cached is None:
            attempts = self._with_own(attempts, served)
        rows = make_rows(self._asked, served, meterage.pricer, attempts, cached)
        cost = sum_costs(rows)
        state.set(COST, cost)
        await meterage.books.close(self._asked, rows, cost, self._plan, self._lease)

    def _with_own(self, attempts: tuple[Attempt, ...], served: Served) -> tuple[Attempt, ...]:
        """The attempts with the one whose answer this is, which is noted when it is over."""
        deployment = self._state.get(DEPLOYMENT)
        if (
            self._meter is None
            or deployment is None
            or any(one.status == self._status and one.error_code is None for one in attempts)
            or (self._state.get(FAILURE) is not None and attempts)
        ):
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

    async def _served(self, outcome: Outcome, cached: CacheReport | None) -> Served:
        meter = self._meter
        usage = self._state.get(USAGE)
        service_tier = None
        quantities = _ONE_REQUEST
        if cached is not None:
            usage = cached.usage
        elif meter is not None:
            usage, service_tier, quantities = await self._metered(meter, usage)
        elif usage is None and self._status is None and outcome is Outcome.DISCONNECTED:
            # Whoever left before the answer began may have been heard all the same.
            usage = Usage(input_uncached=self._asked.input_tokens, estimated=True)
        failure = self._state.get(FAILURE)
        error_code = None if failure is None else failure.code or "error"
        if error_code is None and meter is not None:
            # A stream that breaks off says so in its last event, before anybody else does.
            error_code = meter.error_code()
        now = self._meterage.clock()
        return Served(
            outcome=outcome,
            status=self._status,
            usage=usage,
            service_tier=service_tier,
            quantities=quantities,
            error_code=error_code,
            latency_seconds=now - self._begun,
            time_to_first_token_seconds=(
                None if self._first is None else self._first - self._begun
            ),
        )

    async def _metered(
        self, meter: AnswerMeter, usage: Usage | None
    ) -> tuple[Usage | None, str | None, Quantities]:
        """Usage, service tier, and what is paid for beside tokens."""
        asked = self._asked
        said = meter.said()
        if usage is None:
            usage = said.usage
        is_by_tokens = asked.operation in _BY_TOKENS
        if usage is None and is_by_tokens:
            usage = await meter.count(self._meterage.counter, asked.model, asked.input_tokens)
        service_tier = said.service_tier
        if service_tier is None:
            wanted = self._document.get("service_tier")
            service_tier = wanted if isinstance(wanted, str) else None
        quantities = _ONE_REQUEST
        if not is_by_tokens or meter.has_searches():
            quantities = self._quantities(meter)
        return usage, service_tier, quantities

    def _quantities(self, meter: AnswerMeter | None) -> Quantities:
        return read_quantities(self._document, None if meter is None else meter.document())


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


async def _awaited(begun: Coroutine[Any, Any, None], waits_for: Any) -> None:
    await go_on(begun, waits_for)


async def _finished(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work`` to its end.

    Hosts cancel a request whose client has left, some of them again and again; until the work is
    done the request waits for it.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()

"""The account of one answer that is paid for: what it took, what that costs, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import Message

from asgi_llm._tasks import finish
from asgi_llm.middleware._cost_books import Books
from asgi_llm.middleware._cost_entries import make_entries, make_usual, sum_costs
from asgi_llm.middleware._cost_prices import Pricer
from asgi_llm.middleware._cost_rows import Asked, Entry, Served
from asgi_llm.middleware._cost_usage import AnswerMeter
from asgi_llm.pricing import Quantities, read_quantities
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

__all__ = ["AnswerAccount", "Meterage"]


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


class AnswerAccount:
    """What is known of one answer, and what is made of that when it is over.

    Args:
        meterage: What all answers share.
        state: Of the request.
        asked: The request.
        lease: Its reservation; empty where it has none.
    """

    # Where an answer begins; most of them change few of these, so that they are not set one by one.
    _first: float | None = None
    _status: int | None = None
    _meter: AnswerMeter | None = None
    _held: Message | None = None
    _cost: Cost | None = None
    _is_stream = False
    _ended = False
    _over: asyncio.Future[None] | None = None
    # How much of a stream may pass without another look; 0 while there is something to look at.
    _room = 0

    def __init__(self, meterage: Meterage, state: State, asked: Asked, lease: str) -> None:
        self._meterage = meterage
        self._state = state
        self._asked = asked
        self._lease = lease
        self._begun = meterage.clock()

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

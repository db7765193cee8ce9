"""The account of one answer that is paid for: what it took, what that costs, and who is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.types import Send

from asgi_llm._tasks import finish
from asgi_llm.middleware._cost_bill import make_bill
from asgi_llm.middleware._cost_books import Books
from asgi_llm.middleware._cost_entries import make_entries, sum_costs
from asgi_llm.middleware._cost_prices import Pricer
from asgi_llm.middleware._cost_quick import is_standard, is_text_alone, monotonic
from asgi_llm.middleware._cost_rows import Asked, Entry, Served, make_intent
from asgi_llm.middleware._cost_usage import AnswerMeter
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

    Attributes:
        has_own_clock: Whether ``clock`` is another than that of the system.
    """

    __slots__ = (
        "books",
        "clock",
        "counter",
        "drain_seconds",
        "has_own_clock",
        "pricer",
        "tells",
    )

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
        self.has_own_clock = clock is not time.monotonic
        self.tells = tells
        self.drain_seconds = drain_seconds


_Used = tuple[Usage | None, str | None, Quantities]
"""What an answer took: tokens, at which service tier, and what is paid for beside tokens."""

_STANDARD: Final = (None, "default")
"""Service tiers that make no difference."""

_NOTHING_USED: Final[_Used] = (None, None, ONE_REQUEST)


class AnswerAccount(Asked):
    """A request, what is known of its answer, and what is made of that when it is over.

    It is made by ``make_answer``, which sets all that is declared here. (One object in place of two
    or three, for each that is made in a request costs as much as what is done with it.)
    """

    __slots__ = (
        "_begun",
        "_cost_text",
        "_ended",
        "_first",
        "_held",
        "_hides",
        "_is_json",
        "_is_stream",
        "_lease",
        "_left",
        "_meter",
        "_meterage",
        "_over",
        "_room",
        "_send",
        "_state",
        "_status",
        "_told",
    )

    _begun: float
    # As the client is told it, once it is known.
    _cost_text: str
    _ended: bool
    _first: float | None
    _held: dict[str, Any] | None
    # Whether the usage of a stream was asked for on our own account.
    _hides: bool
    _is_json: bool
    _is_stream: bool
    # The reservation; empty where there is none.
    _lease: str
    _left: float | None
    _meter: AnswerMeter | None
    _meterage: Meterage
    _over: asyncio.Future[None] | None
    # How much of a stream may pass without another look; 0 while there is something to look at.
    _room: int
    # The client's.
    _send: Send
    _state: State
    _status: int | None
    # Whether the client asked for the usage of a stream.
    _told: bool

    def _end_at_once(self, outcome: Outcome) -> bool:
        """``_end`` without a wait; False: nothing was done, for something has to be waited for."""
        books = self._meterage.books
        if not books.answer_at_once:
            return False
        cached = self._hit()
        try:
            used = self._used(outcome, cached)
            if used is None:
                return False
            entries, cost = self._noted(outcome, cached, used)
        except Exception:
            return False  # it is tried once more, by who closes the books all the same
        self._note_over()
        books.close_at_once(self, entries, cost, self._lease)
        return True

    def _end_usual(self, chunk: bytes) -> bool:
        """``_end_at_once`` for a whole JSON answer to a plain chat, by one call that went well.

        Most answers are that. It looks at no more than it has to, and all of it is in one function,
        for a step from one to the next costs as much as what is done in it.

        Args:
            chunk: The last one, which was not kept.

        Returns:
            False where something is unusual, and nothing was done.
        """
        meterage, state = self._meterage, self._state
        books = meterage.books
        usage = state.get(USAGE)
        if (
            usage is None
            or not self._is_json
            or self._status != 200
            or not self.is_plain
            or not books.takes_usual
            or state.get(FAILURE) is not None
            # A start that is held back is that of a JSON answer that no cache had.
            or (self._held is None and (meterage.tells or self._hit() is not None))
        ):
            return False
        if self._meter is not None:
            kept = self._meter.only()
            if not kept or chunk:
                return False
            chunk = kept
        # Some servers have bytes of another type.
        if type(chunk) is not bytes or not is_standard(chunk) or not is_text_alone(usage):
            return False
        return self._close_text(usage)

    def _end_stream(self, outcome: Outcome) -> bool:
        """``_end_usual`` for a whole stream."""
        meter, state, usage = self._meter, self._state, self._state.get(USAGE)
        if (
            usage is None
            or meter is None
            or outcome is not Outcome.COMPLETE
            or not self._is_stream
            or self._status != 200
            or not self.is_plain
            or not self._meterage.books.takes_usual
            or state.get(FAILURE) is not None
            or self._hit() is not None
            or not is_text_alone(usage)
            or meter.service_tier() not in _STANDARD
            or meter.error_code() is not None
        ):
            return False
        return self._close_text(usage)

    def _close_text(self, usage: Usage) -> bool:
        """Note a usual answer, unless its attempts or its price are unusual."""
        meterage, state = self._meterage, self._state
        now = meterage.clock() if meterage.has_own_clock else monotonic()
        latency = now - self._begun
        first: float | None = latency if self._first is None else self._first - self._begun
        attempts, kind = state.get(ATTEMPTS), self.kind
        if attempts:
            attempt = attempts[0]
            if len(attempts) > 1 or attempt.status != 200 or attempt.error_code is not None:
                return False
            place = kind.first
            if attempt.model != place.model or attempt.provider != place.provider:
                place = kind.place(attempt.provider, attempt.model)
            latency = attempt.duration_seconds
            first = first or attempt.time_to_first_byte_seconds
        else:
            # As a rule an attempt is noted when it is over: this is the one.
            made = state.get(DEPLOYMENT)
            if made is None or (attempts is None and state.get(OPERATION) is None):
                return False
            place = kind.place_made(made)
        if not place.since <= self.seconds < place.until:
            place.renew(self.seconds)
        rates = place.rates
        if rates is None:
            return False
        self._ended = True
        if self._over is not None:
            self._note_over()
        self._room = 0
        bill = make_bill(rates, place.source, usage.input_uncached, usage.output_text)
        if self._held is not None:
            self._cost_text = bill.text()
        state.defer(COST, bill)
        meterage.books.close_usual(
            self, place, usage, bill, bill.amount, self._lease, latency, first
        )
        return True

    async def _end(self, outcome: Outcome) -> None:
        """Note the request. Not left undone by a cancellation."""
        self._keeper()
        if not self._end_stream(outcome) and not self._end_at_once(outcome):
            self._note_over()
            await finish(self._close(outcome))

    async def _close(self, outcome: Outcome) -> None:
        cached, books = self._hit(), self._meterage.books
        try:
            used = self._used(outcome, cached) or await self._counted()
            entries, cost = self._noted(outcome, cached, used)
        except Exception:
            # The call was made: else its intent and its reservation would stay open for ever.
            made = msgspec.structs.replace(make_intent(self), outcome="failed", status=self._status)
            await books.close(self, [made], made.cost, self._lease)
            raise
        await books.close(self, entries, cost, self._lease)

    def _keeper(self) -> AnswerMeter | None:
        """What keeps the answer, made when it is first needed; None: there is nothing to keep."""
        if self._meter is None and self._is_json:
            self._meter = AnswerMeter(False, True)
        return self._meter

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
        entries = make_entries(self, served, self._meterage.pricer, attempts, cached)
        cost = sum_costs(entries)
        state.set(COST, cost)
        if self._held is not None and cost.amount_usd is not None:
            self._cost_text = format_usd(cost.amount_usd)
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
            # What attempts took that came to nothing; the answer itself took nothing.
            return usage, None, ONE_REQUEST
        if meter is None:
            if usage is None:
                if self._status is not None or outcome is not Outcome.DISCONNECTED:
                    return _NOTHING_USED
                # Whoever left before the answer began may have been heard all the same.
                usage = Usage(input_uncached=self.input_tokens, estimated=True)
            return usage, None, ONE_REQUEST
        if usage is None:
            usage, service_tier = meter.said()
            if usage is None and self.kind.by_tokens:
                return None
        else:
            service_tier = meter.service_tier()
        return self._used_of(meter, usage, service_tier)

    async def _counted(self) -> _Used:
        """What an answer took that does not say it."""
        meter = self._meter
        if meter is None:
            return _NOTHING_USED
        counter = self._meterage.counter
        usage = await meter.count(counter, self.kind.model, self.input_tokens)
        return self._used_of(meter, usage, meter.service_tier())

    def _used_of(self, meter: AnswerMeter, usage: Usage | None, service_tier: str | None) -> _Used:
        if service_tier is None:
            wanted = self.document.get("service_tier")
            service_tier = wanted if isinstance(wanted, str) else None
        quantities = ONE_REQUEST
        if not self.kind.by_tokens or meter.has_searches():
            quantities = self._quantities(meter)
        return usage, service_tier, quantities

    def _quantities(self, meter: AnswerMeter | None) -> Quantities:
        return read_quantities(self.document, None if meter is None else meter.document())

    def _priced(
        self, usage: Usage | None, quantities: Quantities, service_tier: str | None = None
    ) -> Cost:
        deployment = self._state.get(DEPLOYMENT)
        kind = self.kind
        place = kind.first
        if deployment is not None:
            place = kind.place(deployment.provider, deployment.model)
        return self._meterage.pricer.cost(
            place.price, usage, self.seconds, service_tier, quantities
        )

    def _hit(self) -> CacheReport | None:
        report = self._state.get(CACHE_STATUS)
        return report if report is not None and report.status == "hit" else None

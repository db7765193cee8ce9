"""The books: an intent before each call, and its outcome before the client has its last byte."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from asgi_llm.errors import StoreError
from asgi_llm.middleware._budget_alerts import Alerts
from asgi_llm.middleware._budget_calls import BudgetCalls
from asgi_llm.middleware._cost_bill import TextBill
from asgi_llm.middleware._cost_kinds import Place
from asgi_llm.middleware._cost_rows import (
    INTENT_ENDING,
    Asked,
    Entry,
    make_intent,
    make_row,
    pack_entry,
)
from asgi_llm.pricing.compiled import sum_exactly
from asgi_llm.stores._journal_rows import PackedJournal, join_rows
from asgi_llm.stores._journal_short import ShortCall, new_call
from asgi_llm.stores.budgets import BudgetUse, to_pico
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.ledger import Journal, Ledger, LedgerRow
from asgi_llm.types import Cost, Usage

__all__ = ["Books"]

_MOST_UNRECORDED: Final = 10_000
_AT_ONCE: Final = 500
_LOG_EVERY_SECONDS: Final = 1.0


class Books:
    """Where requests are noted. With a journal, the ledger is fed from that, by somebody else.

    Args:
        journal: See ``Journal``; None: none is kept.
        ledger: Gets the rows at once where there is no journal.
        calls: Settles with budgets.
        alerts: Told of what was settled.
        clock: Seconds, monotonic.
        logger: Where failures are logged, once a second at most.

    Attributes:
        failures: Calls of the journal or the ledger that failed.
        lost: Rows that were given up, because too many waited for the ledger.
        answer_at_once: Whether closing a request never waits for anybody.
        takes_usual: Whether ``close_usual`` may be called.
    """

    def __init__(
        self,
        *,
        journal: Journal | None,
        ledger: Ledger | None,
        calls: BudgetCalls,
        alerts: Alerts,
        clock: Callable[[], float],
        logger: logging.Logger,
    ) -> None:
        self._journal = journal
        # Such a journal gets bytes, so that no row is made that nobody reads.
        self._packed: PackedJournal | None = journal if isinstance(journal, PackedJournal) else None
        # Our own is known to C.
        self._file = journal if type(journal) is FileJournal else None
        self._ledger = None if journal is not None else ledger
        self._calls = calls
        self._memory = calls.memory
        self._alerts = alerts
        self._clock = clock
        self._logger = logger
        self._next_log = -float("inf")
        self._unrecorded: deque[LedgerRow] = deque()
        self.failures = 0
        self.lost = 0
        self.answer_at_once = self._ledger is None and calls.memory is not None
        self.takes_usual = self.answer_at_once and (journal is None or self._packed is not None)

    @property
    def unrecorded(self) -> int:
        """Rows that the ledger has not taken yet."""
        return len(self._unrecorded)

    def intend(self, asked: Asked) -> None:
        """Note that a call is about to be made.

        Raises:
            StoreError: It cannot be noted.
        """
        if self._journal is None:
            return
        head = asked.kind.first.head
        if head and self._packed is not None:
            asked.call = call = new_call(
                asked.id, asked.request_id, asked.microseconds, asked.streamed, asked.input_tokens
            )
            if self._file is not None and self._file.write_intent(call, head, INTENT_ENDING):
                return
        self._intend(self._journal, asked, head)

    def _intend(self, journal: Journal, asked: Asked, head: bytes) -> None:
        try:
            if self._packed is not None and asked.call is not None:
                try:
                    self._packed.intend_short(asked.call, head, INTENT_ENDING)
                    return
                except (ValueError, OverflowError):
                    # Out of all bounds; rows that are objects are brought into them.
                    pass
            journal.intend(make_row(asked, make_intent(asked)))
        except StoreError as error:
            self._note("the journal", error)
            raise

    async def close(self, asked: Asked, entries: Sequence[Entry], cost: Cost, lease: str) -> None:
        """Note what came of a request, and settle it with its budgets."""
        if self._journal is not None:
            self._settle(self._journal, asked, entries)
        elif self._ledger is not None:
            await self._record(self._ledger, [make_row(asked, entry) for entry in entries])
        if lease:
            self._told(asked, await self._calls.settle(asked.plan, lease, _amount(cost)))

    def close_at_once(self, asked: Asked, entries: Sequence[Entry], cost: Cost, lease: str) -> None:
        """``close``, where ``answer_at_once`` says that nobody has to be waited for."""
        if self._journal is not None:
            self._settle(self._journal, asked, entries)
        if lease:
            self.settle_at_once(asked, lease, _amount(cost))

    def close_usual(
        self,
        asked: Asked,
        place: Place,
        usage: Usage,
        bill: TextBill,
        amount: int,
        lease: str,
        latency_seconds: float,
        first_seconds: float | None,
    ) -> None:
        """``close_at_once`` for a whole answer of status 200 that one attempt has made.

        Its row has the rates of the place in place of amounts, and is never made here.

        Args:
            asked: The request.
            place: Where it was served, brought up to date, with rates of text.
            usage: Tokens of text in and of text out, and no others.
            bill: What they cost; has the same counts.
            amount: The same in pico-USD.
            lease: Its reservation; empty where it has none.
            latency_seconds: As in ``Entry``.
            first_seconds: As in ``Entry``.
        """
        if self._packed is not None:
            call = asked.call
            if call is None:
                # Its intent was none of the usual place.
                call = new_call(asked.id, asked.request_id, asked.microseconds, asked.streamed, 0)
            call.tokens_in = bill.tokens_in
            call.tokens_out = bill.tokens_out
            call.latency_seconds = latency_seconds
            call.first_seconds = first_seconds
            file = self._file
            if file is None or not file.write_outcome(call, place.head, place.ending):
                self._close_usual(asked, call, place, usage, bill)
        if lease:
            self.settle_at_once(asked, lease, amount)

    def _close_usual(
        self, asked: Asked, call: ShortCall, place: Place, usage: Usage, bill: TextBill
    ) -> None:
        packed = self._packed
        if packed is None:
            return
        try:
            packed.settle_short(call, place.head, place.ending)
        except (ValueError, OverflowError):
            times = call.latency_seconds, call.first_seconds
            entry = Entry(asked.id, 1, place, usage, bill(), "complete", 200, None, *times)
            self._settle(packed, asked, (entry,))
        except StoreError as error:
            self._note("the journal", error)

    def settle_at_once(self, asked: Asked, lease: str, amount: int) -> None:
        """Settle a request with its budgets, where these are in the memory of this process."""
        plan = asked.plan
        memory, tells = self._memory, plan.tells
        if memory is None:
            raise TypeError("this store may have to be waited for")
        try:
            uses = memory.settle_at_once(plan.demands, lease, amount, tells)
        except StoreError as error:
            self._calls.defer(plan, lease, amount, error)
        else:
            if tells:
                self._told(asked, uses)

    def _told(self, asked: Asked, uses: Sequence[BudgetUse] | None) -> None:
        plan = asked.plan
        if plan.tells and uses is not None:
            self._alerts.check(plan.concerned, uses)

    def _settle(self, journal: Journal, asked: Asked, entries: Sequence[Entry]) -> None:
        try:
            if self._packed is not None:
                try:
                    packed = join_rows([pack_entry(asked, entry) for entry in entries])
                    self._packed.settle_packed(packed, len(entries), intent=asked.id)
                    return
                except (ValueError, OverflowError):
                    # Out of all bounds; rows that are objects are brought into them.
                    pass
            journal.settle([make_row(asked, entry) for entry in entries], intent=asked.id)
        except StoreError as error:
            self._note("the journal", error)

    async def _record(self, ledger: Ledger, rows: list[LedgerRow]) -> None:
        waiting = list(self._unrecorded)[:_AT_ONCE]
        try:
            await ledger.record([*waiting, *rows])
        except StoreError as error:
            self._note("the ledger", error)
            excess = len(self._unrecorded) + len(rows) - _MOST_UNRECORDED
            for _ in range(min(excess, len(self._unrecorded))):
                self._unrecorded.popleft()
                self.lost += 1
            self._unrecorded.extend(rows)
        else:
            if waiting:
                kept = {row.id for row in waiting}
                self._unrecorded = deque(row for row in self._unrecorded if row.id not in kept)

    def _note(self, who: str, error: StoreError) -> None:
        self.failures += 1
        now = self._clock()
        if now >= self._next_log:
            self._next_log = now + _LOG_EVERY_SECONDS
            self._logger.error("%s failed (%d times so far): %s", who, self.failures, error)

    async def aclose(self) -> None:
        """Record what waits."""
        while self._ledger is not None and self._unrecorded:
            before = len(self._unrecorded)
            await self._record(self._ledger, [])
            if len(self._unrecorded) >= before:
                self._logger.error("%d rows were not recorded", before)
                return


def _amount(cost: Cost) -> int:
    """What budgets are charged, in pico-USD: of a cost not known as a whole, what is known."""
    amount = cost.amount_usd
    if amount is None:
        amount = sum_exactly(cost.parts.values())
    return to_pico(amount) if amount else 0

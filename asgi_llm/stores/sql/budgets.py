"""Budgets in SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from asgi_llm.errors import StoreError
from asgi_llm.stores._budget_periods import SECOND, period_at
from asgi_llm.stores.budgets import (
    BudgetDecision,
    BudgetDemand,
    BudgetStatus,
    BudgetUse,
)
from asgi_llm.stores.sql._budget_accounts import KEEP_US, Account, Hold
from asgi_llm.stores.sql._budget_statements import (
    clean_up,
    load_accounts,
    load_holds,
    lock_accounts,
    save,
)
from asgi_llm.stores.sql._database import Database, IntegrityFailure

__all__ = ["SQLBudgets"]

_MOST_AT_ONCE: Final = 256
_CLEAN_EVERY_US: Final = 60 * SECOND


class _Operation:
    """A call that waits for its turn."""

    __slots__ = ("amount", "demands", "enforce", "future", "kind", "lease", "lease_us")

    def __init__(
        self,
        kind: str,
        demands: Sequence[BudgetDemand],
        *,
        lease: str = "",
        amount: int = 0,
        lease_us: int = 0,
        enforce: bool = True,
    ) -> None:
        self.kind = kind
        self.demands = demands
        self.lease = lease
        self.amount = amount
        self.lease_us = lease_us
        self.enforce = enforce
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class SQLBudgets:
    """A ``BudgetStore`` in a database with the schema of ``create_schema``.

    The calls that come while a transaction is under way make up the next one: under load many are
    decided at once, and each worker uses one connection. Who spends from a budget holds its row's
    lock (SQLite: the database's) until the transaction ends.

    Args:
        engine: As ``open_engine`` gives it; it stays its owner's to dispose of.
        timeout_seconds: For one transaction, the wait for its turn not included, above 0.
        clock: Unix time in seconds; None: the database's own for PostgreSQL, else this machine's.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        timeout_seconds: float = 5.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._database = Database(engine, timeout_seconds=timeout_seconds)
        self._dialect = engine.dialect.name
        self._asks_time = clock is None and self._dialect == "postgresql"
        self._clock = clock or time.time
        self._waiting: list[_Operation] = []
        self._task: asyncio.Task[None] | None = None
        self._cleaned = 0

    async def reserve(
        self,
        demands: Sequence[BudgetDemand],
        amount: int,
        *,
        lease: str,
        lease_seconds: float,
        enforce: bool = True,
    ) -> BudgetDecision:
        """Hold ``amount`` on all of ``demands``, or on none of them.

        Raises:
            StoreError: The database did not answer in time, or with an error. It may have been
                reserved all the same; then it ends with its lease, or with ``settle``.
        """
        lease_us = int(lease_seconds * SECOND)
        operation = _Operation(
            "reserve", demands, lease=lease, amount=amount, lease_us=lease_us, enforce=enforce
        )
        return cast("BudgetDecision", await self._ask(operation))

    async def renew(
        self, demands: Sequence[BudgetDemand], *, lease: str, lease_seconds: float
    ) -> None:
        """Keep the reservation of ``lease``; one that has lapsed stays so.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        lease_us = int(lease_seconds * SECOND)
        await self._ask(_Operation("renew", demands, lease=lease, lease_us=lease_us))

    async def settle(
        self, demands: Sequence[BudgetDemand], *, lease: str, actual: int
    ) -> tuple[BudgetUse, ...]:
        """End the reservation of ``lease`` with what the call cost.

        Raises:
            StoreError: The database did not answer in time, or with an error; it may be asked
                again.
        """
        operation = _Operation("settle", demands, lease=lease, amount=actual)
        return cast("tuple[BudgetUse, ...]", await self._ask(operation))

    async def spent(self, demands: Sequence[BudgetDemand]) -> tuple[BudgetStatus, ...]:
        """How ``demands`` stand now.

        Raises:
            StoreError: The database did not answer in time, or with an error.
        """
        return cast("tuple[BudgetStatus, ...]", await self._ask(_Operation("spent", demands)))

    async def aclose(self) -> None:
        """End what is under way. The engine stays open."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait((task,), timeout=self.timeout_seconds)

    async def _ask(self, operation: _Operation) -> Any:
        loop = asyncio.get_running_loop()
        task = self._task
        if task is None or task.done() or task.get_loop() is not loop:
            self._waiting = [operation]
            self._task = loop.create_task(self._run())
        else:
            self._waiting.append(operation)
        return await operation.future

    async def _run(self) -> None:
        while self._waiting:
            batch = self._waiting[:_MOST_AT_ONCE]
            del self._waiting[:_MOST_AT_ONCE]
            try:
                answers = await self._database.write(partial(self._work, batch=batch))
            except (StoreError, IntegrityFailure) as error:
                for operation in batch:
                    if not operation.future.done():
                        failure = StoreError(
                            error.message
                            if isinstance(error, StoreError)
                            else "The database refused a budget."
                        )
                        operation.future.set_exception(failure)
            except Exception as error:
                # Not the database's: each has it for what it is, and the next ones are served.
                for operation in batch:
                    if not operation.future.done():
                        operation.future.set_exception(error)
            else:
                for operation, answer in zip(batch, answers, strict=True):
                    if not operation.future.done():
                        operation.future.set_result(answer)

    async def _work(self, connection: AsyncConnection, batch: Sequence[_Operation]) -> list[Any]:
        """Decide all of ``batch``, in its order, in one transaction."""
        demands = {demand.key: demand for operation in batch for demand in operation.demands}
        starts, theirs = await lock_accounts(
            connection, self._dialect, sorted(demands), asks_time=self._asks_time
        )
        now = theirs if theirs is not None else round(self._clock() * SECOND)
        accounts = {}
        for key, demand in demands.items():
            # A clock that went back does not bring an older period back.
            at = max(now, starts[key])
            accounts[key] = Account(demand.rule, period_at(demand.rule, at), starts[key])
        await load_accounts(connection, accounts, now)
        leases = sorted({operation.lease for operation in batch if operation.lease})
        holds = await load_holds(connection, sorted(demands), leases) if leases else {}
        answers = [_decide(operation, accounts, holds, now) for operation in batch]
        await save(connection, self._dialect, accounts, holds)
        if now - self._cleaned > _CLEAN_EVERY_US:
            self._cleaned = now
            await clean_up(connection, accounts, now)
        return answers


_Holds = dict[tuple[str, str], Hold]


def _decide(operation: _Operation, accounts: dict[str, Account], holds: _Holds, now: int) -> Any:
    """The answer to an operation; what it changes is noted in accounts and holds."""
    found = [accounts[demand.key] for demand in operation.demands]
    if operation.kind == "spent":
        return tuple([account.status() for account in found])
    if operation.kind == "reserve":
        return _reserve(operation, found, holds, now)
    uses = []
    for demand, account in zip(operation.demands, found, strict=True):
        place = (demand.key, operation.lease)
        hold = holds.get(place)
        if operation.kind == "renew":
            if hold is not None and not hold.settled and hold.deadline > now:
                hold.deadline, hold.changed = now + operation.lease_us, True
            continue
        before = account.spent
        if hold is None:
            hold = holds[place] = Hold(account.period.start)
        if not hold.settled:
            if hold.deadline > now and account.counts(hold.start):
                account.reserved -= hold.amount
            account.spend(operation.amount, hold.start)
            # It stays for a while, so that a caller without an answer may settle it again.
            hold.amount, hold.deadline, hold.settled, hold.changed = 0, now + KEEP_US, True, True
        uses.append(BudgetUse(before, account.spent))
    return tuple(uses)


def _reserve(
    operation: _Operation, found: Sequence[Account], holds: _Holds, now: int
) -> BudgetDecision:
    amount = operation.amount
    statuses = tuple([account.status() for account in found])
    place = None
    for at, (demand, account) in enumerate(zip(operation.demands, found, strict=True)):
        if amount and demand.rule.hard and account.spent + account.reserved + amount > demand.limit:
            place = at
            break
    if place is None or not operation.enforce:
        for demand, account in zip(operation.demands, found, strict=True):
            hold = Hold(account.period.start, amount, now + operation.lease_us)
            hold.changed = True
            holds[demand.key, operation.lease] = hold
            account.reserved += amount
    return BudgetDecision(place is None, place, statuses)

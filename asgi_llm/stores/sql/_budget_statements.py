"""What a transaction over budgets reads and writes: a few statements, however many requests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    bindparam,
    cast,
    delete,
    extract,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_llm.stores.budgets import PICO
from asgi_llm.stores.sql._budget_accounts import KEEP_US, Account, Hold
from asgi_llm.stores.sql._rows import table_of
from asgi_llm.stores.sql.budget_models import BudgetAccount, BudgetHold, BudgetSpending

__all__ = ["clean_up", "load_accounts", "load_holds", "lock_accounts", "save"]

_ACCOUNTS: Final = table_of(BudgetAccount)
_SPENDING: Final = table_of(BudgetSpending)
_HOLDS: Final = table_of(BudgetHold)

_NOW: Final = cast(extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)


def _insert(table: Any, dialect: str) -> Any:
    return (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)


async def lock_accounts(
    connection: AsyncConnection, dialect: str, keys: Sequence[str], *, asks_time: bool
) -> tuple[dict[str, int], int | None]:
    """Lock accounts, in one order for all; where their periods begin, and the database's time."""
    columns: list[ColumnElement[Any]] = [_ACCOUNTS.c.key, _ACCOUNTS.c.start]
    if asks_time:
        columns.append(_NOW.label("now"))
    locked = (
        select(*columns).where(_ACCOUNTS.c.key.in_(keys)).order_by(_ACCOUNTS.c.key)
    ).with_for_update()
    rows = (await connection.execute(locked)).all()
    if len(rows) < len(keys):
        known = {row.key for row in rows}
        missing = [{"key": key, "start": -1} for key in keys if key not in known]
        await connection.execute(
            _insert(_ACCOUNTS, dialect).on_conflict_do_nothing(index_elements=["key"]), missing
        )
        rows = (await connection.execute(locked)).all()
    now = max((int(row.now) for row in rows), default=None) if asks_time else None
    return {row.key: row.start for row in rows}, now


async def load_accounts(
    connection: AsyncConnection, accounts: Mapping[str, Account], now: int
) -> None:
    """Add up what counts of each account."""
    spending: dict[int, list[str]] = defaultdict(list)
    holds: dict[int, list[str]] = defaultdict(list)
    for key, account in accounts.items():
        spending[account.first].append(key)
        holds[account.first_hold].append(key)
    for first, keys in spending.items():
        for key, amount in await _sums(
            connection, _SPENDING, _SPENDING.c.key.in_(keys), _SPENDING.c.start >= first
        ):
            accounts[key].spent = amount
    for first, keys in holds.items():
        for key, amount in await _sums(
            connection,
            _HOLDS,
            _HOLDS.c.key.in_(keys),
            _HOLDS.c.start >= first,
            _HOLDS.c.deadline > now,
        ):
            accounts[key].reserved = amount


async def _sums(connection: AsyncConnection, table: Any, *where: Any) -> list[tuple[str, int]]:
    found = await connection.execute(
        select(table.c.key, func.sum(table.c.usd), func.sum(table.c.pico))
        .where(*where)
        .group_by(table.c.key)
    )
    return [(key, int(usd) * PICO + int(pico)) for key, usd, pico in found]


async def load_holds(
    connection: AsyncConnection, keys: Sequence[str], leases: Sequence[str]
) -> dict[tuple[str, str], Hold]:
    """The reservations of ``leases``, by account and lease."""
    rows = await connection.execute(
        select(_HOLDS).where(_HOLDS.c.key.in_(keys), _HOLDS.c.lease.in_(leases))
    )
    return {
        (row.key, row.lease): Hold(
            row.start, row.usd * PICO + row.pico, row.deadline, settled=row.settled
        )
        for row in rows
    }


async def save(
    connection: AsyncConnection,
    dialect: str,
    accounts: Mapping[str, Account],
    holds: Mapping[tuple[str, str], Hold],
) -> None:
    """Write what was decided."""
    starts = [
        {"a_key": key, "a_start": account.period.start}
        for key, account in accounts.items()
        if account.period.start > account.known_start
    ]
    if starts:
        await connection.execute(
            update(_ACCOUNTS)
            .where(_ACCOUNTS.c.key == bindparam("a_key"))
            .values(start=bindparam("a_start")),
            starts,
        )
    spent = [
        {"key": key, "start": start, "usd": amount // PICO, "pico": amount % PICO}
        for key, account in accounts.items()
        for start, amount in account.added.items()
        if amount
    ]
    if spent:
        insert = _insert(_SPENDING, dialect)
        pico = _SPENDING.c.pico + insert.excluded.pico
        await connection.execute(
            insert.on_conflict_do_update(
                index_elements=["key", "start"],
                set_={
                    "usd": _SPENDING.c.usd + insert.excluded.usd + pico // PICO,
                    "pico": pico % PICO,
                },
            ),
            spent,
        )
    changed = [
        {
            "key": key,
            "lease": lease,
            "start": hold.start,
            "usd": hold.amount // PICO,
            "pico": hold.amount % PICO,
            "deadline": hold.deadline,
            "settled": hold.settled,
        }
        for (key, lease), hold in holds.items()
        if hold.changed
    ]
    if changed:
        insert = _insert(_HOLDS, dialect)
        names = ("start", "usd", "pico", "deadline", "settled")
        await connection.execute(
            insert.on_conflict_do_update(
                index_elements=["key", "lease"],
                set_={name: insert.excluded[name] for name in names},
            ),
            changed,
        )


async def clean_up(connection: AsyncConnection, accounts: Mapping[str, Account], now: int) -> None:
    """Delete reservations that are over, and parts of rolling periods that count no more."""
    await connection.execute(delete(_HOLDS).where(_HOLDS.c.deadline <= now - KEEP_US))
    # A term for each account would be too deep an expression for SQLite, from a thousand on.
    over: dict[int, list[str]] = defaultdict(list)
    for key, account in accounts.items():
        if account.is_rolling:
            over[account.first].append(key)
    for first, keys in over.items():
        await connection.execute(
            delete(_SPENDING).where(_SPENDING.c.key.in_(keys), _SPENDING.c.start < first)
        )

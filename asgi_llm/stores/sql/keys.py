"""``SQLKeys``: credentials looked up in SQL, and the times when keys were last used."""

from __future__ import annotations

import asyncio
import datetime
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from sqlalchemy import Row, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._resolution import budget_rules
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.directory import Budget
from asgi_llm.stores.sql._database import Database
from asgi_llm.stores.sql._rows import table_of
from asgi_llm.stores.sql.models import CredentialRow, KeyRow, OrganizationRow, TeamRow, UserRow
from asgi_llm.types import BudgetRule, BudgetScope, Limit, Principal, Role

__all__ = ["SQLKeys"]

logger = logging.getLogger(__name__)

# What a key does not say itself comes from its user and its team.
_TEAM = func.coalesce(KeyRow.team_id, UserRow.team_id)
_ORGANIZATION = func.coalesce(
    KeyRow.organization_id, UserRow.organization_id, TeamRow.organization_id
)
_FIND = (
    select(
        CredentialRow.expires_at.label("credential_expires_at"),
        KeyRow.id,
        KeyRow.name,
        KeyRow.user_id,
        _TEAM.label("team_id"),
        _ORGANIZATION.label("organization_id"),
        KeyRow.role,
        UserRow.role.label("user_role"),
        KeyRow.models,
        TeamRow.models.label("team_models"),
        KeyRow.scopes,
        KeyRow.labels,
        KeyRow.expires_at,
        KeyRow.revoked_at,
        *(
            column.label(prefix + name)
            for prefix, table in (
                ("key_", KeyRow),
                ("user_", UserRow),
                ("team_", TeamRow),
                ("organization_", OrganizationRow),
            )
            for name, column in (
                ("active", table.active),
                ("tier", table.tier),
                ("limits", table.limits),
                ("budgets", table.budgets),
            )
        ),
    )
    .select_from(CredentialRow)
    .join(KeyRow, KeyRow.id == CredentialRow.key_id)
    .outerjoin(UserRow, UserRow.id == KeyRow.user_id)
    .outerjoin(TeamRow, TeamRow.id == _TEAM)
    .outerjoin(OrganizationRow, OrganizationRow.id == _ORGANIZATION)
    .where(CredentialRow.digest == bindparam("digest"))
)
_NOTE = (
    update(table_of(KeyRow))
    .where(
        KeyRow.id == bindparam("key"),
        KeyRow.last_used_at.is_(None) | (KeyRow.last_used_at < bindparam("at")),
    )
    .values(last_used_at=bindparam("at"))
)
_RANKS: dict[Role, int] = {"member": 0, "team_admin": 1, "admin": 2}
_Found = Row[*tuple[Any, ...]]
_MOST_PENDING = 100_000
_ROWS_AT_ONCE = 1000


class SQLKeys:
    """Keys in the database of ``engine``, which stays its owner's to dispose of.

    A key inherits: limits of its user, team and organization where it has none of the same scope,
    unit and window (the nearest wins), the first tier that is set on that way, and its team's
    models. Budgets are not inherited: those of each level hold, and all that belong to it spend
    from them. A key can do no more than its user's role allows, and nothing while any of them is
    inactive.

    Args:
        engine: As ``open_engine`` gives it, with the schema of ``create_schema``.
        timeout_seconds: For one look-up, above 0.
        note_every_seconds: Times of last use are written at most so often, from 0. Those not yet
            written are lost with the process.
        clock: Seconds that only grow.

    Raises:
        ConfigurationError: An option is out of range.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        timeout_seconds: float = 2.0,
        note_every_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (0 <= note_every_seconds < math.inf):
            raise ConfigurationError(
                "note_every_seconds must be a number of at least 0", param="note_every_seconds"
            )
        self._database = Database(engine, timeout_seconds=timeout_seconds)
        self._note_every_seconds = note_every_seconds
        self._clock = clock
        self._noted_at = clock()
        self._pending: dict[str, float] = {}
        self._writing: asyncio.Task[None] | None = None

    async def find(self, digest: bytes) -> KeyRecord | None:
        """The record of the key whose SHA-256 digest is ``digest``; None: no such key.

        One statement over primary keys, whatever the number of keys.

        Raises:
            StoreError: It is not known whether there is such a key.
        """

        async def work(connection: AsyncConnection) -> _Found | None:
            return (await connection.execute(_FIND, {"digest": digest})).first()

        row = await self._database.read(work)
        if row is None:
            return None
        try:
            return _record(row)
        except msgspec.ValidationError as error:
            raise StoreError(f"The row of a key is not valid: {error}") from None

    def note_used(self, key_id: str, at: float) -> None:
        """Remember that a key was used at Unix time ``at``, in seconds.

        Nothing is written here. Once in ``note_every_seconds`` a task is begun that writes all that
        was noted; ``flush`` waits for it.
        """
        if key_id in self._pending or len(self._pending) < _MOST_PENDING:
            self._pending[key_id] = max(at, self._pending.get(key_id, at))
        if self._writing is None and self._clock() - self._noted_at >= self._note_every_seconds:
            self._noted_at = self._clock()
            self._writing = asyncio.create_task(self._write_pending())

    async def flush(self) -> None:
        """Write what was noted. The owner calls this before the engine is disposed of."""
        if self._writing is not None:
            await self._writing
        if self._pending:
            self._writing = asyncio.create_task(self._write_pending())
            await self._writing

    async def _write_pending(self) -> None:
        pending, self._pending = self._pending, {}
        # In one order everywhere, so that processes do not wait for each other in a circle.
        rows = [
            {"key": key, "at": datetime.datetime.fromtimestamp(at, datetime.UTC)}
            for key, at in sorted(pending.items())
        ]
        try:
            while rows:
                chunk = rows[:_ROWS_AT_ONCE]

                async def work(connection: AsyncConnection, chunk: Any = chunk) -> None:
                    await connection.execute(_NOTE, chunk)

                await self._database.write(work)
                del rows[:_ROWS_AT_ONCE]
        except StoreError as error:
            logger.warning("times of last use of %d keys wait: %s", len(rows), error.message)
            for row in rows:
                key, at = str(row["key"]), pending[str(row["key"])]
                self._pending[key] = max(at, self._pending.get(key, at))
        finally:
            self._writing = None


def _record(row: _Found) -> KeyRecord:
    """What a row of ``_FIND`` says."""
    tiers = (row.key_tier, row.user_tier, row.team_tier, row.organization_tier)
    active = (row.key_active, row.user_active, row.team_active, row.organization_active)
    ends = [at.timestamp() for at in (row.credential_expires_at, row.expires_at) if at is not None]
    models = row.models if row.models is not None else row.team_models
    # The lesser of the two: a user who is an admin no more has no admin's keys.
    roles: list[Role] = [role for role in (row.role, row.user_role) if role is not None]
    return KeyRecord(
        principal=Principal(
            key_id=row.id,
            key_name=row.name,
            user_id=row.user_id,
            team_id=row.team_id,
            organization_id=row.organization_id,
            role=min(roles, key=_RANKS.__getitem__),
            tier=next((tier for tier in tiers if tier is not None), None),
            models=None if models is None else tuple(models),
            scopes=frozenset(row.scopes),
            limits=_nearest(
                (row.key_limits, row.user_limits, row.team_limits, row.organization_limits)
            ),
            budgets=(
                *_rules("key", row.key_budgets),
                *_rules("user", row.user_budgets),
                *_rules("team", row.team_budgets),
                *_rules("organization", row.organization_budgets),
            ),
            metadata=row.metadata,
        ),
        active=row.revoked_at is None and False not in active,
        expires_at=min(ends, default=None),
    )


def _nearest(levels: Iterable[list[dict[str, Any]] | None]) -> tuple[Limit, ...]:
    """Of the limits of one scope, unit and window, those of the first level that has any."""
    chosen: dict[tuple[str, str, int], Limit] = {}
    for level in levels:
        for limit in msgspec.convert(level or [], list[Limit]):
            chosen.setdefault((limit.scope, limit.unit, limit.window_seconds), limit)
    return tuple(chosen.values())


def _rules(scope: BudgetScope, budgets: list[dict[str, Any]] | None) -> tuple[BudgetRule, ...]:
    return budget_rules(scope, msgspec.convert(budgets, list[Budget])) if budgets else ()

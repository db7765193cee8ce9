"""``SQLDirectory``: who there is, kept in SQL together with the log of every change."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from asgi_llm.errors import StoreError
from asgi_llm.stores.directory import (
    AuditEntry,
    ConflictError,
    Entity,
    Key,
    Organization,
    Page,
    Team,
    User,
)
from asgi_llm.stores.sql._database import Constraint, Database, IntegrityFailure
from asgi_llm.stores.sql._paging import filtered, following, next_cursor
from asgi_llm.stores.sql._parents import check_parents
from asgi_llm.stores.sql._rows import (
    TABLES,
    audit_values,
    check_time,
    entity_from_row,
    table_of,
    values_of,
)
from asgi_llm.stores.sql.models import AuditRow, CredentialRow

__all__ = ["SQLDirectory"]

E = TypeVar("E", bound=Entity)
T = TypeVar("T")

_KEYS = TABLES[Key]
_CREDENTIALS = table_of(CredentialRow)
_AUDIT = table_of(AuditRow)
_FIXED = frozenset({"id", "created_at", "hint", "last_used_at", "revoked_at"})
_FILTERS: dict[type[Entity], frozenset[str]] = {
    Organization: frozenset({"active", "name"}),
    Team: frozenset({"active", "name", "organization_id"}),
    User: frozenset({"active", "name", "organization_id", "team_id"}),
    Key: frozenset({"active", "name", "organization_id", "team_id", "user_id"}),
}
_AUDIT_FILTERS = frozenset({"action", "actor", "target"})


class SQLDirectory:
    """Members and audit log in the database of ``engine``, which stays its owner's to dispose of.

    Where a member of an organization names a team or a user, that one is of the same organization:
    the database itself holds to it.

    Args:
        engine: As ``open_engine`` gives it, with the schema of ``create_schema``.
        timeout_seconds: For one call, above 0. A write that misses it may have happened.

    Raises:
        ConfigurationError: ``timeout_seconds`` is out of range.

    Its methods raise ``StoreError`` and ``ConflictError`` as the Protocol says, and ``ValueError``
    for a value that cannot be stored, a filter that does not exist and a cursor that is none.
    """

    def __init__(self, engine: AsyncEngine, *, timeout_seconds: float = 5.0) -> None:
        self._database = Database(engine, timeout_seconds=timeout_seconds)

    async def add(self, entity: Entity, audit: AuditEntry) -> None:
        """Add an organization, a team or a user."""
        kind = type(entity)
        if kind is Key or kind not in TABLES:
            raise TypeError("add takes an organization, a team or a user")
        values, entry = values_of(msgspec.structs.asdict(entity)), audit_values(audit)

        async def work(connection: AsyncConnection) -> None:
            await check_parents(connection, values)
            await connection.execute(insert(TABLES[kind]).values(values))
            await connection.execute(insert(_AUDIT).values(entry))

        await self._write(work, unique="The name is taken.")

    async def add_key(self, key: Key, digest: bytes, audit: AuditEntry) -> None:
        """Add a key whose SHA-256 digest is ``digest``."""
        values, entry = values_of(msgspec.structs.asdict(key)), audit_values(audit)
        credential = _credential(key.id, digest, key.created_at)

        async def work(connection: AsyncConnection) -> None:
            await check_parents(connection, values)
            await connection.execute(insert(_KEYS).values(values))
            await connection.execute(insert(_CREDENTIALS).values(credential))
            await connection.execute(insert(_AUDIT).values(entry))

        await self._write(work, unique="The key, or its id, is taken.")

    async def get(self, kind: type[E], id: str) -> E | None:
        """One member; None: there is none."""
        statement = filtered(_select(kind), TABLES[kind], {"id": id})
        if statement is None:
            return None

        async def work(connection: AsyncConnection) -> E | None:
            row = (await connection.execute(statement)).mappings().first()
            return None if row is None else _entity(kind, row)

        return await self._database.read(work)

    async def list(
        self, kind: type[E], *, where: Mapping[str, Any], limit: int, after: str | None = None
    ) -> Page:
        """Members whose fields equal ``where``, at most ``limit`` (1 to 1,000) of them.

        None asks for members whose field is empty.
        """
        _refuse_unknown(where, _FILTERS[kind])
        statement = filtered(_select(kind), TABLES[kind], where)
        if statement is None:
            return Page(items=(), next=None)
        table = TABLES[kind]
        statement = following(statement, table.c.created_at, table.c.id, limit, after)

        async def work(connection: AsyncConnection) -> Page:
            rows = (await connection.execute(statement)).mappings().all()
            return Page(
                items=tuple(_entity(kind, row) for row in rows[:limit]),
                next=next_cursor(rows, limit, "created_at"),
            )

        return await self._database.read(work)

    async def update(
        self, kind: type[E], id: str, changes: Mapping[str, Any], audit: AuditEntry
    ) -> E | None:
        """Set fields, as the struct names them; the others stay. None: there is no such id.

        Set when a member is made, and not by this: ``id``, ``created_at`` and what a key's own
        life sets (``hint``, ``last_used_at``, ``revoked_at``). No changes, no audit entry.
        """
        _refuse_unknown(changes, frozenset(kind.__struct_fields__) - _FIXED)
        values, entry = values_of(changes), audit_values(audit)

        async def work(connection: AsyncConnection) -> E | None:
            row = await _lock(connection, kind, id)
            if row is None:
                return None
            if not values:
                return _entity(kind, row)
            if row.get("revoked_at") is not None and values.get("active"):
                raise ConflictError("The key is revoked, for good.")
            await check_parents(connection, {**row, **values}, changed=values.keys())
            table = TABLES[kind]
            await connection.execute(update(table).where(table.c.id == id).values(values))
            await connection.execute(insert(_AUDIT).values(entry))
            changed = await connection.execute(_select(kind).where(table.c.id == id))
            return _entity(kind, changed.mappings().one())

        return await self._write(
            work,
            unique="The name is taken.",
            foreign_key="Members of it belong to another organization then.",
        )

    async def remove(self, kind: type[E], id: str, audit: AuditEntry) -> bool:
        """Remove a member that nothing belongs to any more. Keys are revoked, not removed.

        A revoked key still belongs to those it was made for: set them inactive instead.
        """
        if kind is Key:
            raise TypeError("a key is revoked, not removed")
        entry = audit_values(audit)

        async def work(connection: AsyncConnection) -> bool:
            if await _lock(connection, kind, id) is None:
                return False
            await connection.execute(delete(TABLES[kind]).where(TABLES[kind].c.id == id))
            await connection.execute(insert(_AUDIT).values(entry))
            return True

        return await self._write(work, foreign_key="Something still belongs to it.")

    async def rotate_key(
        self,
        id: str,
        digest: bytes,
        *,
        hint: str,
        old_expires_at: datetime.datetime,
        audit: AuditEntry,
    ) -> Key | None:
        """Give a key a new credential; those it had end at ``old_expires_at`` at the latest.

        Credentials that had ended before are forgotten.
        """
        check_time(old_expires_at, "old_expires_at")
        values, entry = values_of({"hint": hint}), audit_values(audit)
        credential = _credential(id, digest, audit.at)

        async def work(connection: AsyncConnection) -> Key | None:
            row = await _lock(connection, Key, id)
            if row is None:
                return None
            if row["revoked_at"] is not None:
                raise ConflictError("The key is revoked, for good.")
            own = _CREDENTIALS.c.key_id == id
            ends = _CREDENTIALS.c.expires_at
            await connection.execute(delete(_CREDENTIALS).where(own, ends <= audit.at))
            await connection.execute(
                update(_CREDENTIALS)
                .where(own, ends.is_(None) | (ends > old_expires_at))
                .values(expires_at=old_expires_at)
            )
            await connection.execute(insert(_CREDENTIALS).values(credential))
            await connection.execute(update(_KEYS).where(_KEYS.c.id == id).values(values))
            await connection.execute(insert(_AUDIT).values(entry))
            return _entity(Key, {**row, "hint": hint})

        return await self._write(work, unique="The key is taken.")

    async def revoke_key(self, id: str, audit: AuditEntry) -> Key | None:
        """End a key with all its credentials, now and for good. A second time changes nothing."""
        entry = audit_values(audit)

        async def work(connection: AsyncConnection) -> Key | None:
            row = await _lock(connection, Key, id)
            if row is None or row["revoked_at"] is not None:
                return None if row is None else _entity(Key, row)
            ended = {"active": False, "revoked_at": audit.at}
            await connection.execute(update(_KEYS).where(_KEYS.c.id == id).values(ended))
            await connection.execute(insert(_AUDIT).values(entry))
            return _entity(Key, {**row, **ended})

        return await self._write(work)

    async def digests(self, id: str) -> Sequence[bytes]:
        """The digests of a key, so that caches can be told to forget them. Never shown."""
        statement = filtered(select(_CREDENTIALS.c.digest), _CREDENTIALS, {"key_id": id})
        if statement is None:
            return ()

        async def work(connection: AsyncConnection) -> Sequence[bytes]:
            return tuple((await connection.execute(statement)).scalars())

        return await self._database.read(work)

    async def note(self, audit: AuditEntry) -> None:
        """Add to the log what was done to something that is not kept here."""
        entry = audit_values(audit)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(_AUDIT).values(entry))

        await self._write(work)

    async def audit_log(
        self, *, where: Mapping[str, Any], limit: int, after: str | None = None
    ) -> Page:
        """Entries whose ``actor``, ``action`` or ``target`` equal ``where``, newest first."""
        _refuse_unknown(where, _AUDIT_FILTERS)
        statement = filtered(select(*_AUDIT.c), _AUDIT, where)
        if statement is None:
            return Page(items=(), next=None)
        statement = following(statement, _AUDIT.c.at, _AUDIT.c.id, limit, after)

        async def work(connection: AsyncConnection) -> Page:
            rows = (await connection.execute(statement)).mappings().all()
            return Page(
                items=tuple(_audit_entry(row) for row in rows[:limit]),
                next=next_cursor(rows, limit, "at"),
            )

        return await self._database.read(work)

    async def _write(
        self,
        work: Callable[[AsyncConnection], Awaitable[T]],
        *,
        unique: str = "The change collides with another.",
        foreign_key: str = "What it belongs to was removed or moved.",
    ) -> T:
        messages: dict[Constraint, str] = {
            "unique": unique,
            "foreign_key": foreign_key,
            "other": "The database refuses a value that is out of its range.",
        }
        try:
            return await self._database.write(work)
        except IntegrityFailure as failure:
            raise ConflictError(messages[failure.constraint]) from None


def _select(kind: type[Entity]) -> Select[Any]:
    return select(*TABLES[kind].c)


async def _lock(
    connection: AsyncConnection, kind: type[Entity], id: str
) -> Mapping[str, Any] | None:
    """A member's row, which no other transaction changes before this one ends."""
    statement = filtered(_select(kind), TABLES[kind], {"id": id})
    if statement is None:
        return None
    row: Mapping[str, Any] | None = (
        (await connection.execute(statement.with_for_update())).mappings().first()
    )
    return row


def _credential(key_id: str, digest: bytes, at: datetime.datetime) -> dict[str, Any]:
    if not isinstance(digest, bytes) or len(digest) != 32:
        raise ValueError("a digest is 32 bytes")
    return {"digest": digest, "key_id": key_id, "created_at": at, "expires_at": None}


def _refuse_unknown(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := sorted(fields.keys() - known):
        raise ValueError(f"{unknown[0]} is none of {', '.join(sorted(known))}")


def _entity(kind: type[E], row: Mapping[str, Any]) -> E:
    try:
        return entity_from_row(kind, row)
    except msgspec.ValidationError as error:
        raise StoreError(f"A row of the database is not valid: {error}") from None


def _audit_entry(row: Mapping[str, Any]) -> AuditEntry:
    return AuditEntry(**{name: row[name] for name in AuditEntry.__struct_fields__})

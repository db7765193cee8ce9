"""A directory in memory: for tests, and for programs that make their keys when they start."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec.structs import replace

from asgi_llm.stores._resolution import resolve
from asgi_llm.stores.base import KeyRecord
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

__all__ = ["MemoryDirectory"]

E = TypeVar("E", bound=Entity)
T = TypeVar("T")

_FIXED: Final = frozenset(("id", "created_at", "hint", "revoked_at", "last_used_at"))
"""Fields that ``update`` does not set."""

_FILTERS: Final = frozenset(("active", "name", "organization_id", "team_id", "user_id"))
_AUDIT_FILTERS: Final = frozenset(("action", "actor", "target"))
_MOST: Final = 1000

_PARENTS: Final[Mapping[str, type[Entity]]] = {
    "organization_id": Organization,
    "team_id": Team,
    "user_id": User,
}

_UNIQUE_NAMES: Final[Mapping[type[Entity], tuple[str, ...]]] = {
    Organization: ("name",),
    Team: ("organization_id", "name"),
    User: ("organization_id", "name"),
}
"""What no two of a kind have in common."""


class _Credential(msgspec.Struct, frozen=True):
    """What one digest opens, and until when, in Unix seconds."""

    key_id: str
    expires_at: float | None = None


class _Rows(dict[str, T]):
    """Members by id, in the order in which they came, with a number for each that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}
        self._next = 1

    def append(self, id: str, row: T) -> None:
        self[id] = row
        self.numbers[id] = self._next
        self._next += 1


class MemoryDirectory:
    """A whole ``Directory`` and the ``KeyStore`` over it, gone with the process.

    No method waits between its checks and its writes, so that each is one transaction for all who
    share the event loop. Digests are kept, never keys.
    """

    def __init__(self) -> None:
        self._rows: dict[type[Entity], _Rows[Any]] = {
            kind: _Rows() for kind in (Organization, Team, User, Key)
        }
        self._credentials: dict[bytes, _Credential] = {}
        self._log: list[AuditEntry] = []

    async def add(self, entity: Entity, audit: AuditEntry) -> None:
        """Add an organization, a team or a user.

        Raises:
            ConflictError: The id or the name is taken, or a parent is missing.
            TypeError: It is a key.
        """
        if isinstance(entity, Key) or type(entity) not in self._rows:
            raise TypeError("add takes an organization, a team or a user")
        self._add(entity)
        self._log.append(audit)

    async def add_key(self, key: Key, digest: bytes, audit: AuditEntry) -> None:
        """Add a key whose SHA-256 digest is ``digest``.

        Raises:
            ConflictError: The id is taken, there is such a key already, or a parent is missing.
        """
        if digest in self._credentials:
            raise ConflictError("The key is taken.")
        self._add(key)
        self._credentials[digest] = _Credential(key.id)
        self._log.append(audit)

    async def get(self, kind: type[E], id: str) -> E | None:
        """One member; None: there is none."""
        return self._table(kind).get(id)

    async def list(
        self, kind: type[E], *, where: Mapping[str, Any], limit: int, after: str | None = None
    ) -> Page:
        """Members whose fields equal ``where``, newest first.

        Raises:
            ValueError: ``after`` is no place in a listing, ``limit`` is not 1 to 1,000, or there
                is no such field.
        """
        table = self._table(kind)
        _refuse_unknown(where, _FILTERS.intersection(kind.__struct_fields__))
        rows = [
            (table.numbers[id], row)
            for id, row in reversed(table.items())
            if all(getattr(row, field) == value for field, value in where.items())
        ]
        return _page(rows, limit, after)

    async def update(
        self, kind: type[E], id: str, changes: Mapping[str, Any], audit: AuditEntry
    ) -> E | None:
        """Set fields; the others stay. None: there is no such id. No changes, no audit entry.

        Raises:
            ConflictError: The name is taken, a parent is missing, or the key is revoked and would
                be active again.
            ValueError: A field is not one that can be set.
        """
        _refuse_unknown(changes, frozenset(kind.__struct_fields__) - _FIXED)
        table = self._table(kind)
        before = table.get(id)
        if before is None or not changes:
            return before
        if isinstance(before, Key) and before.revoked_at is not None and changes.get("active"):
            raise ConflictError("The key is revoked, for good.")
        after = replace(before, **changes)
        self._check(after)
        self._check_children(after)
        table[id] = after
        self._log.append(audit)
        return after

    async def remove(self, kind: type[E], id: str, audit: AuditEntry) -> bool:
        """Remove a member; False: there is no such id.

        A revoked key still belongs to those it was made for: set them inactive instead.

        Raises:
            ConflictError: Something belongs to it.
            TypeError: It is a key.
        """
        reference = _reference(kind)
        if reference is None:
            raise TypeError("a key is revoked, not removed")
        table = self._table(kind)
        if id not in table:
            return False
        for other, rows in self._rows.items():
            if any(getattr(row, reference, None) == id for row in rows.values()):
                raise ConflictError(f"It still has a {other.__name__.lower()}.")
        del table[id], table.numbers[id]
        self._log.append(audit)
        return True

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

        Raises:
            ConflictError: The key is revoked, or the digest is that of a key that there is.
        """
        table = self._table(Key)
        before = table.get(id)
        if before is None:
            return None
        if before.revoked_at is not None:
            raise ConflictError("The key is revoked, for good.")
        if digest in self._credentials:
            raise ConflictError("The key is taken.")
        end, now = old_expires_at.timestamp(), audit.at.timestamp()
        for old, credential in list(self._credentials.items()):
            if credential.key_id != id:
                continue
            if credential.expires_at is not None and credential.expires_at <= now:
                del self._credentials[old]
            elif credential.expires_at is None or credential.expires_at > end:
                self._credentials[old] = _Credential(id, end)
        self._credentials[digest] = _Credential(id)
        table[id] = replace(before, hint=hint)
        self._log.append(audit)
        return table[id]

    async def revoke_key(self, id: str, audit: AuditEntry) -> Key | None:
        """End a key with all its credentials, now and for good; once revoked it stays as it was."""
        table = self._table(Key)
        before = table.get(id)
        if before is None or before.revoked_at is not None:
            return before
        table[id] = replace(before, active=False, revoked_at=audit.at)
        self._log.append(audit)
        return table[id]

    async def digests(self, id: str) -> Sequence[bytes]:
        """The digests of a key."""
        return [
            digest for digest, credential in self._credentials.items() if credential.key_id == id
        ]

    async def note(self, audit: AuditEntry) -> None:
        """Add to the log what was done to something that is not kept here."""
        self._log.append(audit)

    async def audit_log(
        self, *, where: Mapping[str, Any], limit: int, after: str | None = None
    ) -> Page:
        """Entries whose ``actor``, ``action`` or ``target`` equal ``where``, newest first.

        Raises:
            ValueError: ``after`` is no place in the log, ``limit`` is not 1 to 1,000, or there is
                no such field.
        """
        _refuse_unknown(where, _AUDIT_FILTERS)
        rows = [
            (number, entry)
            for number, entry in reversed(list(enumerate(self._log, start=1)))
            if all(getattr(entry, field) == value for field, value in where.items())
        ]
        return _page(rows, limit, after)

    async def find(self, digest: bytes) -> KeyRecord | None:
        """What is known of the key whose SHA-256 digest is ``digest``; None: no such key."""
        credential = self._credentials.get(digest)
        if credential is None:
            return None
        key = self._table(Key)[credential.key_id]
        user = self._table(User).get(key.user_id or "")
        team = self._table(Team).get(key.team_id or (user.team_id if user else None) or "")
        organization_id = (
            key.organization_id
            or (user.organization_id if user else None)
            or (team.organization_id if team else None)
        )
        organization = self._table(Organization).get(organization_id or "")
        return resolve(key, user, team, organization, credential_expires_at=credential.expires_at)

    def _table(self, kind: type[E]) -> _Rows[E]:
        return cast("_Rows[E]", self._rows[kind])

    def _add(self, entity: Entity) -> None:
        table = self._rows[type(entity)]
        if entity.id in table:
            raise ConflictError("The id is taken.")
        self._check(entity)
        table.append(entity.id, entity)

    def _check(self, entity: Entity) -> None:
        """That what ``entity`` belongs to is there and of one organization, its name not taken."""
        home = getattr(entity, "organization_id", None)
        for field, parent in _PARENTS.items():
            id = getattr(entity, field, None)
            if id is None:
                continue
            found = self._rows[parent].get(id)
            if found is None:
                raise ConflictError(f"There is no such {parent.__name__.lower()}.")
            if isinstance(found, Team | User):
                if home is not None and found.organization_id != home:
                    name = parent.__name__.lower()
                    raise ConflictError(f"The {name} is of another organization.")
                home = home or found.organization_id
        fields = _UNIQUE_NAMES.get(type(entity), ())
        for other in self._rows[type(entity)].values() if fields else ():
            if other.id != entity.id and all(
                getattr(other, field) == getattr(entity, field) for field in fields
            ):
                raise ConflictError("The name is taken.")

    def _check_children(self, entity: Entity) -> None:
        """That nothing of another organization belongs to ``entity``."""
        home = getattr(entity, "organization_id", None)
        reference = _reference(type(entity))
        if reference is None or isinstance(entity, Organization):
            return
        for rows in self._rows.values():
            for row in rows.values():
                if getattr(row, reference, None) == entity.id and row.organization_id not in (
                    None,
                    home,
                ):
                    raise ConflictError("Members of it belong to another organization then.")


def _reference(kind: type[Entity]) -> str | None:
    """The field by which others belong to one of ``kind``."""
    return next((field for field, parent in _PARENTS.items() if parent is kind), None)


def _refuse_unknown(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := sorted(fields.keys() - known):
        raise ValueError(f"{unknown[0]} is none of {', '.join(sorted(known))}")


def _page(rows: Sequence[tuple[int, Any]], limit: int, after: str | None) -> Page:
    if not 1 <= limit <= _MOST:
        raise ValueError(f"limit must be from 1 to {_MOST}")
    if after is not None:
        if not after.isascii() or not after.isdigit() or len(after) > 18:
            raise ValueError("after is not a cursor of this listing")
        rows = [row for row in rows if row[0] < int(after)]
    shown = rows[:limit]
    further = str(shown[-1][0]) if shown and len(rows) > limit else None
    return Page(items=tuple(row for _, row in shown), next=further)

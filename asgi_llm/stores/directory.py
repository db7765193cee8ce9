"""Who there is: organizations, teams, users and their keys, and the log of every change to them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from asgi_llm.types import Limit, Role

__all__ = [
    "AuditEntry",
    "Budget",
    "ConflictError",
    "Directory",
    "Entity",
    "Key",
    "Organization",
    "Page",
    "Team",
    "User",
]


class ConflictError(Exception):
    """A change that the directory cannot hold: a name taken, a parent missing, a child left."""


class Budget(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """So much money in a period."""

    amount_usd: str
    """A decimal number, at least 0."""
    period: str
    """``day``, ``week``, ``month`` or ``total``."""
    hard: bool = True


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """What all members of the directory have."""

    id: str
    name: str
    tier: str | None = None
    limits: tuple[Limit, ...] = ()
    budgets: tuple[Budget, ...] = ()
    metadata: Mapping[str, str] = {}
    active: bool = True
    created_at: datetime.datetime
    """Aware, in UTC, like every time here."""


class Organization(Entity, frozen=True, kw_only=True):
    """A tenant."""


class Team(Entity, frozen=True, kw_only=True):
    """A part of an organization."""

    organization_id: str | None = None
    models: tuple[str, ...] | None = None


class User(Entity, frozen=True, kw_only=True):
    """A person, or a program that stands for one."""

    organization_id: str | None = None
    team_id: str | None = None
    role: Role = "member"


class Key(Entity, frozen=True, kw_only=True):
    """A virtual key, without the key: that is shown once, when it is made, and kept as a digest."""

    organization_id: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    role: Role = "member"
    models: tuple[str, ...] | None = None
    scopes: frozenset[str] = frozenset()
    hint: str = ""
    """The last four characters of the key, for people who have several."""
    expires_at: datetime.datetime | None = None
    last_used_at: datetime.datetime | None = None
    revoked_at: datetime.datetime | None = None


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change and who made it. Rows are added, never edited."""

    at: datetime.datetime
    actor: str
    """``master``, ``command-line``, or ``key:`` and the key's id."""
    action: str
    """As in ``key.rotate``."""
    target: str
    """Kind and id, as in ``key:key_01``."""
    request_id: str | None = None
    changes: Mapping[str, Any] = {}
    """Field to new value; never a secret or a digest."""


E = TypeVar("E", bound=Entity)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some of a listing, newest first."""

    items: Sequence[Any]
    next: str | None
    """Where to go on from, for ``after``; None at the end."""


class Directory(Protocol):
    """Where the members are kept. Each write and its audit entry are one transaction.

    Every method may raise ``StoreError``; the writes raise ``ConflictError``.
    """

    async def add(self, entity: Entity, audit: AuditEntry) -> None:
        """Add an organization, a team or a user."""
        ...

    async def add_key(self, key: Key, digest: bytes, audit: AuditEntry) -> None:
        """Add a key whose SHA-256 digest is ``digest``."""
        ...

    async def get(self, kind: type[E], id: str) -> E | None:
        """One member; None: there is none."""
        ...

    async def list(
        self, kind: type[E], *, where: Mapping[str, Any], limit: int, after: str | None = None
    ) -> Page:
        """Members whose fields equal ``where``, at most ``limit`` of them.

        Fields to ask for: ``organization_id``, ``team_id``, ``user_id``, ``active``, ``name``.
        """
        ...

    async def update(
        self, kind: type[E], id: str, changes: Mapping[str, Any], audit: AuditEntry
    ) -> E | None:
        """Set fields, as the struct names them; the others stay. None: there is no such id."""
        ...

    async def remove(self, kind: type[E], id: str, audit: AuditEntry) -> bool:
        """Remove a member that nothing belongs to any more. Keys are revoked, not removed."""
        ...

    async def rotate_key(
        self,
        id: str,
        digest: bytes,
        *,
        hint: str,
        old_expires_at: datetime.datetime,
        audit: AuditEntry,
    ) -> Key | None:
        """Give a key a new credential; those it had end at ``old_expires_at`` at the latest."""
        ...

    async def revoke_key(self, id: str, audit: AuditEntry) -> Key | None:
        """End a key with all its credentials, now and for good."""
        ...

    async def digests(self, id: str) -> Sequence[bytes]:
        """The digests of a key, so that caches can be told to forget them. Never shown."""
        ...

    async def note(self, audit: AuditEntry) -> None:
        """Add to the log what was done to something that is not kept here."""
        ...

    async def audit_log(
        self, *, where: Mapping[str, Any], limit: int, after: str | None = None
    ) -> Page:
        """Entries whose ``actor``, ``action`` or ``target`` equal ``where``."""
        ...

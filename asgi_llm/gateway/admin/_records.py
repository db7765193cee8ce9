"""Ids of new members, and what the audit log keeps of a change."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from asgi_llm.stores.directory import AuditEntry, Entity, Key, Organization, Team, User
from asgi_llm.types import Principal

__all__ = ["Caller", "audit_entry", "kind_name", "new_id", "plain", "recorded"]

_PREFIXES: Final[Mapping[type[Entity], str]] = {
    Organization: "org_",
    Team: "team_",
    User: "user_",
    Key: "key_",
}
_UNRECORDED: Final = frozenset(("id", "hint", "created_at", "last_used_at", "revoked_at"))


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and for which request."""

    principal: Principal
    actor: str
    request_id: str | None = None


def audit_entry(
    caller: Caller,
    action: str,
    entity: Entity,
    changes: Mapping[str, Any],
    at: datetime.datetime,
) -> AuditEntry:
    """The entry for what ``caller`` does to ``entity``."""
    kind = kind_name(type(entity))
    return AuditEntry(
        at=at,
        actor=caller.actor,
        action=f"{kind}.{action}",
        target=f"{kind}:{entity.id}",
        request_id=caller.request_id,
        changes=changes,
    )


def kind_name(kind: type[Entity]) -> str:
    """``organization``, ``team``, ``user`` or ``key``."""
    return kind.__name__.lower()


def new_id(kind: type[Entity]) -> str:
    """A random id that says of what kind it is."""
    return _PREFIXES[kind] + secrets.token_hex(12)


def recorded(entity: Entity) -> dict[str, Any]:
    """What the audit log keeps of a new member: the fields that are not as they are by default."""
    fields = {
        field.name: getattr(entity, field.name)
        for field in msgspec.structs.fields(entity)
        if field.name not in _UNRECORDED
        and getattr(entity, field.name) not in (field.default, None, (), {}, frozenset())
    }
    return plain(fields)


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` as JSON has them, sets in order."""
    built: dict[str, Any] = msgspec.to_builtins(
        {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name, value in fields.items()
        }
    )
    return built

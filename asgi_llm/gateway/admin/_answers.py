"""What management requests are answered with: never a digest, and a key only where it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from asgi_llm.gateway.admin._judge import LimitState
from asgi_llm.gateway.admin._records import kind_name, plain
from asgi_llm.stores.directory import AuditEntry, Entity
from asgi_llm.types import Principal

__all__ = ["deleted", "limits_document", "listing_document", "member_document"]


def member_document(entity: Entity, **more: str) -> dict[str, Any]:
    """A member, with ``more`` at the end."""
    fields = {name: getattr(entity, name) for name in entity.__struct_fields__}
    return {"object": kind_name(type(entity)), **plain(fields), **more}


def deleted(kind: type[Entity], id: str) -> dict[str, Any]:
    """What is left to say of a member that was removed."""
    return {"object": kind_name(kind), "id": id, "deleted": True}


def listing_document(items: Sequence[Any], following: str | None) -> dict[str, Any]:
    """Some members, or entries of the audit log, and the cursor behind them."""
    data = [
        {"object": "audit_entry", **msgspec.to_builtins(item)}
        if isinstance(item, AuditEntry)
        else member_document(item)
        for item in items
    ]
    return {"object": "list", "data": data, "next": following}


def limits_document(
    key_id: str, principal: Principal, states: Sequence[LimitState]
) -> dict[str, Any]:
    """The limits of a key and how they stand; null where nobody keeps count, or never is."""
    return {
        "object": "key.limits",
        "key_id": key_id,
        "tier": principal.tier,
        "data": [_limit_document(state) for state in states],
    }


def _limit_document(state: LimitState) -> Mapping[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(state.limit)
    status = state.status
    document["remaining"] = status.remaining if status else None
    for name in ("reset_seconds", "retry_after_seconds"):
        value = getattr(status, name) if status else math.inf
        document[name] = value if math.isfinite(value) else None
    return document

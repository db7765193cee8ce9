"""The table of management routes: who may call each, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from asgi_llm.gateway.admin._bodies import (
    CREATE_BODIES,
    UPDATE_BODIES,
    Body,
    ImportKey,
    NoBody,
    RotateKey,
)
from asgi_llm.stores.directory import AuditEntry, Entity, Key, Organization, Team, User
from asgi_llm.types import Role

__all__ = ["ROUTES", "Action", "Operation", "templates"]

Action = Literal[
    "create", "list", "show", "update", "delete", "import", "rotate", "revoke", "limits", "audit"
]

_FLAG_AND_NAME: Final = {"active": "flag", "name": "text"}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    action: Action
    kind: type[Entity] | type[AuditEntry]
    role: Role
    """The least that a caller has to be. What they may touch is a further question."""
    body: type[Body] | None = None
    filters: Mapping[str, str] | None = None
    """Of a listing: query parameters and what kind of value each takes."""
    status: int = 200


def _members(
    plural: str, kind: type[Entity], reader: Role, writer: Role, filters: Mapping[str, str]
) -> tuple[Operation, ...]:
    many, one = f"/admin/{plural}", f"/admin/{plural}/{{id}}"
    create, update = CREATE_BODIES[kind], UPDATE_BODIES[kind]
    return (
        Operation(
            method="POST",
            path=many,
            action="create",
            kind=kind,
            role=writer,
            body=create,
            status=201,
        ),
        Operation(
            method="GET",
            path=many,
            action="list",
            kind=kind,
            role=reader,
            filters={**_FLAG_AND_NAME, **filters},
        ),
        Operation(method="GET", path=one, action="show", kind=kind, role=reader),
        Operation(method="PATCH", path=one, action="update", kind=kind, role=writer, body=update),
        Operation(method="DELETE", path=one, action="delete", kind=kind, role=writer),
    )


ROUTES: Final[tuple[Operation, ...]] = (
    *_members("organizations", Organization, "admin", "admin", {}),
    *_members("teams", Team, "team_admin", "admin", {"organization_id": "id"}),
    *_members(
        "users", User, "team_admin", "team_admin", {"organization_id": "id", "team_id": "id"}
    ),
    Operation(
        method="POST",
        path="/admin/keys/import",
        action="import",
        kind=Key,
        role="team_admin",
        body=ImportKey,
        status=201,
    ),
    *(
        # A member may end their own keys, and make some where the option allows it.
        msgspec.structs.replace(one, role="member") if one.action in ("create", "delete") else one
        for one in _members(
            "keys",
            Key,
            "member",
            "team_admin",
            {"organization_id": "id", "team_id": "id", "user_id": "id"},
        )
    ),
    Operation(
        method="POST",
        path="/admin/keys/{id}/rotate",
        action="rotate",
        kind=Key,
        role="member",
        body=RotateKey,
    ),
    Operation(
        method="POST",
        path="/admin/keys/{id}/revoke",
        action="revoke",
        kind=Key,
        role="member",
        body=NoBody,
    ),
    Operation(
        method="GET", path="/admin/keys/{id}/limits", action="limits", kind=Key, role="member"
    ),
    Operation(
        method="GET",
        path="/admin/audit",
        action="audit",
        kind=AuditEntry,
        role="admin",
        filters={"actor": "text", "action": "text", "target": "text"},
    ),
)


def templates() -> frozenset[str]:
    """The templates of all paths, such as ``/admin/keys/{id}``."""
    return frozenset(operation.path for operation in ROUTES)

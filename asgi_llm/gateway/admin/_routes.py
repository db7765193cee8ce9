"""The table of management routes: who may call each, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from asgi_llm.gateway.admin._bodies import (
    CREATE_BODIES,
    UPDATE_BODIES,
    Body,
    ImportKey,
    NoBody,
    RotateKey,
)
from asgi_llm.gateway.admin._cache_bodies import (
    CacheEntry,
    CachePurge,
    CacheState,
    PurgeCaches,
)
from asgi_llm.gateway.admin._money_bodies import CreateBudget, UpdateBudget
from asgi_llm.stores.budget_rules import StoredBudget
from asgi_llm.stores.directory import AuditEntry, Entity, Key, Organization, Team, User
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.stores.ledger_reports import UsageSummary
from asgi_llm.types import Role

__all__ = ["ALL_PARTS", "ROUTES", "Action", "Operation", "Part", "filters_of", "templates"]

Part = Literal["directory", "ledger", "budgets", "caches"]
"""What has to be there for a route to be."""

ALL_PARTS: Final[frozenset[Part]] = frozenset(get_args(Part))

Action = Literal[
    "create",
    "list",
    "show",
    "update",
    "delete",
    "import",
    "rotate",
    "revoke",
    "limits",
    "audit",
    "summary",
    "rows",
    "export",
    "create_budget",
    "list_budgets",
    "show_budget",
    "update_budget",
    "delete_budget",
    "list_caches",
    "list_cache_entries",
    "purge_caches",
]

_FLAG_AND_NAME: Final = {"active": "flag", "name": "text"}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    action: Action
    kind: type[
        Entity
        | AuditEntry
        | StoredBudget
        | LedgerRow
        | UsageSummary
        | CacheState
        | CacheEntry
        | CachePurge
    ]
    role: Role
    """The least that a caller has to be. What they may touch is a further question."""
    body: type[Body] | None = None
    filters: Mapping[str, str] | None = None
    """Of a listing: query parameters and what kind of value each takes."""
    paged: bool = True
    """Whether a listing goes page by page."""
    status: int = 200
    part: Part = "directory"


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


_SPAN: Final = {"start_date": "time", "end_date": "time"}
_WHOSE: Final = dict.fromkeys(("key_id", "user_id", "team_id", "organization_id"), "text")
_WHAT: Final = {
    "provider": "text",
    "model": "text",
    "operation": "text",
    "cached": "flag",
    "tag": "tag",
}
_OF_ROWS: Final = {
    **_SPAN,
    **_WHOSE,
    **_WHAT,
    "requested_model": "text",
    "request_id": "text",
    "outcome": "text",
}

_MONEY: Final[tuple[Operation, ...]] = (
    Operation(
        method="GET",
        path="/admin/costs/summary",
        action="summary",
        kind=UsageSummary,
        role="member",
        filters={**_SPAN, "group_by": "groups", **_WHOSE, **_WHAT},
        paged=False,
        part="ledger",
    ),
    Operation(
        method="GET",
        path="/admin/usage",
        action="rows",
        kind=LedgerRow,
        role="member",
        filters=_OF_ROWS,
        part="ledger",
    ),
    Operation(
        method="GET",
        path="/admin/usage.csv",
        action="export",
        kind=LedgerRow,
        role="member",
        filters=_OF_ROWS,
        paged=False,
        part="ledger",
    ),
    Operation(
        method="POST",
        path="/admin/budgets",
        action="create_budget",
        kind=StoredBudget,
        role="admin",
        body=CreateBudget,
        status=201,
        part="budgets",
    ),
    Operation(
        method="GET",
        path="/admin/budgets",
        action="list_budgets",
        kind=StoredBudget,
        role="member",
        filters=dict.fromkeys(("scope", "of", "tag", "period"), "text"),
        part="budgets",
    ),
    Operation(
        method="GET",
        path="/admin/budgets/{id}",
        action="show_budget",
        kind=StoredBudget,
        role="member",
        filters={"of": "text"},
        paged=False,
        part="budgets",
    ),
    Operation(
        method="PATCH",
        path="/admin/budgets/{id}",
        action="update_budget",
        kind=StoredBudget,
        role="admin",
        body=UpdateBudget,
        part="budgets",
    ),
    Operation(
        method="DELETE",
        path="/admin/budgets/{id}",
        action="delete_budget",
        kind=StoredBudget,
        role="admin",
        part="budgets",
    ),
)

_CACHES: Final[tuple[Operation, ...]] = (
    Operation(
        method="GET",
        path="/admin/caches",
        action="list_caches",
        kind=CacheState,
        role="admin",
        part="caches",
    ),
    Operation(
        method="GET",
        path="/admin/caches/entries",
        action="list_cache_entries",
        kind=CacheEntry,
        role="admin",
        filters=dict.fromkeys(("id", "scope", "model", "namespace"), "text"),
        part="caches",
    ),
    Operation(
        method="POST",
        path="/admin/caches/purge",
        action="purge_caches",
        kind=CachePurge,
        role="admin",
        body=PurgeCaches,
        part="caches",
    ),
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
    *_MONEY,
    *_CACHES,
)


def filters_of(action: str) -> tuple[Mapping[str, str], bool]:
    """What a listing can be asked for, and whether it goes page by page."""
    [operation] = [one for one in ROUTES if one.action == action and one.part != "directory"]
    return operation.filters or {}, operation.paged


def templates() -> frozenset[str]:
    """The templates of all paths, such as ``/admin/keys/{id}``."""
    return frozenset(operation.path for operation in ROUTES)

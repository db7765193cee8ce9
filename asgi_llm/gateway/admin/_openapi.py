"""The admin API's part of the OpenAPI document, from the table of its routes.

Source: OpenAPI 3.1.1.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, get_args

import msgspec

from asgi_llm.gateway.admin._cache_bodies import CacheEntry, CachePurge, CacheState
from asgi_llm.gateway.admin._judge import LimitState
from asgi_llm.gateway.admin._money_openapi import MONEY_ANSWERS, money_schemas
from asgi_llm.gateway.admin._routes import ALL_PARTS, ROUTES, Operation, Part
from asgi_llm.stores.directory import AuditEntry, Key
from asgi_llm.stores.ledger_reports import Dimension

__all__ = ["admin_components", "admin_paths"]

_TAG: Final = "Admin"
_TEMPLATE: Final = "#/components/schemas/{name}"
_SUMMARIES: Final = {
    "create": "Add a {kind}",
    "list": "List {kind}s",
    "show": "Show a {kind}",
    "update": "Change a {kind}; what is left out stays",
    "delete": "Remove a {kind} that nothing belongs to",
    "import": "Take a key that exists elsewhere",
    "rotate": "Give a key a new credential",
    "revoke": "End a key for good",
    "limits": "Limits of a key and how they stand",
    "audit": "Changes and who made them",
    "summary": "What was used and what it cost, in all and by group",
    "rows": "List attempts at providers and answers out of caches",
    "export": "The same as CSV, all of them",
    "create_budget": "Add a budget",
    "list_budgets": "List budgets",
    "show_budget": "Show a budget and how it stands",
    "update_budget": "Change a budget; what was spent stays spent",
    "delete_budget": "Remove a budget",
    "list_caches": "How caches are doing, and what they have saved",
    "list_cache_entries": "List answers of the semantic cache, without any text",
    "purge_caches": "Forget stored answers",
}
_SHOWS_KEY: Final = frozenset(("create", "import", "rotate"))
_ROLES: Final = {
    "admin": "For admins.",
    "team_admin": "For admins; team admins see and change what is of their own team.",
    "member": "For everybody; members see and change what is their own.",
}
_OPERATION_IDS: Final = {
    "audit": "adminListAuditEntries",
    "summary": "adminSummarizeCosts",
    "rows": "adminListUsage",
    "export": "adminExportUsage",
    "create_budget": "adminCreateBudget",
    "list_budgets": "adminListBudgets",
    "show_budget": "adminShowBudget",
    "update_budget": "adminUpdateBudget",
    "delete_budget": "adminDeleteBudget",
    "list_caches": "adminListCaches",
    "list_cache_entries": "adminListCacheEntries",
    "purge_caches": "adminPurgeCaches",
}


_KINDS: Final[dict[str, dict[str, Any]]] = {
    "flag": {"type": "boolean"},
    "time": {
        "type": "string",
        "description": "A day in UTC, or a time with its zone. A day at the end is included.",
        "examples": ["2027-01-31", "2027-01-31T00:00:00Z"],
    },
    "tag": {"type": "string", "description": "NAME=VALUE"},
    "groups": {
        "type": "string",
        "default": "model",
        "description": f"By commas, of {', '.join(get_args(Dimension))}.",
    },
}


def admin_paths(parts: Collection[Part] = ALL_PARTS) -> dict[str, Any]:
    """Path items, for ``paths``, of the routes that there are with ``parts``.

    They refer to components of the gateway's document: the schema ``Error``, the header
    ``RequestID`` and the responses that it has for the same statuses.
    """
    paths: dict[str, Any] = {}
    for operation in _routes(parts):
        item = paths.setdefault(operation.path, {})
        if "{id}" in operation.path:
            item["parameters"] = [
                {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
            ]
        item[operation.method.lower()] = _operation(operation)
    return paths


def admin_components(parts: Collection[Part] = ALL_PARTS) -> dict[str, dict[str, Any]]:
    """What ``admin_paths`` refers to and the gateway's document lacks, by section."""
    routes = _routes(parts)
    bodies = [operation.body for operation in routes if operation.body is not None]
    kinds = [operation.kind for operation in routes if operation.part == "directory"]
    _, schemas = msgspec.json.schema_components(
        list(dict.fromkeys([*bodies, *kinds, LimitState])), ref_template=_TEMPLATE
    )
    for kind in dict.fromkeys(kinds):
        name = "audit_entry" if kind is AuditEntry else kind.__name__.lower()
        properties = schemas[kind.__name__]["properties"]
        schemas[kind.__name__]["properties"] = {"object": {"const": name}, **properties}
        schemas[f"{kind.__name__}List"] = _list_schema(kind.__name__)
    del schemas["LimitState"], schemas["LimitStatus"], schemas["NoBody"]
    schemas["NewKey"] = {
        "description": "A key with its text, which is shown this once.",
        "allOf": [
            _schema("Key"),
            {
                "type": "object",
                "required": ["key"],
                "properties": {"key": {"type": "string", "examples": ["sk-..."]}},
            },
        ],
    }
    schemas["Deleted"] = {
        "type": "object",
        "required": ["object", "id", "deleted"],
        "properties": {
            "object": {"type": "string"},
            "id": {"type": "string"},
            "deleted": {"const": True},
        },
    }
    schemas["KeyLimits"] = _limits_schema()
    schemas |= money_schemas(parts)
    if "caches" in parts:
        schemas |= _cache_schemas()
    return {
        "schemas": schemas,
        "responses": {
            "Conflict": _error("It collides with what there is; the message says with what."),
            "Unprocessable": _error("A field or a parameter is not allowed; param names it."),
        },
    }


def _routes(parts: Collection[Part]) -> list[Operation]:
    return [operation for operation in ROUTES if operation.part in parts]


def _operation(operation: Operation) -> dict[str, Any]:
    action, kind = operation.action, operation.kind
    summary = _SUMMARIES[action].format(kind=kind.__name__.lower())
    if action == "delete" and kind is Key:
        summary = _SUMMARIES["revoke"]
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "tags": [_TAG],
        "summary": summary,
        "description": _ROLES[operation.role],
        "responses": {
            str(operation.status): {
                "description": "The answer.",
                "headers": _request_id(),
                "content": _content(operation),
            },
            **_refusals(operation),
        },
    }
    if operation.filters is not None:
        described["parameters"] = _parameters(operation)
    if operation.body is not None and operation.body.__struct_fields__:
        described["requestBody"] = {
            "required": operation.action not in ("rotate",),
            "content": {"application/json": {"schema": _schema(operation.body.__name__)}},
        }
    return described


def _operation_id(operation: Operation) -> str:
    if operation.action in _OPERATION_IDS:
        return _OPERATION_IDS[operation.action]
    name = operation.kind.__name__
    if operation.action in ("list", "limits"):
        name = f"{name}s" if operation.action == "list" else f"{name}Limits"
    verb = "show" if operation.action == "limits" else operation.action
    return f"admin{verb.title()}{name}"


def _content(operation: Operation) -> dict[str, Any]:
    if operation.action == "export":
        return {"text/csv": {"schema": {"type": "string"}}}
    return {"application/json": {"schema": _answer(operation)}}


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.action in MONEY_ANSWERS:
        return _schema(MONEY_ANSWERS[operation.action])
    name = operation.kind.__name__
    match operation.action:
        case "list" | "audit" | "list_caches" | "list_cache_entries":
            return _schema(f"{name}List")
        case "limits":
            return _schema("KeyLimits")
        case "delete" if operation.kind is not Key:
            return _schema("Deleted")
    return _schema("NewKey" if operation.kind is Key and operation.action in _SHOWS_KEY else name)


def _refusals(operation: Operation) -> dict[str, Any]:
    statuses = {
        "401": "AuthenticationFailed",
        "403": "PermissionDenied",
        "422": "Unprocessable",
        "429": "RateLimited",
        "500": "InternalError",
        "503": "Unavailable",
    }
    if (
        "{id}" in operation.path
        or operation.action in ("create", "import")
        or operation.part == "ledger"
    ):
        statuses["404"] = "NotFound"
    if operation.method != "GET":
        statuses["409"] = "Conflict"
    if operation.body is not None:
        statuses |= {"413": "RequestTooLarge", "415": "UnsupportedMediaType"}
    return {
        status: {"$ref": f"#/components/responses/{name}"}
        for status, name in sorted(statuses.items())
    }


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    schemas: dict[str, dict[str, Any]] = {}
    if operation.paged:
        page = {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
        schemas = {"limit": page, "after": {"type": "string"}}
    for name, kind in (operation.filters or {}).items():
        schemas[name] = _KINDS.get(kind, {"type": "string"})
    return [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]


def _list_schema(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["object", "data", "next"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": _schema(name)},
            "next": {
                "type": ["string", "null"],
                "description": "Where to go on from, for after; null at the end.",
            },
        },
    }


def _cache_schemas() -> dict[str, Any]:
    kinds = {"cache": CacheState, "cache.entry": CacheEntry, "cache.purge": CachePurge}
    _, schemas = msgspec.json.schema_components(list(kinds.values()), ref_template=_TEMPLATE)
    for name, kind in kinds.items():
        properties = schemas[kind.__name__]["properties"]
        schemas[kind.__name__]["properties"] = {"object": {"const": name}, **properties}
    for kind in (CacheState, CacheEntry):
        schemas[f"{kind.__name__}List"] = _list_schema(kind.__name__)
    return schemas


def _limits_schema() -> dict[str, Any]:
    counted = {"type": ["number", "null"], "minimum": 0}
    return {
        "type": "object",
        "required": ["object", "key_id", "tier", "data"],
        "properties": {
            "object": {"const": "key.limits"},
            "key_id": {"type": "string"},
            "tier": {"type": ["string", "null"]},
            "data": {
                "type": "array",
                "items": {
                    "allOf": [
                        _schema("Limit"),
                        {
                            "type": "object",
                            "properties": {
                                "remaining": {**counted, "type": ["integer", "null"]},
                                "reset_seconds": counted,
                                "retry_after_seconds": counted,
                            },
                        },
                    ]
                },
            },
        },
    }


def _error(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _request_id(),
        "content": {"application/json": {"schema": _schema("Error")}},
    }


def _request_id() -> dict[str, Any]:
    return {"X-Request-ID": {"$ref": "#/components/headers/RequestID"}}


def _schema(name: str) -> dict[str, str]:
    return {"$ref": _TEMPLATE.format(name=name)}

"""Members of the directory as rows and back, and what a value must be to be stored."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import msgspec

from asgi_llm.stores.directory import (
    AuditEntry,
    Budget,
    Entity,
    Key,
    Organization,
    Team,
    User,
)
from asgi_llm.stores.sql.models import Base, KeyRow, OrganizationRow, TeamRow, UserRow
from asgi_llm.types import Limit, LimitScope, LimitUnit, Role

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = [
    "TABLES",
    "audit_values",
    "check_time",
    "entity_from_row",
    "is_text",
    "table_of",
    "values_of",
]

E = TypeVar("E", bound=Entity)


def table_of(model: type[Base]) -> Table:
    """The table itself: unlike the model it takes values by the names of its columns alone."""
    return cast("Table", model.__table__)


TABLES: dict[type[Entity], Table] = {
    Organization: table_of(OrganizationRow),
    Team: table_of(TeamRow),
    User: table_of(UserRow),
    Key: table_of(KeyRow),
}

_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_PERIODS = ("day", "week", "month", "total")
_LARGEST = 2**53 - 1
_EARLIEST = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LATEST = datetime.datetime(3000, 1, 1, tzinfo=datetime.UTC)


def is_text(value: object, longest: int = 1000) -> bool:
    """Whether every database can hold ``value``: PostgreSQL knows no NUL, UTF-8 no surrogates."""
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def check_time(value: object, field: str) -> datetime.datetime:
    """``value`` itself, if it is an aware time from 1970 on and before the year 3000.

    Raises:
        ValueError: It is not.
    """
    if (
        not isinstance(value, datetime.datetime)
        or value.tzinfo is None
        or not (_EARLIEST <= value < _LATEST)
    ):
        raise ValueError(f"{field} must be a time with a zone, from 1970 to 2999")
    return value


def _text(longest: int, *, shortest: int = 0, optional: bool = False) -> Callable[[Any, str], Any]:
    def check(value: Any, field: str) -> Any:
        if value is None and optional:
            return None
        if not is_text(value, longest) or len(value) < shortest:
            raise ValueError(f"{field} must be text of {shortest} to {longest} characters")
        return value

    return check


def _one_of(*allowed: str) -> Callable[[Any, str], Any]:
    def check(value: Any, field: str) -> Any:
        if value not in allowed:
            raise ValueError(f"{field} must be one of {', '.join(allowed)}")
        return value

    return check


def _is_count(value: object, largest: int = _LARGEST) -> bool:
    return type(value) is int and 0 <= value <= largest


def _items(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueError(f"{field} must be a list")
    return list(value)


def _limits(value: Any, field: str) -> list[dict[str, Any]]:
    limits = _items(value, field)
    for limit in limits:
        if (
            not isinstance(limit, Limit)
            or limit.unit not in get_args(LimitUnit)
            or limit.scope not in get_args(LimitScope)
            or not _is_count(limit.amount)
            or not _is_count(limit.window_seconds)
            or not (limit.burst is None or _is_count(limit.burst))
        ):
            raise ValueError(f"{field} must hold limits of whole numbers from 0 to 2**53 - 1")
    return [msgspec.to_builtins(limit) for limit in limits]


def _budgets(value: Any, field: str) -> list[dict[str, Any]]:
    budgets = _items(value, field)
    for budget in budgets:
        if (
            not isinstance(budget, Budget)
            or not isinstance(budget.amount_usd, str)
            or _AMOUNT.fullmatch(budget.amount_usd) is None
            or budget.period not in _PERIODS
            or type(budget.hard) is not bool
        ):
            raise ValueError(
                f"{field} must hold amounts of at least 0 with up to 12 digits before and after "
                "the point"
            )
    return [msgspec.to_builtins(budget) for budget in budgets]


def _texts(value: Any, field: str) -> list[str]:
    texts = _items(value, field)
    if not all(is_text(text) for text in texts):
        raise ValueError(f"{field} must be a list of texts")
    return texts


def _models(value: Any, field: str) -> list[str] | None:
    return None if value is None else _texts(value, field)


def _scopes(value: Any, field: str) -> list[str]:
    return sorted(_texts(value, field))


def _metadata(value: Any, field: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        is_text(part) for pair in value.items() for part in pair
    ):
        raise ValueError(f"{field} must map texts to texts")
    return dict(value)


def _active(value: Any, field: str) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{field} must be true or false")
    return value


def _optional_time(value: Any, field: str) -> datetime.datetime | None:
    return None if value is None else check_time(value, field)


_WRITERS: dict[str, Callable[[Any, str], Any]] = {
    "id": _text(64, shortest=1),
    "name": _text(200, shortest=1),
    "tier": _text(64, optional=True),
    "limits": _limits,
    "budgets": _budgets,
    "metadata": _metadata,
    "active": _active,
    "created_at": check_time,
    "organization_id": _text(64, optional=True),
    "team_id": _text(64, optional=True),
    "user_id": _text(64, optional=True),
    "role": _one_of(*get_args(Role)),
    "models": _models,
    "scopes": _scopes,
    "hint": _text(16),
    "expires_at": _optional_time,
    "last_used_at": _optional_time,
    "revoked_at": _optional_time,
}


def values_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a member, as the structs and the columns name them, ready to be stored.

    Raises:
        ValueError: A value is out of its range; the message names the field.
    """
    return {field: _WRITERS[field](value, field) for field, value in fields.items()}


def entity_from_row(kind: type[E], row: Mapping[str, Any]) -> E:
    """The member that a row (columns by name) stands for.

    Raises:
        msgspec.ValidationError: Something else wrote the row, and wrote nonsense.
    """
    return msgspec.convert({field: row[field] for field in kind.__struct_fields__}, kind)


def audit_values(entry: AuditEntry) -> dict[str, Any]:
    """The row of an audit entry.

    Raises:
        ValueError: A value cannot be stored; the message names the field.
    """
    changes = msgspec.to_builtins(entry.changes)
    if b"\\u0000" in msgspec.json.encode(changes):
        raise ValueError("changes must not hold NUL")
    return {
        "at": check_time(entry.at, "at"),
        "actor": _text(200)(entry.actor, "actor"),
        "action": _text(64)(entry.action, "action"),
        "target": _text(200)(entry.target, "target"),
        "request_id": _text(200, optional=True)(entry.request_id, "request_id"),
        "changes": changes,
    }

"""Keys as people read them: one in rows, many in columns."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable
from typing import Any, Final

from asgi_llm.gateway.admin._answers import member_document
from asgi_llm.stores.directory import Key

__all__ = ["key_facts", "key_table"]

_HEADS: Final = (
    *("ID", "NAME", "ENDS IN", "STATUS"),
    *("ORGANIZATION", "TEAM", "USER", "TIER", "LAST USED"),
)


def key_table(keys: Iterable[Key]) -> list[tuple[str, ...]]:
    """A row of heads, and one for each key."""
    rows: list[tuple[str, ...]] = [_HEADS]
    for key in keys:
        row = (
            key.id,
            key.name,
            key.hint,
            _status(key),
            key.organization_id or "-",
            key.team_id or "-",
            key.user_id or "-",
            key.tier or "-",
            _time(key.last_used_at),
        )
        rows.append(tuple(map(_safe, row)))
    return rows


def key_facts(key: Key) -> list[tuple[str, str]]:
    """What there is to say of a key, one fact a row."""
    facts: dict[str, str] = {"status": _status(key)}
    for name, value in member_document(key).items():
        if name in ("object", "active") or not value:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{label}={text}" for label, text in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(one if isinstance(one, str) else _terms(one) for one in value)
        facts[name] = value
    return [(name, _safe(str(value))) for name, value in facts.items()]


def _terms(document: dict[str, Any]) -> str:
    """A limit or a budget in few words."""
    if "period" in document:
        kind = "" if document["hard"] else " soft"
        return f"{document['amount_usd']} USD/{document['period']}{kind}"
    window = f"/{document['window_seconds']}s" if document["window_seconds"] else ""
    return f"{document['amount']} {document['unit']}{window} per {document['scope']}"


def _status(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at.timestamp() <= time.time():
        return "expired"
    return "active" if key.active else "inactive"


def _time(value: datetime.datetime | None) -> str:
    return "never" if value is None else value.strftime("%Y-%m-%d %H:%M")


def _safe(text: str) -> str:
    """``text`` without what a terminal would act on, whoever wrote it into the database."""
    return "".join(character if character.isprintable() else "?" for character in text)

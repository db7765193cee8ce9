"""Members of a directory, for tests: all that a test does not care about has a value."""

from __future__ import annotations

import datetime
import hashlib
import itertools
from typing import Any

from asgi_llm.stores.directory import AuditEntry, Key, Organization, Team, User
from asgi_llm.stores.sql.directory import SQLDirectory

BEGINNING = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_numbers = itertools.count(1)


def at(seconds: float = 0) -> datetime.datetime:
    """So many seconds after the beginning."""
    return BEGINNING + datetime.timedelta(seconds=seconds)


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def entry(action: str = "test.change", **fields: Any) -> AuditEntry:
    return AuditEntry(
        **{"at": at(next(_numbers)), "actor": "master", "action": action, "target": "x:y", **fields}
    )


def organization(id: str, **fields: Any) -> Organization:
    return Organization(**{"id": id, "name": id, "created_at": at(), **fields})


def team(id: str, **fields: Any) -> Team:
    return Team(**{"id": id, "name": id, "created_at": at(), **fields})


def user(id: str, **fields: Any) -> User:
    return User(**{"id": id, "name": id, "created_at": at(), **fields})


def key(id: str, **fields: Any) -> Key:
    return Key(**{"id": id, "name": id, "created_at": at(), **fields})


async def add_family(directory: SQLDirectory, **fields: Any) -> Key:
    """An organization, a team and a user of it, and the user's key, whose text is its id."""
    await directory.add(organization("org"), entry())
    await directory.add(team("team", organization_id="org"), entry())
    await directory.add(user("user", organization_id="org", team_id="team"), entry())
    made = key("key", organization_id="org", team_id="team", user_id="user", **fields)
    await directory.add_key(made, digest("key"), entry())
    return made

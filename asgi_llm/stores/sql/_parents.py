"""Whether what a member names as its parents is there, and all of one organization.

The foreign keys say the same, whoever writes at the same time; this says it in words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_llm.stores.directory import ConflictError
from asgi_llm.stores.sql.models import OrganizationRow, TeamRow, UserRow

__all__ = ["PARENTS", "check_parents"]

PARENTS = {
    "organization_id": ("organization", select(OrganizationRow.id, OrganizationRow.id)),
    "team_id": ("team", select(TeamRow.id, TeamRow.organization_id)),
    "user_id": ("user", select(UserRow.id, UserRow.organization_id)),
}


async def check_parents(
    connection: AsyncConnection,
    values: Mapping[str, Any],
    *,
    changed: Collection[str] = tuple(PARENTS),
) -> None:
    """Refuse ``values`` whose parents are missing or belong to different organizations.

    Raises:
        ConflictError: It says which.
    """
    if not any(field in PARENTS for field in changed):
        return
    organization: str | None = None
    for field, (name, statement) in PARENTS.items():
        id = values.get(field)
        if id is None:
            continue
        found = (
            await connection.execute(statement.where(statement.selected_columns[0] == id))
        ).first()
        if found is None:
            raise ConflictError(f"There is no such {name}.")
        if organization is not None and found[1] != organization:
            raise ConflictError(f"The {name} is of another organization.")
        organization = organization or found[1]

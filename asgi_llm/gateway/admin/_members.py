"""Finding members of the directory, and what each belongs to."""

from __future__ import annotations

from typing import Any, TypeVar

from asgi_llm.errors import InvalidRequestError
from asgi_llm.gateway.admin._grants import can_see, effective_role
from asgi_llm.gateway.admin._reading import is_id, unprocessable
from asgi_llm.stores.directory import Directory, Entity, Key, Organization, Team, User
from asgi_llm.types import Principal

__all__ = ["Members", "not_found"]

E = TypeVar("E", bound=Entity)


def not_found(kind: type[Entity], param: str | None = None) -> InvalidRequestError:
    """The 404 for what is not there, and for what is another's: nobody can tell them apart."""
    return InvalidRequestError(
        f"There is no such {kind.__name__.lower()}.", param=param, code="not_found", status=404
    )


class Members:
    """The directory, read on behalf of a caller."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def visible(
        self, kind: type[E], principal: Principal, id: str, param: str | None = None
    ) -> E:
        """The member of that id.

        Raises:
            InvalidRequestError: 404: there is none that the caller could see.
        """
        found = await self._directory.get(kind, id) if is_id(id) else None
        if found is None or not can_see(principal, found):
            raise not_found(kind, param)
        return found

    async def parent(self, kind: type[E], principal: Principal, id: str) -> E:
        """The member that another is to belong to.

        Raises:
            InvalidRequestError: 404: there is none that the caller could see.
        """
        param = f"{kind.__name__.lower()}_id"
        if kind is Organization and id == principal.organization_id:
            # A team's admin may name the organization of the team.
            found = await self._directory.get(kind, id)
            if found is not None:
                return found
        return await self.visible(kind, principal, id, param)

    async def above(
        self, entity: Key | User
    ) -> tuple[User | None, Team | None, Organization | None]:
        """What a key or a user belongs to; whatever is missing is None."""
        user: User | None = None
        if isinstance(entity, Key) and entity.user_id is not None:
            user = await self._directory.get(User, entity.user_id)
        team_id = entity.team_id or (user.team_id if user else None)
        team = await self._directory.get(Team, team_id) if team_id else None
        organization_id = (
            entity.organization_id
            or (team.organization_id if team else None)
            or (user.organization_id if user else None)
        )
        organization = (
            await self._directory.get(Organization, organization_id) if organization_id else None
        )
        return user, team, organization

    async def place(self, fields: dict[str, Any], principal: Principal) -> None:
        """Fill in what a new user or key belongs to, and check that it fits together.

        Raises:
            InvalidRequestError: 404: a parent that the caller cannot see. 422: parents that do not
                belong together.
        """
        user: User | None = None
        if fields.get("user_id") is not None:
            user = await self._user(fields["user_id"], principal)
            if user.team_id is not None:
                _fill(fields, "team_id", user.team_id, "the user is of another team")
        if effective_role(principal) == "team_admin" and fields.get("team_id") is None:
            fields["team_id"] = principal.team_id
        if fields.get("team_id") is not None:
            team = await self._team(fields["team_id"], principal)
            if team.organization_id is not None:
                _fill(
                    fields,
                    "organization_id",
                    team.organization_id,
                    "the team is of another organization",
                )
        if user is not None and user.organization_id is not None:
            _fill(
                fields,
                "organization_id",
                user.organization_id,
                "the user is of another organization",
            )
        if fields.get("organization_id") is not None:
            await self.parent(Organization, principal, fields["organization_id"])

    async def _user(self, id: str, principal: Principal) -> User:
        if id == principal.user_id:
            found = await self._directory.get(User, id)
            if found is not None:
                return found
        return await self.visible(User, principal, id, "user_id")

    async def _team(self, id: str, principal: Principal) -> Team:
        if id == principal.team_id:
            found = await self._directory.get(Team, id)
            if found is not None:
                return found
        return await self.visible(Team, principal, id, "team_id")


def _fill(fields: dict[str, Any], name: str, value: str, problem: str) -> None:
    if fields.get(name) is None:
        fields[name] = value
    elif fields[name] != value:
        raise unprocessable(name, problem)

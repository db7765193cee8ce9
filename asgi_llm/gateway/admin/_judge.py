"""Whether a caller may make, change or hand out a member as it would come to be."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec.structs import replace

from asgi_llm.errors import PermissionDeniedError
from asgi_llm.gateway.admin._grants import (
    Authority,
    Grant,
    effective_role,
    grant_of_key,
    grant_of_user,
    rank,
    refuse_beyond,
)
from asgi_llm.gateway.admin._members import Members
from asgi_llm.gateway.admin._reading import unprocessable
from asgi_llm.gateway.admin._records import kind_name
from asgi_llm.stores.base import LimitStatus
from asgi_llm.stores.directory import ConflictError, Directory, Entity, Key, Team, User
from asgi_llm.types import Limit, Principal

__all__ = ["Judge", "LimitState", "ReadLimits", "refuse_above"]


class LimitState(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that applies to a caller, and how it stands; None: nobody keeps count here."""

    limit: Limit
    status: LimitStatus | None = None


ReadLimits = Callable[[Principal], Awaitable[Sequence[LimitState]]]
"""All limits that apply to a caller, those of the tier included, without taking any of them."""


class Judge:
    """Compares what is asked for with what the caller has.

    Args:
        directory: Where both are looked up.
        members: The same, as callers see it.
        read_limits: For limits of tiers; without it those of the directory are known alone.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        directory: Directory,
        members: Members,
        *,
        read_limits: ReadLimits | None,
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._members = members
        self._read_limits = read_limits
        self._clock = clock

    async def check_key(self, principal: Principal, key: Key, fields: frozenset[str]) -> None:
        """Refuse a key that comes to more than the caller has, or is somebody's above them.

        Args:
            principal: The caller.
            key: As it would be.
            fields: Those of ``GRANTS`` that are given with it.

        Raises:
            PermissionDeniedError: It does; ``param`` names the field.
            InvalidRequestError: 422: its role is above that of its user.
        """
        user, team, organization = await self._members.above(key)
        if "role" in fields and user is not None and rank(key.role) > rank(user.role):
            raise unprocessable("role", "it is above that of the key's user")
        if user is not None and user.id != principal.user_id:
            refuse_above(principal, user)
        authority = await self._authority(principal)
        if authority is not None:
            wanted = grant_of_key(key, user, team, organization)
            refuse_beyond(authority, wanted, fields, explicit_limits=key.limits)

    async def check_user(self, principal: Principal, user: User, fields: frozenset[str]) -> None:
        """Refuse a user whose keys could come to more than the caller has.

        Raises:
            PermissionDeniedError: They could; ``param`` names the field.
        """
        authority = await self._authority(principal)
        if authority is not None:
            _, team, organization = await self._members.above(user)
            wanted = grant_of_user(user, team, organization)
            # A user has neither of their own.
            fields -= {"scopes", "expires_at"}
            refuse_beyond(authority, wanted, fields, explicit_limits=user.limits)

    async def check_move(self, principal: Principal, user: User) -> None:
        """Refuse to move ``user`` to the team that it names now.

        Raises:
            PermissionDeniedError: The caller is no admin.
            InvalidRequestError: 404: no such team. 422: it is of another organization.
            ConflictError: Keys of the user would stay behind.
        """
        if effective_role(principal) != "admin":
            raise PermissionDeniedError(
                "team_id: only an admin moves users", param="team_id", code="role_required"
            )
        if user.team_id is not None:
            team = await self._members.parent(Team, principal, user.team_id)
            if team.organization_id != user.organization_id:
                raise unprocessable("team_id", "the team is of another organization")
        keys = await self._directory.list(Key, where={"user_id": user.id, "active": True}, limit=1)
        if keys.items:
            raise ConflictError(
                "The user has active keys, which are in the team: revoke them first."
            )

    async def _authority(self, principal: Principal) -> Authority | None:
        """What the caller may give; None: everything."""
        role = effective_role(principal)
        if role == "admin":
            return None
        own = Key(
            id=principal.key_id or "",
            name="",
            created_at=datetime.datetime.fromtimestamp(self._clock(), datetime.UTC),
            role=role or "member",
            tier=principal.tier,
            models=principal.models,
            scopes=principal.scopes,
            limits=principal.limits,
            user_id=principal.user_id,
            team_id=principal.team_id,
            organization_id=principal.organization_id,
        )
        if principal.key_id is not None:
            known = await self._directory.get(Key, principal.key_id)
            if known is not None:
                own = replace(own, budgets=known.budgets, expires_at=known.expires_at)
        user, team, organization = await self._members.above(own)
        grant: Grant = grant_of_key(own, user, team, organization)
        if self._read_limits is None:
            return Authority(grant=grant)
        applied = tuple(state.limit for state in await self._read_limits(principal))
        return Authority(grant=grant, applied_limits=applied)


def refuse_above(principal: Principal, entity: Entity) -> None:
    """Refuse to touch what has a higher role than the caller.

    Raises:
        PermissionDeniedError: It has.
    """
    if isinstance(entity, User | Key) and rank(entity.role) > rank(effective_role(principal) or ""):
        raise PermissionDeniedError(
            f"This {kind_name(type(entity))} has a higher role than the caller.",
            code="role_required",
        )

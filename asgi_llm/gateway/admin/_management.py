"""What can be done to a directory, for the API and for the command line alike.

Each method checks who asks, changes the directory with its audit entry, and tells the caches.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from asgi_llm.errors import PermissionDeniedError
from asgi_llm.gateway.admin._bodies import Body, CreateKey, ImportKey
from asgi_llm.gateway.admin._forgetting import Forgetting, Invalidate
from asgi_llm.gateway.admin._grants import (
    GRANTS,
    effective_role,
    require_role,
)
from asgi_llm.gateway.admin._judge import Judge, LimitState, ReadLimits, refuse_above
from asgi_llm.gateway.admin._members import Members, not_found
from asgi_llm.gateway.admin._reading import NO_CURSOR, Listing, fields_of, unprocessable
from asgi_llm.gateway.admin._records import (
    Caller,
    audit_entry,
    new_id,
    plain,
    recorded,
)
from asgi_llm.gateway.admin._strength import check_key
from asgi_llm.stores._resolution import resolve_principal
from asgi_llm.stores.directory import (
    AuditEntry,
    ConflictError,
    Directory,
    Entity,
    Key,
    Organization,
    Page,
    Team,
    User,
)
from asgi_llm.stores.key_material import digest_key, key_hint, new_key
from asgi_llm.types import Principal, Role

__all__ = ["Management"]

E = TypeVar("E", bound=Entity)

_INHERITED: Final = GRANTS - {"role"}
"""What is given with a key that is there already; its role was looked at before."""


class Management:
    """The directory as its callers may see and change it.

    Args:
        directory: Where everything is kept.
        invalidate: Called with the digests of keys that may mean something else now. If it fails,
            caches find out by themselves after a few seconds.
        read_limits: For the state of limits; without it those of the directory are told alone.
        members_create_keys: Whether a member may make keys of their own.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        invalidate: Invalidate | None = None,
        read_limits: ReadLimits | None = None,
        members_create_keys: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._members = Members(directory)
        self._forgetting = Forgetting(directory, invalidate)
        self._read_limits = read_limits
        self._judge = Judge(directory, self._members, read_limits=read_limits, clock=clock)
        self._creators: Role = "member" if members_create_keys else "team_admin"
        self._clock = clock

    async def get(self, kind: type[E], caller: Caller, id: str) -> E:
        """One member.

        Raises:
            InvalidRequestError: 404: there is none that this caller could see.
        """
        return await self._members.visible(kind, caller.principal, id)

    async def list(self, kind: type[Entity], caller: Caller, listing: Listing) -> Page:
        """Those that this caller can see, newest first."""
        principal, where = caller.principal, dict(listing.where)
        role = effective_role(principal)
        if kind is Key and role == "member":
            return await self._own_keys(principal, listing)
        if role == "team_admin":
            if kind is Team:
                return await self._own_team(principal, listing)
            if where.setdefault("team_id", principal.team_id) != principal.team_id:
                return Page(items=(), next=None)
        return await self._page(kind, where, listing)

    async def create(self, kind: type[Entity], caller: Caller, body: Body) -> Entity:
        """Add an organization, a team or a user.

        Raises:
            PermissionDeniedError: It would have more than the caller has.
            InvalidRequestError: 404: what it is to belong to is not there. 422: a bad value.
            ConflictError: The id or the name is taken.
        """
        fields = fields_of(body, self._now())
        principal = caller.principal
        if fields.get("id") is None:
            fields["id"] = new_id(kind)
        elif effective_role(principal) != "admin":
            # Whether an id is taken is not theirs to find out.
            raise PermissionDeniedError(
                "id: only an admin chooses ids", param="id", code="role_required"
            )
        if kind is User:
            await self._members.place(fields, principal)
        elif fields.get("organization_id") is not None:
            await self._members.parent(Organization, principal, fields["organization_id"])
        entity = kind(created_at=self._now(), **fields)
        if isinstance(entity, User):
            await self._judge.check_user(caller.principal, entity, GRANTS)
        await self._directory.add(entity, self._entry(caller, "create", entity, recorded(entity)))
        return entity

    async def create_key(self, caller: Caller, body: CreateKey) -> tuple[Key, str]:
        """Make a key, or take one that exists elsewhere; the text is not kept.

        Raises:
            PermissionDeniedError: It would have more than the caller has.
            InvalidRequestError: 404: what it is to belong to is not there. 422: a bad value.
            ConflictError: The imported key is there already.
        """
        principal = caller.principal
        imported = isinstance(body, ImportKey)
        require_role(principal, "team_admin" if imported else self._creators)
        fields = fields_of(body, self._now())
        text = fields.pop("key", None)
        if text is None:
            text = new_key()
        else:
            check_key(text)
        if effective_role(principal) == "member":
            if principal.user_id is None:
                raise PermissionDeniedError("This takes a user.", code="role_required")
            if fields["user_id"] not in (None, principal.user_id):
                raise not_found(User, param="user_id")
            fields["user_id"] = principal.user_id
        await self._members.place(fields, principal)
        key = Key(id=new_id(Key), created_at=self._now(), hint=key_hint(text), **fields)
        await self._judge.check_key(caller.principal, key, GRANTS)
        digest = digest_key(text)
        action = "import" if imported else "create"
        await self._directory.add_key(key, digest, self._entry(caller, action, key, recorded(key)))
        # Somebody may have tried it before, and been remembered as unknown.
        await self._forgetting.digests([digest])
        return key, text

    async def update(self, kind: type[E], caller: Caller, id: str, body: Body) -> E:
        """Set the fields that ``body`` names.

        Raises:
            PermissionDeniedError: It would have more than the caller has, or does already.
            InvalidRequestError: 404: no such id. 422: a bad value.
            ConflictError: The name is taken, the key is revoked, or the user's keys are of a team.
        """
        principal = caller.principal
        before = await self._members.visible(kind, principal, id)
        refuse_above(principal, before)
        fields = fields_of(body, self._now())
        changes = {name: value for name, value in fields.items() if value != getattr(before, name)}
        if isinstance(before, Key) and before.revoked_at is not None:
            raise ConflictError("The key is revoked, for good.")
        if not changes:
            return before
        after = replace(before, **changes)
        given = GRANTS.intersection(changes)
        if "active" in changes and after.active:
            given |= _INHERITED
        if isinstance(after, Key):
            await self._judge.check_key(caller.principal, after, given)
        elif isinstance(after, User):
            if "team_id" in changes:
                await self._judge.check_move(caller.principal, after)
            await self._judge.check_user(caller.principal, after, given)
        entry = self._entry(caller, "update", after, plain(changes))
        updated = await self._directory.update(kind, id, changes, entry)
        if updated is None:
            raise not_found(kind)
        if kind is Key:
            await self._forgetting.key(id)
        elif changes.keys() != {"name"}:
            await self._forgetting.keys_of(kind, id)
        return updated

    async def remove(self, kind: type[Entity], caller: Caller, id: str) -> None:
        """Remove an organization, a team or a user that nothing belongs to.

        Raises:
            PermissionDeniedError: It has more than the caller has.
            InvalidRequestError: 404: no such id.
            ConflictError: Something belongs to it.
        """
        before = await self._members.visible(kind, caller.principal, id)
        refuse_above(caller.principal, before)
        if not await self._directory.remove(kind, id, self._entry(caller, "delete", before, {})):
            raise not_found(kind)

    async def rotate(self, caller: Caller, id: str, grace_seconds: int) -> tuple[Key, str]:
        """Give a key a new credential; the old one ends after ``grace_seconds``.

        Raises:
            PermissionDeniedError: The key has more than the caller has.
            InvalidRequestError: 404: no such id.
            ConflictError: The key is revoked or has expired.
        """
        now = self._now()
        key = await self._members.visible(Key, caller.principal, id)
        refuse_above(caller.principal, key)
        if key.revoked_at is not None:
            raise ConflictError("The key is revoked, for good.")
        if key.expires_at is not None and key.expires_at <= now:
            raise ConflictError("The key has expired.")
        if id != caller.principal.key_id:
            # Whoever gets the new credential has what the key has.
            await self._judge.check_key(caller.principal, key, _INHERITED)
        text = new_key()
        rotated = await self._directory.rotate_key(
            id,
            digest_key(text),
            hint=key_hint(text),
            old_expires_at=now + datetime.timedelta(seconds=grace_seconds),
            audit=self._entry(caller, "rotate", key, {"grace_seconds": grace_seconds}),
        )
        if rotated is None:
            raise not_found(Key)
        await self._forgetting.key(id)
        return rotated, text

    async def revoke(self, caller: Caller, id: str) -> Key:
        """End a key for good; one that is revoked already stays as it is.

        Raises:
            PermissionDeniedError: The key has a higher role than the caller.
            InvalidRequestError: 404: no such id.
        """
        key = await self._members.visible(Key, caller.principal, id)
        refuse_above(caller.principal, key)
        revoked = await self._directory.revoke_key(id, self._entry(caller, "revoke", key, {}))
        if revoked is None:
            raise not_found(Key)
        await self._forgetting.key(id)
        return revoked

    async def limits(self, caller: Caller, id: str) -> tuple[Principal, Sequence[LimitState]]:
        """Who calls with this key, and the limits that apply then.

        Raises:
            InvalidRequestError: 404: no such id.
        """
        key = await self._members.visible(Key, caller.principal, id)
        principal = resolve_principal(key, *await self._members.above(key))
        if self._read_limits is None:
            return principal, [LimitState(limit=limit) for limit in principal.limits]
        return principal, await self._read_limits(principal)

    async def audit(self, listing: Listing) -> Page:
        """Entries of the audit log, newest first."""
        try:
            return await self._directory.audit_log(
                where=listing.where, limit=listing.limit, after=listing.after
            )
        except ValueError as error:
            if listing.after is None:
                raise
            raise unprocessable("after", NO_CURSOR) from error

    # Listings

    async def _page(self, kind: type[Entity], where: Mapping[str, Any], listing: Listing) -> Page:
        try:
            return await self._directory.list(
                kind, where=where, limit=listing.limit, after=listing.after
            )
        except ValueError as error:
            if listing.after is None:
                raise
            raise unprocessable("after", NO_CURSOR) from error

    async def _own_keys(self, principal: Principal, listing: Listing) -> Page:
        where = dict(listing.where)
        if principal.user_id is not None:
            if where.setdefault("user_id", principal.user_id) != principal.user_id:
                return Page(items=(), next=None)
            return await self._page(Key, where, listing)
        own = await self._directory.get(Key, principal.key_id) if principal.key_id else None
        return _only(own, listing)

    async def _own_team(self, principal: Principal, listing: Listing) -> Page:
        team = await self._directory.get(Team, principal.team_id) if principal.team_id else None
        return _only(team, listing)

    def _entry(
        self, caller: Caller, action: str, entity: Entity, changes: Mapping[str, Any]
    ) -> AuditEntry:
        return audit_entry(caller, action, entity, changes, self._now())

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock(), datetime.UTC)


def _only(entity: Entity | None, listing: Listing) -> Page:
    """A listing of one, or of none."""
    shown = (
        entity is not None
        and listing.after is None
        and all(getattr(entity, field) == value for field, value in listing.where.items())
    )
    return Page(items=(entity,) if shown else (), next=None)

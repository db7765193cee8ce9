"""Who may see what, and who may give what: nobody gives more than they have themselves."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from asgi_llm.errors import PermissionDeniedError
from asgi_llm.stores._resolution import ROLE_ORDER, merge_budgets, resolve_principal
from asgi_llm.stores.directory import Budget, Entity, Key, Organization, Team, User
from asgi_llm.types import Limit, Principal, Role

__all__ = [
    "GRANTS",
    "Authority",
    "Grant",
    "can_see",
    "covers",
    "effective_role",
    "grant_of_key",
    "grant_of_user",
    "rank",
    "refuse_beyond",
    "require_role",
]

GRANTS: Final = frozenset(("role", "tier", "models", "scopes", "limits", "budgets", "expires_at"))
"""The fields by which one caller has more than another."""

_OWN_SCOPES: Final = frozenset(("caller", "key", "user", "key_and_model"))
"""Scopes of limits that nobody else shares, so that changing them concerns nobody else."""

_GLOBS = "*?["


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a key, or all keys of a user, come to with what they inherit."""

    role: Role
    tier: str | None
    models: tuple[str, ...] | None
    scopes: frozenset[str]
    limits: tuple[Limit, ...]
    budgets: tuple[Budget, ...]
    expires_at: datetime.datetime | None


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller has, and so may give. Not made for admins, who may give everything."""

    grant: Grant
    applied_limits: tuple[Limit, ...] | None = None
    """Every limit that applies to the caller, those of the tier too; None: it is not known."""


def rank(role: str) -> int:
    """The place of a role among all, from 0; -1 for a word that is no role."""
    return ROLE_ORDER.index(role) if role in ROLE_ORDER else -1


def effective_role(principal: Principal) -> Role | None:
    """What a caller may manage. A team admin without a team manages what is their own."""
    if principal.role not in ROLE_ORDER:
        return None
    if principal.role == "team_admin" and principal.team_id is None:
        return "member"
    return principal.role


def require_role(principal: Principal, least: Role) -> None:
    """Refuse a caller whose role is below ``least``.

    Raises:
        PermissionDeniedError: It is.
    """
    role = effective_role(principal)
    if role is None or rank(role) < rank(least):
        raise PermissionDeniedError(f"This takes the role {least}.", code="role_required")


def can_see(principal: Principal, entity: Entity) -> bool:
    """Whether ``entity`` is there for this caller."""
    role = effective_role(principal)
    if role == "admin":
        return True
    if isinstance(entity, Key):
        if entity.id == principal.key_id:
            return True
        if entity.user_id is not None and entity.user_id == principal.user_id:
            return role is not None
        return role == "team_admin" and entity.team_id == principal.team_id
    if role != "team_admin":
        return False
    if isinstance(entity, Team):
        return entity.id == principal.team_id
    return isinstance(entity, User) and entity.team_id == principal.team_id


def grant_of_key(
    key: Key, user: User | None, team: Team | None, organization: Organization | None
) -> Grant:
    """What ``key`` comes to."""
    principal = resolve_principal(key, user, team, organization)
    return Grant(
        role=key.role,
        tier=principal.tier,
        models=principal.models,
        scopes=principal.scopes,
        limits=principal.limits,
        budgets=merge_budgets(_present(key, user, team, organization)),
        expires_at=key.expires_at,
    )


def grant_of_user(user: User, team: Team | None, organization: Organization | None) -> Grant:
    """What a key of ``user`` comes to that has nothing of its own."""
    key = Key(id="", name="", created_at=user.created_at, role=user.role, user_id=user.id)
    return grant_of_key(key, user, team, organization)


def _present(*entities: Entity | None) -> list[Entity]:
    return [one for one in entities if one is not None]


def refuse_beyond(
    authority: Authority,
    wanted: Grant,
    fields: Collection[str],
    *,
    explicit_limits: Iterable[Limit] = (),
) -> None:
    """Refuse to give more than the giver has.

    Args:
        authority: The giver's.
        wanted: What would come of it.
        fields: Those of ``GRANTS`` that are given anew.
        explicit_limits: The limits among ``wanted`` that are not inherited.

    Raises:
        PermissionDeniedError: It names the field.
    """
    own = authority.grant
    if "role" in fields and rank(wanted.role) > rank(own.role):
        raise _beyond("role")
    if "tier" in fields and wanted.tier != own.tier:
        raise _beyond("tier")
    if "models" in fields and not covers(own.models, wanted.models):
        raise _beyond("models")
    if "scopes" in fields and not wanted.scopes <= own.scopes:
        raise _beyond("scopes")
    if "limits" in fields and not _limits_within(authority, wanted.limits, explicit_limits):
        raise _beyond("limits")
    if "budgets" in fields and not _budgets_within(own.budgets, wanted.budgets):
        raise _beyond("budgets")
    if (
        "expires_at" in fields
        and own.expires_at is not None
        and (wanted.expires_at is None or wanted.expires_at > own.expires_at)
    ):
        raise _beyond("expires_at")


def _beyond(field: str) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"{field}: this would come to more than the caller's own",
        param=field,
        code="beyond_own_grant",
    )


def covers(own: tuple[str, ...] | None, wanted: tuple[str, ...] | None) -> bool:
    """Whether all models that ``wanted`` allows are surely allowed by ``own``."""
    if own is None:
        return True
    if wanted is None:
        return False
    return all(any(_contains(outer, inner) for outer in own) for inner in wanted)


def _contains(outer: str, inner: str) -> bool:
    """Whether one pattern surely matches whatever another does. A doubt is a no."""
    if outer == inner:
        return True
    marks = [at for at, character in enumerate(inner) if character in _GLOBS]
    if not marks:
        return fnmatchcase(inner, outer)
    head, star, tail = outer.partition("*")
    if not star or any(mark in head + tail for mark in _GLOBS):
        return False
    # Whatever `inner` matches begins with what stands before its first mark, and ends with what
    # stands after its last; but what stands in brackets is no text.
    last = inner[marks[-1] + 1 :] if "[" not in inner else ""
    return inner[: marks[0]].startswith(head) and last.endswith(tail)


def _limits_within(
    authority: Authority, wanted: tuple[Limit, ...], explicit: Iterable[Limit]
) -> bool:
    given = {_identity(limit): limit for limit in wanted}
    own = {_identity(limit): limit for limit in authority.grant.limits}
    for identity, limit in own.items():
        other = given.get(identity)
        if other is None or not _is_within(other, limit):
            return False
    for limit in explicit:
        identity = _identity(limit)
        if limit == own.get(identity):
            continue
        # Another amount would be counted where others are counted too.
        if limit.scope not in _OWN_SCOPES:
            return False
        if identity in own:
            continue
        # It would stand in the place of a limit of the tier, which may be the lower one.
        if authority.applied_limits is None or not all(
            _is_within(limit, other)
            for other in authority.applied_limits
            if _identity(other) == identity
        ):
            return False
    return True


def _is_within(limit: Limit, other: Limit) -> bool:
    return limit.amount <= other.amount and _burst(limit) <= _burst(other)


def _identity(limit: Limit) -> tuple[str, str, int]:
    return limit.scope, limit.unit, limit.window_seconds


def _burst(limit: Limit) -> int:
    return limit.amount if limit.burst is None else limit.burst


def _budgets_within(own: Iterable[Budget], wanted: Iterable[Budget]) -> bool:
    given = {budget.period: budget for budget in wanted}
    for budget in own:
        other = given.get(budget.period)
        if other is None or Decimal(other.amount_usd) > Decimal(budget.amount_usd):
            return False
        if budget.hard and not other.hard:
            return False
    return True

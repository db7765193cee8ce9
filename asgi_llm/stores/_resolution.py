"""From the members of a directory to the caller that one of their keys stands for."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, TypeVar, cast

from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.directory import Budget, Entity, Key, Organization, Team, User
from asgi_llm.types import BudgetPeriod, BudgetRule, BudgetScope, Limit, Principal, Role

__all__ = [
    "ROLE_ORDER",
    "budget_rules",
    "merge_budgets",
    "merge_limits",
    "resolve",
    "resolve_principal",
]

T = TypeVar("T")

ROLE_ORDER: Final[tuple[Role, ...]] = ("member", "team_admin", "admin")
"""From the least to the most that a caller may manage."""


def resolve(
    key: Key,
    user: User | None,
    team: Team | None,
    organization: Organization | None,
    *,
    credential_expires_at: float | None = None,
) -> KeyRecord:
    """What a key store answers for ``key``: active only while all that it belongs to are.

    Args:
        key: The key.
        user: The key's user; likewise ``team`` and ``organization``.
        team: The key's team, or else its user's.
        organization: The key's organization, or else its user's, or its team's.
        credential_expires_at: End of the credential's grace, in Unix seconds, after a rotation.
    """
    ends = [] if key.expires_at is None else [key.expires_at.timestamp()]
    if credential_expires_at is not None:
        ends.append(credential_expires_at)
    return KeyRecord(
        principal=resolve_principal(key, user, team, organization),
        active=key.revoked_at is None
        and all(one.active for one in (key, user, team, organization) if one is not None),
        expires_at=min(ends, default=None),
    )


def resolve_principal(
    key: Key, user: User | None, team: Team | None, organization: Organization | None
) -> Principal:
    """The caller: tier, models and limits from the nearest of key, user, team and organization.

    A key manages no more than its user does, so that who loses a role loses it in all their keys.
    """
    inner: list[Entity] = [one for one in (key, user, team, organization) if one is not None]
    role = key.role
    if user is not None and ROLE_ORDER.index(user.role) < ROLE_ORDER.index(role):
        role = user.role
    return Principal(
        key_id=key.id,
        key_name=key.name,
        user_id=key.user_id,
        team_id=key.team_id or (user.team_id if user else None),
        organization_id=key.organization_id
        or (user.organization_id if user else None)
        or (team.organization_id if team else None),
        role=role,
        tier=_first(one.tier for one in inner),
        models=_first((key.models, team.models if team else None)),
        scopes=key.scopes,
        limits=merge_limits(inner),
        budgets=(
            *budget_rules("key", key.budgets),
            *(budget_rules("user", user.budgets) if user else ()),
            *(budget_rules("team", team.budgets) if team else ()),
            *(budget_rules("organization", organization.budgets) if organization else ()),
        ),
        metadata=key.metadata,
    )


def merge_limits(inner: Iterable[Entity]) -> tuple[Limit, ...]:
    """The limits of ``inner``, nearest first: one for each scope, unit and window."""
    limits: dict[tuple[str, str, int], Limit] = {}
    for one in inner:
        for limit in one.limits:
            limits.setdefault((limit.scope, limit.unit, limit.window_seconds), limit)
    return tuple(limits.values())


def budget_rules(scope: BudgetScope, budgets: Iterable[Budget]) -> tuple[BudgetRule, ...]:
    """The budgets of one member as a layer asks for them: all who belong to it share them."""
    return tuple(
        [
            BudgetRule(
                scope=scope,
                amount_usd=Decimal(budget.amount_usd),
                period=cast("BudgetPeriod", budget.period),
                hard=budget.hard,
            )
            for budget in budgets
        ]
    )


def merge_budgets(inner: Iterable[Entity]) -> tuple[Budget, ...]:
    """The budgets of ``inner``, nearest first: one for each period."""
    budgets: dict[str, Budget] = {}
    for one in inner:
        for budget in one.budgets:
            budgets.setdefault(budget.period, budget)
    return tuple(budgets.values())


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)

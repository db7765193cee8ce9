"""Which budgets a request spends from, and what is said of one that has no room."""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple

from asgi_llm.errors import BudgetExceededError, ConfigurationError
from asgi_llm.pricing import format_usd
from asgi_llm.stores.budgets import (
    BudgetDecision,
    BudgetDemand,
    BudgetRule,
    check_budget,
    demand_of,
    from_pico,
    to_pico,
)
from asgi_llm.types import Principal

__all__ = ["BudgetPlan", "BudgetPlanner", "Concerned", "Mark", "RefusalStatus", "refusal"]

MAX_PLANS: Final = 4096
RefusalStatus = Literal[400, 402, 429]

_NOBODY: Final = Principal()
_ONE: Final = Decimal(1)
_SHOWN: Final = Decimal("0.000001")


class Mark(NamedTuple):
    """What is spent when somebody is told."""

    amount: int
    """In pico-USD."""
    share: Decimal
    """Of the amount of ``rule``."""
    rule: BudgetRule


class Concerned(NamedTuple):
    """One budget of a plan, and at which amounts somebody is told."""

    owner: str
    """Whose it is, in words for operators."""
    alerts: tuple[Mark, ...]
    """Of all rules of the budget, ascending."""


class BudgetPlan(NamedTuple):
    """The budgets of one request."""

    demands: tuple[BudgetDemand, ...]
    concerned: tuple[Concerned, ...]
    """In the order of the demands."""
    tells: bool
    """Whether somebody is told of any share of them."""


_NONE: Final = BudgetPlan((), (), False)


class BudgetPlanner:
    """Finds the budgets of a request.

    Args:
        budgets: For every request.
        budgets_of: The budgets that a caller has besides; None: nobody has any.

    Raises:
        ConfigurationError: A rule makes no sense, or two are for the same budget.
    """

    def __init__(
        self,
        budgets: Sequence[BudgetRule],
        budgets_of: Callable[[Principal], Sequence[BudgetRule]] | None,
    ) -> None:
        seen: set[str] = set()
        for rule in budgets:
            check_budget(rule)
            key = demand_of(rule, "").key
            if key in seen:
                raise ConfigurationError(
                    f"budgets: there are two for the same {rule.scope} and period", param="budgets"
                )
            seen.add(key)
        self._rules = tuple(rule for rule in budgets if rule.scope != "tag")
        self._tagged = tuple(rule for rule in budgets if rule.scope == "tag")
        self._budgets_of = budgets_of
        self._plans: dict[object, BudgetPlan] = {}

    def own(self, principal: Principal | None) -> tuple[BudgetRule, ...]:
        """The budgets that a caller has besides; the same tuple where ``budgets_of`` gives one."""
        return () if self._budgets_of is None else tuple(self._budgets_of(principal or _NOBODY))

    def find(
        self,
        principal: Principal | None,
        model: str,
        tags: Mapping[str, str],
        own: tuple[BudgetRule, ...],
    ) -> BudgetPlan:
        """The budgets that a call of ``model`` by ``principal`` spends from.

        Raises:
            ConfigurationError: A budget of the caller's own makes no sense.
        """
        principal = principal or _NOBODY
        if not (self._rules or self._tagged or own):
            return _NONE
        known = (
            principal.key_id,
            principal.user_id,
            principal.team_id,
            principal.organization_id,
            model,
            own,
            *(tags.get(rule.tag) for rule in (*self._tagged, *own) if rule.tag is not None),
        )
        plan = self._plans.get(known)
        if plan is None:
            for rule in own:
                check_budget(rule, "budgets_of")
            plan = _plan((*self._rules, *self._tagged, *own), principal, model, tags)
            if len(self._plans) >= MAX_PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[known] = plan
        return plan


def _plan(
    rules: Sequence[BudgetRule], principal: Principal, model: str, tags: Mapping[str, str]
) -> BudgetPlan:
    demands: dict[str, BudgetDemand] = {}
    concerned: dict[str, Concerned] = {}
    for rule in rules:
        value = _value(rule, principal, model, tags)
        if value is None or not _is_of(rule, value):
            continue
        # All whom a pattern fits share one budget; an id is a pattern that fits itself.
        demand = demand_of(rule, "" if rule.of is not None else value)
        rival = demands.get(demand.key)
        # The lowest hard one refuses; one that is soft counts where none is hard.
        if rival is None or (not rule.hard, demand.limit) < (not rival.rule.hard, rival.limit):
            demands[demand.key] = demand
        marks = {}
        if rival is not None:
            marks = {(mark.amount, mark.share): mark for mark in concerned[demand.key].alerts}
        for share in rule.alert_shares or (() if rule.hard else (_ONE,)):
            amount = to_pico(rule.amount_usd * share)
            marks.setdefault((amount, share), Mark(amount, share, rule))
        concerned[demand.key] = Concerned(
            value if rule.of is None else rule.of, tuple([marks[at] for at in sorted(marks)])
        )
    tells = any(one.alerts for one in concerned.values())
    return BudgetPlan(tuple(demands.values()), tuple(concerned.values()), tells)


def _value(
    rule: BudgetRule, principal: Principal, model: str, tags: Mapping[str, str]
) -> str | None:
    """Whose budget it would be; None: the request has nothing of the kind."""
    scope = rule.scope
    if scope == "everyone":
        return ""
    if scope == "model":
        return model or None
    if scope == "tag":
        return tags.get(rule.tag or "")
    if scope == "key":
        return principal.key_id
    if scope == "user":
        return principal.user_id
    return principal.team_id if scope == "team" else principal.organization_id


def _is_of(rule: BudgetRule, value: str) -> bool:
    if rule.of is None or rule.of == value:
        return True
    return rule.scope in ("model", "tag") and fnmatchcase(value, rule.of)


_WHOSE: Final = {
    "key": "this API key",
    "user": "this user",
    "team": "this team",
    "organization": "this organization",
    "model": "this model",
    "everyone": "all callers together",
}
_PERIODS: Final = {"day": "a day", "week": "a week", "month": "a month", "total": "in all"}


def refusal(
    plan: BudgetPlan, decision: BudgetDecision, amount: int, *, status: RefusalStatus, now: float
) -> BudgetExceededError:
    """The error for a request that a budget has no room for.

    It says nothing of who else spends from the budget, and no id.
    """
    place = decision.refused_by or 0
    rule = plan.demands[place].rule
    whose = _WHOSE.get(rule.scope) or f"requests tagged {rule.tag}"
    period = f"in {rule.days} days" if rule.period == "rolling" else _PERIODS[rule.period]
    text = (
        f"The budget of {whose} has no room for this request: the budget is "
        f"{format_usd(rule.amount_usd)} USD {period}, and the request may cost up to "
        f"{_shown(amount)} USD."
    )
    retry_after = None
    resets_at = decision.statuses[place].resets_at
    if resets_at is not None:
        zone = zoneinfo.ZoneInfo(rule.time_zone)
        moment = datetime.datetime.fromtimestamp(resets_at, zone).isoformat(timespec="seconds")
        text += f" It begins anew at {moment}."
        if status == 429:
            retry_after = max(1.0, resets_at - now)
    # The SDKs of OpenAI ask again after a 429, unless they are told not to.
    return BudgetExceededError(
        text,
        status=status,
        retry_after_seconds=retry_after,
        headers=[(b"x-should-retry", b"false")],
    )


def _shown(amount: int) -> str:
    usd = from_pico(amount)
    return format_usd(usd.quantize(_SHOWN, ROUND_CEILING) if usd > _SHOWN else usd)

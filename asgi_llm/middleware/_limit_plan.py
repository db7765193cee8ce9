"""Which limits concern a request, worked out once for each caller and model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from asgi_llm.middleware._limit_rules import check_limit
from asgi_llm.stores.base import Demand
from asgi_llm.types import Limit, Principal
from asgi_llm.wire._fields import MODEL_NAME_LENGTH
from asgi_llm.wire.validation import model_name_error

__all__ = ["UNKNOWN_MODEL", "Plan", "Planner", "is_by_address", "model_of"]

MAX_PLANS: Final = 4096
"""Plans that are remembered; one takes some 2 KB."""

UNKNOWN_MODEL: Final = ""
"""Stands for every model whose name no model can have."""

_OF_MODELS: Final = "models/"
_MAX_PLAIN_ID: Final = 96
_BY_MODEL: Final = frozenset(("model", "key_and_model"))
_TOKEN_UNITS: Final = frozenset(("tokens", "input_tokens", "output_tokens"))


class Plan:
    """The demands of one caller on one model.

    Attributes:
        demands: Ready to be taken, but for the cost of those that count tokens.
        by_model: Whether the model decides on some of the limits, which are not among these unless
            the plan was made for a model.
        tokens: Places of the demands that count tokens.
        held: Places of the demands that are reservations.
        requests: Places of the demands that count requests in a window.
        every: All places.
        only_requests: Whether all demands are such.
        limits_told: The ``x-ratelimit-limit-*`` value of each demand.
    """

    __slots__ = (
        "by_model",
        "demands",
        "every",
        "held",
        "limits_told",
        "only_requests",
        "requests",
        "tokens",
    )

    def __init__(self, demands: tuple[Demand, ...], *, by_model: bool) -> None:
        self.demands = demands
        self.by_model = by_model
        self.every = tuple(range(len(demands)))
        units = [demand.limit.unit for demand in demands]
        self.tokens = tuple(at for at, unit in enumerate(units) if unit in _TOKEN_UNITS)
        self.requests = tuple(at for at, unit in enumerate(units) if unit == "requests")
        self.only_requests = len(self.requests) == len(demands)
        self.held = tuple(at for at, demand in enumerate(demands) if demand.held)
        self.limits_told = tuple(b"%d" % demand.limit.amount for demand in demands)

    def is_of_model(self, at: int) -> bool:
        """Whether the limit at a place is one for some models only."""
        return self.demands[at].key.startswith(_OF_MODELS)


class Planner:
    """Finds the plan of a request.

    Args:
        limits: For every request.
        tiers: By the name of the tier.
        default_tier: For callers without a tier, or with one that is not among ``tiers``.
        model_limits: By a pattern of models; every pattern that fits applies.
        on_unknown_tier: Told of a tier that is not among ``tiers``, when a plan is made.
    """

    def __init__(
        self,
        limits: tuple[Limit, ...],
        tiers: Mapping[str, tuple[Limit, ...]],
        default_tier: str | None,
        model_limits: Mapping[str, tuple[Limit, ...]],
        on_unknown_tier: Callable[[str], None],
    ) -> None:
        self._limits = limits
        self._tiers = tiers
        self._default_tier = default_tier
        self._model_limits = model_limits
        self._on_unknown_tier = on_unknown_tier
        groups = (limits, *tiers.values(), *model_limits.values())
        self._by_address = any(limit.scope == "address" for group in groups for limit in group)
        self._plans: dict[object, Plan] = {}
        # By the identity of a principal that comes out of a cache of keys: it is the same object
        # for every request of a key until that is read again.
        self._recent: dict[int, tuple[Principal, str | None, str | None, Plan]] = {}

    def needs_address(self, principal: Principal | None) -> bool:
        """Whether the plan depends on where the request comes from."""
        if principal is None:
            return True
        return (
            self._by_address
            or (principal.key_id is None and principal.user_id is None)
            or (
                bool(principal.limits)
                and any(limit.scope == "address" for limit in principal.limits)
            )
        )

    def known(self, principal: Principal | None) -> Plan | None:
        """The plan that ``find`` gave this very object, where it depends on nothing else."""
        recent = self._recent.get(id(principal))
        if (
            recent is not None
            and recent[0] is principal
            and recent[1] is None
            and recent[2] is None
        ):
            return recent[3]
        return None

    def find(self, principal: Principal | None, address: str | None, model: str | None) -> Plan:
        """The plan for a caller; ``model`` None leaves out what depends on the model.

        Raises:
            ConfigurationError: A limit of the caller's own is out of range.
        """
        if principal is None:
            return self._find((address, model), _NOBODY, address, model)
        recent = self._recent.get(id(principal))
        if (
            recent is None
            or recent[0] is not principal
            or recent[1] != address
            or recent[2] != model
        ):
            # All that the plan depends on: a caller whose tier changes has another plan at once.
            known = (
                principal.key_id,
                principal.user_id,
                principal.team_id,
                principal.organization_id,
                principal.tier,
                principal.limits,
                address,
                model,
            )
            recent = (principal, address, model, self._find(known, principal, address, model))
            if len(self._recent) >= MAX_PLANS:
                self._recent.clear()
            self._recent[id(principal)] = recent
        return recent[3]

    def _find(
        self, known: object, principal: Principal, address: str | None, model: str | None
    ) -> Plan:
        plan = self._plans.get(known)
        if plan is None:
            plan = self._make(principal, address or "", model)
            if len(self._plans) >= MAX_PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[known] = plan
        return plan

    def _make(self, principal: Principal, address: str, model: str | None) -> Plan:
        if model and model_name_error(model) is not None:
            # They share one limit, so that nobody makes a new one with every request.
            model = UNKNOWN_MODEL
        of_tier = self._of_tier(principal)
        by_model = bool(self._model_limits) or any(
            limit.scope in _BY_MODEL for limit in (*self._limits, *of_tier)
        )
        groups = [("all", "", self._limits), ("tier", "", of_tier)]
        if model is not None:
            groups += [
                ("models", pattern, limits)
                for pattern, limits in self._model_limits.items()
                if fnmatchcase(model, pattern)
            ]
        demands = []
        for group, pattern, limits in groups:
            for limit in limits:
                who = _who(limit, principal, address, model)
                if who is not None:
                    demands.append(_demand(group, pattern, limit, who))
        return Plan(tuple(demands), by_model=by_model)

    def _of_tier(self, principal: Principal) -> tuple[Limit, ...]:
        """The limits of the caller's tier, with the caller's own in the place of some."""
        name = principal.tier
        if name is not None and name not in self._tiers:
            if self._tiers:
                self._on_unknown_tier(name)
            name = None
        if name is None:
            name = self._default_tier
        of_tier = self._tiers[name] if name is not None else ()
        if not principal.limits:
            return of_tier
        merged = {(limit.scope, limit.unit, limit.window_seconds): limit for limit in of_tier}
        for limit in principal.limits:
            check_limit(limit)
            merged[limit.scope, limit.unit, limit.window_seconds] = limit
        return tuple(merged.values())


_NOBODY: Final = Principal()


def model_of(document: object) -> str:
    """The model that is asked for, as the client names it; one name for all that are too long."""
    name = document.get("model") if isinstance(document, dict) else None
    if not isinstance(name, str) or len(name) > MODEL_NAME_LENGTH:
        return UNKNOWN_MODEL
    return name


def _who(
    limit: Limit, principal: Principal, address: str, model: str | None
) -> tuple[str, ...] | None:
    """Who shares the limit: a kind and ids. None: it does not concern this request."""
    scope = limit.scope
    if scope == "everyone":
        return ("everyone",)
    if scope == "caller":
        if principal.key_id is not None:
            return ("key", principal.key_id)
        if principal.user_id is not None:
            return ("user", principal.user_id)
        return ("address", address)
    if scope == "address":
        return ("address", address)
    if scope == "model":
        return None if model is None else ("model", model)
    if scope == "key_and_model":
        if model is None or principal.key_id is None:
            return None
        return ("key and model", principal.key_id, model)
    one = {
        "key": principal.key_id,
        "user": principal.user_id,
        "team": principal.team_id,
        "organization": principal.organization_id,
    }[scope]
    return None if one is None else (scope, one)


def _demand(group: str, pattern: str, limit: Limit, who: tuple[str, ...]) -> Demand:
    unit = limit.unit
    words = [group, limit.scope, unit, str(limit.window_seconds), who[0]]
    # Words of ours first, which hold no slash; then what others chose, each with its length.
    words += [_bounded(text) for text in (pattern, *who[1:])]
    held = unit != "requests"
    return Demand("/".join(words), limit, 0 if unit in _TOKEN_UNITS else 1, held)


def is_by_address(demand: Demand) -> bool:
    """Whether the limit is one of a client's address."""
    return demand.key.split("/", 5)[4] == "address"


def _bounded(text: str) -> str:
    """``text`` in a form that is short, plain, and that no other text and no two others have."""
    if len(text) <= _MAX_PLAIN_ID and text.isascii() and text.isprintable():
        return f"{len(text)}:{text}"
    return "#" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

"""What may be spent: budgets, and what a layer asks of the place where they are kept.

Amounts are whole pico-USD (10**-12 USD), so that no sum is ever rounded.
"""

from __future__ import annotations

import hashlib
import zoneinfo
from collections.abc import Sequence
from decimal import ROUND_CEILING, Context, Decimal
from typing import Final, Protocol, get_args

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.types import BudgetPeriod, BudgetRule, BudgetScope

__all__ = [
    "PICO",
    "BudgetDecision",
    "BudgetDemand",
    "BudgetPeriod",
    "BudgetRule",
    "BudgetScope",
    "BudgetStatus",
    "BudgetStore",
    "BudgetUse",
    "check_budget",
    "demand_of",
    "from_pico",
    "to_pico",
]

PICO: Final = 10**12
"""Pico-USD in a USD."""

MAX_AMOUNT_USD: Final = Decimal(10) ** 12
MAX_DAYS: Final = 3660

_WIDE: Final = Context(prec=80, rounding=ROUND_CEILING)


def to_pico(amount_usd: Decimal) -> int:
    """An amount in pico-USD; what is smaller than one counts as one."""
    return int(amount_usd.scaleb(12, _WIDE).to_integral_value(ROUND_CEILING, _WIDE))


def from_pico(amount: int) -> Decimal:
    """Pico-USD as USD, exactly."""
    return Decimal(amount).scaleb(-12, _WIDE)


def check_budget(rule: BudgetRule, option: str = "budgets") -> None:
    """Refuse a rule that makes no sense.

    Raises:
        ConfigurationError: It does not; ``param`` names the option and the field.
    """
    amount = rule.amount_usd
    if rule.scope not in get_args(BudgetScope):
        raise _wrong(option, "scope", f"one of {', '.join(get_args(BudgetScope))}", rule.scope)
    if rule.period not in get_args(BudgetPeriod):
        raise _wrong(option, "period", f"one of {', '.join(get_args(BudgetPeriod))}", rule.period)
    if not isinstance(amount, Decimal) or not amount.is_finite():
        raise _wrong(option, "amount_usd", "a finite decimal number", amount)
    if not 0 <= amount <= MAX_AMOUNT_USD:
        raise _wrong(option, "amount_usd", f"from 0 to {MAX_AMOUNT_USD}", amount)
    if (rule.days is not None) != (rule.period == "rolling"):
        raise _wrong(option, "days", "there for a rolling period, and for no other", rule.days)
    if rule.days is not None and not (type(rule.days) is int and 1 <= rule.days <= MAX_DAYS):
        raise _wrong(option, "days", f"a whole number from 1 to {MAX_DAYS}", rule.days)
    if (rule.tag is not None) != (rule.scope == "tag") or rule.tag == "":
        raise _wrong(option, "tag", "the name of a tag where the scope is tag", rule.tag)
    if rule.scope == "everyone" and rule.of is not None:
        raise _wrong(option, "of", "left out where the scope is everyone", rule.of)
    for share in rule.alert_shares:
        if not isinstance(share, Decimal) or not share.is_finite() or not 0 < share <= 10:
            raise _wrong(option, "alert_shares", "decimal numbers above 0, up to 10", share)
    try:
        zoneinfo.ZoneInfo(rule.time_zone)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise _wrong(option, "time_zone", "a name such as Europe/Berlin", rule.time_zone) from None


def _wrong(option: str, field: str, wanted: str, value: object) -> ConfigurationError:
    return ConfigurationError(
        f"{option}: {field} must be {wanted}, not {value!r}", param=f"{option}.{field}"
    )


class BudgetDemand(msgspec.Struct, frozen=True, gc=False):
    """One budget that a request spends from."""

    key: str
    """Whose budget it is, and which: opaque to the store, at most 200 characters."""
    rule: BudgetRule
    limit: int
    """Its amount, in pico-USD."""


def demand_of(rule: BudgetRule, owner: str) -> BudgetDemand:
    """The demand on the budget that ``owner`` has by ``rule``.

    What was spent stays spent when the amount changes, or whether the budget refuses.
    """
    words = (rule.scope, rule.tag, rule.of, rule.period, rule.days, rule.time_zone, owner)
    text = "\0".join("" if word is None else f"{len(str(word))}:{word}" for word in words)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return BudgetDemand(f"{rule.scope}:{rule.period}:{digest}", rule, to_pico(rule.amount_usd))


class BudgetStatus(msgspec.Struct, frozen=True, gc=False):
    """How one budget stands, in pico-USD."""

    spent: int
    """In this period."""
    reserved: int
    """By calls that are under way."""
    resets_at: float | None
    """Unix time at which the period ends; None for ``rolling`` and ``total``."""


class BudgetDecision(msgspec.Struct, frozen=True, gc=False):
    """One answer for all budgets of a request."""

    admitted: bool
    """Whether the amount was reserved on all of them; if not, on none (unless nobody enforced)."""
    refused_by: int | None
    """Place of the first hard budget without room."""
    statuses: tuple[BudgetStatus, ...]
    """In the order of the demands, before this request."""


class BudgetUse(msgspec.Struct, frozen=True, gc=False):
    """What a settlement did to one budget, in pico-USD."""

    before: int
    """Spent in the period before it."""
    after: int
    """And with it. Of all settlements of a period each has another step from before to after."""


class BudgetStore(Protocol):
    """Where budgets are kept.

    A reservation is atomic: it is made on all budgets or on none, whoever else asks at the same
    time. Spent is what was settled in the period in which the call began; money held for calls
    that are under way counts as if it were spent. Every method may raise ``StoreError``.
    """

    async def reserve(
        self,
        demands: Sequence[BudgetDemand],
        amount: int,
        *,
        lease: str,
        lease_seconds: float,
        enforce: bool = True,
    ) -> BudgetDecision:
        """Hold ``amount`` on all of ``demands``, or on none of them.

        An amount of 0 always has room.

        Args:
            demands: One per budget that concerns the request, each with another key.
            amount: The most that the request can cost, in pico-USD, at least 0.
            lease: Id of this request's reservation, unlike any other.
            lease_seconds: How long it lasts without ``renew`` or ``settle``.
            enforce: False holds it even where there is no room, and says that there was none.
        """
        ...

    async def renew(
        self, demands: Sequence[BudgetDemand], *, lease: str, lease_seconds: float
    ) -> None:
        """Keep the reservation of ``lease`` for ``lease_seconds`` from now."""
        ...

    async def settle(
        self, demands: Sequence[BudgetDemand], *, lease: str, actual: int
    ) -> tuple[BudgetUse, ...]:
        """End the reservation of ``lease`` with what the call cost, in pico-USD, at least 0.

        It is spent even where the budget is passed, or where the lease has run out. Where a caller
        may be left without an answer, it may repeat the call: a lease that is settled again within
        a minute costs nothing more.
        """
        ...

    async def spent(self, demands: Sequence[BudgetDemand]) -> tuple[BudgetStatus, ...]:
        """How ``demands`` stand now."""
        ...

    async def aclose(self) -> None:
        """Close what the store itself opened."""
        ...

"""Bodies of requests about budgets, and the rules that they come to."""

from __future__ import annotations

import zoneinfo
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.admin._bodies import Body, Dollars, LabelName, Name
from asgi_llm.gateway.admin._reading import read_amount, unprocessable
from asgi_llm.stores.budgets import check_budget
from asgi_llm.types import BudgetPeriod, BudgetRule, BudgetScope

__all__ = ["CreateBudget", "UpdateBudget", "changes_of", "rule_of"]

_END: Final = r"(?![\s\S])"

Owner = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x20\x7f-\x9f\u2028-\u202e\u2066-\u2069]{1,200}" + _END,
        description="An id, or a pattern of models or of a tag's values.",
        extra={"is": "an id or a pattern of 1 to 200 characters, without spaces"},
    ),
]
TimeZone = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}" + _END,
        description="Where days, weeks and months begin.",
        extra={"is": "a time zone such as Europe/Berlin"},
    ),
]
Share: TypeAlias = (
    Annotated[
        str,
        Meta(
            pattern=r"^[0-9]{1,2}([.][0-9]{1,4})?" + _END,
            extra={"is": "a share such as 0.8"},
        ),
    ]
    | Annotated[float, Meta(gt=0, le=10)]
)
Shares = Annotated[tuple[Share, ...], Meta(max_length=10)]


class CreateBudget(Body, frozen=True, kw_only=True):
    """A new budget."""

    name: Name | None = None
    scope: BudgetScope
    of: Owner | None = None
    tag: LabelName | None = None
    amount_usd: Dollars
    period: BudgetPeriod = "month"
    days: Annotated[int, Meta(ge=1, le=3660)] | None = None
    time_zone: TimeZone = "UTC"
    hard: bool = True
    alert_shares: Shares = ()


class UpdateBudget(Body, frozen=True, kw_only=True):
    """Changes to a budget; what is left out stays."""

    name: Name | UnsetType | None = UNSET
    amount_usd: Dollars | UnsetType = UNSET
    hard: bool | UnsetType = UNSET
    alert_shares: Shares | UnsetType = UNSET


def rule_of(body: CreateBudget) -> BudgetRule:
    """The rule that a new budget has.

    Raises:
        InvalidRequestError: 422: fields that do not go together; ``param`` names the first.
    """
    if (body.days is not None) != (body.period == "rolling"):
        raise unprocessable("days", "it goes with the period rolling, and with no other")
    if (body.tag is not None) != (body.scope == "tag"):
        raise unprocessable("tag", "it goes with the scope tag, and with no other")
    if body.scope == "everyone" and body.of is not None:
        raise unprocessable("of", "a budget of everyone is for nobody alone")
    try:
        zoneinfo.ZoneInfo(body.time_zone)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise unprocessable("time_zone", "expected a time zone such as Europe/Berlin") from None
    rule = BudgetRule(
        scope=body.scope,
        amount_usd=Decimal(read_amount(body.amount_usd)),
        period=body.period,
        days=body.days,
        time_zone=body.time_zone,
        of=body.of,
        tag=body.tag,
        hard=body.hard,
        alert_shares=_shares(body.alert_shares),
    )
    try:
        check_budget(rule, "budget")
    except ConfigurationError as error:
        field = (error.param or "budget").removeprefix("budget.")
        raise unprocessable(field, "it is out of range") from error
    return rule


def changes_of(body: UpdateBudget) -> dict[str, Any]:
    """The fields that a body sets, as the store has them.

    Raises:
        InvalidRequestError: 422: a share that is out of range.
    """
    fields = {
        name: value
        for name in body.__struct_fields__
        if (value := getattr(body, name)) is not UNSET
    }
    if "amount_usd" in fields:
        fields["amount_usd"] = Decimal(read_amount(fields["amount_usd"]))
    if "alert_shares" in fields:
        fields["alert_shares"] = _shares(fields["alert_shares"])
    return fields


def _shares(given: Sequence[str | float]) -> tuple[Decimal, ...]:
    shares = []
    for index, one in enumerate(given):
        share = Decimal(one if isinstance(one, str) else repr(one))
        if not Decimal("0.0001") <= share <= 10:
            raise unprocessable(f"alert_shares[{index}]", "expected a share from 0.0001 to 10")
        shares.append(share)
    return tuple(sorted(set(shares)))

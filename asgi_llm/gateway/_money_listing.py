"""Costs, usage and budgets as people read them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal

from asgi_llm.pricing import format_usd
from asgi_llm.stores.budget_rules import StoredBudget
from asgi_llm.stores.budgets import BudgetStatus, from_pico
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.stores.ledger_reports import UsageSummary, UsageTotals

__all__ = ["budget_facts", "budget_table", "safe", "show_usd", "summary_table", "usage_table"]

_MICRO = Decimal("0.000001")
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)
_SUMS = ("REQUESTS", "ERRORS", "INPUT", "OUTPUT", "COST USD", "SAVED USD")


def safe(text: str) -> str:
    """``text`` without what a terminal would act on, whoever wrote it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def show_usd(amount: Decimal | None) -> str:
    """An amount to a millionth of a USD."""
    return "unknown" if amount is None else f"{amount.quantize(_MICRO, context=_WIDE):f}"


def summary_table(summary: UsageSummary, group_by: Sequence[str]) -> list[tuple[str, ...]]:
    """A row of heads, one for each group, and the total."""
    heads = [name.removesuffix("_id").upper() for name in group_by] or [""]
    rows: list[tuple[str, ...]] = [(*heads, *_SUMS)]
    for group in summary.groups:
        names = [_word(group.by[name], name) for name in group_by]
        rows.append((*names, *_sums(group.totals)))
    total = ["TOTAL", *([""] * (len(heads) - 1))]
    return [*rows, (*total, *_sums(summary.totals))]


def _word(value: object, name: str) -> str:
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d" if name == "day" else "%Y-%m-%d %H:00")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else safe(str(value))


def _sums(totals: UsageTotals) -> tuple[str, ...]:
    unknown = f" + {totals.unknown_costs} unknown" if totals.unknown_costs else ""
    return (
        str(totals.requests),
        str(totals.errors),
        str(totals.usage.input_tokens),
        str(totals.usage.output_tokens),
        show_usd(totals.cost_usd) + unknown,
        show_usd(totals.saved_usd),
    )


def usage_table(rows: Iterable[LedgerRow]) -> list[tuple[str, ...]]:
    """A row of heads, and one for each row of the ledger."""
    table: list[tuple[str, ...]] = [
        ("AT", "USER", "KEY", "PROVIDER", "MODEL", "INPUT", "OUTPUT", "COST USD", "OUTCOME")
    ]
    for row in rows:
        estimated = "~" if row.usage.estimated or row.cost.estimated else ""
        table.append(
            (
                row.at.strftime("%Y-%m-%d %H:%M:%S"),
                safe(row.user_id or "-"),
                safe(row.key_id or "-"),
                safe(row.provider or "-"),
                safe(row.model or row.requested_model),
                str(row.usage.input_tokens),
                str(row.usage.output_tokens),
                estimated + show_usd(row.cost.amount_usd),
                row.outcome,
            )
        )
    return table


def budget_table(budgets: Iterable[StoredBudget]) -> list[tuple[str, ...]]:
    """A row of heads, and one for each budget."""
    rows: list[tuple[str, ...]] = [("ID", "NAME", "SCOPE", "OF", "AMOUNT USD", "PERIOD", "KIND")]
    for budget in budgets:
        rule = budget.rule
        rows.append(
            (
                budget.id,
                safe(budget.name or "-"),
                safe(rule.scope if rule.tag is None else f"{rule.scope} {rule.tag}"),
                safe(rule.of or ("all" if rule.scope == "everyone" else "each")),
                format_usd(rule.amount_usd),
                _period(budget),
                "hard" if rule.hard else "soft",
            )
        )
    return rows


def _period(budget: StoredBudget) -> str:
    rule = budget.rule
    if rule.period == "rolling":
        return f"{rule.days} days"
    zone = "" if rule.time_zone == "UTC" or rule.period == "total" else f" {rule.time_zone}"
    return rule.period + zone


def budget_facts(budget: StoredBudget, status: BudgetStatus | None) -> list[tuple[str, str]]:
    """What there is to say of a budget, one fact a row."""
    heads, values = budget_table([budget])
    facts = [(head.lower(), value) for head, value in zip(heads, values, strict=True)]
    if budget.rule.alert_shares:
        shares = ", ".join(format_usd(share) for share in budget.rule.alert_shares)
        facts.append(("alerts at", shares))
    if status is not None:
        left = budget.rule.amount_usd - from_pico(status.spent + status.reserved)
        facts.append(("spent usd", show_usd(from_pico(status.spent))))
        facts.append(("reserved usd", show_usd(from_pico(status.reserved))))
        facts.append(("remaining usd", show_usd(max(left, Decimal(0)))))
        if status.resets_at is not None:
            ends = datetime.datetime.fromtimestamp(status.resets_at, datetime.UTC)
            facts.append(("begins anew", ends.strftime("%Y-%m-%d %H:%M UTC")))
    return facts

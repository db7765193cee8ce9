"""Bills by hand: usage as providers send it, through the project's readers, to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from asgi_llm.pricing import PriceTable, load_prices
from asgi_llm.providers import _anthropic_usage, _cohere_answer, _gemini_response
from asgi_llm.types import Usage
from asgi_llm.wire.usage import usage_from_openai
from tests.pricing.bills import BILLS, Bill

READERS: dict[str, Callable[[Any], Usage | None]] = {
    "openai": usage_from_openai,
    "anthropic": lambda body: _anthropic_usage.buckets(
        msgspec.convert(body, _anthropic_usage.TokenUsage)
    ),
    "gemini": lambda body: msgspec.convert(body, _gemini_response.TokenCounts).buckets(),
    "cohere": lambda body: _cohere_answer._usage(msgspec.convert(body, _cohere_answer._Usage)),
    "none": lambda body: None,
}

every_bill = pytest.mark.parametrize("bill", BILLS.values(), ids=BILLS.keys())


@pytest.fixture(scope="module")
def genai() -> PriceTable:
    return load_prices()


def worked_out(bill: Bill) -> Fraction:
    """The sum of the lines, by arithmetic that shares nothing with ours."""
    return sum(
        (Fraction(quantity) * Fraction(usd) / per for quantity, usd, per in bill.lines),
        Fraction(0),
    )


def check(bill: Bill, table: PriceTable) -> None:
    price = table.find(bill.provider, bill.model)
    assert price is not None
    usage = READERS[bill.read](bill.usage)
    cost = price.cost(usage, at=bill.at, service_tier=bill.service_tier, quantities=bill.quantities)
    assert cost.unknown is None
    assert cost.estimated is (usage is not None and usage.estimated)
    assert cost.amount_usd is not None
    assert abs(Fraction(cost.amount_usd) - Fraction(bill.total)) <= Fraction(1, 10**18)
    assert sum(map(Fraction, cost.parts.values())) == Fraction(cost.amount_usd)


def test_there_are_forty_bills_and_more() -> None:
    """Every bucket, unit and tier has its bill."""
    assert len(BILLS) >= 40


@every_bill
def test_the_lines_of_a_bill_sum_to_its_total(bill: Bill) -> None:
    """The figures of the fixture agree with each other."""
    assert abs(worked_out(bill) - Fraction(bill.total)) <= Fraction(1, 10**18)


@every_bill
def test_a_bill_is_exact(bill: Bill) -> None:
    """What the reader makes of a body, priced by the page's figures, is the bill."""
    table = PriceTable(overrides={bill.provider: {bill.model: bill.price}})
    check(bill, table)


@every_bill
def test_a_bill_is_exact_by_genai_prices(bill: Bill, genai: PriceTable) -> None:
    """The table of the installed release is read as it means it, and found by the model's name."""
    if not bill.in_genai:
        assert genai.find(bill.provider, bill.model) is None
        return
    check(bill, genai)


def test_each_part_is_a_line_of_the_bill() -> None:
    """A cost shows what was charged for which bucket, and which row said so."""
    bill = BILLS["claude-sonnet-4-5, both caches are written, one is read"]
    price = PriceTable(overrides={bill.provider: {bill.model: bill.price}}).find(
        bill.provider, bill.model
    )
    assert price is not None
    cost = price.cost(READERS[bill.read](bill.usage), at=bill.at)
    assert {
        "input_uncached": Decimal("0.006144"),
        "input_cached": Decimal("0.00054"),
        "cache_write_5m": Decimal("0.00171"),
        "cache_write_1h": Decimal("0.0006"),
        "output_text": Decimal("0.007545"),
    } == cost.parts
    assert cost.source is not None
    assert ("overrides", "anthropic/claude-sonnet-4-5") == (cost.source.table, cost.source.row)

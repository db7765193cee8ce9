"""What holds for every cost, whatever the price and the usage are."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from asgi_llm.pricing import (
    CompiledPrice,
    Hours,
    Price,
    PriceRow,
    PriceTable,
    Quantities,
    Rates,
    format_usd,
    read_rows,
)
from asgi_llm.pricing._money import price_text
from asgi_llm.pricing.compiled import CompiledRow
from asgi_llm.pricing.rows import Rate
from asgi_llm.stores.budgets import to_pico
from asgi_llm.types import Usage
from asgi_llm.wire.usage import usage_from_openai
from tests.pricing.strategies import AT, BUCKETS, SOURCE, prices, rows, states, usages

IMAGE = Quantities(images=1)


def compiled(**rates: Decimal | None) -> CompiledPrice:
    return CompiledPrice([PriceRow(source=SOURCE, standard=Price(rates=Rates(**rates)))])


@given(row=rows(), usage=usages, tier=st.sampled_from([None, "default", "priority", "flex"]))
def test_parts_sum_to_the_total_and_none_is_negative(
    row: PriceRow, usage: Usage, tier: str | None
) -> None:
    """Exactly, in every bucket, size and tier."""
    cost = CompiledPrice([row]).cost(usage, at=AT, service_tier=tier)
    assert cost.amount_usd is not None
    assert Fraction(cost.amount_usd) == sum(map(Fraction, cost.parts.values()))
    assert all(part >= 0 for part in cost.parts.values())
    assert set(cost.parts) == {name for name in BUCKETS if getattr(usage, name)}


@given(price=prices(), usage=usages, bucket=st.sampled_from(BUCKETS), more=st.integers(0, 900))
def test_more_of_a_bucket_never_costs_less(
    price: Price, usage: Usage, bucket: str, more: int
) -> None:
    """As long as the price itself does not fall with a request's size."""
    price = replace(price, context_tiers=(), tiering="whole")
    one = CompiledPrice([PriceRow(source=SOURCE, standard=price)])
    least = one.cost(usage, at=AT).amount_usd
    most = one.cost(replace(usage, **{bucket: getattr(usage, bucket) + more}), at=AT).amount_usd
    assert least is not None
    assert most is not None
    assert least <= most


@given(
    count=st.one_of(
        st.integers(-(10**12), 10**12), st.text(max_size=6), st.none(), st.floats(), st.booleans()
    ),
    other=st.one_of(st.integers(-5, 5), st.just("7"), st.none()),
)
def test_counts_that_cannot_be_never_make_a_cost_negative(count: object, other: object) -> None:
    """Negative, textual, missing: what a reader makes of them costs nothing or more."""
    usage = usage_from_openai(
        {"prompt_tokens": count, "completion_tokens": other, "total_tokens": count}
    )
    cost = compiled(input=Decimal(3), output=Decimal(15)).cost(usage, at=AT)
    assert cost.amount_usd is None or cost.amount_usd >= 0
    assert (cost.amount_usd is None) is (usage is None)


def test_a_negative_count_is_taken_for_none_and_flagged() -> None:
    """Also where it did not come through a reader."""
    cost = compiled(input=Decimal(3), output=Decimal(15), per_image=Decimal(1)).cost(
        Usage(input_uncached=-10, output_text=1_000_000),
        at=AT,
        quantities=Quantities(images=-3),
    )
    assert (Decimal(15), True) == (cost.amount_usd, cost.estimated)


@given(cached=states, written=states, hour=states, heard=states, thought=states, usage=usages)
def test_zero_null_and_left_out_are_three_things(
    cached: Rate, written: Rate, hour: Rate, heard: Rate, thought: Rate, usage: Usage
) -> None:
    """Zero is free, null has no price, and what is left out costs what its fallback does."""
    rates = Rates(
        input=Decimal(2),
        input_cached=cached,
        cache_write_5m=written,
        cache_write_1h=hour,
        audio_in=heard,
        output=Decimal(8),
        reasoning=thought,
    )
    five = Decimal(2) if written is UNSET else written
    own: dict[str, Rate] = {
        "input_uncached": Decimal(2),
        "input_cached": Decimal(2) if cached is UNSET else cached,
        "cache_write_5m": five,
        "cache_write_1h": five if hour is UNSET else hour,
        "audio_in": Decimal(2) if heard is UNSET else heard,
        "output_text": Decimal(8),
        "reasoning": Decimal(8) if thought is UNSET else thought,
        "audio_out": Decimal(8),
    }
    used = {name: count for name in BUCKETS if (count := getattr(usage, name))}
    cost = CompiledPrice([PriceRow(source=SOURCE, standard=Price(rates=rates))]).cost(usage, at=AT)
    if any(own[name] is None for name in used):
        assert (None, "unpriced") == (cost.amount_usd, cost.unknown)
    else:
        expected = sum(
            (Fraction(str(own[name])) * count / 10**6 for name, count in used.items()), Fraction(0)
        )
        assert cost.amount_usd is not None
        assert expected == Fraction(cost.amount_usd)


def test_the_callers_decimal_context_changes_nothing() -> None:
    """A context of three digits rounds none of ours."""
    price = compiled(input=Decimal("1.23456789"), output=Decimal(8))
    usage = Usage(input_uncached=98_765_432, output_text=7)
    with localcontext() as context:
        context.prec = 3
        amount = price.cost(usage, at=AT).amount_usd
    assert amount is not None
    expected = Fraction(98_765_432) * Fraction("1.23456789") / 10**6 + Fraction(56, 10**6)
    assert expected == Fraction(amount)


def test_a_usage_that_is_not_known_is_not_free() -> None:
    """Without counts, a price by tokens gives no figure; a price of zero gives zero."""
    assert "no_usage" == compiled(input=Decimal(1), output=Decimal(1)).cost(None, at=AT).unknown
    free = compiled(input=Decimal(0), output=Decimal(0)).cost(None, at=AT)
    assert (Decimal(0), None) == (free.amount_usd, free.unknown)


@pytest.mark.parametrize(
    "usage", [None, Usage(), Usage(input_uncached=50)], ids=["none", "zero", "some"]
)
def test_a_price_by_units_needs_its_units(usage: Usage | None) -> None:
    """A rerank whose searches were not told is not free, also where tokens are."""
    price = compiled(per_thousand_searches=Decimal(2), input=Decimal(0), output=Decimal(0))
    assert "no_usage" == price.cost(usage, at=AT).unknown
    assert (
        Decimal("0.002") == price.cost(usage, at=AT, quantities=Quantities(searches=1)).amount_usd
    )


def test_a_price_by_units_alone_leaves_no_token_unpriced() -> None:
    """An image by the piece costs the same with counted tokens and without."""
    price = compiled(per_image=Decimal("0.04"))
    for usage in (None, Usage(input_uncached=12)):
        assert Decimal("0.04") == price.cost(usage, at=AT, quantities=IMAGE).amount_usd


def test_tokens_that_the_row_has_no_price_for_are_not_free() -> None:
    """An embedding model that makes text has no price for it."""
    cost = compiled(input=Decimal(1)).cost(Usage(input_uncached=4, output_text=1), at=AT)
    assert (None, "unpriced") == (cost.amount_usd, cost.unknown)
    assert {"input_uncached": Decimal("0.000004")} == cost.parts


def test_a_unit_without_a_price_is_not_free() -> None:
    """A null says that there is no price; what is not stated is not billed by."""
    usage = Usage(input_uncached=1)
    price = compiled(input=Decimal(1), output=Decimal(1), per_image=None)
    assert "unpriced" == price.cost(usage, at=AT, quantities=IMAGE).unknown
    assert Decimal("0.000001") == price.cost(usage, at=AT).amount_usd
    stated = compiled(input=Decimal(1), output=Decimal(1))
    assert Decimal("0.000001") == stated.cost(usage, at=AT, quantities=IMAGE).amount_usd


def test_a_tier_without_prices_pays_the_standard_ones_and_says_so() -> None:
    """A guess is never taken for a price."""
    price = compiled(input=Decimal(1), output=Decimal(1))
    usage = Usage(input_uncached=1_000_000)
    assert [False, False, True] == [
        price.cost(usage, at=AT, service_tier=tier).estimated for tier in (None, "auto", "scale")
    ]


def test_each_token_of_a_marginal_price_pays_the_rate_of_its_place() -> None:
    """The cached beginning is cheap, what stands above the threshold is dear."""
    table = PriceTable(
        overrides={
            "p": {
                "m": {
                    "input": 1,
                    "input_cached": "0.5",
                    "output": 4,
                    "tiering": "marginal",
                    "context_tiers": [{"above": 100, "input": 2, "output": 8}],
                }
            }
        }
    )
    price = table.find("p", "m")
    assert price is not None
    cost = price.cost(Usage(input_uncached=60, input_cached=80, output_text=10), at=AT)
    # 80 cached below the threshold, 20 of the text below it and 40 above, all output above.
    assert {
        "input_cached": Decimal("0.00004"),
        "input_uncached": Decimal("0.0001"),
        "output_text": Decimal("0.00008"),
    } == cost.parts


def test_a_place_without_a_price_is_not_free() -> None:
    """Above the threshold, nothing is known of the output."""
    price = CompiledPrice(
        read_rows(
            {
                "input": 1,
                "output": 1,
                "tiering": "marginal",
                "context_tiers": [{"above": 10, "output": None}],
            },
            key="k",
            row="r",
        )
    )
    assert (
        Decimal("0.00001") == price.cost(Usage(input_uncached=5, output_text=5), at=AT).amount_usd
    )
    assert "unpriced" == price.cost(Usage(input_uncached=5, output_text=6), at=AT).unknown


def test_a_row_counts_from_its_first_day_to_the_one_before_its_end() -> None:
    """In UTC; hours go over midnight; outside of all rows no price is in force."""
    price = CompiledPrice(
        [
            PriceRow(
                source=SOURCE,
                standard=Price(rates=Rates(input=Decimal(1))),
                valid_from=date(2026, 3, 1),
                valid_to=date(2026, 4, 1),
                hours=Hours(start=time(22), end=time(2)),
            )
        ]
    )
    moments = {
        "2026-02-28T23:59:59+00:00": False,
        "2026-03-01T00:00:00+00:00": True,
        "2026-03-01T02:00:00+00:00": False,
        "2026-03-31T22:00:00+00:00": True,
        "2026-03-31T23:30:00-03:00": False,
        "2026-04-01T00:00:00+02:00": True,
        "2026-04-01T00:00:00+00:00": False,
    }
    assert moments == {
        moment: price.row(datetime.fromisoformat(moment)) is not None for moment in moments
    }
    late = price.cost(Usage(input_uncached=1), at=datetime(2027, 1, 1, tzinfo=UTC))
    assert (None, "not_in_force") == (late.amount_usd, late.unknown)


def test_a_time_without_a_zone_is_refused() -> None:
    """It would name another moment on another machine."""
    price = PriceTable(overrides={"p": {"m": {"input": 1, "valid_from": "2026-01-01"}}}).find(
        "p", "m"
    )
    assert price is not None
    with pytest.raises(ValueError, match="without a zone"):
        price.cost(Usage(), at=datetime(2026, 5, 1))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0.0012500", "0.00125"),
        ("1E+1", "10"),
        ("0E-9", "0"),
        ("100", "100"),
        ("1E-12", "0.000000000001"),
    ],
)
def test_an_amount_is_written_in_full(amount: str, text: str) -> None:
    """Without an exponent and without zeros at its end."""
    assert text == format_usd(Decimal(amount))


@given(row=rows(), usage=usages, tier=st.sampled_from([None, "default", "flex"]))
def test_the_short_way_of_plain_tokens_is_the_way_of_all(
    row: PriceRow, usage: Usage, tier: str | None
) -> None:
    """To the last digit: quantities that are given, if only of one request, have no short way."""
    one = CompiledPrice([row])
    assert one.cost(usage, at=AT, service_tier=tier) == one.cost(
        usage, at=AT, service_tier=tier, quantities=Quantities()
    )


def test_a_row_in_force_is_told_anew_at_each_border() -> None:
    """Whichever time was asked for before: the day's end, the hours of a row, and back again."""
    night = Hours(start=time(22), end=time(6))
    price = CompiledPrice(
        [
            PriceRow(source=SOURCE, standard=_flat(3), hours=night, valid_from=date(2026, 11, 2)),
            PriceRow(source=SOURCE, standard=_flat(2), valid_from=date(2026, 11, 2)),
            PriceRow(source=SOURCE, standard=_flat(1)),
        ]
    )
    expected = {
        datetime(2026, 11, 1, 23, 59, 59, 999999, tzinfo=UTC): 1,
        datetime(2026, 11, 2, tzinfo=UTC): 3,
        datetime(2026, 11, 2, 5, 59, 59, 999999, tzinfo=UTC): 3,
        datetime(2026, 11, 2, 6, tzinfo=UTC): 2,
        datetime(2026, 11, 2, 21, 59, 59, tzinfo=UTC): 2,
        datetime(2026, 11, 2, 22, tzinfo=UTC): 3,
    }
    million = Usage(input_uncached=10**6)
    for _ in range(2):
        for moment in (*expected, *reversed(expected)):
            assert expected[moment] == price.cost(million, at=moment).amount_usd


def _flat(input: int) -> Price:
    return Price(rates=Rates(input=Decimal(input), output=Decimal(0)))


fine_money = st.one_of(
    st.decimals(min_value=0, max_value=1000, places=24), st.decimals(0, 10**9, places=0)
)


@given(rate_in=fine_money, rate_out=fine_money, counts=st.tuples(st.integers(1), st.integers(1)))
def test_text_costs_the_same_in_whole_pico_dollars(
    rate_in: Decimal, rate_out: Decimal, counts: tuple[int, int]
) -> None:
    """Rates that are whole numbers of them give the amount itself; no others are taken for such."""
    counts = min(counts[0], 2**53), min(counts[1], 2**53)
    rates = Rates(input=rate_in, output=rate_out)
    row = CompiledRow(PriceRow(source=SOURCE, standard=Price(rates=rates)))
    if row.text is None:
        # What is free is not priced by its text.
        assert rate_in == rate_out == 0
        return
    usage = Usage(input_uncached=counts[0], output_text=counts[1])
    cost = CompiledPrice([row.row]).cost(usage, at=AT)
    amount, parts = price_text(row.text.usd, *counts)
    assert (repr(cost.amount_usd), repr(cost.parts)) == (repr(amount), repr(parts))
    million = Fraction(10**6)
    exact = Fraction(rate_in) / million * counts[0] + Fraction(rate_out) / million * counts[1]
    assert exact == Fraction(amount)
    pico = row.text.pico
    is_whole = all((Fraction(rate) * million).denominator == 1 for rate in (rate_in, rate_out))
    assert is_whole == (pico is not None)
    if pico is not None:
        assert to_pico(amount) == pico[0] * counts[0] + pico[1] * counts[1]

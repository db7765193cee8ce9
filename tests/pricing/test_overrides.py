"""Prices of the configuration: what they may say, and what is said when they are wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.pricing import Overrides, PriceTable, Rates, read_rows
from asgi_llm.types import Usage
from tests.pricing.strategies import AT

MILLION = Usage(input_uncached=1_000_000)


def amount(table: PriceTable, *place: str, at: datetime = AT, **options: Any) -> Decimal | None:
    """The price of a million tokens of input."""
    price = table.find(*place, **options)
    return None if price is None else price.cost(MILLION, at=at).amount_usd


@pytest.mark.parametrize(
    ("mapping", "key"),
    [
        ({"p": {"m": {"inptu": 1}}}, "prices.overrides.p.m.inptu"),
        ({"p": {"m": {}}}, "prices.overrides.p.m"),
        ({"p": {"m": {"minimum_audio_seconds": 10}}}, "prices.overrides.p.m"),
        ({"p": {"m": []}}, "prices.overrides.p.m"),
        ({"p": {"m": 3}}, "prices.overrides.p.m"),
        ({"p": 3}, "prices.overrides.p"),
        ([], "prices.overrides"),
        ({"p": {"m": {"input": -1}}}, "prices.overrides.p.m.input"),
        ({"p": {"m": {"input": True}}}, "prices.overrides.p.m.input"),
        ({"p": {"m": {"input": "a"}}}, "prices.overrides.p.m.input"),
        ({"p": {"m": {"input": "NaN"}}}, "prices.overrides.p.m.input"),
        ({"p": {"m": {"input": "Infinity"}}}, "prices.overrides.p.m.input"),
        ({"p": {"m": {"input": float("inf")}}}, "prices.overrides.p.m.input"),
        ({"p": {"m": {"input": "1e309"}}}, "prices.overrides.p.m.input"),
        ({"p": {"m": {"input": "1e-25"}}}, "prices.overrides.p.m.input"),
        ({"p": {"m": {"input": [1]}}}, "prices.overrides.p.m.input"),
        ({"p": {"m": {"input": object()}}}, "prices.overrides.p.m.input"),
        ({"p": {1: {"input": 1}}}, "prices.overrides.p"),
        ({"p": {"m": [{"input": 1}, {"output": "x"}]}}, "prices.overrides.p.m[1].output"),
        ({"p": {"m": {"input": 1, "valid_from": "soon"}}}, "prices.overrides.p.m.valid_from"),
        ({"p": {"m": {"input": 1, "valid_from": 9999}}}, "prices.overrides.p.m.valid_from"),
        (
            {"p": {"m": {"input": 1, "valid_from": "2026-02-01", "valid_to": "2026-02-01"}}},
            "prices.overrides.p.m.valid_to",
        ),
        ({"p": {"m": {"input": 1, "hours": "9 to 5"}}}, "prices.overrides.p.m.hours"),
        ({"p": {"m": {"input": 1, "hours": 9}}}, "prices.overrides.p.m.hours"),
        ({"p": {"m": {"input": 1, "hours": "09:00Z-17:00Z"}}}, "prices.overrides.p.m.hours"),
        ({"p": {"m": {"input": 1, "tiering": "half"}}}, "prices.overrides.p.m.tiering"),
        ({"p": {"m": {"input": 1, "context_tiers": {}}}}, "prices.overrides.p.m.context_tiers"),
        (
            {"p": {"m": {"input": 1, "context_tiers": [{"input": 1}]}}},
            "prices.overrides.p.m.context_tiers[0].above",
        ),
        (
            {"p": {"m": {"input": 1, "context_tiers": [{"above": 2}, {"above": 2}]}}},
            "prices.overrides.p.m.context_tiers",
        ),
        (
            {"p": {"m": {"input": 1, "context_tiers": [{"above": 2, "batch": 1}]}}},
            "prices.overrides.p.m.context_tiers[0].batch",
        ),
        (
            {"p": {"m": {"input": 1, "service_tiers": {"batch": {"multiplier": -1}}}}},
            "prices.overrides.p.m.service_tiers.batch.multiplier",
        ),
        (
            {"p": {"m": {"input": 1, "service_tiers": {"batch": {"multiplier": 1, "input": 1}}}}},
            "prices.overrides.p.m.service_tiers.batch",
        ),
        (
            {"p": {"m": {"input": 1, "service_tiers": {"batch": {"hours": "1-2"}}}}},
            "prices.overrides.p.m.service_tiers.batch.hours",
        ),
    ],
)
def test_a_wrong_price_is_refused_and_its_key_named(mapping: Any, key: str) -> None:
    """Before any of them counts."""
    with pytest.raises(ConfigurationError) as caught:
        Overrides(mapping)
    assert (key, True) == (caught.value.param, str(caught.value).startswith(f"{key}: "))


def test_a_near_miss_is_suggested() -> None:
    """A typing error is found at a glance."""
    with pytest.raises(ConfigurationError, match="did you mean input_cached"):
        PriceTable(overrides={"p": {"m": {"input_cache": 1}}})


def test_a_number_is_what_was_written() -> None:
    """A float of a YAML file has no binary tail, and an int, a text and a Decimal are the same."""
    for written in (0.1, "0.1", Decimal("0.1"), "1e-1"):
        assert Decimal("0.1") == amount(
            PriceTable(overrides={"p": {"m": {"input": written}}}), "p", "m"
        )


def test_null_has_no_price_and_zero_is_free() -> None:
    """Neither is taken for what is left out."""
    table = PriceTable(
        overrides={"p": {"null": {"input": None}, "zero": {"input": 0}, "out": {"output": 1}}}
    )
    assert [None, Decimal(0), None] == [
        amount(table, "p", name) for name in ("null", "zero", "out")
    ]


def test_the_nearest_name_counts_first() -> None:
    """The model before all models, the provider's name before its type, both before any."""
    table = PriceTable(
        overrides={
            "mine": {"a": {"input": 1}, "*": {"input": 5}},
            "openai": {"a": {"input": 2}, "b": {"input": 3}},
            "*": {"c": {"input": 4}, "*": {"input": 6}},
        }
    )
    assert [1, 2, 3, 4, 5, 6] == [
        amount(table, provider, model, provider_type="openai")
        for provider, model in (
            ("mine", "a"),
            ("other", "a"),
            ("mine", "b"),
            ("mine", "c"),
            ("mine", "d"),
            ("other", "d"),
        )
    ]


def test_a_name_is_not_bent_to_fit_an_override() -> None:
    """An override is for the model that it names: no dates, no prefixes, no small letters."""
    table = PriceTable(overrides={"p": {"gpt-4o": {"input": 1}}})
    for model in ("gpt-4o-2024-08-06", "GPT-4o", "models/gpt-4o"):
        assert table.find("p", model) is None


def test_a_base_model_stands_in_where_the_name_has_no_price() -> None:
    """Two names of one upstream keep their own prices."""
    table = PriceTable(overrides={"p": {"base": {"input": 1}, "dear": {"input": 9}}})
    assert [Decimal(9), Decimal(1), None] == [
        amount(table, "p", "dear", base_model="base"),
        amount(table, "p", "cheap", base_model="base"),
        amount(table, "p", "cheap"),
    ]


def test_the_price_of_a_day_is_that_of_its_row() -> None:
    """Written in any order; after the last one nothing is known."""
    table = PriceTable(
        overrides={
            "p": {
                "m": [
                    {"input": 2, "valid_from": date(2026, 6, 1), "valid_to": "2026-09-01"},
                    {"input": 1, "valid_to": "2026-06-01"},
                    {"input": 4, "valid_from": "2026-08-01", "valid_to": "2026-10-01"},
                    {"input": 3, "valid_to": "2026-10-01", "hours": "22:00-02:00"},
                ]
            }
        }
    )
    days = {(5, 12): 1, (6, 12): 2, (8, 12): 4, (8, 23): 3, (9, 12): 4, (10, 12): None}
    assert days == {
        (month, hour): amount(table, "p", "m", at=datetime(2026, month, 1, hour, tzinfo=UTC))
        for month, hour in days
    }


def test_a_service_tier_states_what_differs() -> None:
    """Where it names a rate, the standard price's larger sizes do not change it."""
    (row,) = read_rows(
        {
            "input": 5,
            "output": 30,
            "context_tiers": [{"above": 10, "input": 10, "output": 45}],
            "service_tiers": {
                "Priority": {"input": 12},
                "sized": {"context_tiers": [{"above": 20, "input": 7}]},
                "batch": {"multiplier": "0.5"},
            },
        },
        key="k",
        row="r",
    )
    tiers = {
        name: (price.rates, [(tier.above, tier.rates) for tier in price.context_tiers])
        for name, price in row.service_tiers.items()
    }
    assert {
        "priority": (
            Rates(input=Decimal(12), output=Decimal(30)),
            [(10, Rates(output=Decimal(45)))],
        ),
        "sized": (
            Rates(input=Decimal(5), output=Decimal(30)),
            [
                (10, Rates(input=Decimal(10), output=Decimal(45))),
                (20, Rates(input=Decimal(7))),
            ],
        ),
        "batch": (
            Rates(input=Decimal("2.5"), output=Decimal(15)),
            [(10, Rates(input=Decimal(5), output=Decimal("22.5")))],
        ),
    } == tiers


def test_a_version_is_of_the_content() -> None:
    """The same prices in another notation are the same version; other prices are another."""

    def version(mapping: dict[str, Any]) -> str:
        price = PriceTable(overrides=mapping).find("p", "m")
        assert price is not None
        return price.rows[0].source.version

    one = version({"p": {"m": {"input": 1, "output": 2}}})
    assert one == version({"p": {"m": {"output": 2, "input": "1"}}})
    assert one != version({"p": {"m": {"input": 1, "output": 3}}})

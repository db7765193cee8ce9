"""No call costs more than what a budget held back for it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.pricing import (
    CompiledPrice,
    PriceRow,
    PriceTable,
    Quantities,
    bound_request,
    format_usd,
    upper_bound,
)
from asgi_llm.types import Usage
from tests.pricing.strategies import AT, rows

ALL_IN = ("input_uncached", "input_cached", "cache_write_5m", "cache_write_1h", "audio_in")
ALL_OUT = ("output_text", "reasoning", "audio_out")
# A request that can come to use every bucket.
EVERYTHING: dict[str, Any] = {
    "modalities": ["text", "audio"],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
            ],
        }
    ],
}


def split(total: int, cuts: list[int], names: tuple[str, ...]) -> dict[str, Any]:
    """The total over the names, cut where the cuts say."""
    ends = [*sorted(cut % (total + 1) for cut in cuts[: len(names) - 1]), total]
    starts = [0, *ends]
    return {name: end - start for name, start, end in zip(names, starts, ends, strict=False)}


cuts = st.lists(st.integers(0, 4000), min_size=4, max_size=4)


@given(
    row=rows(),
    allowed=st.integers(0, 2500),
    limit=st.integers(0, 1200),
    choices=st.integers(1, 4),
    input_cuts=cuts,
    output_cuts=cuts,
    input_share=st.fractions(0, 1),
    output_share=st.fractions(0, 1),
    tier=st.sampled_from([None, "priority"]),
)
def test_no_usage_within_the_counts_costs_more(
    row: PriceRow,
    allowed: int,
    limit: int,
    choices: int,
    input_cuts: list[int],
    output_cuts: list[int],
    input_share: Any,
    output_share: Any,
    tier: str | None,
) -> None:
    """However it is spread over the buckets, in each tier, also where prices fall with size."""
    price = CompiledPrice([row])
    held = upper_bound(
        {**EVERYTHING, "n": choices, "max_tokens": limit},
        price,
        input_tokens=allowed,
        max_output_tokens=9999,
        at=AT,
    )
    usage = Usage(
        **split(int(allowed * input_share), input_cuts, ALL_IN),
        **split(int(limit * choices * output_share), output_cuts, ALL_OUT),
    )
    cost = price.cost(usage, at=AT, service_tier=tier)
    assert held is not None
    assert cost.amount_usd is not None
    assert cost.amount_usd <= held


def table(**price: Any) -> CompiledPrice:
    found = PriceTable(overrides={"p": {"m": price}}).find("p", "m")
    assert found is not None
    return found


def held(document: dict[str, Any], price: CompiledPrice, **options: Any) -> Decimal | None:
    options = {"input_tokens": 1000, "max_output_tokens": 500, **options}
    return upper_bound(document, price, at=AT, **options)


CHAT = {"messages": [{"role": "user", "content": "a"}]}
PLAIN = {"input": 1, "output": 10}


@pytest.mark.parametrize(
    ("document", "options", "expected"),
    [
        (CHAT, {}, "0.006"),
        ({**CHAT, "max_tokens": 10}, {}, "0.0011"),
        ({**CHAT, "max_completion_tokens": 20, "max_tokens": 10}, {}, "0.0012"),
        ({**CHAT, "max_tokens": 0}, {}, "0.001"),
        ({**CHAT, "n": 3}, {}, "0.016"),
        ({**CHAT, "n": 3}, {"fan_out": True}, "0.018"),
        ({"prompt": ["a", "b"], "n": 2, "best_of": 4, "max_tokens": 10}, {}, "0.0018"),
        ({"prompt": [1, 2, 3], "max_tokens": 10}, {}, "0.0011"),
        ({**CHAT, "max_tokens": 10}, {"max_reasoning_tokens": 100}, "0.0021"),
        (
            {**CHAT, "max_tokens": 10, "prediction": {"type": "content", "content": "abc"}},
            {},
            "0.00113",
        ),
        ({**CHAT, "n": "3", "max_tokens": -1}, {}, "0.006"),
        ({"input": "a"}, {"max_output_tokens": 0}, "0.001"),
    ],
)
def test_the_request_says_how_much_it_can_use(
    document: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    """Choices, prompts, limits, predictions and thoughts; nonsense counts as not said."""
    assert Decimal(expected) == held(document, table(**PLAIN), **options)


def test_a_dear_bucket_is_held_back_for_those_who_can_use_it() -> None:
    """Audio, images and caches of an hour cost a request that has none of them nothing."""
    price = table(
        input=1, audio_in=40, image_in=10, cache_write_1h=2, output=10, audio_out=80, image_out=30
    )
    parts = {
        "plain": {"type": "text", "text": "a"},
        "hour": {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        "image": {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        "audio": {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
    }
    assert {"plain": "0.006", "hour": "0.007", "image": "0.015", "audio": "0.045"} == {
        name: format_usd(
            held({"messages": [{"role": "user", "content": [part]}]}, price) or Decimal(0)
        )
        for name, part in parts.items()
    }
    assert Decimal("0.041") == held({**CHAT, "modalities": ["audio"]}, price)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "0.012"),
        ({"service_tier": "auto"}, "0.012"),
        ({"service_tier": "default"}, "0.006"),
        ({"service_tier": "flex"}, "0.006"),
        ({"service_tier": "priority"}, "0.012"),
        ({"service_tier": "default", "speed": "fast"}, "0.036"),
    ],
)
def test_a_tier_that_may_be_served_is_held_back(asked: dict[str, str], expected: str) -> None:
    """An account may be set to priority; a faster one has to be asked for."""
    price = table(
        **PLAIN,
        service_tiers={
            "flex": {"multiplier": "0.5"},
            "priority": {"multiplier": 2},
            "fast": {"multiplier": 6},
        },
    )
    assert Decimal(expected) == held({**CHAT, **asked}, price)


def test_an_account_that_is_set_to_nothing_holds_back_the_standard_price() -> None:
    """Its owner says so."""
    price = table(**PLAIN, service_tiers={"priority": {"multiplier": 2}})
    assert Decimal("0.006") == held(CHAT, price, service_tiers=())


def test_units_are_held_back_as_the_request_asks_for_them() -> None:
    """Images, characters and searches, before any answer says how many there were."""
    assert Decimal("0.12") == held(
        {"prompt": "a cat", "n": 3}, table(per_image="0.04"), input_tokens=0, max_output_tokens=0
    )
    assert Decimal("0.00006") == held(
        {"input": "abcd", "voice": "alloy"}, table(per_million_characters=15), max_output_tokens=0
    )
    assert Decimal("0.006") == held(
        {"query": "q", "documents": ["d"] * 201},
        table(per_thousand_searches=2),
        max_output_tokens=0,
    )
    assert Decimal("0.01") == held(
        CHAT,
        table(input=0, output=0, per_audio_hour="3.6"),
        quantities=Quantities(audio_seconds=10),
    )


def test_without_a_price_there_is_no_bound() -> None:
    """Not known is not zero: of a bucket, of a unit, of a day."""
    assert held(CHAT, table(input=1)) is None
    assert held(CHAT, table(**PLAIN, per_request=None)) is None
    assert held(CHAT, table(**PLAIN, valid_to="2026-01-01")) is None


def test_a_bound_names_what_it_counts() -> None:
    """What a layer may show: counts, buckets, tiers."""
    bound = bound_request({**CHAT, "n": 2}, input_tokens=-5, max_output_tokens=100)
    assert (0, 200) == (bound.input_tokens, bound.output_tokens)
    assert {"flex", "priority"} == bound.service_tiers
    assert {"input_uncached", "input_cached", "cache_write_5m", "output_text", "reasoning"} == (
        bound.buckets
    )

"""Generated prices and usages."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st
from msgspec import UNSET

from asgi_llm.pricing import ContextTier, Price, PriceRow, Rates
from asgi_llm.types import PriceSource, Usage

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOURCE = PriceSource(table="test", version="1", row="p/m")

TOKEN_RATES = (
    "input_cached",
    "cache_write_5m",
    "cache_write_1h",
    "audio_in",
    "reasoning",
    "audio_out",
)
BUCKETS = tuple(name for name in Usage.__struct_fields__ if name != "estimated")

money = st.decimals(min_value=0, max_value=1000, places=6)
states = st.one_of(st.just(UNSET), st.none(), st.just(Decimal(0)), money)

rates = st.fixed_dictionaries(
    {"input": money, "output": money},
    optional={name: money for name in TOKEN_RATES},
).map(lambda fields: Rates(**fields))

tier_rates = st.fixed_dictionaries(
    {}, optional={name: money for name in ("input", "output", *TOKEN_RATES)}
).map(lambda fields: Rates(**fields))


@st.composite
def prices(draw: st.DrawFn) -> Price:
    """Prices of up to three sizes, whole or marginal, which may get cheaper with size."""
    thresholds = sorted(draw(st.sets(st.integers(0, 3000), max_size=2)))
    return Price(
        rates=draw(rates),
        context_tiers=tuple(
            ContextTier(above=above, rates=draw(tier_rates)) for above in thresholds
        ),
        tiering=draw(st.sampled_from(["whole", "marginal"])),
    )


@st.composite
def rows(draw: st.DrawFn) -> PriceRow:
    """Rows with a priority tier or without."""
    tiers = {"priority": draw(prices())} if draw(st.booleans()) else {}
    return PriceRow(source=SOURCE, standard=draw(prices()), service_tiers=tiers)


counts = st.integers(0, 1500)
usages = st.builds(
    Usage,
    input_uncached=counts,
    input_cached=counts,
    cache_write_5m=counts,
    cache_write_1h=counts,
    audio_in=counts,
    output_text=counts,
    reasoning=counts,
    audio_out=counts,
)

"""The rates that one request pays, resolved: no fallback is left to look up."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from msgspec import UNSET
from msgspec.structs import asdict, replace

from asgi_llm.pricing._money import EXACT, ROUNDED, ZERO
from asgi_llm.pricing.rows import FALLBACK, ContextTier, Price, Rate, Rates, Tiering
from asgi_llm.types import Usage

__all__ = [
    "BUCKETS",
    "IMAGE_IN",
    "IMAGE_OUT",
    "INPUT_BUCKETS",
    "Card",
    "cards_of",
    "layered",
    "overlaid",
]

BUCKETS: Final = (
    *(name for name in Usage.__struct_fields__ if name != "estimated"),
    "image_in",
    "image_out",
)
"""Buckets of ``Usage`` in the order of its fields, then images."""

IMAGE_IN: Final = BUCKETS.index("image_in")
IMAGE_OUT: Final = BUCKETS.index("image_out")

INPUT_BUCKETS: Final = frozenset(
    ("input_uncached", "input_cached", "cache_write_5m", "cache_write_1h", "audio_in", "image_in")
)

_RATE_OF: Final = {"input_uncached": "input", "output_text": "output"}

# By rate: the quantity that it prices, and how many of its units the rate is for.
_UNITS: Final = {
    "per_request": ("requests", 1),
    "per_image": ("images", 1),
    "per_million_characters": ("characters", 10**6),
    "per_audio_hour": ("audio_seconds", 3600),
    "per_thousand_searches": ("searches", 1000),
    "per_thousand_web_searches": ("web_searches", 1000),
}

_BESIDE_TOKENS: Final = frozenset(("requests", "web_searches"))
"""Quantities that come on top of what a call is billed by."""

_MILLION: Final = Decimal(10**6)


class Card:
    """What each bucket and unit costs, for requests of one size and one service tier."""

    __slots__ = ("billed_units", "is_free", "shortest_audio", "tokens", "units")

    def __init__(self, rates: Rates) -> None:
        self.tokens: tuple[Decimal | None, ...] = tuple(_tokens(rates))
        """USD per token, in the order of ``BUCKETS``; None has no price."""
        self.units: tuple[tuple[str, Decimal | None], ...] = tuple(_units(rates))
        """USD per unit of a field of ``Quantities``, of those that the row names."""
        self.is_free: bool = all(rate == 0 for rate in self.tokens)
        """Whether tokens cost nothing, or are not what is billed."""
        self.billed_units: frozenset[str] = frozenset(
            name for name, rate in self.units if rate != 0 and name not in _BESIDE_TOKENS
        )
        """Quantities without which this price says nothing of a call whose tokens are free."""
        shortest = rates.minimum_audio_seconds
        self.shortest_audio: Decimal = shortest if isinstance(shortest, Decimal) else ZERO
        """Seconds that shorter audio is charged as."""


def cards_of(price: Price) -> tuple[tuple[int, Card], ...]:
    """Each context tier's threshold and rates, in ascending order; the first is for all sizes."""
    rates = price.rates
    cards = [(-1, Card(rates))]
    for tier in price.context_tiers:
        rates = overlaid(rates, tier.rates)
        cards.append((tier.above, Card(rates)))
    return tuple(cards)


def overlaid(below: Rates, above: Rates) -> Rates:
    """``below`` with what ``above`` states, null included."""
    return replace(below, **_stated(above))


def layered(standard: Price, own: Price, *, tiering: Tiering) -> Price:
    """The price of a service tier: what it states, and the standard one where it is silent.

    Where it states a rate, the standard context tiers do not change that rate.
    """
    stated = _stated(own.rates)
    tiers: dict[int, dict[str, Rate]] = {}
    for tier in standard.context_tiers:
        kept = {name: rate for name, rate in _stated(tier.rates).items() if name not in stated}
        if kept:
            tiers[tier.above] = kept
    for tier in own.context_tiers:
        tiers.setdefault(tier.above, {}).update(_stated(tier.rates))
    return Price(
        rates=overlaid(standard.rates, own.rates),
        context_tiers=tuple(
            ContextTier(above=above, rates=Rates(**rates)) for above, rates in sorted(tiers.items())
        ),
        tiering=tiering,
    )


def _stated(rates: Rates) -> dict[str, Rate]:
    return {name: rate for name, rate in asdict(rates).items() if rate is not UNSET}


def _tokens(rates: Rates) -> Iterator[Decimal | None]:
    # A price by other units alone leaves no token unpriced.
    by_tokens = any(getattr(rates, name) is not UNSET for name in ("input", "output", *FALLBACK))
    by_units = any(quantity != "web_searches" for quantity, _ in _units(rates))
    for bucket in BUCKETS:
        rate = _resolved(rates, _RATE_OF.get(bucket, bucket))
        if isinstance(rate, Decimal):
            yield EXACT.divide(rate, _MILLION)
        else:
            yield None if by_tokens or not by_units else ZERO


def _resolved(rates: Rates, name: str) -> Rate:
    rate: Rate = getattr(rates, name)
    while rate is UNSET and name in FALLBACK:
        name = FALLBACK[name]
        rate = getattr(rates, name)
    return rate


def _units(rates: Rates) -> Iterator[tuple[str, Decimal | None]]:
    for name, (quantity, size) in _UNITS.items():
        rate: Rate = getattr(rates, name)
        if isinstance(rate, Decimal):
            yield quantity, ROUNDED.divide(rate, Decimal(size))
        elif rate is None:
            yield quantity, None

"""A price as its table states it: rates, context tiers, service tiers, and when they are in force.

All money is ``Decimal`` USD. A rate has three states, which are never taken for each other: a
figure (zero is free), None (said to have no price), and left out (the rule in ``Rates``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from asgi_llm.types import PriceSource

__all__ = [
    "ONE_REQUEST",
    "ContextTier",
    "Hours",
    "Price",
    "PriceRow",
    "Quantities",
    "Rate",
    "Rates",
    "Tiering",
    "TokenBucket",
]

Tiering = Literal["whole", "marginal"]
"""How far a context tier reaches; see ``Price``."""

Rate: TypeAlias = Decimal | UnsetType | None

TokenBucket = Literal[
    "input_uncached",
    "input_cached",
    "cache_write_5m",
    "cache_write_1h",
    "audio_in",
    "image_in",
    "output_text",
    "reasoning",
    "audio_out",
    "image_out",
]
"""What tokens are told apart by: the buckets of ``Usage``, and images."""

FALLBACK: Final[Mapping[str, str]] = {
    "input_cached": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "audio_in": "input",
    "image_in": "input",
    "reasoning": "output",
    "audio_out": "output",
    "image_out": "output",
}


_MINIMUM: Final = "minimum_audio_seconds"


class Rates(Struct, frozen=True, kw_only=True, gc=False):
    """USD per million tokens of each bucket, and per unit of what is not counted in tokens.

    A rate that is left out is that of its fallback: cached, written, audio and image input cost
    what ``input`` costs (a one-hour cache write what a five-minute one does), reasoning, audio and
    image output what ``output`` does.
    """

    input: Rate = UNSET
    input_cached: Rate = UNSET
    cache_write_5m: Rate = UNSET
    cache_write_1h: Rate = UNSET
    audio_in: Rate = UNSET
    image_in: Rate = UNSET
    output: Rate = UNSET
    reasoning: Rate = UNSET
    audio_out: Rate = UNSET
    image_out: Rate = UNSET
    per_request: Rate = UNSET
    """USD per request, beside what its tokens cost."""
    per_image: Rate = UNSET
    """USD per image that was made."""
    per_million_characters: Rate = UNSET
    """USD per million characters that were spoken."""
    per_audio_hour: Rate = UNSET
    """USD per hour of audio that was heard."""
    per_thousand_searches: Rate = UNSET
    """USD per thousand searches of a rerank."""
    per_thousand_web_searches: Rate = UNSET
    """USD per thousand web searches that the provider ran for an answer."""
    minimum_audio_seconds: Rate = UNSET
    """Seconds that shorter audio is charged as; no money."""

    @property
    def is_stated(self) -> bool:
        """Whether there is any rate in it."""
        return any(
            getattr(self, name) is not UNSET for name in self.__struct_fields__ if name != _MINIMUM
        )


class ContextTier(Struct, frozen=True, kw_only=True, gc=False):
    """Rates of requests with more input than ``above``; those left out stay as they are below."""

    above: int
    """Tokens of input, cached ones included, at least 0."""
    rates: Rates


class Price(Struct, frozen=True, kw_only=True, gc=False):
    """The rates of one service tier, by size of the request."""

    rates: Rates
    context_tiers: tuple[ContextTier, ...] = ()
    """In ascending order."""
    tiering: Tiering = "whole"
    """``whole``: a request above a threshold pays the tier's rates for all of its tokens.
    ``marginal``: each token pays the rate of its place, of which cached input has the first ones,
    then cache writes, text, audio and images, reasoning and the rest of the output."""


class Hours(Struct, frozen=True, kw_only=True, gc=False):
    """A part of each day, in UTC; one that ends before it starts goes over midnight."""

    start: time
    end: time
    """The first moment that is no longer in it."""

    def include(self, moment: time) -> bool:
        """Whether ``moment`` is in it."""
        if self.end <= self.start:
            return moment >= self.start or moment < self.end
        return self.start <= moment < self.end


class PriceRow(Struct, frozen=True, kw_only=True, gc=False):
    """One row of a price table: what a model costs, and when."""

    source: PriceSource
    standard: Price
    service_tiers: Mapping[str, Price] = {}
    """``batch``, ``flex``, ``priority`` and others that are asked for by name."""
    valid_from: date | None = None
    """First day, in UTC."""
    valid_to: date | None = None
    """First day on which it no longer holds, in UTC."""
    hours: Hours | None = None


class Quantities(Struct, frozen=True, kw_only=True, gc=False):
    """What a call used beside tokens. Each is at least 0."""

    requests: int = 1
    images: int = 0
    """Images that were made."""
    image_tokens_in: int = 0
    """Tokens of images, among ``Usage.input_uncached``."""
    image_tokens_out: int = 0
    """Tokens of images, among ``Usage.output_text``."""
    characters: int = 0
    """Characters that were spoken."""
    audio_seconds: Decimal | int = 0
    """Seconds of audio that were heard."""
    searches: int = 0
    """Searches of a rerank, as the provider counts them."""
    web_searches: int = 0


ONE_REQUEST: Final = Quantities()
"""Nothing beside tokens. Whoever means that gives this very object, by which it is told."""

"""Rows of ``genai-prices``: the data of the installed release, which never comes over the network.

The package is imported when the table is made. Its own table of the process, which can be told to
update itself, is not used.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from msgspec import UNSET

from asgi_llm._optional import require
from asgi_llm.pricing._money import EXACT
from asgi_llm.pricing.compiled import STANDARD_TIERS
from asgi_llm.pricing.names import genai_id, model_names
from asgi_llm.pricing.rows import ContextTier, Hours, Price, PriceRow, Rate, Rates
from asgi_llm.types import PriceSource

__all__ = ["GENAI_PRICES", "GenAIPrices"]

GENAI_PRICES: Final = "genai-prices"
"""The name of this table."""

# Its unit, and how many of its units are one of ours.
_FIELDS: Final[dict[str, tuple[tuple[str, ...], int]]] = {
    "input": (("input_mtok", "input_text_mtok"), 1),
    "input_cached": (("cache_read_mtok",), 1),
    "cache_write_5m": (("cache_write_5m_mtok", "cache_write_mtok"), 1),
    "cache_write_1h": (("cache_write_1h_mtok",), 1),
    "audio_in": (("input_audio_mtok",), 1),
    "image_in": (("input_image_mtok",), 1),
    "output": (("output_mtok", "output_text_mtok"), 1),
    "reasoning": (("output_reasoning_mtok",), 1),
    "audio_out": (("output_audio_mtok",), 1),
    "image_out": (("output_image_mtok",), 1),
    "per_request": (("requests_kcount",), 1000),
    "per_million_characters": (("input_mchars",), 1),
    "per_audio_hour": (("input_audio_hours", "audio_hours"), 1),
    "per_thousand_searches": (("rerank_searches_kcount",), 1),
    "per_thousand_web_searches": (("web_searches_kcount",), 1),
}

# Variants by other words (routes, kinds of search) are not service tiers.
_VARIANTS: Final = ("service_tier", "processing", "speed")

# The table's own arithmetic has this for these two; it is in no field of theirs.
_SHORTEST_AUDIO: Final[dict[tuple[str, str], Rate]] = {
    ("groq", "whisper-large-v3"): Decimal(10),
    ("groq", "whisper-large-v3-turbo"): Decimal(10),
}

_MIDNIGHT: Final = time(0)


class GenAIPrices:
    """The table of the installed release.

    Raises:
        ConfigurationError: ``genai-prices`` is not installed.
    """

    name: Final = GENAI_PRICES

    def __init__(self) -> None:
        self._providers: list[Any] = require("genai_prices.data", extra="cost").providers
        self._types = require("genai_prices.types", extra="cost")
        # Imported here, because it takes as long as a quarter of all else that a meter imports.
        metadata = importlib.import_module("importlib.metadata")
        self.version: Final[str] = metadata.version("genai-prices")

    def find(self, provider: str, model: str) -> tuple[str, tuple[PriceRow, ...]] | None:
        """The rows of a model, the latest first, and the rule that found it.

        Args:
            provider: A provider type, or the table's own id.
            model: Its name at that provider.
        """
        wanted = genai_id(provider) or provider
        found = next((one for one in self._providers if one.id == wanted), None)
        if found is None:
            return None
        for name, rule in model_names(model):
            known = found.find_model(name, all_providers=self._providers)
            if known is not None:
                rows = tuple(self._rows(found, known))
                return (rule, rows) if rows else None
        return None

    def provider_at(self, base_url: str) -> str | None:
        """The table's id of the provider whose API is at an address."""
        return next(
            (one.id for one in self._providers if re.match(one.api_pattern, base_url)), None
        )

    def _rows(self, provider: Any, model: Any) -> Iterator[PriceRow]:
        """A row for each time in which one set of prices holds, the latest first.

        The table's own rule picks the prices of a time, so that they are never read otherwise than
        the table means them.
        """
        # A model of another provider: what its maker asks, which the table falls back to.
        owner = next((one for one in self._providers if model in one.models), provider)
        row = f"{owner.id}/{model.id}"
        days = sorted(set(self._days(model)))
        times = sorted({_MIDNIGHT, *self._times(model)})
        for day, until in reversed(list(zip([None, *days], [*days, None], strict=True))):
            sample = day or (until - timedelta(days=1) if until else date(2026, 1, 1))
            found = [
                (start, *self._prices(owner, model, datetime.combine(sample, start, UTC)))
                for start in times
            ]
            source = PriceSource(table=GENAI_PRICES, version=self.version, row=row, effective=day)
            for hours, standard, tiers in _by_hours(found):
                if standard.rates.is_stated:
                    yield PriceRow(
                        source=source,
                        standard=standard,
                        service_tiers=tiers,
                        valid_from=day,
                        valid_to=until,
                        hours=hours,
                    )

    def _days(self, model: Any) -> Iterator[date]:
        for constraint in self._constraints(model):
            if isinstance(constraint, self._types.StartDateConstraint):
                yield constraint.start_date

    def _times(self, model: Any) -> Iterator[time]:
        for constraint in self._constraints(model):
            if isinstance(constraint, self._types.TimeOfDateConstraint):
                for moment in (constraint.start_time, constraint.end_time):
                    # Some are in UTC without saying so.
                    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
                    yield datetime.combine(date(2026, 1, 1), aware).astimezone(UTC).time()

    def _constraints(self, model: Any) -> Iterator[Any]:
        if isinstance(model.prices, list):
            yield from (one.constraint for one in model.prices)
        yield from (one.constraint for one in model.price_variants or ())

    def _prices(self, owner: Any, model: Any, at: datetime) -> tuple[Price, dict[str, Price]]:
        shortest = _SHORTEST_AUDIO.get((owner.id, model.id), UNSET)
        tiers = {}
        for variant in model.price_variants or ():
            if variant.constraint is not None and not variant.constraint.active(at):
                continue
            if len(variant.when) != 1:
                continue
            ((word, value),) = variant.when.items()
            if word in _VARIANTS and value.lower() not in STANDARD_TIERS:
                tiers[value.lower()] = self._price(model.get_prices(at, {word: value}), shortest)
        return self._price(model.get_prices(at), shortest), tiers

    def _price(self, prices: Any, shortest: Rate) -> Price:
        rates: dict[str, Rate] = {"minimum_audio_seconds": shortest}
        above: dict[int, dict[str, Rate]] = {}
        for name, (fields, units) in _FIELDS.items():
            value = next(
                (one for field in fields if (one := getattr(prices, field, None)) is not None),
                UNSET,
            )
            if isinstance(value, self._types.TieredPrices):
                for tier in value.tiers:
                    above.setdefault(tier.start, {})[name] = _per_unit(tier.price, units)
                value = value.base
            rates[name] = _per_unit(value, units)
        return Price(
            rates=Rates(**rates),
            context_tiers=tuple(
                ContextTier(above=start, rates=Rates(**above[start])) for start in sorted(above)
            ),
        )


def _per_unit(value: Any, units: int) -> Rate:
    return EXACT.divide(value, Decimal(units)) if isinstance(value, Decimal) else UNSET


def _by_hours(
    found: list[tuple[time, Price, dict[str, Price]]],
) -> Iterable[tuple[Hours | None, Price, dict[str, Price]]]:
    """Parts of a day that follow each other, those with the same prices put together."""
    parts: list[tuple[time, Price, dict[str, Price]]] = []
    for one in found:
        if not parts or parts[-1][1:] != one[1:]:
            parts.append(one)
    if len(parts) == 1:
        return [(None, *parts[0][1:])]
    if parts[0][1:] == parts[-1][1:]:
        parts.pop(0)
    ends = [*(start for start, *_ in parts[1:]), parts[0][0]]
    return [
        (Hours(start=start, end=end), standard, tiers)
        for (start, standard, tiers), end in zip(parts, ends, strict=True)
    ]

"""Rows of a price file in LiteLLM's format, ``model_prices_and_context_window.json``.

The caller reads the file; nothing is fetched. Figures are taken as they are written, digit by
digit, not as binary floats.

Source: BerriAI/litellm, ``model_prices_and_context_window.json`` and its cost calculation, as of
November 2026.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from msgspec.structs import replace

from asgi_llm.errors import ConfigurationError
from asgi_llm.pricing._card import layered
from asgi_llm.pricing._money import EXACT, read_price
from asgi_llm.pricing.names import litellm_ids, model_names
from asgi_llm.pricing.rows import ContextTier, Price, PriceRow, Rate, Rates
from asgi_llm.types import PriceSource

__all__ = ["LiteLLMPrices"]

# By its name for a price: ours, and how many of its units one of ours is.
_TOKENS: Final = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "input_cached",
    "cache_creation_input_token_cost": "cache_write_5m",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "audio_in",
    "input_cost_per_image_token": "image_in",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
    "output_cost_per_audio_token": "audio_out",
    "output_cost_per_image_token": "image_out",
}
_UNITS: Final[Mapping[str, tuple[str, int]]] = {
    "input_cost_per_character": ("per_million_characters", 10**6),
    "input_cost_per_second": ("per_audio_hour", 3600),
    "input_cost_per_query": ("per_thousand_searches", 1000),
    "output_cost_per_image": ("per_image", 1),
}
"""What some modes are billed by in place of tokens. Where an entry prices tokens too, those count:
it gives both for one thing."""

_MODES: Final = {
    "audio_speech": "input_cost_per_character",
    "audio_transcription": "input_cost_per_second",
    "rerank": "input_cost_per_query",
    "image_generation": "output_cost_per_image",
    "image_edit": "output_cost_per_image",
}

_BATCH: Final = {"batches": "batch"}

_FIELD: Final = re.compile(
    rf"({'|'.join(sorted(_TOKENS, key=len, reverse=True))})"
    r"(?:_above_(\d+)(k?)_tokens)?(?:_([a-z]+))?"
)

_AT_OR_ABOVE: Final = "xai"
"""Whose higher prices begin at the threshold, not above it."""

_MILLION: Final = 10**6


class LiteLLMPrices:
    """A price file that was read.

    Args:
        data: The file's content.
        name: What the table is called in a cost's source.

    Raises:
        ConfigurationError: It is no JSON object of objects, or one of its prices is no price; the
            message names the entry and the field.
    """

    def __init__(self, data: bytes, *, name: str = "litellm") -> None:
        self.name: Final = name
        self.version: Final = "sha256:" + hashlib.sha256(data).hexdigest()[:12]
        self._entries: dict[tuple[str, str], tuple[str, Mapping[str, Any]]] = {}
        try:
            entries = json.loads(data, parse_float=Decimal)
        except ValueError as error:
            raise _wrong(name, f"it is not JSON: {error}") from None
        if not isinstance(entries, dict):
            raise _wrong(name, "it must be an object with one entry for each model")
        for key, entry in entries.items():
            if key == "sample_spec":
                continue
            if not isinstance(entry, dict):
                raise _wrong(f"{name}.{key}", "it must be an object")
            self._add(key, entry)

    def find(self, provider: str, model: str) -> tuple[str, tuple[PriceRow, ...]] | None:
        """The row of a model, and the rule that found it.

        Args:
            provider: A provider type, or the file's own word for one.
            model: Its name at that provider.
        """
        providers = litellm_ids(provider) or (provider,)
        for name, rule in model_names(model):
            for one in providers:
                known = self._entries.get((one, name))
                if known is not None:
                    row = self._row(*known)
                    return (rule, (row,)) if row.standard.rates.is_stated else None
        return None

    def provider_at(self, base_url: str) -> None:
        """None: the file has no addresses."""
        return

    def _add(self, key: str, entry: Mapping[str, Any]) -> None:
        # Every price is read once here, so that a file is refused as a whole.
        self._row(key, entry)
        provider = entry.get("litellm_provider")
        if not isinstance(provider, str):
            return
        names = [key]
        # Most keys begin with a word for their provider, by which no provider knows the model.
        prefix, slash, rest = key.partition("/")
        if slash and prefix in (provider, *litellm_ids(provider), *_prefixes(provider)):
            names.append(rest)
        for name in names:
            self._entries.setdefault((provider, name), (key, entry))
            self._entries.setdefault((provider, name.lower()), (key, entry))

    def _row(self, key: str, entry: Mapping[str, Any]) -> PriceRow:
        path = f"{self.name}.{key}"
        shift = 1 if entry.get("litellm_provider") == _AT_OR_ABOVE else 0
        prices: dict[str, tuple[dict[str, Rate], dict[int, dict[str, Rate]]]] = {"": ({}, {})}
        for field, above, tier, value in _fields(entry):
            base, thresholds = prices.setdefault(tier, ({}, {}))
            rates = base if above is None else thresholds.setdefault(above - shift, {})
            rates[_TOKENS[field]] = _rate(value, f"{path}.{field}", _MILLION)
        standard = _price(*prices.pop(""))
        standard = replace(standard, rates=replace(standard.rates, **self._units(entry, path)))
        return PriceRow(
            source=PriceSource(table=self.name, version=self.version, row=key),
            standard=standard,
            service_tiers={
                _BATCH.get(tier, tier): layered(standard, _price(*own), tiering="whole")
                for tier, own in prices.items()
            },
        )

    def _units(self, entry: Mapping[str, Any], path: str) -> dict[str, Rate]:
        found: dict[str, Rate] = {}
        field = _MODES.get(entry.get("mode") or "")
        by_tokens = any(entry.get(name) for name in _TOKENS)
        if field in entry and field is not None and not by_tokens:
            name, units = _UNITS[field]
            found[name] = _rate(entry[field], f"{path}.{field}", units)
        if "input_cost_per_request" in entry:
            value = entry["input_cost_per_request"]
            found["per_request"] = _rate(value, f"{path}.input_cost_per_request", 1)
        searches = entry.get("search_context_cost_per_query")
        if isinstance(searches, dict) and searches:
            # Which size was served is not told in an answer: the dearest.
            key = f"{path}.search_context_cost_per_query"
            dearest = max(read_price(one, key) for one in searches.values())
            found["per_thousand_web_searches"] = EXACT.multiply(dearest, 1000)
        return found


def _fields(entry: Mapping[str, Any]) -> Iterator[tuple[str, int | None, str, Any]]:
    """Prices of tokens: the field, a threshold, a service tier, and the value."""
    for name, value in entry.items():
        match = _FIELD.fullmatch(name)
        if match is not None:
            field, digits, thousands, tier = match.groups()
            above = int(digits) * (1000 if thousands else 1) if digits else None
            yield field, above, tier or "", value


def _price(base: dict[str, Rate], thresholds: dict[int, dict[str, Rate]]) -> Price:
    return Price(
        rates=Rates(**base),
        context_tiers=tuple(
            ContextTier(above=above, rates=Rates(**thresholds[above]))
            for above in sorted(thresholds)
        ),
    )


def _rate(value: Any, key: str, units: int) -> Rate:
    return None if value is None else EXACT.multiply(read_price(value, key), units)


def _prefixes(provider: str) -> tuple[str, ...]:
    """First words of keys that differ from the provider they are of."""
    family = provider.partition("-")[0]
    return (family, "bedrock") if family.startswith("bedrock") else (family,)


def _wrong(key: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{key}: {problem}", param=key)

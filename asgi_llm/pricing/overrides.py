"""Prices from the configuration: a mapping, checked in full before any of it counts."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace

from asgi_llm.errors import ConfigurationError
from asgi_llm.pricing._card import layered
from asgi_llm.pricing._money import EXACT, read_price
from asgi_llm.pricing.rows import ContextTier, Hours, Price, PriceRow, Rates, Tiering
from asgi_llm.types import PriceSource

__all__ = ["ANY", "OVERRIDES", "Overrides", "read_rows"]

OVERRIDES: Final = "overrides"
"""The name of this table."""

ANY: Final = "*"
"""Every provider, or every model of one."""

_RATES: Final = Rates.__struct_fields__
_BASIC: Final = (*_RATES, "context_tiers", "tiering")
_KEYS: Final = (*_BASIC, "service_tiers", "valid_from", "valid_to", "hours")


class Overrides:
    """Prices by provider and model, as in ``{"openai": {"gpt-4o": {"input": "2.5", ...}}}``.

    A provider is the name of a configured one or a type; ``"*"`` is every provider, and as a model
    every model of one. A price is a mapping, or a list of them with dates of their own.

    Args:
        mapping: Read at once; later changes of it change nothing.
        key: Path of the mapping in its configuration, for errors.

    Raises:
        ConfigurationError: Something is not as it is to be; the message names the key.
    """

    def __init__(self, mapping: Mapping[str, Any], *, key: str = "prices.overrides") -> None:
        rows: dict[tuple[str, str], tuple[PriceRow, ...]] = {}
        for provider, models in _items(mapping, key):
            path = f"{key}.{provider}"
            for model, value in _items(models, path):
                name = f"{provider}/{model}"
                rows[provider, model] = tuple(read_rows(value, key=f"{path}.{model}", row=name))
        # A version of its own for each content, in whatever order and notation it was written.
        contents = [row for place in sorted(rows) for row in rows[place]]
        digest = hashlib.sha256(msgspec.json.encode(contents, order="deterministic")).hexdigest()
        version = f"sha256:{digest[:12]}"
        self._rows = {
            place: tuple(
                replace(row, source=replace(row.source, version=version)) for row in several
            )
            for place, several in rows.items()
        }

    def find(self, providers: tuple[str, ...], model: str) -> tuple[PriceRow, ...]:
        """The rows for a model, by its exact name, else those for all models of its provider.

        Args:
            providers: Names of the provider, of which the first one with a price counts.
            model: Its name, or ``"*"``.
        """
        for provider in (*providers, ANY):
            rows = self._rows.get((provider, model))
            if rows is not None:
                return rows
        return ()


def read_rows(
    value: Any, *, key: str, row: str, table: str = OVERRIDES, version: str = ""
) -> Iterator[PriceRow]:
    """The rows of one price, the latest first.

    Args:
        value: A mapping, or a list of mappings that differ in their dates or hours.
        key: Path of the value in its configuration, for errors.
        row: What the rows are called in a cost's source.
        table: Name of the table.
        version: Its version.

    Raises:
        ConfigurationError: The value is no price; the message names the key.
    """
    several = isinstance(value, list)
    found = []
    for n, one in enumerate(value if several else (value,)):
        path = f"{key}[{n}]" if several else key
        found.append(_row(one, path, row, table, version))
    if not found:
        raise _wrong(key, "a list of prices cannot be empty")
    # Of two that hold at once, the one with hours counts, else the one that began later.
    found.sort(key=lambda one: (one.hours is not None, one.valid_from or date.min), reverse=True)
    yield from found


def _row(value: Any, key: str, row: str, table: str, version: str) -> PriceRow:
    for name, _ in _items(value, key):
        _known(name, _KEYS, key)
    standard = _price(value, key)
    if not standard.rates.is_stated:
        raise _wrong(key, "a price states at least one rate, such as input or output")
    tiers = {
        name: _tier(standard, one, f"{key}.service_tiers.{name}")
        for name, one in _items(value.get("service_tiers", {}), f"{key}.service_tiers")
    }
    valid_from = _date(value.get("valid_from"), f"{key}.valid_from")
    valid_to = _date(value.get("valid_to"), f"{key}.valid_to")
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        raise _wrong(f"{key}.valid_to", "it must be later than valid_from")
    return PriceRow(
        source=PriceSource(table=table, version=version, row=row, effective=valid_from),
        standard=standard,
        service_tiers={name.lower(): price for name, price in tiers.items()},
        valid_from=valid_from,
        valid_to=valid_to,
        hours=_hours(value.get("hours"), f"{key}.hours"),
    )


def _price(value: Mapping[str, Any], key: str) -> Price:
    tiers = value.get("context_tiers", [])
    if not isinstance(tiers, list):
        raise _wrong(f"{key}.context_tiers", "it must be a list")
    context_tiers = tuple(
        _context_tier(one, f"{key}.context_tiers[{n}]") for n, one in enumerate(tiers)
    )
    thresholds = [tier.above for tier in context_tiers]
    if thresholds != sorted(set(thresholds)):
        raise _wrong(f"{key}.context_tiers", "thresholds must differ and ascend")
    return Price(
        rates=_rates(value, key), context_tiers=context_tiers, tiering=_tiering(value, key)
    )


def _tiering(value: Mapping[str, Any], key: str) -> Tiering:
    tiering = value.get("tiering", "whole")
    if tiering == "whole":
        return "whole"
    if tiering == "marginal":
        return "marginal"
    raise _wrong(f"{key}.tiering", "it must be whole or marginal")


def _context_tier(value: Any, key: str) -> ContextTier:
    for name, _ in _items(value, key):
        _known(name, ("above", *_RATES), key)
    above = value.get("above")
    if type(above) is not int or above < 0:
        raise _wrong(f"{key}.above", "it must be a number of tokens, at least 0")
    return ContextTier(above=above, rates=_rates(value, key))


def _tier(standard: Price, value: Any, key: str) -> Price:
    """A service tier: a multiple of the standard price, or the standard price with changes."""
    names = [name for name, _ in _items(value, key)]
    if "multiplier" not in names:
        for name in names:
            _known(name, (*_BASIC, "multiplier"), key)
        own = _price(value, key)
        tiering = own.tiering if "tiering" in names else standard.tiering
        return layered(standard, own, tiering=tiering)
    if len(names) > 1:
        raise _wrong(key, "a multiplier stands alone")
    factor = read_price(value["multiplier"], f"{key}.multiplier")
    return Price(
        rates=_multiplied(standard.rates, factor),
        context_tiers=tuple(
            ContextTier(above=tier.above, rates=_multiplied(tier.rates, factor))
            for tier in standard.context_tiers
        ),
        tiering=standard.tiering,
    )


def _multiplied(rates: Rates, factor: Decimal) -> Rates:
    return Rates(
        **{
            name: EXACT.multiply(rate, factor)
            if isinstance(rate, Decimal) and name != "minimum_audio_seconds"
            else rate
            for name, rate in asdict(rates).items()
        }
    )


def _rates(value: Mapping[str, Any], key: str) -> Rates:
    """Null is a rate of its own: there is no price. Only what is not there is left out."""
    rates: dict[str, Any] = {}
    for name in _RATES:
        one = value.get(name, UNSET)
        rates[name] = one if one is None or one is UNSET else read_price(one, f"{key}.{name}")
    return Rates(**rates)


def _date(value: Any, key: str) -> date | None:
    if value is None:
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong(key, f"{value!r} is not a date, such as 2026-11-21") from None


def _hours(value: Any, key: str) -> Hours | None:
    if value is None:
        return None
    try:
        start, end = value.split("-")
        hours = Hours(start=time.fromisoformat(start), end=time.fromisoformat(end))
    except (AttributeError, ValueError):
        raise _wrong(key, f"{value!r} is not a part of a day, such as 16:30-00:30") from None
    if hours.start.tzinfo is not None or hours.end.tzinfo is not None:
        raise _wrong(key, "hours are in UTC, without a zone")
    return hours


def _items(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        raise _wrong(key, "it must be a mapping")
    for name, one in value.items():
        if not isinstance(name, str) or not name:
            raise _wrong(key, f"the name {name!r} is not a text")
        yield name, one


def _known(name: str, names: tuple[str, ...], key: str) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise _wrong(f"{key}.{name}", f"no such key{hint}")


def _wrong(key: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{key}: {problem}", param=key)

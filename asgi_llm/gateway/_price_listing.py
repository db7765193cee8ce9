"""What models cost, as a table for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from asgi_llm.gateway.build import Build
from asgi_llm.gateway.config import Loaded
from asgi_llm.pricing import PriceTable, format_usd
from asgi_llm.pricing.rows import PriceRow, Rates
from asgi_llm.types import Deployment

__all__ = ["UnknownNameError", "price_rows"]

_COUNT = re.compile("^per_(thousand_|million_)?")
_UNITS = {
    "per_request": "a request",
    "per_image": "an image",
    "per_million_characters": "a million characters",
    "per_audio_hour": "an hour of audio",
    "per_thousand_searches": "a thousand searches",
    "per_thousand_web_searches": "a thousand web searches",
    "minimum_audio_seconds": None,
}
"""Units of the rates that are not for a million tokens; None is no money."""


class UnknownNameError(Exception):
    """No alias and no ``provider/model`` of this configuration."""


def price_rows(
    loaded: Loaded, build: Build, prices: PriceTable, name: str, *, at: datetime
) -> Iterator[tuple[str, str, str]]:
    """What ``name`` costs at a time, where that is from, and what else was considered.

    Raises:
        UnknownNameError: There is no such name here.
    """
    target = _target_of(name, build)
    definition = loaded.configuration.providers[target.provider]
    found = prices.explain(
        target.provider,
        target.model,
        at=at,
        provider_type=definition.type,
        base_url=getattr(definition, "base_url", None),
    )
    yield f"{target.provider}/{target.model}", "", ""
    if found.chosen is None:
        yield "  price", "not known", ""
    else:
        yield from _rates(found.chosen)
    for considered in found.rows:
        source = considered.row.source
        row = f"{source.table} {source.version}: {source.row}"
        yield "  taken" if considered.chosen else "  passed over", row, considered.reason
    if not found.rows:
        for place in found.consulted:
            yield "  looked for", f"{place.provider}/{place.model}", f"in {place.table}"


def _target_of(name: str, build: Build) -> Deployment:
    if name in build.models:
        return build.models[name]
    provider, _, model = name.partition("/")
    if provider not in build.providers or not model:
        raise UnknownNameError(name)
    return Deployment(provider=provider, model=model)


def _rates(row: PriceRow) -> Iterator[tuple[str, str, str]]:
    for tier, price in (("", row.standard), *row.service_tiers.items()):
        yield from _of_tier(tier, "", price.rates)
        for step in price.context_tiers:
            yield from _of_tier(tier, f"above {step.above:,} input tokens", step.rates)


def _of_tier(tier: str, context: str, rates: Rates) -> Iterator[tuple[str, str, str]]:
    for bucket in rates.__struct_fields__:
        rate = getattr(rates, bucket)
        unit = _UNITS.get(bucket, "a million tokens")
        if isinstance(rate, Decimal) and unit is not None:
            label = "  " + _COUNT.sub("", bucket).replace("_", " ")
            said = ", ".join(filter(None, (tier and f"{tier} tier", context)))
            yield label, f"${format_usd(rate)} {unit}", said

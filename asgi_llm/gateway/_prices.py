"""The prices of a configuration."""

from __future__ import annotations

from typing import Final

from asgi_llm import __version__
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._cost_definitions import PricesDefinition
from asgi_llm.gateway.config import Configuration, find_cost
from asgi_llm.pricing import GenAIPrices, LiteLLMPrices, Overrides, PriceTable, Table, read_rows
from asgi_llm.pricing.rows import PriceRow

__all__ = ["make_prices", "prices_of"]

_MAX_BYTES: Final = 64 * 1024 * 1024


def prices_of(configuration: Configuration) -> PricesDefinition:
    """What the layer ``cost`` says of prices, or the defaults where there is none."""
    cost = find_cost(configuration)
    return PricesDefinition() if cost is None else cost.prices


def make_prices(definition: PricesDefinition) -> PriceTable:
    """The table: overrides, a file of LiteLLM's, genai-prices, and the offline provider.

    Raises:
        ConfigurationError: A price is wrong, or a file cannot be read; ``param`` is the path below
            the layer.
    """
    overrides = Overrides(definition.overrides)
    tables: list[Table] = []
    if definition.litellm_file is not None:
        try:
            tables.append(LiteLLMPrices(_read(definition.litellm_file)))
        except ConfigurationError as error:
            raise ConfigurationError(error.message, param="prices.litellm_file") from None
    if definition.genai_prices:
        try:
            tables.append(GenAIPrices())
        except ConfigurationError as error:
            raise ConfigurationError(error.message, param="prices.genai_prices") from None
    return PriceTable(overrides=overrides, tables=[*tables, _OfflinePrices()])


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            data = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"the file cannot be read: {reason}") from error
    if len(data) > _MAX_BYTES:
        raise ConfigurationError(f"the file has more than {_MAX_BYTES} bytes")
    return data


class _OfflinePrices:
    """The provider ``echo`` calls nobody, so that it is known to cost nothing."""

    name: Final = "asgi-llm"
    version: Final = __version__

    def __init__(self) -> None:
        rates = dict.fromkeys(
            ("input", "output", "per_image", "per_million_characters", "per_audio_hour"), 0
        )
        self._rows = tuple(
            read_rows(
                {**rates, "per_thousand_searches": 0},
                key="echo",
                row="echo/*",
                table=self.name,
                version=self.version,
            )
        )

    def find(self, provider: str, model: str) -> tuple[str, tuple[PriceRow, ...]] | None:
        """Its one row, for any of its models."""
        return ("any model", self._rows) if provider == "echo" else None

    def provider_at(self, base_url: str) -> str | None:
        """It has no address."""
        return None

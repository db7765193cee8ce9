"""What calls cost: prices with their provenance, and exact decimal bills. No I/O, no network.

``genai-prices`` is imported when its table is made, and not before.
"""

from __future__ import annotations

from asgi_llm.pricing._money import format_usd
from asgi_llm.pricing.bound import RequestBound, bound_request, dearest, upper_bound
from asgi_llm.pricing.compiled import UNKNOWN_PRICE, CompiledPrice
from asgi_llm.pricing.genai import GenAIPrices
from asgi_llm.pricing.litellm import LiteLLMPrices
from asgi_llm.pricing.overrides import Overrides, read_rows
from asgi_llm.pricing.quantities import read_quantities
from asgi_llm.pricing.rows import ContextTier, Hours, Price, PriceRow, Quantities, Rates
from asgi_llm.pricing.table import ConsideredRow, Explanation, PriceTable, Table, load_prices

__all__ = [
    "UNKNOWN_PRICE",
    "CompiledPrice",
    "ConsideredRow",
    "ContextTier",
    "Explanation",
    "GenAIPrices",
    "Hours",
    "LiteLLMPrices",
    "Overrides",
    "Price",
    "PriceRow",
    "PriceTable",
    "Quantities",
    "Rates",
    "RequestBound",
    "Table",
    "bound_request",
    "dearest",
    "format_usd",
    "load_prices",
    "read_quantities",
    "read_rows",
    "upper_bound",
]

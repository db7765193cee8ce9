"""Exact decimal arithmetic, and the one way in which a price is read."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException, Inexact, InvalidOperation
from typing import Any, Final

from asgi_llm.errors import ConfigurationError

__all__ = [
    "EXACT",
    "MAX_PRICE",
    "ROUNDED",
    "ZERO",
    "exact_pico",
    "format_usd",
    "price_text",
    "read_price",
]

ZERO: Final = Decimal(0)

EXACT: Final = Context(prec=80, traps=[Inexact, InvalidOperation])
"""Raises where a result would have to be rounded, whatever the caller's own context is."""

_multiply: Final = EXACT.multiply
_add: Final = EXACT.add

ROUNDED: Final = Context(prec=28, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])
"""For the one division: an hour's price by the second, to 28 digits."""

MAX_PRICE: Final = Decimal(10) ** 9
_MAX_DECIMALS: Final = 24
_MAX_DIGITS: Final = 30


def read_price(value: Any, key: str) -> Decimal:
    """A price as it is written: a number or its decimal notation.

    A float is taken for the shortest notation that reads back as it, which is what was written in
    the file: 0.1 is one tenth.

    Raises:
        ConfigurationError: It is no number, negative, not finite, above 10 to the power of 9, or
            has more than 24 decimals; the message names ``key``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise _wrong(key, f"{value!r} is not a number")
    try:
        price = Decimal(repr(value) if isinstance(value, float) else value)
    except (DecimalException, ValueError):
        raise _wrong(key, f"{value!r} is not a number") from None
    if not price.is_finite():
        raise _wrong(key, f"{value!r} is not a finite number")
    if price < 0:
        raise _wrong(key, "a price cannot be negative")
    if price > MAX_PRICE:
        raise _wrong(key, f"{value!r} is above {MAX_PRICE:,} USD")
    _, digits, exponent = price.as_tuple()
    if not isinstance(exponent, int) or exponent < -_MAX_DECIMALS or len(digits) > _MAX_DIGITS:
        raise _wrong(key, f"{value!r} has more than {_MAX_DECIMALS} decimals")
    return price


def exact_pico(price: Decimal) -> int | None:
    """A price in pico-USD; None where that is no whole number."""
    scaled = price.scaleb(12, EXACT)
    whole = int(scaled)
    return whole if whole == scaled else None


def price_text(
    rates: tuple[Decimal, Decimal], tokens_in: int, tokens_out: int
) -> tuple[Decimal, dict[str, Decimal]]:
    """What a text that went in and the one that came out cost together, and each of them.

    Args:
        rates: USD for a token of each.
        tokens_in: Tokens of the one, above 0.
        tokens_out: Tokens of the other, above 0.
    """
    part_in, part_out = _multiply(rates[0], tokens_in), _multiply(rates[1], tokens_out)
    return _add(part_in, part_out), {"input_uncached": part_in, "output_text": part_out}


def format_usd(amount: Decimal) -> str:
    """An amount in full: every digit, without an exponent and without zeros at its end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _wrong(key: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{key}: {problem}", param=key)

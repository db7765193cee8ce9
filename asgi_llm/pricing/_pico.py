"""Amounts in pico-USD, which are whole numbers; the ``.pyx`` file does the same in C."""

from __future__ import annotations

from typing import Final

__all__ = ["format_pico", "price_pico"]

_PICO_DIGITS: Final = 12
_ZEROS: Final = tuple([f"0.{'0' * short}" for short in range(_PICO_DIGITS + 1)])


def price_pico(rates: tuple[int, int], tokens_in: int, tokens_out: int) -> int:
    """What a text that went in and the one that came out cost together.

    Args:
        rates: Of a token of each.
        tokens_in: Tokens of the one.
        tokens_out: Tokens of the other.
    """
    return rates[0] * tokens_in + rates[1] * tokens_out


def format_pico(amount: int) -> str:
    """``format_usd`` for an amount in pico-USD, at least 0."""
    digits = str(amount)
    short = _PICO_DIGITS - len(digits)
    if short >= 0:
        text = _ZEROS[short] + digits
    else:
        text = f"{digits[:-_PICO_DIGITS]}.{digits[-_PICO_DIGITS:]}"
    if text[-1] != "0":
        return text
    text = text.rstrip("0")
    return text if text[-1] != "." else text[:-1]

"""What a text costs that went in, and the one that came out: made in full if anybody asks."""

from __future__ import annotations

from asgi_llm.pricing import format_usd
from asgi_llm.pricing._money import price_text
from asgi_llm.pricing._pico import format_pico, price_pico
from asgi_llm.pricing.compiled import TextRates
from asgi_llm.stores.budgets import to_pico
from asgi_llm.types import Cost, PriceSource

__all__ = ["TextBill", "make_bill"]


class TextBill:
    """The cost of a call that is paid for by its tokens of text, and by nothing else.

    Args:
        rates: What a token costs.
        source: Where that is from.
        tokens_in: Tokens that went in, above 0.
        tokens_out: Tokens that came out, above 0.

    Attributes:
        amount: What they cost, in pico-USD; a part of one counts as one.
    """

    __slots__ = ("_is_whole", "_rates", "_source", "amount", "tokens_in", "tokens_out")

    def __init__(
        self, rates: TextRates, source: PriceSource | None, tokens_in: int, tokens_out: int
    ) -> None:
        self._begin(rates, source, tokens_in, tokens_out)

    def _begin(
        self, rates: TextRates, source: PriceSource | None, tokens_in: int, tokens_out: int
    ) -> None:
        self._rates = rates
        self._source = source
        self.tokens_in = tokens_in
        self.tokens_out = tokens_out
        pico = rates.pico
        self._is_whole = pico is not None
        if pico is None:
            self.amount = to_pico(price_text(rates.usd, tokens_in, tokens_out)[0])
        else:
            self.amount = price_pico(pico, tokens_in, tokens_out)

    def text(self) -> str:
        """The amount in USD, in full."""
        if not self._is_whole:
            return format_usd(price_text(self._rates.usd, self.tokens_in, self.tokens_out)[0])
        return format_pico(self.amount)

    def __call__(self) -> Cost:
        """The cost with its parts."""
        usd, parts = price_text(self._rates.usd, self.tokens_in, self.tokens_out)
        return Cost(amount_usd=usd, parts=parts, source=self._source)


def make_bill(
    rates: TextRates, source: PriceSource | None, tokens_in: int, tokens_out: int
) -> TextBill:
    """A ``TextBill``, which by its class takes C the way through its arguments as Python has them.

    Args:
        rates: As there.
        source: As there.
        tokens_in: As there.
        tokens_out: As there.
    """
    bill = TextBill.__new__(TextBill)
    bill._begin(rates, source, tokens_in, tokens_out)
    return bill

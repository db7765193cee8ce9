"""Amounts in words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.pricing import format_usd
from asgi_llm.pricing._pico import format_pico, price_pico
from asgi_llm.stores.budgets import from_pico


@given(st.one_of(st.integers(0, 10**30), st.integers(0, 30).map(lambda zeros: 10**zeros)))
def test_whole_pico_usd_are_written_as_the_same_decimal(amount: int) -> None:
    """Every digit and no zeros at the end, for large amounts and for parts of a cent."""
    assert format_usd(from_pico(amount)) == format_pico(amount)


@given(
    st.tuples(st.integers(0, 2**33), st.integers(0, 2**33)),
    st.integers(0, 2**33) | st.just(2**70),
    st.integers(0, 2**33),
)
def test_prices_in_pico_usd_are_exact(rates: tuple[int, int], went_in: int, came_out: int) -> None:
    """Whatever numbers of C would hold."""
    assert rates[0] * went_in + rates[1] * came_out == price_pico(rates, went_in, came_out)

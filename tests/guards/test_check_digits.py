"""Check digits: published examples pass, and no change of one digit does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.guards import check_digits
from asgi_llm.guards.crypto_addresses import base58check, bech32

Check = Callable[[str], bool]

# Numbers that the issuers' own documents and the standards have as examples.
EXAMPLES: list[tuple[Check, str]] = [
    (check_digits.luhn, "4111111111111111"),
    (check_digits.luhn, "378282246310005"),
    (check_digits.iban, "GB82WEST12345698765432"),
    (check_digits.iban, "DE89370400440532013000"),
    (check_digits.iban, "FR1420041010050500013M02606"),
    (check_digits.iban, "NL91ABNA0417164300"),
    (check_digits.verhoeff, "2363"),
    (check_digits.nhs, "9434765919"),
    (check_digits.steuer_id, "86095742719"),
    (check_digits.steuer_id, "47036892816"),
    (check_digits.nir, "255081416802538"),
    (check_digits.nir, "185057800608491"),
    (check_digits.dni, "12345678Z"),
    (check_digits.dni, "X1234567L"),
    (check_digits.codice_fiscale, "RSSMRA85T10A562S"),
    (check_digits.bsn, "111222333"),
    (check_digits.cpf, "52998224725"),
    (check_digits.cnpj, "11222333000181"),
    (base58check, "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"),
    (base58check, "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"),
    (bech32, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
    (bech32, "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"),
]


@pytest.mark.parametrize(("check", "number"), EXAMPLES)
def test_published_examples_pass(check: Check, number: str) -> None:
    """What the standards show as right is right."""
    assert check(number)


@pytest.mark.parametrize(
    ("check", "number"),
    # The last check of CPF and CNPJ maps two rests to one digit, a weakness of theirs.
    [(check, number) for check, number in EXAMPLES if check not in (check_digits.bsn,)],
)
def test_another_last_character_does_not_pass(check: Check, number: str) -> None:
    """The last character follows from the others."""
    alphabet = "0123456789" if number[-1].isdigit() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    others = [one for one in alphabet if one != number[-1]]
    if check in (base58check, bech32):
        others = [one for one in "qpzry9x8gf2tvdw23456" if one != number[-1]]
    assert [] == [one for one in others if check(number[:-1] + one)]


@given(st.text("0123456789", min_size=8, max_size=18), st.integers(0, 17), st.integers(1, 9))
def test_luhn_sees_every_change_of_one_digit(body: str, place: int, change: int) -> None:
    """One digit that is another one is always found."""
    right = next(body + last for last in "0123456789" if check_digits.luhn(body + last))
    place %= len(right)
    wrong = right[:place] + str((int(right[place]) + change) % 10) + right[place + 1 :]
    assert not check_digits.luhn(wrong)


@given(st.text("0123456789", min_size=3, max_size=16), st.integers(0, 15))
def test_verhoeff_sees_neighbours_that_changed_places(body: str, place: int) -> None:
    """Two neighbours that are not the same, swapped, are always found."""
    right = next(body + last for last in "0123456789" if check_digits.verhoeff(body + last))
    place %= len(right) - 1
    first, second = right[place], right[place + 1]
    swapped = right[:place] + second + first + right[place + 2 :]
    assert check_digits.verhoeff(swapped) == (first == second)


@pytest.mark.parametrize("text", ["", "XX12", "DE8937040044053201300", "DEAB370400440532013000"])
def test_what_is_no_iban(text: str) -> None:
    """An unknown country, a wrong length, letters for check digits."""
    assert not check_digits.iban(text)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (check_digits.cpf, "11111111111"),
        (check_digits.cnpj, "00000000000000"),
        (check_digits.steuer_id, "01234567890"),
        (check_digits.steuer_id, "12345678901"),
        (check_digits.steuer_id, "11123456780"),
        (check_digits.bsn, "000000000"),
        (base58check, "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN"),
        (base58check, "0OIl"),
        (bech32, "bc1"),
        (bech32, "Bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
        (bech32, "nothing"),
        (bech32, "bc1bbbbbbbbbbbb"),
    ],
)
def test_forms_that_are_excluded(check: Check, text: str) -> None:
    """Numbers that pass no test of form are refused before any sum."""
    assert not check(text)

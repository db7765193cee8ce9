"""Rules for payment cards, bank accounts and crypto currencies' addresses."""

from __future__ import annotations

from typing import Final

from asgi_llm.guards.check_digits import iban, iban_length, luhn
from asgi_llm.guards.crypto_addresses import base58check, bech32
from asgi_llm.guards.patterns import Candidate, Rule

__all__ = ["payment_rules"]

# First digits from, to, and the lengths. Source: ISO/IEC 7812 registrants' own pages, 2025.
_ISSUERS: Final[tuple[tuple[str, str, frozenset[int]], ...]] = tuple(
    (first, last, frozenset(map(int, lengths.split())))
    for first, last, lengths in (
        ("4", "4", "13 16 19"),  # Visa
        ("51", "55", "16"),  # Mastercard
        ("2221", "2720", "16"),
        ("34", "34", "15"),  # American Express
        ("37", "37", "15"),
        ("6011", "6011", "16 19"),  # Discover
        ("644", "659", "16 19"),
        ("300", "305", "14"),  # Diners Club
        ("36", "36", "14"),
        ("38", "39", "14"),
        ("3528", "3589", "16"),  # JCB
        ("62", "62", "16 17 18 19"),  # UnionPay
        ("2200", "2204", "16"),  # Mir
        ("5018", "5018", "13 16 18 19"),  # Maestro
        ("5020", "5020", "13 16 18 19"),
        ("5038", "5038", "13 16 18 19"),
        ("5893", "5893", "13 16 18 19"),
        ("6304", "6304", "16 18 19"),
        ("6759", "6763", "13 16 18 19"),
        ("508", "508", "16"),  # RuPay
        ("8172", "8172", "16"),
    )
)


def _is_card(digits: str) -> bool:
    size = len(digits)
    for first, last, lengths in _ISSUERS:
        if first <= digits[: len(first)] <= last and size in lengths:
            return luhn(digits)
    return False


def _is_written_as_card(text: str) -> bool:
    """Whether the digits stand in groups as on a card, or in none."""
    sizes = [len(group) for group in "".join(o if o.isdigit() else " " for o in text).split()]
    if len(sizes) == 1 or sizes in ([4, 6, 5], [4, 6, 4], [4, 4, 5], [6, 13], [8, 8]):
        return True
    # 14 digits in fours are something else.
    return all(size == 4 for size in sizes[:-1]) and sum(sizes) != 14


def _card(candidate: Candidate) -> float:
    if candidate.before(1) in (".", ",", "#", "_") and candidate.before(2)[:1].isdigit():
        return 0.0
    value = candidate.value
    digits = "".join(filter(str.isdigit, value))
    size = len(value)
    # Behind the card's number there may be others: an expiry date, a code.
    while len(digits) >= 13:
        if _is_card(digits) and _is_written_as_card(value[:size]):
            candidate.narrow(0, size)
            return 1.0
        while size and value[size - 1].isdigit():
            size -= 1
        while size and not value[size - 1].isdigit():
            size -= 1
        digits = "".join(filter(str.isdigit, value[:size]))
    return 0.0


def _iban(candidate: Candidate) -> float:
    value = candidate.value.upper()
    wanted = iban_length(value[:2])
    if not wanted:
        return 0.0
    taken = []
    for place, one in enumerate(value):
        if one.isalnum():
            taken.append(one)
        if len(taken) == wanted:
            if value[place + 1 : place + 2].isalnum() or not iban("".join(taken)):
                return 0.0
            candidate.narrow(0, place + 1)
            return 1.0
    return 0.0


def _base58(candidate: Candidate) -> float:
    return 1.0 if base58check(candidate.value) else 0.0


def _bech32(candidate: Candidate) -> float:
    return 1.0 if bech32(candidate.value) else 0.0


def payment_rules() -> list[Rule]:
    """The rules."""
    return [
        Rule(
            category="pii.card",
            pattern=r"\b[2-68][0-9]{3}(?:[ .-]{0,2}[0-9]){9,15}\b",
            confirm=_card,
            max_length=64,
            reason="an issuer's number with a valid check digit",
        ),
        Rule(
            category="pii.iban",
            pattern=r"(?i)\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}\b",
            confirm=_iban,
            max_length=72,
            reason="a country's format with a valid checksum",
        ),
        Rule(
            category="pii.crypto",
            pattern=r"\b[13LMDTA9][1-9A-HJ-NP-Za-km-z]{25,34}\b",
            confirm=_base58,
            max_length=48,
            reason="base58 with a valid checksum",
        ),
        Rule(
            category="pii.crypto",
            pattern=r"(?i)\b(?:bc|tb|ltc)1[02-9ac-hj-np-z]{11,71}\b",
            confirm=_bech32,
            max_length=96,
            reason="bech32 with a valid checksum",
        ),
        Rule(
            category="pii.crypto",
            pattern=r"\b0x[0-9a-fA-F]{40}\b",
            score=0.9,
            max_length=56,
            reason="the format of an Ethereum address",
        ),
    ]

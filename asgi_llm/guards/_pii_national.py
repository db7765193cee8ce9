"""Rules for numbers that states give to people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from asgi_llm.guards._surroundings import (
    REACH,
    Words,
    either_score,
    is_part_of_longer_number,
)
from asgi_llm.guards.check_digits import (
    bsn,
    cnpj,
    codice_fiscale,
    cpf,
    dni,
    nhs,
    nir,
    steuer_id,
    verhoeff,
)
from asgi_llm.guards.patterns import Candidate, Confirm, Rule

__all__ = ["national_rules"]

_SSN_WORDS: Final = ("ssn", "social security", "itin", "taxpayer", "tax id", "ss#", "soc sec")
_NEVER_GIVEN: Final = frozenset(("078051120", "219099999"))
_TEMPORARY: Final = frozenset(["GB", "NK", "TN", "ZZ", "BG", "KN", "NT"])


def _plain(candidate: Candidate) -> str:
    return "".join(filter(str.isalnum, candidate.value)).upper()


def _with(check: Callable[[str], bool]) -> Confirm:
    """Confirms what passes ``check``, taken without its separators."""

    def confirm(candidate: Candidate) -> float:
        return 1.0 if check(_plain(candidate)) else 0.0

    return confirm


def _alone(check: Callable[[str], bool]) -> Confirm:
    """Like ``_with``, and no digits of a longer number stand beside it."""

    def confirm(candidate: Candidate) -> float:
        if is_part_of_longer_number(candidate):
            return 0.0
        return 1.0 if check(_plain(candidate)) else 0.0

    return confirm


def _is_ssn(digits: str) -> bool:
    """Source: Social Security Administration, "SSN Randomization", 2011."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return (
        area not in ("000", "666")
        and area < "900"
        and group != "00"
        and serial != "0000"
        and digits not in _NEVER_GIVEN
    )


def _is_itin(digits: str) -> bool:
    """Source: Internal Revenue Manual 3.21.263."""
    group = int(digits[3:5])
    return digits[0] == "9" and 50 <= group <= 99 and group not in (66, 67, 68, 69, 89, 93)


class _Ssn:
    """Confirms US social security numbers and taxpayers' numbers, which have no check digit."""

    __slots__ = ("_words",)

    def __init__(self) -> None:
        self._words = Words(_SSN_WORDS)

    def written(self, candidate: Candidate) -> float:
        value = candidate.value
        if value[3] != value[6] or is_part_of_longer_number(candidate):
            return 0.0
        if not _is_ssn_or_itin(_plain(candidate)):
            return 0.0
        if self._words.near(candidate):
            return 1.0
        return 0.8 if value[3] == "-" else 0.6

    def bare(self, candidate: Candidate) -> float:
        return 0.9 if _is_ssn_or_itin(candidate.value) and self._words.near(candidate) else 0.0


def _is_ssn_or_itin(digits: str) -> bool:
    return _is_ssn(digits) or _is_itin(digits)


def _is_nino(text: str) -> bool:
    """Source: HMRC, NIM39110."""
    return text[:2] not in _TEMPORARY


def _is_nhs_range(digits: str) -> bool:
    """England and Wales have 400 to 799, Northern Ireland 320 to 399."""
    return "320" <= digits[:3] <= "799" and not "500" <= digits[:3] < "600" and nhs(digits)


def national_rules() -> list[Rule]:
    """The rules."""
    ssn = _Ssn()
    named_nhs = either_score(_with(nhs), Words(("nhs",)), alone=0.0)
    lone_nhs = _alone(_is_nhs_range)
    aadhaar = Words(("aadhaar", "aadhar", "uidai", "आधार"))
    bsn_words = Words(("bsn", "burgerservice", "sofi", "fiscaal nummer", "citizen service"))
    tax_words = Words(("steuer", "idnr", "tin", "tax", "identifikations"))

    def written_nhs(candidate: Candidate) -> float:
        return named_nhs(candidate) or 0.6 * lone_nhs(candidate)

    rules: tuple[tuple[str, str, Confirm], ...] = (
        ("pii.us_ssn", r"\b[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}\b", ssn.written),
        ("pii.us_ssn", r"\b[0-9]{9}\b", ssn.bare),
        (
            "pii.uk_nino",
            r"(?i)\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b",
            _with(_is_nino),
        ),
        ("pii.uk_nhs", r"\b[0-9]{3} [0-9]{3} [0-9]{4}\b", written_nhs),
        ("pii.uk_nhs", r"\b[0-9]{3}-?[0-9]{3}-?[0-9]{4}\b", named_nhs),
        (
            "pii.de_steuer_id",
            r"\b[1-9][0-9](?:[ /]?[0-9]{3}){3}\b",
            either_score(_with(steuer_id), tax_words, alone=0.7),
        ),
        (
            "pii.fr_nir",
            r"(?i)\b[12][ .]?[0-9]{2}[ .]?(?:0[1-9]|1[0-2]|[2-9][0-9])[ .]?(?:[0-9]{2}|2[AB])"
            r"[ .]?[0-9]{3}[ .]?[0-9]{3}[ .]?[0-9]{2}\b",
            _with(nir),
        ),
        ("pii.es_dni", r"(?i)\b(?:[0-9]{8}|[XYZ]-?[0-9]{7})-?[A-HJ-NP-TV-Z]\b", _with(dni)),
        (
            "pii.it_codice_fiscale",
            r"(?i)\b[A-Z]{3} ?[A-Z]{3} ?[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2} ?"
            r"[A-Z][0-9LMNPQRSTUV]{3}[A-Z]\b",
            _with(codice_fiscale),
        ),
        (
            "pii.nl_bsn",
            r"\b(?:[0-9]{9}|[0-9]{3}[ .][0-9]{3}[ .][0-9]{3}|[0-9]{4}\.[0-9]{2}\.[0-9]{3})\b",
            either_score(_with(bsn), bsn_words, alone=0.0),
        ),
        (
            "pii.in_aadhaar",
            r"\b[2-9][0-9]{3}([ -])[0-9]{4}[ -][0-9]{4}\b",
            either_score(_alone(verhoeff), aadhaar, alone=0.6),
        ),
        (
            "pii.in_aadhaar",
            r"\b[2-9][0-9]{11}\b",
            either_score(_with(verhoeff), aadhaar, alone=0.0),
        ),
        ("pii.in_pan", r"\b[A-Z]{3}[ABCFGHLJPT][A-Z][0-9]{4}[A-Z]\b", lambda _: 0.9),
        ("pii.br_cpf", r"\b[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}\b", _with(cpf)),
        ("pii.br_cnpj", r"\b[0-9]{2}\.?[0-9]{3}\.?[0-9]{3}/?[0-9]{4}-?[0-9]{2}\b", _with(cnpj)),
    )
    return [
        Rule(category=category, pattern=pattern, confirm=confirm, max_length=32 + REACH)
        for category, pattern, confirm in rules
    ]

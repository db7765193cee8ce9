"""Check digits: whether a number can be one of its kind. Pure functions on ASCII text."""

from __future__ import annotations

from typing import Final

__all__ = [
    "bsn",
    "cnpj",
    "codice_fiscale",
    "cpf",
    "dni",
    "iban",
    "iban_length",
    "luhn",
    "nhs",
    "nir",
    "steuer_id",
    "verhoeff",
]

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """Whether ``digits`` pass the Luhn test. Source: ISO/IEC 7812-1, annex B."""
    total = sum(map(int, digits[-1::-2])) + sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])
    return total % 10 == 0


def _weighted(digits: str, weights: range | tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


# Each country and the length of its account numbers.
_IBANS: Final = (
    "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29"
    "ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20"
    "LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29"
    "PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20"
    "YE30"
)
_IBAN_LENGTHS: Final = {
    _IBANS[place : place + 2]: int(_IBANS[place + 2 : place + 4])
    for place in range(0, len(_IBANS), 4)
}


def iban_length(country: str) -> int:
    """Characters of an IBAN of ``country``, or 0. Source: SWIFT IBAN Registry, release 99."""
    return _IBAN_LENGTHS.get(country, 0)


def iban(text: str) -> bool:
    """Whether ``text``, upper case and without spaces, is an IBAN. Source: ISO 13616, ISO 7064."""
    if len(text) != iban_length(text[:2]) or not text[2:4].isdigit():
        return False
    return int("".join(str(int(one, 36)) for one in text[4:] + text[:4])) % 97 == 1


_VERHOEFF_TABLE: Final = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_VERHOEFF_TURNS: Final = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def verhoeff(digits: str) -> bool:
    """Whether ``digits`` pass Verhoeff's test. Source: UIDAI, "Aadhaar number"."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        turned = int(_VERHOEFF_TURNS[place % 8][int(digit)])
        check = int(_VERHOEFF_TABLE[check][turned])
    return check == 0


def nhs(digits: str) -> bool:
    """Whether ten ``digits`` are an NHS number. Source: NHS Data Dictionary, "NHS NUMBER"."""
    check = 11 - _weighted(digits, range(10, 1, -1)) % 11
    return check != 10 and check % 11 == int(digits[9])


def steuer_id(digits: str) -> bool:
    """Whether eleven ``digits`` are a German tax id.

    One of the first ten comes twice or three times, not three times in a row, and all others at
    most once. Source: BZSt, "Steuerliche Identifikationsnummer"; ISO 7064 MOD 11,10.
    """
    if digits[0] == "0":
        return False
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    if counts[-1] not in (2, 3) or counts[-2] != 1:
        return False
    if any(digit * 3 in digits[:10] for digit in "0123456789"):
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def nir(text: str) -> bool:
    """Whether 15 characters are a French social security number. Source: INSEE, "NIR"."""
    number = text[:13].upper().replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(text[13:])


_DNI_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"


def dni(text: str) -> bool:
    """Whether ``text``, upper case, is a Spanish DNI or NIE. Source: Real Decreto 1553/2005."""
    number = text[:-1]
    if number[0] in "XYZ":
        number = str("XYZ".index(number[0])) + number[1:]
    return _DNI_LETTERS[int(number) % 23] == text[-1]


# Of 0 to 9 and A to J, then of K to Z.
_ODD_VALUES: Final = (
    *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21),
    *(2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
)


def codice_fiscale(text: str) -> bool:
    """Whether 16 characters, upper case, are an Italian tax code. Source: D.M. 23/12/1976."""
    total = 0
    for place, one in enumerate(text[:15]):
        value = int(one) if one.isdigit() else ord(one) - 65
        total += value if place % 2 else _ODD_VALUES[value]
    return chr(65 + total % 26) == text[15]


def bsn(digits: str) -> bool:
    """Whether nine ``digits`` are a Dutch BSN. Source: Logisch Ontwerp BSN, "elfproef"."""
    return _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and int(digits) > 0


def _mod_11(digits: str, weights: range | tuple[int, ...]) -> int:
    rest = _weighted(digits, weights) % 11
    return 0 if rest < 2 else 11 - rest


def cpf(digits: str) -> bool:
    """Whether eleven ``digits`` are a Brazilian CPF. Source: Receita Federal."""
    if digits == digits[0] * 11:
        return False
    return _mod_11(digits[:9], range(10, 1, -1)) == int(digits[9]) and _mod_11(
        digits[:10], range(11, 1, -1)
    ) == int(digits[10])


def cnpj(digits: str) -> bool:
    """Whether 14 ``digits`` are a Brazilian CNPJ. Source: Receita Federal."""
    if digits == digits[0] * 14:
        return False
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    return _mod_11(digits[:12], weights[1:]) == int(digits[12]) and _mod_11(
        digits[:13], weights
    ) == int(digits[13])

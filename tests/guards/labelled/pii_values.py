"""Made-up personal data with right check digits, and the same with a wrong one."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Final

import phonenumbers

from asgi_llm.guards import check_digits, crypto_addresses

__all__ = ["VALUES", "WRONG"]

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _until(make: Callable[[], str], check: Callable[[str], bool]) -> str:
    while True:
        value = make()
        if check(value):
            return value


def _grouped(text: str, sizes: tuple[int, ...], separator: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return separator.join([*parts, text[at:]] if text[at:] else parts)


_ISSUERS: Final = (
    *(("4", 16), ("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("37", 15), ("34", 15)),
    *(("6011", 16), ("36", 14), ("3530", 16), ("6221", 16)),
)


def card_digits(rng: random.Random) -> str:
    prefix, size = rng.choice(_ISSUERS)
    body = prefix + _digits(rng, size - len(prefix) - 1)
    return next(body + last for last in "0123456789" if check_digits.luhn(body + last))


def _as_card(digits: str, rng: random.Random) -> str:
    sizes = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}[len(digits)]
    return _grouped(digits, sizes, rng.choice((" ", " ", "-", "", "\N{NO-BREAK SPACE}", ".")))


def iban_text(rng: random.Random) -> str:
    country, body = rng.choice(
        (
            ("DE", _digits(rng, 18)),
            ("FR", _digits(rng, 23)),
            ("ES", _digits(rng, 20)),
            ("IT", rng.choice(_UPPER) + _digits(rng, 22)),
            ("NL", "".join(rng.choice(_UPPER) for _ in range(4)) + _digits(rng, 10)),
            ("GB", "".join(rng.choice(_UPPER) for _ in range(4)) + _digits(rng, 14)),
            ("CH", _digits(rng, 17)),
            ("BE", _digits(rng, 12)),
            ("PT", _digits(rng, 21)),
            ("AT", _digits(rng, 16)),
        )
    )
    number = int("".join(str(int(one, 36)) for one in body + country + "00"))
    return f"{country}{98 - number % 97:02}{body}"


def _as_iban(text: str, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return text
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _ssn(rng: random.Random) -> str:
    area = rng.choice([one for one in range(1, 900) if one != 666])
    return f"{area:03}-{rng.randint(1, 99):02}-{rng.randint(1, 9999):04}"


def _nino(rng: random.Random) -> str:
    first = rng.choice("ABCEGHJKLMNOPRSTWXYZ")
    prefix = _until(
        lambda: first + rng.choice("ABCEGHJKLMNPRSTWXYZ"),
        lambda one: one not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ"),
    )
    text = prefix + _digits(rng, 6) + rng.choice("ABCD")
    return text if rng.random() < 0.5 else _grouped(text, (2, 2, 2, 2, 1), " ")


def _nhs(rng: random.Random) -> str:
    return _until(
        lambda: rng.choice(("4", "6", "7")) + _digits(rng, 9),
        lambda one: check_digits.nhs(one),
    )


def _steuer_id(rng: random.Random) -> str:
    return _until(lambda: rng.choice("123456789") + _digits(rng, 10), check_digits.steuer_id)


def _nir(rng: random.Random) -> str:
    body = (
        rng.choice("12")
        + f"{rng.randint(30, 99)}{rng.randint(1, 12):02}{rng.randint(1, 95):02}"
        + _digits(rng, 6)
    )
    return f"{body}{97 - int(body) % 97:02}"


def _dni(rng: random.Random) -> str:
    number = _digits(rng, 8) if rng.random() < 0.6 else rng.choice("XYZ") + _digits(rng, 7)
    return next(
        number + one for one in _UPPER if one not in "IOU" and check_digits.dni(number + one)
    )


def _codice(rng: random.Random) -> str:
    consonants = "BCDFGLMNPRSTVZ"
    body = (
        "".join(rng.choice(consonants) for _ in range(6))
        + f"{rng.randint(30, 99)}{rng.choice('ABCDEHLMPRST')}{rng.randint(1, 31):02}"
        + rng.choice("ABCDEFGHL")
        + _digits(rng, 3)
    )
    return next(body + one for one in _UPPER if check_digits.codice_fiscale(body + one))


def _bsn(rng: random.Random) -> str:
    return _until(lambda: rng.choice("123456789") + _digits(rng, 8), check_digits.bsn)


def _aadhaar(rng: random.Random) -> str:
    body = rng.choice("23456789") + _digits(rng, 10)
    return next(body + one for one in "0123456789" if check_digits.verhoeff(body + one))


def _pan(rng: random.Random) -> str:
    letters = "".join(rng.choice(_UPPER) for _ in range(3))
    return f"{letters}{rng.choice('PCHFATBLJG')}{rng.choice(_UPPER)}{_digits(rng, 4)}" + rng.choice(
        _UPPER
    )


def _cpf(rng: random.Random) -> str:
    body = _digits(rng, 9)
    return next(body + f"{last:02}" for last in range(100) if check_digits.cpf(body + f"{last:02}"))


def _cnpj(rng: random.Random) -> str:
    body = _digits(rng, 8) + "0001"
    return next(
        body + f"{last:02}" for last in range(100) if check_digits.cnpj(body + f"{last:02}")
    )


def _base58(rng: random.Random) -> str:
    data = rng.choice((b"\x00", b"\x05")) + rng.randbytes(20)
    data += hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
    number, text = int.from_bytes(data), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def _bech32(rng: random.Random) -> str:
    body = "q" + "".join(rng.choice(_BECH32) for _ in range(32))
    values = [3, 3, 0, 2, 3] + [_BECH32.index(one) for one in body] + [0] * 6
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(
            (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
        ):
            check ^= generator if top >> bit & 1 else 0
    check ^= 1
    return "bc1" + body + "".join(_BECH32[check >> 5 * (5 - i) & 31] for i in range(6))


def _crypto(rng: random.Random) -> str:
    return rng.choice((_base58, _bech32, lambda r: f"0x{r.randbytes(20).hex()}"))(rng)


_NAMES: Final = ("info", "accounts", "j.miller", "maria_lopez", "k-schmidt", "support", "anna.b2")
_HOSTS: Final = (
    "example.com",
    "mail.example.org",
    "example.co.uk",
    "example.de",
    "büro-example.de",
)


def _email(rng: random.Random) -> str:
    tag = rng.choice(("", "", "+news", str(rng.randint(1, 99))))
    return f"{rng.choice(_NAMES)}{tag}@{rng.choice(_HOSTS)}"


def _phone(rng: random.Random, styles: tuple[int, ...], regions: tuple[str, ...]) -> str:
    region = rng.choice(regions)
    kind = rng.choice(
        (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    )
    known = phonenumbers.example_number_for_type(region, kind)
    assert known is not None
    base = str(known.national_number)

    while True:
        known.national_number = int(base[:-4] + _digits(rng, 4))
        if phonenumbers.is_valid_number(known):
            return phonenumbers.format_number(known, rng.choice(styles))


_FORMAT = phonenumbers.PhoneNumberFormat
_ALL: Final = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "IN", "BR", "PL", "JP", "AU", "CH", "SE")


def _international(rng: random.Random) -> str:
    return _phone(rng, (_FORMAT.INTERNATIONAL, _FORMAT.E164), _ALL)


def _of(*regions: str) -> Callable[[random.Random], str]:
    return lambda rng: _phone(rng, (_FORMAT.NATIONAL,), regions)


def _ip(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return ".".join(str(rng.randint(1, 223 if n == 0 else 254)) for n in range(4)).replace(
            "127.", "128.", 1
        )
    groups = [f"{rng.randint(1, 65535):x}" for _ in range(4)]
    return "2001:db8:" + ":".join(groups[:2]) + "::" + ":".join(groups[2:])


def _mac(rng: random.Random) -> str:
    parts = [f"{rng.randint(0, 255):02X}" for _ in range(5)]
    return rng.choice((":", "-")).join(["A4", *parts])


_MONTHS: Final = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre "
    "diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
    "dicembre",
}


def _date(language: str) -> Callable[[random.Random], str]:
    months = _MONTHS[language].split()

    def make(rng: random.Random) -> str:
        day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1930, 2009)
        written = {
            "en": f"{day} {months[month - 1]} {year}",
            "de": f"{day}. {months[month - 1]} {year}",
            "fr": f"{day} {months[month - 1]} {year}",
            "es": f"{day} de {months[month - 1]} de {year}",
            "it": f"{day} {months[month - 1]} {year}",
        }[language]
        separator = {"de": "."}.get(language, "/")
        numbers = separator.join((f"{day:02}", f"{month:02}", str(year)))
        return rng.choice((written, numbers, f"{year}-{month:02}-{day:02}"))

    return make


def _passport(rng: random.Random) -> str:
    return rng.choice(
        (
            _digits(rng, 9),
            f"{rng.choice(_UPPER)}{_digits(rng, 8)}",
            f"{rng.choice(_UPPER)}{rng.choice(_UPPER)}{_digits(rng, 7)}",
            f"C{_digits(rng, 2)}X{_digits(rng, 2)}T{_digits(rng, 2)}",
        )
    )


def _licence(rng: random.Random) -> str:
    return rng.choice(
        (
            f"{rng.choice(_UPPER)}{_digits(rng, 7)}",
            f"MORGA{_digits(rng, 6)}SM9IJ",
            f"B{_digits(rng, 3)}RRE{_digits(rng, 4)}",
            _digits(rng, 10),
        )
    )


VALUES: Final[dict[str, Callable[[random.Random], str]]] = {
    "email": _email,
    "phone": _international,
    "phone_us": _of("US"),
    "phone_gb": _of("GB"),
    "phone_de": _of("DE"),
    "phone_fr": _of("FR"),
    "phone_es": _of("ES"),
    "phone_it": _of("IT"),
    "card": lambda rng: _as_card(card_digits(rng), rng),
    "iban": lambda rng: _as_iban(iban_text(rng), rng),
    "us_ssn": _ssn,
    "uk_nino": _nino,
    "uk_nhs": lambda rng: _grouped(_nhs(rng), (3, 3, 4), " "),
    "uk_nhs_bare": _nhs,
    "de_steuer_id": lambda rng: _grouped(_steuer_id(rng), (2, 3, 3, 3), rng.choice((" ", ""))),
    "fr_nir": lambda rng: _grouped(_nir(rng), (1, 2, 2, 2, 3, 3, 2), rng.choice((" ", ""))),
    "es_dni": _dni,
    "it_codice_fiscale": _codice,
    "nl_bsn": _bsn,
    "in_aadhaar": lambda rng: _grouped(_aadhaar(rng), (4, 4, 4), rng.choice((" ", "-"))),
    "in_pan": _pan,
    "br_cpf": lambda rng: (lambda n: f"{n[:3]}.{n[3:6]}.{n[6:9]}-{n[9:]}")(_cpf(rng)),
    "br_cnpj": lambda rng: (lambda n: f"{n[:2]}.{n[2:5]}.{n[5:8]}/{n[8:12]}-{n[12:]}")(_cnpj(rng)),
    "ip": _ip,
    "mac": _mac,
    "crypto": _crypto,
    "date_of_birth": _date("en"),
    "date_of_birth_de": _date("de"),
    "date_of_birth_fr": _date("fr"),
    "date_of_birth_es": _date("es"),
    "date_of_birth_it": _date("it"),
    "passport": _passport,
    "driving_licence": _licence,
}
"""By the slot that they fill."""


def _broken(
    make: Callable[[random.Random], str],
    check: Callable[[str], bool],
    write: Callable[[str, random.Random], str] = lambda text, _: text,
    alphabet: str = "0123456789",
) -> Callable[[random.Random], str]:
    """A value whose last character is wrong."""

    def fill(rng: random.Random) -> str:
        right = make(rng)
        last = rng.choice([one for one in alphabet if not check(right[:-1] + one)])
        return write(right[:-1] + last, rng)

    return fill


def _groups(*sizes: int) -> Callable[[str, random.Random], str]:
    return lambda text, rng: _grouped(text, sizes, " ")


WRONG: Final[dict[str, Callable[[random.Random], str]]] = {
    "card": _broken(card_digits, check_digits.luhn, _as_card),
    "iban": _broken(iban_text, check_digits.iban, _as_iban),
    "uk_nhs": _broken(_nhs, check_digits.nhs, _groups(3, 3, 4)),
    "de_steuer_id": _broken(_steuer_id, check_digits.steuer_id, _groups(2, 3, 3, 3)),
    "fr_nir": _broken(_nir, check_digits.nir, _groups(1, 2, 2, 2, 3, 3, 2)),
    "es_dni": _broken(_dni, check_digits.dni, alphabet="ABCDEFGHJKLMNPQRSTVWXYZ"),
    "it_codice_fiscale": _broken(_codice, check_digits.codice_fiscale, alphabet=_UPPER),
    "nl_bsn": _broken(_bsn, check_digits.bsn),
    "in_aadhaar": _broken(_aadhaar, check_digits.verhoeff, _groups(4, 4, 4)),
    "br_cpf": _broken(_cpf, check_digits.cpf, lambda n, _: f"{n[:3]}.{n[3:6]}.{n[6:9]}-{n[9:]}"),
    "crypto": _broken(_base58, crypto_addresses.base58check, alphabet=_BASE58),
}
"""By the slot that they fill: of the same form, with a wrong check digit."""

"""Personal data: each format right, with a wrong check digit, inside text, in other digits."""

from __future__ import annotations

import random

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import GuardContext
from asgi_llm.guards.pii import PiiGuard
from tests.guards.labelled.pii_values import VALUES, WRONG

GUARD = PiiGuard()


def found(text: str, context: GuardContext) -> list[tuple[str, str]]:
    return [
        (one.category.removeprefix("pii."), text[one.start : one.end])
        for one in GUARD.check(text, context)
    ]


@pytest.mark.parametrize(
    ("category", "text", "value"),
    [
        ("email", "write to max.müller+x@mail.example.co.uk!", "max.müller+x@mail.example.co.uk"),
        ("email", "<a@b-c.example.org>", "a@b-c.example.org"),
        ("phone", "at +44 20 7946 0958 today", "+44 20 7946 0958"),
        ("phone", "at +49 (0)30 901820 today", "+49 (0)30 901820"),
        ("phone", "0049 30 901820", "0049 30 901820"),
        ("phone", "(212) 736-5000", "(212) 736-5000"),
        ("phone", "212.736.5000", "212.736.5000"),
        ("phone", "call 2127365000", "2127365000"),
        ("card", "(4111111111111111)", "4111111111111111"),
        ("card", "3782 822463 10005.", "3782 822463 10005"),
        ("card", "5555-5555-5555-4444", "5555-5555-5555-4444"),
        ("card", "4111 1111 1111 1111 04/29 123", "4111 1111 1111 1111"),
        ("card", "order 77 4111 1111 1111 1111", "4111 1111 1111 1111"),
        ("iban", "an DE89 3704 0044 0532 0130 00 bitte", "DE89 3704 0044 0532 0130 00"),
        ("iban", "gb82west12345698765432", "gb82west12345698765432"),
        ("crypto", "0x52908400098527886E0F7030069857D2E4169EE7", None),
        ("ip", "from 203.0.113.77:8080", "203.0.113.77"),
        ("ip", "host 2001:db8::ff00:42:8329 up", "2001:db8::ff00:42:8329"),
        ("mac", "00:1A:2B:3C:4D:5E", None),
        ("mac", "0011.22aa.3344", None),
        ("us_ssn", "536-22-1234", None),
        ("us_ssn", "my ssn: 536221234", "536221234"),
        ("us_ssn", "ITIN 912-70-1234", "912-70-1234"),
        ("uk_nino", "AB 12 34 56 C", None),
        ("uk_nhs", "NHS 943 476 5919", "943 476 5919"),
        ("es_dni", "NIE X-1234567-L", "X-1234567-L"),
        ("br_cpf", "52998224725", None),
        ("date_of_birth", "born on March 12th, 1980", "March 12th, 1980"),
        ("date_of_birth", "née le 1er février 1990", "1er février 1990"),
        ("date_of_birth", "DOB 1980-03-12", "1980-03-12"),
        ("passport", "passport no. C01X00T47", "C01X00T47"),
        ("driving_licence", "driver's license D1234567", "D1234567"),
    ],
)
def test_a_format(category: str, text: str, value: str | None, context: GuardContext) -> None:
    """It is found, all of it and nothing more."""
    assert [(category, value or text)] == found(text, context)


@pytest.mark.parametrize(
    "text",
    [
        "icon@2x.png and a@b",
        "git@github.com:owner/repo",
        "version 1.2.3.4 and v10.2.3.4 and 127.0.0.1 and 255.255.255.0",
        "1.2.3.4.5",
        "12:30:45 and a::b and std::vector<int>",
        "00:11:22:33:44:55:66:77",
        "666-22-1234, 000-22-1234, 536-00-1234, 078-05-1120",
        "GB 12 34 56 C",
        "on 01.02.2024 and 12/03/2021",
        "0.4111111111111111",
        "12345678A",
        "111222333",
        "born in 1980, passport office, licence fee 2024",
        "9434765918",
    ],
)
def test_what_only_looks_like_one(text: str, context: GuardContext) -> None:
    """Nothing is found."""
    assert [] == found(text, context)


@pytest.mark.parametrize("slot", sorted(VALUES))
def test_made_up_values_are_found(slot: str, context: GuardContext) -> None:
    """Of every kind, behind a word that names it."""
    rng = random.Random(7)
    words = {"date": "born", "phone": "phone", "nl_bsn": "BSN", "uk_nhs": "NHS"}
    word = next((w for start, w in words.items() if slot.startswith(start)), slot)
    word = {"passport": "passport", "driving_licence": "driving licence"}.get(slot, word)
    for _ in range(20):
        value = VALUES[slot](rng)
        text = f"the {word} {value} of"
        assert value in [span for _, span in found(text, context)]


@pytest.mark.parametrize("slot", sorted(WRONG))
def test_a_wrong_check_digit_is_seen(slot: str, context: GuardContext) -> None:
    """The number is not found as one of its kind."""
    rng = random.Random(8)
    for _ in range(20):
        text = f"number {WRONG[slot](rng)}."
        assert slot not in [category for category, _ in found(text, context)]


@pytest.mark.parametrize("zero", [0x660, 0x6F0, 0x966, 0xFF10, 0x1D7CE])
def test_digits_of_other_scripts(zero: int, context: GuardContext) -> None:
    """They are digits as well; what is found is what was written."""
    text = "".join(chr(zero + int(one)) for one in "4111111111111111")
    assert [("card", text)] == found(text, context)


def test_spaces_and_dashes_that_are_others(context: GuardContext) -> None:
    """A no-break space is a space, a long dash a dash."""
    text = "4111\N{NO-BREAK SPACE}1111\N{NO-BREAK SPACE}1111\N{NO-BREAK SPACE}1111"
    assert [("card", text)] == found(text, context)
    assert [("us_ssn", "536\N{EN DASH}22\N{EN DASH}1234")] == found(
        "536\N{EN DASH}22\N{EN DASH}1234", context
    )


def test_only_what_is_asked_for(context: GuardContext) -> None:
    """Other categories are not looked for."""
    guard = PiiGuard(categories=["pii.email"])
    text = "a@example.com 4111111111111111"
    assert ["pii.email"] == [one.category for one in guard.check(text, context)]


def test_regions_of_phone_numbers(context: GuardContext) -> None:
    """Without a country's code a number is of one of them."""
    text = "phone 0151 23456789"
    assert [] == list(PiiGuard(categories=["pii.phone"], regions=["US"]).check(text, context))
    assert 1 == len(PiiGuard(categories=["pii.phone"], regions=["DE"]).check(text, context))
    assert [] == list(PiiGuard(categories=["pii.phone"], regions=[]).check(text, context))


@pytest.mark.parametrize(
    ("options", "param"),
    [({"categories": ["pii.shoe"]}, "categories"), ({"regions": ["ZZ"]}, "regions")],
)
def test_wrong_options(options: dict[str, list[str]], param: str) -> None:
    """They are named."""
    with pytest.raises(ConfigurationError) as refused:
        PiiGuard(**options)  # type: ignore[arg-type]
    assert param == refused.value.param

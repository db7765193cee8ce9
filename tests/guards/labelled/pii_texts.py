"""Texts in five languages and more with places for personal data, and number-heavy ones without."""

from __future__ import annotations

import random
from typing import Final

from asgi_llm.guards.quality import Sample
from tests.guards.labelled.pii_values import VALUES, WRONG
from tests.guards.labelled.samples import Fill, fill_all

__all__ = ["checked", "numbers", "personal", "wrong"]

_TUNING: Final = (
    "Please send the invoice to {email} and copy {email}.",
    "My card number is {card}, expiry 04/29.",
    "Charge {card} for the order, and refund {card}.",
    "Could you transfer the deposit to {iban} by Friday?",
    "IBAN: {iban}\nBIC: COBADEFFXXX",
    "You can call the office on {phone} after nine.",
    "Phone: {phone_us}\nFax: {phone_us}",
    "If it rains, ring us at {phone_gb}.",
    "My social is {us_ssn}, do you need anything else?",
    "Employee SSN {us_ssn} was entered twice.",
    "NI number {uk_nino} belongs to the new starter.",
    "NHS number {uk_nhs}, referral to the eye clinic.",
    "Patient {uk_nhs} was seen on Monday.",
    "The server at {ip} refused the connection from {ip}.",
    "Device {mac} joined the network.",
    "Send it to {crypto} and wait for three confirmations.",
    "She was born on {date_of_birth} in a small town.",
    "DOB: {date_of_birth}",
    "Passport number {passport}, issued in Lisbon.",
    "Driver's license {driving_licence} expired last year.",
    "Aadhaar {in_aadhaar} and PAN {in_pan} are attached.",
    "CPF {br_cpf}, CNPJ {br_cnpj}",
    "Meine Steuer-ID lautet {de_steuer_id}.",
    "Bitte überweisen Sie auf das Konto {iban}.",
    "Sie erreichen uns unter Tel. {phone_de}.",
    "Geboren am {date_of_birth_de} in Köln.",
    "Reisepass {passport} liegt bei.",
    "Mon numéro de sécurité sociale est {fr_nir}.",
    "Appelez le {phone_fr} pour prendre rendez-vous.",
    "Né le {date_of_birth_fr} à Lyon.",
    "Virement sur le compte {iban}, merci.",
    "Mi DNI es {es_dni} y mi correo {email}.",
    "Llámame al teléfono {phone_es} esta tarde.",
    "Nacida el {date_of_birth_es} en Sevilla.",
    "Il mio codice fiscale è {it_codice_fiscale}.",
    "Telefono: {phone_it}",
    "Nata il {date_of_birth_it} a Torino.",
    "Mijn BSN is {nl_bsn}, klopt dat?",
    "The customer {email} paid with {card}.",
    "name,mail,phone\nfirst,{email},{phone}\nsecond,{email},{phone}",
)
_ONCE: Final = (
    "Hi, can you draft a reply to {email}? The customer is upset.",
    "cc: {email}; bcc: {email}",
    "They paid with {card} but the terminal shows {card} as declined.",
    "card_number={card}&cvc=123",
    "Beneficiary account {iban}, reference 2291.",
    "Kontonummer (IBAN) {iban}",
    "WhatsApp me: {phone}",
    "customer phone {phone_us} | store {phone}",
    "Our landline is {phone_gb}, call before five.",
    "SSN: {us_ssn}",
    "The W-2 shows {us_ssn} instead of {us_ssn}.",
    "National Insurance: {uk_nino}",
    "Her NHS no. is {uk_nhs_bare}.",
    "Re: {uk_nhs} - discharge summary",
    "Failed login from {ip} port 22",
    "arp: {mac} is on eth0",
    "wallet={crypto}",
    "Date of birth {date_of_birth}, height 180 cm",
    "The applicant (born {date_of_birth}) asks for a visa.",
    "passport no: {passport}",
    "My driving licence number is {driving_licence}",
    "UIDAI record {in_aadhaar} was updated",
    "PAN: {in_pan}",
    "Cliente com CPF {br_cpf} da empresa {br_cnpj}",
    "Steueridentifikationsnummer {de_steuer_id} bitte eintragen",
    "Rufen Sie mich an: {phone_de}",
    "Geburtsdatum: {date_of_birth_de}",
    "N° de sécu : {fr_nir}",
    "Tél : {phone_fr}",
    "Date de naissance : {date_of_birth_fr}",
    "El NIE o DNI del titular: {es_dni}",
    "Móvil {phone_es}, horario de tarde",
    "Fecha de nacimiento: {date_of_birth_es}",
    "CF: {it_codice_fiscale}",
    "Chiamami al numero {phone_it}",
    "Data di nascita {date_of_birth_it}",
    "Burgerservicenummer: {nl_bsn}",
    "Mein Konto {iban} und meine Karte {card} wurden belastet, bitte an {email} schreiben.",
    "Envoyez à {email} la copie du relevé {iban}.",
    "Contatto: {email}, {phone}",
)
_WRONG: Final = (
    "My card number is {card}, expiry 04/29.",
    "Article {card} is out of stock.",
    "Transfer it to {iban} please.",
    "The case number {uk_nhs} was closed.",
    "Vorgang {de_steuer_id} ist erledigt.",
    "Dossier {fr_nir} en attente.",
    "El expediente {es_dni} sigue abierto.",
    "Codice {it_codice_fiscale} non trovato.",
    "Mijn BSN is {nl_bsn}.",
    "Ticket {in_aadhaar} reopened.",
    "Protocolo {br_cpf} registrado.",
    "wallet {crypto}",
)
_NUMBERS: Final = (
    "Invoice {n8} of {date}: {money} net, {money} gross, {n3} items.",
    "Order {n10} shipped on {date}, tracking {upper}{n9}{upper}.",
    "Latitude {n2}.{n6}, longitude -{n2}.{n6}, altitude {n4} m.",
    "Version {n1}.{n2}.{n1}.{n4} replaces {n1}.{n1}.{n2}.",
    "{time} INFO worker-{n2} finished {n6} rows in {n4} ms",
    "The population grew from {n1},{n3},{n3} to {n1},{n3},{n3} between 1990 and 2020.",
    "ISBN 978-{n1}-{n4}-{n4}-{n1}, {n3} pages, {money}.",
    "Part no. {n4}-{n5}-{n2}, revision {n2}, drawing {n7}.",
    "Row: {n5} {n4} {n6} {n3} {n5} {n4}",
    "timestamp={n10}{n3} offset={n8} partition={n2}",
    "The match ended {n1}:{n1} after {n2} minutes before {n2} {n3} people.",
    "sum = {n4} + {n5} * {n3} / {n2}",
    "SKU {n12} at {money}; SKU {n12} at {money}",
    "commit {hex40} touched {n3} files",
    "request id {hex8}-{hex4}-4{hex3}-a{hex3}-{hex12} took {n4} ms",
    "Pi is 3.14159265358979, e is 2.71828182845904, and {n1}.{n12} is neither.",
    "Serial {upper}{upper}{n8}, made in week {n2} of 2023.",
    "Bus {n3} leaves at 08:15, 08:45, 09:15 and 09:45 from stop {n4}.",
    "Batch {n6}/{n4} weighs {n3}.{n2} kg, tolerance {n1}.{n3} %.",
    "The lottery numbers are {n2} {n2} {n2} {n2} {n2} {n2}.",
    "Meter reading {n6} on {date}, {n6} on {date}.",
    "Budget: {n3}.{n3}.{n3} EUR in 2024, {n3}.{n3}.{n3} EUR in 2025.",
    "Case {n4}/{n2}, file {n7}, folio {n3}.",
    "Error 0x{hex8} at address 0x{hex12}, line {n4}.",
    "Room {n3}, floor {n2}, building {n2}, from {date} to {date}.",
)


def _digits(size: int) -> Fill:
    return lambda rng: rng.choice("123456789") + "".join(rng.choices("0123456789", k=size - 1))


def _hex(size: int) -> Fill:
    return lambda rng: "".join(rng.choices("0123456789abcdef", k=size))


_NUMBER_VALUES: Final[dict[str, Fill]] = {
    **{f"n{size}": _digits(size) for size in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)},
    **{f"hex{size}": _hex(size) for size in (3, 4, 8, 12, 40)},
    "money": lambda rng: f"${rng.randint(1, 9999)}.{rng.randint(0, 99):02}",
    "date": lambda rng: rng.choice(
        (
            f"{rng.randint(2019, 2026)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
            f"{rng.randint(1, 28):02}.{rng.randint(1, 12):02}.{rng.randint(2019, 2026)}",
            f"{rng.randint(1, 12):02}/{rng.randint(1, 28):02}/{rng.randint(2019, 2026)}",
        )
    ),
    "time": lambda rng: f"2025-03-0{rng.randint(1, 9)}T{rng.randint(10, 23)}:{rng.randint(10, 59)}",
    "upper": lambda rng: rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ"),
}

_FORMS: Final = frozenset(
    ("card", "iban", "us_ssn", "uk_nino", "uk_nhs", "de_steuer_id", "fr_nir", "es_dni", "email")
) | {"it_codice_fiscale", "nl_bsn", "in_aadhaar", "in_pan", "br_cpf", "br_cnpj", "crypto", "mac"}
"""Kinds with a check digit or a strict form."""


def _category(slot: str) -> str:
    parts = slot.rsplit("_", 1)
    known = ("phone", "date_of_birth", "uk_nhs")
    return f"pii.{parts[0] if parts[0] in known else slot}"


def personal(*, once: bool) -> list[Sample]:
    """Some 500 samples with personal data of all kinds."""
    rng = random.Random(2 if once else 1)
    templates = _ONCE if once else _TUNING
    return fill_all(templates, VALUES, rng, count=480, label=_category)


def checked(category: str) -> bool:
    """Whether a category has check digits or a strict form."""
    return category.removeprefix("pii.") in _FORMS


def wrong(*, once: bool) -> list[Sample]:
    """Numbers of known forms with wrong check digits."""
    rng = random.Random(4 if once else 3)
    return fill_all(_WRONG, WRONG, rng, count=600, label=lambda _: None)


def numbers(*, once: bool) -> list[Sample]:
    """Harmless texts full of numbers."""
    rng = random.Random(6 if once else 5)
    half = len(_NUMBERS) // 2
    templates = _NUMBERS[half:] if once else _NUMBERS[:half]
    return fill_all(templates, _NUMBER_VALUES, rng, count=400, label=lambda _: None)

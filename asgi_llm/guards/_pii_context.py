"""Rules for what is personal only because of the words in front of it."""

from __future__ import annotations

from typing import Final

from asgi_llm.guards.patterns import Candidate, Rule

__all__ = ["CONTEXT_TRIGGER", "context_rules"]

_MONTHS: Final = (
    "jan(?:uary|uar|vier|uari|eiro)?|gen(?:naio)?|ene(?:ro)?|feb(?:ruary|ruar|braio|rero|ruari)?|"
    "f[ée]v(?:rier|ereiro)?|mar(?:ch|s|zo|ço)?|märz|maart|apr(?:il|ile)?|avr(?:il)?|abr(?:il)?|"
    "ma[iyj]|maggio|mayo|maio|mei|june?|juni|juin|giu(?:gno)?|junio|junho|jul(?:y|i|io|ho)?|"
    "juillet|lug(?:lio)?|aug(?:ust|ustus)?|ao[uû]t|ago(?:sto)?|sep(?:t|tember|tembre|tiembre)?|"
    "sett(?:embre)?|set(?:embro)?|o[ck]t(?:ober|obre|ubre)?|ott(?:obre)?|out(?:ubro)?|"
    "nov(?:ember|embre|iembre|embro)?|de[cz](?:ember|embre|embro|iembre)?|d[ée]c(?:embre)?|"
    "dic(?:embre|iembre)?"
)
_DAY: Final = "(?:0?[1-9]|[12][0-9]|3[01])"
_YEAR: Final = "(?:1[89][0-9]{2}|20[0-2][0-9])"
_DATE: Final = (
    rf"{_DAY}[./-]{_DAY}[./-](?:{_YEAR}|[0-9]{{2}})|{_YEAR}[./-]{_DAY}[./-]{_DAY}|"
    rf"{_DAY}(?:st|nd|rd|th|er|º|\.)?(?: de| of)? (?:{_MONTHS})\.?,?(?: de)? {_YEAR}|"
    rf"(?:{_MONTHS})\.? {_DAY}(?:st|nd|rd|th)?,? {_YEAR}"
)
_BIRTH: Final = (
    r"\bborn\b|\bbirth(?:day|date)?\b|\bd\.?o\.?b\b|\bgeboren\b|geburts(?:datum|tag)|\bgeb\.|"
    r"\bnée?(?:[^\pL]|$)|naissance|\bnacid[oa]\b|"
    r"\bnac(?:í|ió)(?:[^\pL]|$)|nacimiento|\bnat[oa] (?:il|a)\b|"
    r"di nascita|geboorte(?:datum)?|\bnascimento|\bnascid[oa]\b|\bnasci\b|जन्म"
)
_PASSPORT: Final = "passport|reisepass|passeport|pasaporte|passaporto|paspoort|passaporte"
_LICENCE: Final = (
    r"driv(?:er'?s?|ing) licen[cs]e|driver\x{2019}s licen[cs]e|führerschein|permis de conduire|"
    r"permiso de conducir|carnet de conducir|licencia de conducir|\bpatente|rijbewijs|"
    r"carteira de motorista|\bcnh\b"
)
CONTEXT_TRIGGER: Final = rf"(?i:{_BIRTH}|{_PASSPORT}|{_LICENCE})"
_GAP: Final = r"[^\n0-9]{0,28}?"


def _number(candidate: Candidate) -> float:
    value = candidate.value
    digits = sum(map(str.isdigit, value))
    return 0.9 if digits >= 5 and digits * 3 >= len(value) else 0.0


def context_rules() -> list[Rule]:
    """The rules."""
    number = r"\b(?P<value>(?-i:[A-Z]{0,5})[0-9](?-i:[0-9A-Z]| ?[0-9]){4,14})\b"
    return [
        Rule(
            category="pii.date_of_birth",
            pattern=rf"(?i)(?:{_BIRTH}){_GAP}(?P<value>\b(?:{_DATE})\b)",
            score=0.9,
            max_length=96,
            reason="a date behind a word for birth",
        ),
        Rule(
            category="pii.passport",
            pattern=rf"(?i)\b(?:{_PASSPORT}){_GAP}{number}",
            confirm=_number,
            max_length=80,
            reason="a number behind a word for passport",
        ),
        Rule(
            category="pii.driving_licence",
            pattern=rf"(?i)(?:{_LICENCE}){_GAP}{number}",
            confirm=_number,
            max_length=80,
            reason="a number behind a word for a driving licence",
        ),
    ]

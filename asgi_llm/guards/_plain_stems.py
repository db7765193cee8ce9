"""Beginnings of words that texts of plain words do not have; see ``_plain_words``."""

from __future__ import annotations

from typing import Final

__all__ = ["STEMS"]

STEMS: Final[tuple[str, ...]] = (
    # Around dates of birth, in six languages.
    *("birth", "born", "dob", "geb", "naissance", "nacid", "nacimiento", "nascit", "nata", "nato"),
    *("geboorte", "nascid", "nasci"),
    # Around passports and licences.
    *("passport", "passeport", "pasaporte", "passaporto", "paspoort", "passaporte", "reisepass"),
    *("driv", "permis", "carnet", "licencia", "patente", "rijbewijs", "carteira", "cnh"),
    # Before secrets, and what some of them begin with.
    *("pass", "pwd", "kennwort", "contrase", "senha", "wachtwoord", "secret", "token", "key"),
    *("credential", "authoriz", "aws"),
    *("akia", "asia", "abia", "acca", "absk", "aiza", "ltai", "atatt", "eaa", "ezak", "eztk"),
    *("dapi", "eyj", "ska", "skb", "skc", "skd", "ske", "skf"),
)

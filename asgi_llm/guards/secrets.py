"""Secrets: keys of providers, private keys, tokens, passwords in addresses and assignments."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Collection
from typing import Final

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards._randomness import entropy, is_placeholder, is_random
from asgi_llm.guards._secret_formats import CHECKED_FORMATS, FORMATS
from asgi_llm.guards.crypto_addresses import bech32
from asgi_llm.guards.patterns import Candidate, Confirm, PatternGuard, Rule

__all__ = ["SecretsGuard"]

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_WINDOW: Final = 96
_LONGEST_TAIL: Final = 64


def _random(candidate: Candidate) -> float:
    """Judges what follows the prefix, which is the same in all keys of a kind."""
    value = candidate.value
    if is_placeholder(value):
        return 0.0
    tail = value[-_LONGEST_TAIL:]
    if len(value) <= _LONGEST_TAIL:
        cut = max(value.rfind(one, 0, len(value) // 2) for one in "_-.$:/=")
        tail = value[cut + 1 :]
    return 1.0 if is_random("".join(filter(str.isalnum, tail))) else 0.0


def _crc32_base62(token: str) -> bool:
    """Source: github.blog, "Behind GitHub's new authentication token formats", 2021."""
    body = token.rpartition("_")[2]
    number, text = zlib.crc32(body[:-6].encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        text = _BASE62[digit] + text
    return text == body[-6:]


def _crc32_hex(token: str) -> bool:
    """Source: grafana/grafana, ``apikeygenprefix``: CRC-32 of all but the last part."""
    body, _, checksum = token.rpartition("_")
    return f"{zlib.crc32(body.encode()):08x}" == checksum


def _checked(candidate: Candidate) -> float:
    token = candidate.value
    is_right = _crc32_hex(token) if token.startswith("glsa_") else _crc32_base62(token)
    return 1.0 if is_right else 0.0


def _age(candidate: Candidate) -> float:
    return 1.0 if bech32(candidate.value) else 0.0


def _jwt(candidate: Candidate) -> float:
    """A token whose first part is a JSON object with an ``alg``. Source: RFC 7519."""
    head = candidate.value.partition(".")[0]
    try:
        document = msgspec.json.decode(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError):
        return 0.0
    return 1.0 if isinstance(document, dict) and "alg" in document else 0.0


_CHECKS: Final[dict[str, Confirm]] = {
    "github": _checked,
    "npm": _checked,
    "grafana": _checked,
    "age": _age,
    "jwt": _jwt,
}

_LABELS: Final = (
    "(?:RSA |EC |DSA |OPENSSH |ENCRYPTED |ANY )?PRIVATE KEY|PGP PRIVATE KEY BLOCK|"
    "SSH2 ENCRYPTED PRIVATE KEY"
)
# One line of the body of a key, or its end written as in a string of a program.
_LINE: Final = (
    r"[ \t>|\"']*(?:[A-Za-z0-9+/]+={0,2}|[A-Za-z-]+: [^\n]{0,100})?[ \t\"'\\,+]*(?:\r?\n|\\n)"
)
_BEGIN: Final = rf"-----BEGIN (?:{_LABELS})-----"
# No two dashes stand in a body: one that does not end is not looked through again and again.
_PRIVATE_KEY: Final = (
    rf"{_BEGIN}(?:"
    r"(?:[A-Za-z0-9+/=:,.()@<>_ \t\r\n\\\"'|>]|-[A-Za-z0-9])*?"
    rf"-----END (?:{_LABELS})-----|(?:{_LINE})*(?:[A-Za-z0-9+/=]+)?)"
)
# Keys have no spaces: such a run at the end of a piece may become one, and is waited for.
_UNFINISHED: Final = (
    rf"[\w.+/=~:@%$-]{{32,}}|{_BEGIN}(?:{_LINE})*[^\n]{{0,100}}|PuTTY-User-Key-File-[23]:(?s:.*)"
)
_PUTTY_KEY: Final = (
    r"PuTTY-User-Key-File-[23]: (?:[^\n]*\n){1,60}?Private-Lines: [0-9]+\r?\n"
    r"(?:[A-Za-z0-9+/=]+\r?\n?)+(?:Private-(?:MAC|Hash): [0-9a-f]+)?"
)


def _connection(candidate: Candidate) -> float:
    """A URL with a password that is one."""
    password = candidate.value.partition("://")[2].rpartition("@")[0].partition(":")[2]
    if password.startswith(("$", "{", "<", "%", "[")) or is_placeholder(password):
        return 0.0
    return 0.0 if password.lower() in ("password", "pass", "secret", "pwd", "passwd") else 1.0


_NOT_VALUES: Final = frozenset(
    (
        *("true", "false", "none", "null", "undefined", "string", "required", "optional", "secret"),
        *("password", "username", "bearer", "token", "basic", "default", "enabled", "disabled"),
        *("localhost", "unknown", "invalid", "missing", "incorrect", "correct", "expired", "wrong"),
    )
)


def _assignment(candidate: Candidate) -> float:
    """The value of a name such as ``password``: neither code, nor a word, nor a placeholder."""
    value = candidate.value.rstrip(".,;:")
    if candidate.after(1) in ("(", "[", "{") or value.lower() in _NOT_VALUES:
        return 0.0
    if value.startswith(("$", "{", "<", "%", "[", "(", "*", "@", "/", "&", "./", "self.", "os.")):
        return 0.0
    has_digit = any(map(str.isdigit, value))
    has_letter = any(map(str.isalpha, value))
    has_mark = not value.replace("_", "").replace(".", "").replace("-", "").isalnum()
    if not (has_digit and has_letter) and not (has_letter and has_mark):
        return 0.0
    if is_placeholder(value) or entropy(value) < 2.4 or "://" in value or "->" in value:
        return 0.0
    candidate.narrow(0, len(value.encode()))
    return 0.8 if len(value) >= 16 and is_random(value) else 0.7


_NAMES: Final = (
    r"pass(?:word|wd|phrase|wort)?|pwd|passwort|kennwort|contraseña|mot de passe|senha|wachtwoord|"
    r"secret(?:[_-]?(?:access[_-]?)?key)?|token|api[_ -]?(?:key|token|secret)|"
    r"(?:access|auth|refresh|session|bearer|private|encryption|signing|master|account)"
    r"[_ -]?(?:key|token|secret)|client[_ -]?secret|credentials?"
)
_ASSIGNMENT: Final = (
    rf"(?i)(?:^|[^A-Za-z]|_)(?:{_NAMES})[\"'`*]{{0,2}}[ \t]{{0,4}}"
    r"(?::=|=>|=|:| is | ist | lautet | est | es | é | è )"
    r"[ \t]{0,4}(?:(?:bearer|basic|token) )?[\"'`*]{0,2}(?P<value>[^\s\"'`,;<>(){}\[\]]{8,})"
)
_BEARER: Final = (
    r"(?i)\bauthorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?(?:bearer|basic|token)[ \t]{1,4}"
    r"(?P<value>[A-Za-z0-9._~+/-]{16,}={0,2})"
)
_OF_AWS: Final = (
    r"(?i)aws[\w .-]{0,20}(?:secret|key)[\w .-]{0,24}[\"']?\s{0,4}(?:=>|:=|[:=])\s{0,4}[\"']?"
    r"(?P<value>[A-Za-z0-9/+]{40})\b"
)
_SCHEMES: Final = (
    r"(?:postgres(?:ql)?|mysql|mariadb|mongodb|redis|rediss|amqps?|mssql|sqlserver|oracle|"
    r"clickhouse|cockroachdb|cassandra|couchdb|elasticsearch|nats|kafka|smtps?|ldaps?|ftps?|sftp|"
    r"ssh|imaps?|https?|git)(?:\+[a-z0-9]{1,16})?"
)
_CONNECTION: Final = rf"(?i)\b{_SCHEMES}://[^\s:@/\"'<>]*:[^\s@/\"'<>]{{3,}}@[\w.\[\]:-]+"


_TRIGGER: Final = "|".join(
    (
        r"\b(?:sk|rk|gsk|csk|pcsk|hf|api_org|fw|r8|tvly|pplx|xai|nvapi|lsv2|pa|GOCSPX|nfp|fo1|sbp|"
        r"sb|pscale|napi|do[opr]|tskey|gh[pousr]|github_pat|npm|gl[a-z]{2,5}|ATCTT3x|pypi|rubygems|"
        r"CLOJARS|dckr|pul|pn[ub]|ops|xox[abeoprs]|xapp|key|xkeysib|re|PMAK|whsec|sq0[a-z]{3}|"
        r"access_token\$|shp[a-z]{2}|FLWSECK|shippo|ntn|secret|lin|fig[a-z]{1,2}|CFPAT|tfp|rdme|"
        r"sntry[su]|NRAK|glc|glsa|HRKU)[_-][\w-]",
        r"\b(?:AKIA|ASIA|ABIA|ACCA|ABSK|AIza|LTAI|ATATT3|EAAA|EZ[AT]K|EAA[A-Z]|dapi)[\w-]{6}",
        r"\b(?:ya29|SG|sl|hv[sb]|dp|v1|dt0[a-z][0-9]{2})\.[\w-]{2}",
        r"-us[0-9]|[0-9]:AA|\.atlasv1\.|[0-9]Q~|[0-9]{16}:|SK[0-9a-f]{8}",
        r"\bpat[A-Za-z0-9]{14}|\b[MNO][\w-]{23}|AccountKey=|[?&]sv=|"
        r"https://(?:hooks\.slack|[a-z.]{0,8}discord)|"
        r"webhookb2|eyJ[\w-]{8}|-----BEGIN |PuTTY-User|AGE-SECRET|(?i:\baws\b|aws_|awss)",
        r"://[^\s/\"'<>]*:[^\s/\"'<>]*@",
        rf"(?i:(?:{_NAMES})[\"'`*]{{0,2}}[ \t]{{0,4}}"
        r"(?::=|=>|=|:| is | ist | lautet | est | es | é | è ))",
        r"(?i:\bauthorization)",
    )
)


def _rules() -> list[Rule]:
    of_format = "the format of a key, and random"
    of_checked = "the format of a token, with a right checksum or structure"
    of_key = "a private key"
    of_place = "a secret where one is written"
    rules: list[tuple[str, str, Confirm | None, str]] = [
        *((name, pattern, _random, of_format) for name, pattern in FORMATS),
        *((name, one, _CHECKS[name], of_checked) for name, one in CHECKED_FORMATS.items()),
        ("private_key", _PRIVATE_KEY, None, of_key),
        ("private_key", _PUTTY_KEY, None, of_key),
        ("aws_secret_key", _OF_AWS, _random, of_place),
        ("connection_string", _CONNECTION, _connection, of_place),
        ("authorization", _BEARER, _random, of_place),
        ("assignment", _ASSIGNMENT, _assignment, of_place),
    ]
    return [
        Rule(
            category=f"secret.{name}",
            pattern=pattern,
            confirm=confirm,
            max_length=_WINDOW,
            # Tokens with a checksum have one length.
            open_ended=name == "jwt" or name not in CHECKED_FORMATS,
            reason=reason,
        )
        for name, pattern, confirm, reason in rules
    ]


class SecretsGuard(PatternGuard):
    """Finds secrets by their formats, checksums, randomness and the names in front of them.

    A private key is one finding, from its first line to its last, in a stream too.

    Args:
        name: Names it in verdicts.
        exclude: Categories that are not looked for, such as ``secret.assignment``.
        threshold: Findings with a lower score are left out. From 0 to 1.

    Raises:
        ConfigurationError: A category is unknown, or google-re2 is not installed.
    """

    def __init__(
        self,
        *,
        name: str = "secrets",
        exclude: Collection[str] = (),
        threshold: float = 0.5,
    ) -> None:
        rules = _rules()
        known = {rule.category for rule in rules}
        if unknown := sorted(set(exclude) - known):
            raise ConfigurationError(
                f"exclude: {unknown[0]!r} is none of {', '.join(sorted(known))}", param="exclude"
            )
        super().__init__(
            name,
            [rule for rule in rules if rule.category not in exclude],
            threshold=threshold,
            unfinished=_UNFINISHED,
            trigger=_TRIGGER,
            silent_on_plain_words=True,
        )

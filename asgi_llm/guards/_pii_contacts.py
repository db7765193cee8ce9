"""Rules for e-mail addresses, phone numbers and addresses of machines."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.guards._surroundings import REACH, Words, is_part_of_longer_number
from asgi_llm.guards.patterns import Candidate, Confirm, Rule

__all__ = ["contact_rules"]

_NOT_DOMAINS: Final = frozenset(
    ("png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "html", "ts", "tsx", "json", "yml")
)
_MAX_LOCAL: Final = 64


def _email(candidate: Candidate) -> float:
    local, _, domain = candidate.value.rpartition("@")
    if domain.rpartition(".")[2].lower() in _NOT_DOMAINS or ".." in local:
        return 0.0
    # `git@host:path` names a repository.
    if local == "git" and candidate.after(1) == ":":
        return 0.0
    return 1.0 if len(local) <= _MAX_LOCAL else 0.6


_PHONE_WORDS: Final = (
    *("phone", "tel", "call", "mobile", "cell", "fax", "whatsapp", "sms", "text me", "text us"),
    *("contact", "dial", "ring ", "handy", "ruf", "anruf", "mobil", "fon", "appel", "joindre"),
    *("portable", "numéro", "teléfono", "móvil", "llam", "celular", "cellulare", "chiam", "numero"),
    *("telefo", "bel ", "bereik", "mobiel", "ligue", "ligar", "zap", "reach", "erreich", "फ़ोन"),
)
_VERSION_WORDS: Final = ("version", "release", "build", "firmware", "section", "chapter", "§")


_KINDS: Final = (
    *("fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number"),
    *("voip", "pager", "uan", "voicemail"),
)


class _Phone:
    """Confirms phone numbers with the tables of all countries' numbers of ``phonenumbers``.

    Its own parser takes some 100 us a number; the patterns of its tables, compiled by RE2, take 2.
    """

    __slots__ = ("_by_code", "_national", "_re2", "_regions_of", "_tables", "_words")

    def __init__(self, regions: Sequence[str]) -> None:
        numbers = require("phonenumbers", extra="guards")
        self._re2 = require("re2", extra="guards")
        self._words = Words(_PHONE_WORDS)
        self._tables = numbers.PhoneMetadata
        self._regions_of: dict[int, tuple[str, ...]] = numbers.COUNTRY_CODE_TO_REGION_CODE
        self._by_code: dict[int, Any] = {}
        if unknown := sorted(set(regions) - set(numbers.SUPPORTED_REGIONS)):
            raise ConfigurationError(
                f"regions: {unknown[0]!r} is no region with phone numbers", param="regions"
            )
        patterns = []
        for region in regions:
            table = self._tables.metadata_for_region(region)
            trunk = f"(?:{table.national_prefix})?" if table.national_prefix else ""
            patterns.append(f"{trunk}(?:{_numbers_of(table)})")
        self._national = self._compile("|".join(patterns)) if patterns else None

    def international(self, candidate: Candidate) -> float:
        before = candidate.before(1)
        if before.isalnum() or before in ("=", "*", "^", "/"):
            return 0.0
        digits = "".join(filter(str.isdigit, candidate.value.replace("(0)", "")))
        digits = digits.removeprefix("00")
        for size in (1, 2, 3):
            code = int(digits[:size])
            if code in self._regions_of:
                pattern, number = self._of_code(code), digits[size:]
                is_one = pattern.fullmatch(number) or pattern.fullmatch(number.removeprefix("0"))
                return 1.0 if is_one else 0.0
        return 0.0

    def national(self, candidate: Candidate) -> float:
        value = candidate.value
        before = candidate.before(1)
        if before in ("+", "#", "/", "=", "_", "-", ".", "$", "€", "£") or _is_date(value):
            return 0.0
        if is_part_of_longer_number(candidate):
            return 0.0
        is_named = self._words.near(candidate)
        if not is_named and not _looks_dialled(value):
            return 0.0
        digits = "".join(filter(str.isdigit, value))
        if self._national is None or self._national.fullmatch(digits) is None:
            return 0.0
        return 0.9 if is_named else 0.6

    def _compile(self, pattern: str) -> Any:
        options = self._re2.Options()
        options.never_capture = True
        return self._re2.compile(pattern, options)

    def _of_code(self, code: int) -> Any:
        """The numbers behind a country's code; compiled when first asked for, and kept."""
        pattern = self._by_code.get(code)
        if pattern is None:
            tables = (
                self._tables.metadata_for_nongeo_region(code)
                if region == "001"
                else self._tables.metadata_for_region(region)
                for region in self._regions_of[code]
            )
            pattern = self._by_code[code] = self._compile("|".join(map(_numbers_of, tables)))
        return pattern


def _numbers_of(table: Any) -> str:
    """A pattern for all numbers of one region, of whatever kind."""
    kinds = (getattr(table, kind) for kind in _KINDS)
    patterns = {kind.national_number_pattern for kind in kinds if kind is not None}
    return "|".join(sorted(pattern for pattern in patterns if pattern))


def _is_date(text: str) -> bool:
    """Whether ``text`` has the form of a date or of a time after it, such as 01.02.2024."""
    groups = "".join(one if one.isdigit() else " " for one in text).split()
    sizes = [len(group) for group in groups[:3]]
    if len(sizes) < 3:
        return False
    return (sizes[0] == 4 and max(sizes[1:]) <= 2) or (max(sizes[:2]) <= 2 and sizes[2] == 4)


def _looks_dialled(text: str) -> bool:
    """Whether a number is written as phone numbers are, so that no word need say that it is one."""
    groups = "".join(one if one.isdigit() else " " for one in text).split()
    sizes = [len(group) for group in groups]
    if text.startswith("("):
        return sizes in ([3, 3, 4], [2, 4, 4], [2, 5, 4])
    if sizes == [3, 3, 4]:
        return "-" in text or "." in text
    # Numbers of other kinds: US social security, Brazilian CPF.
    if sizes in ([3, 2, 4], [3, 3, 3, 2]):
        return False
    return text.startswith("0") and len(sizes) >= 2 and sizes[0] <= 5


def _ipv4(candidate: Candidate) -> float:
    value = candidate.value
    before = candidate.before(24)
    after = candidate.after(2)
    if value.startswith(("0.", "127.", "255.")) or (after[:1] == "." and after[1:].isdigit()):
        return 0.0
    if before.endswith(("v", ".", "-")) or any(word in before for word in _VERSION_WORDS):
        return 0.0
    return 0.9


def _ipv6(candidate: Candidate) -> float:
    value = candidate.value
    sizes = [len(group) for group in value.split(":")]
    # Pairs alone are a fingerprint.
    if len(sizes) - sizes.count(0) < 3 or set(sizes) == {2}:
        return 0.0
    if candidate.before(1).isalnum() or candidate.after(1).isalnum():
        return 0.0
    try:
        address = ip_address(value)
    except ValueError:
        return 0.0
    return 0.9 if isinstance(address, IPv6Address) else 0.0


class _Mac:
    """Confirms addresses of network cards; one of decimal digits alone needs a word."""

    __slots__ = ("_words",)

    def __init__(self) -> None:
        self._words = Words(("mac",))

    def __call__(self, candidate: Candidate) -> float:
        value = candidate.value
        if len({one for one in value if not one.isalnum()}) != 1:
            return 0.0
        if candidate.before(1) in (":", "-", ".") or _goes_on(candidate):
            return 0.0
        if "-" in value and value.replace("-", "").isdigit() and not self._words.near(candidate):
            return 0.0
        return 1.0


def _goes_on(candidate: Candidate) -> bool:
    """Whether another group follows, so that it is something longer."""
    after = candidate.after(2)
    return len(after) == 2 and after[0] in ":-." and after[1].isalnum()


_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"


def contact_rules(regions: Sequence[str]) -> list[Rule]:
    """The rules; phone numbers without a country's code are looked for in ``regions``."""
    phone = _Phone(regions)
    mac = _Mac()
    rules: list[tuple[str, str, Confirm, int]] = [
        (
            "pii.email",
            r"[\pL\pN](?:[\pL\pN._%+'-]*[\pL\pN_+-])?@(?:[\pL\pN][\pL\pN-]*\.)+\pL\pL+",
            _email,
            96,
        ),
        (
            "pii.phone",
            r"(?:\+|\b00 ?)[1-9](?:[ ()./-]{0,3}[0-9]){6,14}\b",
            phone.international,
            64,
        ),
        (
            "pii.phone",
            r"(?:\([0-9]{2,5}\)|\b[0-9]{2,5})(?:[ ./-]{0,2}[0-9]){5,9}\b",
            phone.national,
            64 + REACH,
        ),
        ("pii.ip", rf"\b(?:{_OCTET}\.){{3}}{_OCTET}\b", _ipv4, 64),
        (
            "pii.ip",
            r"(?i)(?:[0-9a-f]{0,4}:){2,7}(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-f]{0,4})",
            _ipv6,
            64,
        ),
        ("pii.mac", r"(?i)\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b", mac, 64),
        ("pii.mac", r"(?i)\b[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}\b", mac, 64),
    ]
    return [
        Rule(
            category=category,
            pattern=pattern,
            confirm=confirm,
            max_length=length,
            open_ended=category == "pii.email",
        )
        for category, pattern, confirm, length in rules
    ]

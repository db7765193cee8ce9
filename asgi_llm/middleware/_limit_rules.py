"""Limits as people write them, and in words again."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast, get_args

from asgi_llm.errors import ConfigurationError
from asgi_llm.types import Limit, LimitScope, LimitUnit

__all__ = [
    "MAX_AMOUNT",
    "MAX_WINDOW_SECONDS",
    "LimitRules",
    "amount_words",
    "check_limit",
    "parse_limit",
    "read_limits",
    "scope_words",
]

LimitRules = str | Limit | Mapping[str, Any] | Sequence["str | Limit | Mapping[str, Any]"]
"""Limits in any form: a text, a ``Limit``, a mapping of configuration, or several of these."""

MAX_AMOUNT: Final = 10**12
"""Largest amount and burst: exact in every store, also in the floating-point numbers of Redis."""

MAX_WINDOW_SECONDS: Final = 366 * 86_400

_UNITS: Final[dict[str, LimitUnit]] = {
    "request": "requests",
    "requests": "requests",
    "token": "tokens",
    "tokens": "tokens",
    "input token": "input_tokens",
    "input tokens": "input_tokens",
    "output token": "output_tokens",
    "output tokens": "output_tokens",
    "concurrent request": "concurrent_requests",
    "concurrent requests": "concurrent_requests",
}
_WINDOWS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_SCOPES: Final[frozenset[str]] = frozenset(get_args(LimitScope))
_KEYS: Final[dict[str, tuple[LimitUnit, int]]] = {
    **{
        f"{unit}_per_{window}": (unit, seconds)
        for unit in get_args(LimitUnit)[:-1]
        for window, seconds in _WINDOWS.items()
    },
    "concurrent_requests": ("concurrent_requests", 0),
}
_EXPECTED: Final = (
    'expected a text such as "60 requests/minute", "100000 tokens/day per team" or '
    '"10 concurrent requests per user": a whole number; requests, tokens, input tokens, output '
    "tokens or concurrent requests; second, minute, hour, day or N seconds (none for concurrent "
    "requests); then, if you like, per key, user, team, organization, model, key and model, "
    "address or everyone, and burst N"
)


def parse_limit(text: str) -> Limit:
    """Read a limit such as ``60 requests/minute per user burst 90``.

    Raises:
        ConfigurationError: It cannot be read, or a number is out of range; the message names the
            text and what is expected.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"a limit is a text, not {text!r}; {_EXPECTED}", param="limit")
    words = text.lower().replace("/", " / ").split()
    try:
        return check_limit(_Words(words).limit())
    except _Unreadable as problem:
        raise ConfigurationError(f"{text!r}: {problem}; {_EXPECTED}", param="limit") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{text!r}: {error.message}", param="limit") from None


class _Unreadable(ValueError):
    """What is wrong with a text."""


class _Words:
    """Takes a text apart, word by word."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def limit(self) -> Limit:
        amount = self._number("an amount")
        unit = self._unit()
        window = 0 if unit == "concurrent_requests" else self._window()
        scope: LimitScope = "caller"
        if self._take("per"):
            scope = self._scope()
        burst = self._number("a burst") if self._take("burst") else None
        if self._words:
            raise _Unreadable(f"{' '.join(self._words)!r} is not understood")
        return Limit(unit=unit, amount=amount, window_seconds=window, scope=scope, burst=burst)

    def _take(self, word: str) -> bool:
        if self._words[:1] == [word]:
            del self._words[0]
            return True
        return False

    def _number(self, what: str) -> int:
        word = self._words.pop(0) if self._words else ""
        digits = word.replace("_", "")
        # As long as no number could be that is in range: int() of more takes its time.
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 30:
            raise _Unreadable(f"{word[:40]!r} is not {what}")
        return int(digits)

    def _unit(self) -> LimitUnit:
        for length in (2, 1):
            unit = _UNITS.get(" ".join(self._words[:length]))
            if unit is not None:
                del self._words[:length]
                return unit
        raise _Unreadable(f"{' '.join(self._words[:2])!r} is not a unit")

    def _window(self) -> int:
        if not (self._take("/") or self._take("per")):
            raise _Unreadable("there is no window")
        word = self._words.pop(0) if self._words else ""
        if word in _WINDOWS:
            return _WINDOWS[word]
        if word.isascii() and word.isdigit() and (self._take("seconds") or self._take("second")):
            return int(word[:20])
        raise _Unreadable(f"{word[:40]!r} is not a window")

    def _scope(self) -> LimitScope:
        if self._words[:3] == ["key", "and", "model"]:
            del self._words[:3]
            return "key_and_model"
        word = self._words.pop(0) if self._words else ""
        if word not in _SCOPES:
            raise _Unreadable(f"{word[:40]!r} is not somebody to limit")
        return cast("LimitScope", word)


def check_limit(limit: Limit) -> Limit:
    """The limit itself, if every field of it is in range.

    Raises:
        ConfigurationError: ``param`` names the field that is not.
    """
    if limit.unit not in get_args(LimitUnit):
        raise _out_of_range("unit", limit.unit, "one of " + ", ".join(get_args(LimitUnit)))
    if limit.scope not in _SCOPES:
        raise _out_of_range("scope", limit.scope, "one of " + ", ".join(get_args(LimitScope)))
    _check_number("amount", limit.amount, 0, MAX_AMOUNT)
    concurrent = limit.unit == "concurrent_requests"
    if concurrent:
        _check_number("window_seconds", limit.window_seconds, 0, 0)
    else:
        _check_number("window_seconds", limit.window_seconds, 1, MAX_WINDOW_SECONDS)
    if limit.burst is not None:
        if concurrent:
            raise ConfigurationError("concurrent requests have no burst", param="burst")
        _check_number("burst", limit.burst, 1, MAX_AMOUNT)
    return limit


def _check_number(name: str, value: object, least: int, most: int) -> None:
    # A bool is an int to Python, and no amount to anybody.
    if type(value) is not int or not least <= value <= most:
        raise _out_of_range(
            name, value, f"{most}" if least == most else f"a whole number from {least} to {most}"
        )


def _out_of_range(name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is {str(value)[:40]}, expected {expected}", param=name)


def read_limits(rules: LimitRules, *, option: str) -> tuple[Limit, ...]:
    """Limits in any of their forms; ``option`` is what errors call them.

    Raises:
        ConfigurationError: One cannot be read, or two count the same for the same callers.
    """
    single = isinstance(rules, str | Limit | Mapping)
    rows = cast("Sequence[Any]", (rules,) if single else rules)
    if not isinstance(rows, Sequence):
        raise ConfigurationError(f"{option}: {rules!r} are no limits", param=option)
    found: list[Limit] = []
    for number, row in enumerate(rows):
        name = option if single else f"{option}[{number}]"
        if isinstance(row, Mapping):
            found += _from_mapping(row, name)
            continue
        try:
            found.append(check_limit(row) if isinstance(row, Limit) else parse_limit(row))
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error.message}", param=name) from None
    seen = set()
    for limit in found:
        what = (limit.unit, limit.window_seconds, limit.scope)
        if what in seen:
            raise ConfigurationError(
                f"{option}: there are two limits of {limit.unit} in the same window for the same "
                f"scope ({limit.scope})",
                param=option,
            )
        seen.add(what)
    return tuple(found)


def _from_mapping(row: Mapping[str, Any], option: str) -> list[Limit]:
    scope = row.get("scope", "caller")
    limits = []
    for key, amount in row.items():
        if key == "scope":
            continue
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), (*_KEYS, "scope"), n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(_KEYS)}"
            raise ConfigurationError(
                f"{option}: there is no key {str(key)[:60]!r} here{hint}", param=f"{option}.{key}"
            )
        unit, window = _KEYS[key]
        limit = Limit(unit=unit, amount=amount, window_seconds=window, scope=scope)
        try:
            limits.append(check_limit(limit))
        except ConfigurationError as error:
            name = "scope" if error.param == "scope" else key
            text = error.message.replace("amount", key, 1)
            raise ConfigurationError(f"{option}: {text}", param=f"{option}.{name}") from None
    return limits


_PERIODS: Final = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}
_UNIT_WORDS: Final = {unit: words for words, unit in _UNITS.items()}


def amount_words(limit: Limit) -> str:
    """How much: ``60 requests per minute``, ``1 concurrent request``."""
    words = _UNIT_WORDS[limit.unit]
    if limit.amount == 1:
        words = words.removesuffix("s")
    amount = f"{limit.amount} {words}"
    if not limit.window_seconds:
        return amount
    period = _PERIODS.get(limit.window_seconds, f"{limit.window_seconds} seconds")
    return f"{amount} per {period}"


def scope_words(limit: Limit) -> str:
    """Whose: ``this key``. Never an id: it may be another tenant's who shares the limit."""
    return _SCOPE_WORDS[limit.scope]


_SCOPE_WORDS: Final[dict[LimitScope, str]] = {
    "caller": "this caller",
    "key": "this key",
    "user": "this user",
    "team": "this team",
    "organization": "this organization",
    "model": "this model",
    "key_and_model": "this key and model",
    "address": "this address",
    "everyone": "all callers together",
}

"""JSON in and out: one parser for every check and for the wire, and its limits.

msgspec refuses NaN, Infinity, lone surrogates, invalid UTF-8 and a byte order mark, and lets the
last of two equal keys win. Since the upstream request is encoded from the parsed document, that
winner is what every check saw and what the provider gets.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from asgi_llm.errors import InvalidRequestError

__all__ = [
    "MAX_DEPTH",
    "MAX_NUMBER_LENGTH",
    "MAX_VALUES",
    "decode",
    "decode_unchecked",
    "encode",
    "is_deeper_than",
]

MAX_DEPTH = 256
"""Objects and arrays inside one another. Well below Python's own limit, so that whoever walks a
document by recursion may, from as deep in a stack as a request ever is."""

MAX_VALUES = 300_000
"""Integers that one large document may hold; a fraction counts for two, a string or a container for
three or four, a key for six. Reading that many takes some 20 ms, in which no other request is
served; a million keys would take 200."""

MAX_NUMBER_LENGTH = 128
"""Characters of one number, for the time that long ones take is not linear in their length."""

_SMALL = 256 * 1024
# So little is read in some 20 ms whatever numbers it holds.
_TINY = 64 * 1024
_ONE_TOO_MANY = MAX_DEPTH + 1
_SPACES = b" \t\r\n"
_DIGITS_TO_ZERO = bytes(48 if 48 <= byte <= 57 else 120 for byte in range(256))
_LONG_NUMBER = b"0" * MAX_NUMBER_LENGTH
_CONTAINERS = frozenset((dict, list))
_IS_COMPILED = not __file__.endswith((".py", ".pyc"))


def _float(text: str) -> float:
    # msgspec's own reading takes 7 us for some numbers of 23 characters: 10 s for a body of 32 MB.
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError(f"a number has more than {MAX_NUMBER_LENGTH} characters")
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is out of range")
    return value


_decode = msgspec.json.Decoder(float_hook=_float).decode
_encode = msgspec.json.Encoder().encode

decode_unchecked = msgspec.json.Decoder().decode
"""Parse what a provider sent: without the limits, and twice as fast on lists of numbers. Raises
``msgspec.DecodeError``, ``UnicodeDecodeError`` or ``RecursionError``."""


def decode(data: bytes) -> Any:
    """Parse a request body.

    Raises:
        InvalidRequestError: Not JSON, or nested too deeply (``invalid_json``), or with more values
            than can be read without stalling other requests (``too_many_values``).
    """
    marks = data if len(data) <= _SMALL else _outside_strings(data)
    try:
        document = decode_unchecked(data) if len(data) <= _TINY else _decode(data)
    except msgspec.DecodeError as error:
        raise InvalidRequestError(
            f"The body is not valid JSON: {_cause(data, error)}.", code="invalid_json"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            "The body is not valid JSON: a string is not valid UTF-8.", code="invalid_json"
        ) from error
    except RecursionError as error:
        raise _too_deep() from error
    if _IS_COMPILED and len(data) <= _TINY:
        # In C a small document is walked in less time than its bytes are looked through.
        if (type(document) is dict or type(document) is list) and _has_below(document, MAX_DEPTH):
            raise _too_deep()
        return document
    # What is left out is counted by the length of the rest, in a fraction of the time of `count`.
    rest = len(marks.replace(b"{", b"", _ONE_TOO_MANY)) + len(
        marks.replace(b"[", b"", _ONE_TOO_MANY)
    )
    if 2 * len(marks) - rest > MAX_DEPTH and is_deeper_than(document, MAX_DEPTH):
        raise _too_deep()
    return document


def encode(document: Any) -> bytes:
    """Serialize a document, as compactly as JSON allows.

    Raises:
        InvalidRequestError: It is nested too deeply for what is left of the stack.
    """
    try:
        return _encode(document)
    except RecursionError as error:
        raise _too_deep() from error


def is_deeper_than(document: Any, depth: int) -> bool:
    """Whether ``document`` has more than ``depth`` containers inside one another."""
    level: list[Any] = [document] if type(document) in _CONTAINERS else []
    for _ in range(depth):
        level = [
            value
            for container in level
            for value in (container.values() if type(container) is dict else container)
            if type(value) in _CONTAINERS
        ]
        if not level:
            return False
    return bool(level)


def _has_below(container: Any, depth: int) -> bool:
    """Whether there is a container ``depth`` levels below this one: ``is_deeper_than`` for C."""
    if depth == 0:
        return True
    if type(container) is dict:
        fields = container
        for value in fields.values():
            if (type(value) is dict or type(value) is list) and _has_below(value, depth - 1):
                return True
    else:
        items = container
        for value in items:
            if (type(value) is dict or type(value) is list) and _has_below(value, depth - 1):
                return True
    return False


def _outside_strings(data: bytes) -> bytes:
    """What of a large body stands outside of strings, without spaces, if it is not too much.

    A prompt may hold any number of commas and braces; only those that make values count.
    """
    if data.count(b'"') > 4 * MAX_VALUES:
        raise _too_much()
    if b'\\"' in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    pieces = data.split(b'"', 2 * MAX_VALUES // 3)
    if len(pieces) > 2 * MAX_VALUES // 3:
        raise _too_much()
    marks = b"".join(pieces[::2]).translate(None, _SPACES)
    weight = 2 * (len(pieces) // 2)
    if len(marks) <= 8 * MAX_VALUES:
        weight += 3 * (marks.count(b":") + marks.count(b"{") + marks.count(b"["))
        weight += marks.count(b",") + marks.count(b".")
        if weight <= MAX_VALUES and _LONG_NUMBER not in marks.translate(_DIGITS_TO_ZERO):
            return marks
    raise _too_much()


def _too_much() -> InvalidRequestError:
    return InvalidRequestError(
        f"The body has too many keys, list elements or digits; a limit is {MAX_VALUES} values.",
        code="too_many_values",
    )


def _too_deep() -> InvalidRequestError:
    return InvalidRequestError(
        f"The body is nested too deeply; a limit is {MAX_DEPTH} levels.", code="invalid_json"
    )


def _cause(data: bytes, error: msgspec.DecodeError) -> str:
    if not data or data.isspace():
        return "it is empty"
    if data.startswith(b"\xef\xbb\xbf"):
        return "it starts with a byte order mark"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in data[:4]:
        return "it is not UTF-8 text"
    cause = error.__cause__
    if isinstance(cause, ValueError):
        return str(cause)
    text = str(error).removeprefix("JSON is malformed: ")
    if text.startswith("Input data was truncated"):
        return "it ends too early"
    if "out of range" in text:
        return "a number is out of range"
    return text

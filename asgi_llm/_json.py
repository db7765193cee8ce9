"""JSON in and out: one parser for every check and for the wire, and its limits.

msgspec keeps integers of any size, refuses NaN, Infinity, lone surrogates, invalid UTF-8 and a
byte order mark, and lets the last of two equal keys win. Since the upstream request is encoded
from the parsed document, that winner is what every check saw and what the provider gets.
"""

from __future__ import annotations

from typing import Any

import msgspec

from asgi_llm.errors import InvalidRequestError

MAX_CONTAINER_MARKS = 200_000
"""Keys and objects that one document may hold. Parsing that many takes some 20 ms; a million keys
would stop the event loop for longer than any other request should wait."""

_SMALL = 256 * 1024

decode_unchecked = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def decode(data: bytes) -> Any:
    """Parse a request body.

    Raises:
        InvalidRequestError: Not JSON (``invalid_json``), nested too deeply, or with too many keys.
    """
    if len(data) > _SMALL and too_many_marks(data):
        raise InvalidRequestError(
            f"The body has more than {MAX_CONTAINER_MARKS} keys, objects and arrays.",
            code="too_many_fields",
        )
    try:
        return decode_unchecked(data)
    except msgspec.DecodeError as error:
        raise InvalidRequestError(
            f"The body is not valid JSON: {_cause(error)}.", code="invalid_json"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"The body is not valid UTF-8 (byte {error.start} of a string).", code="invalid_json"
        ) from error
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply.", code="invalid_json") from error


def too_many_marks(data: bytes) -> bool:
    """Whether ``data`` holds so many keys and containers that parsing would block the loop."""
    # A quote inside a string is escaped, so `":` after a backslash is text and not a key.
    marks = data.count(b'":') - data.count(b'\\":') + data.count(b"{") + data.count(b"[")
    return marks > MAX_CONTAINER_MARKS


def _cause(error: msgspec.DecodeError) -> str:
    text = str(error)
    return text.removeprefix("JSON is malformed: ")

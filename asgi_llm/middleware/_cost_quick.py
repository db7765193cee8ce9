"""What is done in each request that is paid for: bytes looked through, numbers read, the time.

There is a source for C beside it, which does the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from time import monotonic
from time import time as wall
from typing import Any, Final

from asgi_llm._ids import draw_ids
from asgi_llm.types import Usage

__all__ = [
    "SLOTS",
    "find_choices",
    "has_any",
    "is_body",
    "is_event",
    "is_standard",
    "is_start",
    "is_text_alone",
    "last_header",
    "monotonic",
    "row_id",
    "slot_of",
    "small_int",
    "tells_tier",
    "to_microseconds",
    "wall",
    "with_header",
    "with_margin",
]

SLOTS: Final = 64
"""Numbers that ``slot_of`` gives."""

_MOST: Final = 2**31 - 1

# With which both begin.
_SERVED: Final = b'"serv'
_SEARCHES: Final = b'"server_tool_use'
_TIER: Final = b'"service_tier"'
_TIER_LENGTH: Final = len(_TIER)
_STANDARD: Final = (b':"default"', b': "default"', b":null", b": null")

_EVENT_END: Final = b"}\n\n"
_CHOICES: Final = b'"choices":[{'
_CHOICES_LENGTH: Final = len(_CHOICES)
# To look for a number takes a third of the time.
_LINE_END: Final = ord("\n")
_EMPTY_LIST: Final = b"[]"


def is_standard(body: bytes) -> bool:
    """Whether a whole JSON answer tells of no special service tier and of no searches."""
    tiers = 0
    at = body.rfind(_SERVED)
    while at >= 0:
        if body.startswith(_SEARCHES, at):
            return False
        if body.startswith(_TIER, at):
            tiers += 1
            if tiers > 1 or not body.startswith(_STANDARD, at + _TIER_LENGTH):
                return False
        at = body.rfind(_SERVED, 0, at)
    return len(body) > 0


def is_event(chunk: bytes) -> bool:
    """Whether a chunk of a stream ends with an event that is a JSON object."""
    # A slice takes a third of the time of endswith.
    return chunk[-3:] == _EVENT_END


def find_choices(chunk: bytes, at: int) -> int:
    """Where the choices of an event begin that is not the one of the usage; below 0: it may be.

    Args:
        chunk: One for which ``is_event`` holds.
        at: Where they began in the one before; at least 0.

    Returns:
        0 also where there are none, or several events that have no empty list.
    """
    if chunk[at : at + _CHOICES_LENGTH] == _CHOICES and _LINE_END not in chunk[:-2]:
        return at
    # Not one event like those before it. (To search from behind takes a third of the time.)
    if chunk.rfind(_EMPTY_LIST) >= 0:
        return -1
    return max(0, chunk.find(_CHOICES))


def tells_tier(data: bytes) -> bool:
    """Whether an answer says anything of a service tier."""
    return data.rfind(_TIER) >= 0


def has_any(document: dict[str, Any], names: frozenset[str]) -> bool:
    """Whether a document has one of these fields."""
    return not names.isdisjoint(document)


def small_int(value: object) -> int:
    """A whole number from 0 to 2**31 - 1 as it is; -1 for anything else."""
    return value if type(value) is int and 0 <= value <= _MOST else -1


def slot_of(asker: object, model: str) -> int:
    """A number below ``SLOTS``, the same for the same object and an equal text."""
    return (id(asker) >> 4 ^ hash(model)) & (SLOTS - 1)


def with_header(
    headers: Iterable[tuple[bytes, bytes]], name: bytes, value: str
) -> list[tuple[bytes, bytes]]:
    """A new list, with a header at its end whose value is in ASCII."""
    return [*headers, (name, value.encode())]


def last_header(headers: Sequence[Any], name: bytes) -> bytes | None:
    """The value of the last header of that name; None: there is none.

    Args:
        headers: Pairs, as of an answer.
        name: In small letters.
    """
    found = None
    size = len(name)
    for one, value in headers:
        if len(one) == size and (one == name or one.lower() == name):
            found = value
    return found


def is_start(kind: object) -> bool:
    """Whether a message begins an answer."""
    return kind == "http.response.start"


def is_body(kind: object) -> bool:
    """Whether a message is a part of the body of an answer."""
    return kind == "http.response.body"


_new_ids: list[str] = []

# A forked process would give the same ids again.
os.register_at_fork(after_in_child=_new_ids.clear)


def row_id() -> str:
    """An id that no other row has; see ``draw_ids``."""
    if not _new_ids:
        _new_ids.extend(draw_ids("row_"))
    return _new_ids.pop()


def is_text_alone(usage: Usage) -> bool:
    """Whether a usage is of text in and of text out, and of nothing else; a guess is none."""
    return (
        usage.input_uncached > 0
        and usage.output_text > 0
        and not (
            usage.input_cached
            or usage.cache_write_5m
            or usage.cache_write_1h
            or usage.audio_in
            or usage.reasoning
            or usage.audio_out
            or usage.estimated
        )
    )


def with_margin(tokens: int, margin: float) -> int:
    """The next number above tokens taken so many times; both are below 2**31."""
    return int(tokens * margin) + 1


def to_microseconds(seconds: float) -> int:
    """A time in microseconds, rounded to the nearest, in the middle to the even one."""
    return round(seconds * 1_000_000)

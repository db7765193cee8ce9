"""Ids that nobody can guess and no other process gives."""

from __future__ import annotations

import os
import time

__all__ = ["draw_ids"]

_RANDOM_BYTES = 10


def draw_ids(prefix: str, number: int = 256) -> list[str]:
    """New ids: ``prefix`` and 32 hex digits, 12 of the time in milliseconds and 20 random ones.

    Ids that were drawn one after the other lie beside each other in an index, so that a large table
    takes a new row as quickly as a small one. A forked process must not use what is left of them.

    Source: RFC 9562 section 5.7 for the idea; these are no UUIDs.
    """
    begin = f"{prefix}{time.time_ns() // 1_000_000:012x}"
    digits = os.urandom(_RANDOM_BYTES * number).hex(" ", _RANDOM_BYTES)
    # All at once, which takes a fraction of the time of a loop.
    return f"{begin}{digits.replace(' ', f' {begin}')}".split(" ")

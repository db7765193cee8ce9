"""Clocks as they are read on the way of a request; the ``.pyx`` file asks the system itself."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["read_clock"]


def read_clock(clock: Callable[[], float]) -> float:
    """What ``clock`` says, in seconds; for ``time.time`` and ``time.monotonic`` without a call."""
    return clock()

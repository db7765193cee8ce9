"""A lock between threads that is seldom waited for.

The ``.pyx`` file beside this does the same in C, where the interpreter's own lock sees to it that
nobody comes in between: to take one that is free, and to give it back, is to change one field.
"""

from __future__ import annotations

import threading

__all__ = ["ThreadLock"]


class ThreadLock:
    """A lock, which is given back by the thread that took it."""

    __slots__ = ("_lock", "acquire", "release")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A call of these is cheaper than to enter a lock and to leave it.
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

"""Somebody's calls, timed on their way, so that neither side knows of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

__all__ = ["TimedCalls"]


class TimedCalls:
    """Stands in for ``target``, whose coroutine methods ``names`` are timed.

    Args:
        target: Does the work; all that is not timed is its own.
        names: Which methods.
        on_seconds: Gets the seconds of each call, of one that failed as well.
        timer: Seconds, monotonic.
    """

    def __init__(
        self,
        target: Any,
        names: Collection[str],
        on_seconds: Callable[[float], None],
        *,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._target = target
        self._on_seconds = on_seconds
        self._timer = timer
        for name in names:
            setattr(self, name, self._timed(getattr(target, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def _timed(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        timer, on_seconds = self._timer, self._on_seconds

        async def timed(*args: Any, **options: Any) -> Any:
            began = timer()
            try:
                return await call(*args, **options)
            finally:
                on_seconds(timer() - began)

        return timed

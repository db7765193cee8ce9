"""Waiting, with a deadline, for what says by itself when it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], bool], *, timeout_seconds: float = 30.0) -> None:
    """Return once ``condition`` holds; it is asked again in every turn of the loop."""
    async with asyncio.timeout(timeout_seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)

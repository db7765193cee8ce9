"""A deadline and a breaker for the places where keys are looked up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from asgi_llm._traceback import describe
from asgi_llm.errors import ConfigurationError, StoreError

__all__ = ["RETRY_SECONDS", "KeyGuard"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS: Final = 1.0
"""How long a store that failed is left alone."""

_FAILURES_TO_OPEN: Final = 3


class KeyGuard:
    """Asks a store, each time within a deadline; after three failures in a row, once a second.

    While it is open all but one ask at a time are refused at once, so that a store that hangs
    costs no request more than its deadline, and is used again within two seconds of its return.

    Args:
        name: What is asked, for the log.
        timeout_seconds: Deadline of one ask, above 0.
        clock: Seconds, monotonic.
    """

    def __init__(self, name: str, *, timeout_seconds: float, clock: Callable[[], float]) -> None:
        if not timeout_seconds > 0:
            raise ConfigurationError("timeout_seconds must be above 0", param="timeout_seconds")
        self._name = name
        self._timeout = timeout_seconds
        self._clock = clock
        self._in_a_row = 0
        self._retry_at = 0.0
        self.failures = 0
        """All so far."""

    @property
    def available(self) -> bool:
        """Whether the last ask was answered."""
        return self._in_a_row == 0

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """The answer to ``question``.

        Raises:
            StoreError: It failed, came too late, or was not asked.
        """
        if self._in_a_row >= _FAILURES_TO_OPEN:
            now = self._clock()
            if now < self._retry_at:
                raise StoreError(f"{self._name} is away", retry_after_seconds=RETRY_SECONDS)
            # This one finds out for all; the others wait for what it finds.
            self._retry_at = now + self._timeout + RETRY_SECONDS
        try:
            async with asyncio.timeout(self._timeout):
                answer = await question()
        except Exception as error:
            self.failures += 1
            self._in_a_row += 1
            self._retry_at = self._clock() + RETRY_SECONDS
            if self._in_a_row in (1, _FAILURES_TO_OPEN):
                logger.warning("%s did not answer:\n%s", self._name, describe(error))
            raise StoreError(
                f"{self._name} did not answer", retry_after_seconds=RETRY_SECONDS
            ) from error
        if self._in_a_row:
            logger.warning("%s answers again", self._name)
            self._in_a_row = 0
        return answer

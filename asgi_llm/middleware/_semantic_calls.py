"""What a semantic cache asks of others, each with a deadline: who is late has nothing to say."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from asgi_llm.embedders.base import EmbedderError
from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.middleware._semantic_counts import SemanticCounts

__all__ = ["SemanticCalls"]

T = TypeVar("T")

_LOG_EVERY_SECONDS: Final = 1.0


class SemanticCalls:
    """Runs calls of the index, the embedder and judges.

    Args:
        counts: Where failures are counted.
        deny: Whether a failure of the index raises StoreError.
        logger: Where failures are logged, once a second at most.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        counts: SemanticCounts,
        *,
        deny: bool,
        logger: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = counts
        self._deny = deny
        self._logger = logger
        self._clock = clock
        self._next_log = -float("inf")

    async def ask(
        self, call: Awaitable[T], *, who: str, timeout_seconds: float, denies: bool = False
    ) -> T | None:
        """The answer of ``call``; None where it fails, or is late.

        Args:
            call: What is awaited.
            who: Named in the log.
            timeout_seconds: The deadline.
            denies: Whether a failure is told, where the layer is set to.

        Raises:
            StoreError: It failed, and that is to be told.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                return await call
        except TimeoutError as error:
            self._note(who, "it did not answer in time")
            if denies and self._deny:
                raise StoreError(f"The {who} of the cache did not answer in time.") from error
        except (StoreError, EmbedderError, ConfigurationError) as error:
            self._note(who, str(error))
            if denies and self._deny:
                raise StoreError(f"The {who} of the cache failed.") from error
        return None

    def _note(self, who: str, why: str) -> None:
        self._counts.failures += 1
        now = self._clock()
        if now >= self._next_log:
            self._next_log = now + _LOG_EVERY_SECONDS
            self._logger.warning(
                "the %s of the semantic cache failed (%d failures so far): %s",
                who,
                self._counts.failures,
                why,
            )

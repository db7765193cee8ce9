"""Credentials that end: fetched off the event loop, once for all who wait, before they do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from asgi_llm.errors import ProviderUnavailableError

__all__ = ["Renewal", "Renewed"]

logger = logging.getLogger(__name__)

RENEWED_BEFORE_SECONDS: Final = 300.0
KEPT_SECONDS: Final = 300.0
"""How long something is used whose end nobody said."""

TRIED_AGAIN_SECONDS: Final = 30.0
RENEWAL_SECONDS: Final = 60.0


class Renewed(Protocol):
    """What is renewed."""

    @property
    def expires(self) -> float | None:
        """Unix time in seconds; None: nobody said."""


T = TypeVar("T", bound=Renewed)


class Renewal(Generic[T]):
    """The current credentials: renewed five minutes before they end, once for all who wait.

    While they are still good, a renewal that fails is tried again 30 seconds later.

    Args:
        source: Fetches them.
        clock: Unix time in seconds.
        what: They are, as the beginning of a sentence in the log.
    """

    def __init__(
        self, source: Callable[[], Awaitable[T]], clock: Callable[[], float], *, what: str
    ) -> None:
        self._source = source
        self._clock = clock
        self._what = what
        self._held: T | None = None
        self._renew_at = 0.0
        self._renewing: asyncio.Task[T] | None = None

    @property
    def held(self) -> T | None:
        """Those that were fetched last, be they good or not."""
        return self._held

    async def current(self) -> T:
        """Credentials that are good for a while.

        Raises:
            ProviderUnavailableError: None can be had.
        """
        held = self._held
        if held is not None and self._clock() < self._renew_at:
            return held
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
            self._renewing.add_done_callback(self._renewed)
        # A caller that leaves must not take them from the others.
        return await asyncio.shield(self._renewing)

    def forget(self) -> None:
        """Fetch others next time: the provider does not take these."""
        self._held = None

    def _renewed(self, task: asyncio.Task[T]) -> None:
        self._renewing = None
        if not task.cancelled():
            # Looked at, for all who waited may have left.
            task.exception()

    async def _renew(self) -> T:
        try:
            async with asyncio.timeout(RENEWAL_SECONDS):
                found = await self._source()
        except Exception as error:
            logger.warning("%s could not be had: %s", self._what, type(error).__name__)
            now, held = self._clock(), self._held
            if held is not None and held.expires is not None and now < held.expires:
                self._renew_at = now + TRIED_AGAIN_SECONDS
                return held
            raise ProviderUnavailableError(
                "The gateway's credentials for the provider could not be renewed.",
                code="provider_authentication_failed",
            ) from error
        now = self._clock()
        if found.expires is None:
            self._renew_at = now + KEPT_SECONDS
        else:
            # Those of a short life are used for half of it.
            left = found.expires - now
            self._renew_at = now + max(left - RENEWED_BEFORE_SECONDS, left / 2)
        self._held = found
        return found

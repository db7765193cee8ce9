"""One gateway among those that serve one after another, and the requests that it has."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from asgi_llm.errors import InternalError
from asgi_llm.gateway.build import Build
from asgi_llm.gateway.config import Loaded

__all__ = ["Generation"]

_END_SECONDS: Final = 5.0
"""For requests that were ended to notice it. A client that does not read holds up no end."""


class Generation:
    """A built configuration, from its first request to the end of its last.

    Args:
        loaded: What it was built from, without what could not be had.
        built: The gateway.
        version: The short name of what was asked for.
        loaded_at: When, as ISO 8601 text.
        restart_required: What of it could not be had.

    Attributes:
        tasks: Those that serve the requests under way.
        idle: Set when there are none, by who serves them; None: nobody waits for that.
    """

    def __init__(
        self,
        loaded: Loaded,
        built: Build,
        *,
        version: str,
        loaded_at: str,
        restart_required: tuple[str, ...],
    ) -> None:
        self.loaded = loaded
        self.built = built
        self.gateway = built.gateway
        self.version = version
        self.loaded_at = loaded_at
        self.restart_required = restart_required
        self.tasks: set[asyncio.Task[object]] = set()
        self.idle: asyncio.Event | None = None
        self._opened = AsyncExitStack()
        self._is_started = False

    async def start(self) -> None:
        """Start what it has to start. It serves without, too."""
        await self._opened.enter_async_context(self.gateway.lifespan())
        self._is_started = True

    async def drain(self, seconds: float) -> int:
        """Wait for the requests under way, and end those that are not over in time.

        For who sees to it that no new ones come.

        Returns:
            How many had to be ended.
        """
        if await self._is_idle_within(seconds):
            return 0
        tasks = tuple(self.tasks)
        self.gateway.expire(
            tasks,
            InternalError(
                "The gateway's configuration was changed; please try again.",
                status=503,
                type="server_error",
                code="configuration_changed",
                retry_after_seconds=1,
            ),
        )
        await self._is_idle_within(_END_SECONDS)
        return len(tasks)

    async def aclose(self) -> None:
        """Close what only it has. May be called again."""
        if self._is_started:
            self._is_started = False
            await self._opened.aclose()
        else:
            await self.gateway.aclose()

    async def _is_idle_within(self, seconds: float) -> bool:
        if not self.tasks:
            return True
        idle = self.idle = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await idle.wait()
        except TimeoutError:
            return False
        return True

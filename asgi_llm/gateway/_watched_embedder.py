"""The embedder of the semantic cache: loaded at the start, and watched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from asgi_llm._tasks import end
from asgi_llm.embedders.base import Embedder, EmbedderError
from asgi_llm.errors import ConfigurationError

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vectors

__all__ = ["WatchedEmbedder"]

logger = logging.getLogger(__name__)

_ALMOST: Final = 0.9


class WatchedEmbedder:
    """An embedder that is loaded at the start, and of which it is known how it does.

    Args:
        embedder: Makes the vectors. Closed with this one.
        timeout_seconds: When whoever asks gives up.

    Attributes:
        is_failing: Whether the last call made none.
        on_seconds: Gets the seconds of each call that made vectors; None: nobody asks.
    """

    def __init__(self, embedder: Embedder, *, timeout_seconds: float) -> None:
        self._embedder = embedder
        self._timeout = timeout_seconds
        self._loading: asyncio.Task[None] | None = None
        self.name = embedder.name
        self.is_failing = False
        self.on_seconds: Callable[[float], None] | None = None

    @property
    def dimension(self) -> int | None:
        """Length of a vector, once it is known."""
        return self._embedder.dimension

    @property
    def max_input_tokens(self) -> int | None:
        """How much of a text the model reads, once it is known."""
        return self._embedder.max_input_tokens

    def start(self) -> None:
        """Load the model, so that the first requests need not wait for it."""
        load = getattr(self._embedder, "load", None)
        if load is not None and self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load(load))

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See ``Embedder``."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            vectors = await self._embedder.embed(texts)
        except asyncio.CancelledError:
            # A deadline looks like a client that leaves, but for the time that has passed.
            if loop.time() - began >= self._timeout * _ALMOST:
                self.is_failing = True
            raise
        except (EmbedderError, ConfigurationError) as error:
            # A text that is too long is not the embedder's fault.
            self.is_failing = not hasattr(error, "tokens")
            raise
        self.is_failing = False
        if self.on_seconds is not None:
            self.on_seconds(loop.time() - began)
        return vectors

    async def aclose(self) -> None:
        """Close the embedder. Idempotent."""
        task, self._loading = self._loading, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            await end(task)
        await self._embedder.aclose()

    async def _load(self, load: Callable[[], Any]) -> None:
        try:
            await load()
        except (EmbedderError, ConfigurationError) as error:
            self.is_failing = True
            logger.warning("the model of the semantic cache was not loaded: %s", error)

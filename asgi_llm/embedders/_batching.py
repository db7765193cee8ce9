"""Micro-batching: the texts of many callers, put through a model together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Final, TypeVar, cast

from asgi_llm.embedders.base import EmbedderBusyError, EmbedderError
from asgi_llm.errors import ConfigurationError, LLMError

__all__ = ["Batcher"]

T = TypeVar("T")
Run = Callable[[list[str]], Awaitable[Sequence[T]]]

_SHARE: Final = 8
"""How many texts of one caller a batch takes before it looks at the next caller's."""


class _Request:
    """The texts of one caller, and what became of them so far."""

    __slots__ = ("future", "results", "taken", "texts", "unanswered")

    def __init__(self, texts: Sequence[str], future: asyncio.Future[None]) -> None:
        self.texts = texts
        self.future = future
        self.taken = 0
        self.unanswered = len(texts)
        self.results: list[object] = [None] * len(texts)


class Batcher:
    """Joins what is asked for in one turn of the loop, or in a window of time, or meanwhile.

    Callers take turns within a batch, so that a long list does not hold up a short one. A caller
    that was cancelled takes no more of the model's time, and disturbs nobody. A batch that fails,
    fails for those whose texts it held.

    Args:
        max_batch_texts: Of one batch, at least 1.
        window_seconds: How long the first caller waits for others, at least 0; 0: for one turn.
        max_waiting_texts: Texts that wait for their turn, at least 1. What comes on top is refused;
            a longer list of one caller is taken where nobody waits.
        max_batches: How many batches are under way at once, at least 1.

    Raises:
        ConfigurationError: An option is out of range.
    """

    def __init__(
        self,
        *,
        max_batch_texts: int = 32,
        window_seconds: float = 0.0,
        max_waiting_texts: int = 2048,
        max_batches: int = 1,
    ) -> None:
        for name, value in (
            ("max_batch_texts", max_batch_texts),
            ("max_waiting_texts", max_waiting_texts),
            ("max_batches", max_batches),
        ):
            if value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value!r}", param=name)
        if not 0 <= window_seconds < inf:
            raise ConfigurationError("window_seconds must be at least 0", param="window_seconds")
        self._max_batch = max_batch_texts
        self._window = window_seconds
        self._max_waiting = max_waiting_texts
        self._max_batches = max_batches
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._waiting: deque[_Request] = deque()
        self._count = 0
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, texts: Sequence[str], run: Run[T]) -> list[T]:
        """What ``run`` makes of ``texts``, one result for each, in their order.

        Args:
            texts: One caller's.
            run: Does a batch; the same for all callers of this batcher.

        Raises:
            EmbedderBusyError: The queue is full.
            EmbedderError: The batcher is closed, or ``run`` failed.
            LLMError: As ``run`` raised it.
        """
        if self._closed:
            raise EmbedderError("the embedder is closed")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # What waits on a loop that has ended, waits for nothing.
            self._loop = loop
            self._begin_anew()
        if not texts:
            return []
        if self._count and self._count + len(texts) > self._max_waiting:
            raise EmbedderBusyError(f"{self._count} texts wait for the model already")
        request = _Request(texts, loop.create_future())
        self._waiting.append(request)
        self._count += len(texts)
        if not self._scheduled and len(self._tasks) < self._max_batches:
            self._scheduled = True
            if self._window:
                loop.call_later(self._window, self._begin, loop, run)
            else:
                loop.call_soon(self._begin, loop, run)
        try:
            await request.future
        except asyncio.CancelledError:
            request.future.cancel()
            raise
        return cast("list[T]", request.results)

    async def aclose(self) -> None:
        """Refuse those who wait, and let the batches under way end. Idempotent."""
        self._closed = True
        if self._loop is not asyncio.get_running_loop():
            return
        for request in self._waiting:
            _fail(request, EmbedderError("the embedder is closed"))
        self._waiting.clear()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _begin_anew(self) -> None:
        self._waiting = deque()
        self._count = 0
        self._scheduled = False
        self._tasks = set()

    def _begin(self, loop: asyncio.AbstractEventLoop, run: Run[T]) -> None:
        """Start batches, as many as may be under way."""
        if loop is not self._loop:
            return
        self._scheduled = False
        while len(self._tasks) < self._max_batches and (batch := self._next()):
            task = loop.create_task(self._one(batch, run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self) -> list[tuple[_Request, int]]:
        """The texts of the next batch: a share of each caller's in turn."""
        batch: list[tuple[_Request, int]] = []
        while self._waiting and (room := self._max_batch - len(batch)):
            request = self._waiting.popleft()
            left = len(request.texts) - request.taken
            if request.future.done():
                self._count -= left
                continue
            share = min(room, left, _SHARE if self._waiting else room)
            batch += [(request, request.taken + place) for place in range(share)]
            request.taken += share
            self._count -= share
            if share < left:
                self._waiting.append(request)
        return batch

    async def _one(self, batch: list[tuple[_Request, int]], run: Run[T]) -> None:
        loop = asyncio.get_running_loop()
        try:
            results = await run([request.texts[place] for request, place in batch])
        except asyncio.CancelledError:
            for request, _ in batch:
                request.future.cancel()
            raise
        except (EmbedderError, LLMError) as error:
            for request, _ in batch:
                _fail(request, _copy(error))
        except Exception as error:
            # Of the driver's own library; it may quote the text, so that only its kind is told.
            for request, _ in batch:
                _fail(request, EmbedderError(f"the model failed: {type(error).__name__}"))
        else:
            for (request, place), result in zip(batch, results, strict=True):
                request.results[place] = result
                request.unanswered -= 1
                if not request.unanswered and not request.future.done():
                    request.future.set_result(None)
        # This task counts as over, so that the next may begin.
        task = asyncio.current_task()
        if task is not None:
            self._tasks.discard(task)
        self._begin(loop, run)


def _copy(error: Exception) -> Exception:
    """One of a caller's own: raising one adds to its traceback."""
    # Its constructor may take other arguments than the message that came of them.
    own = type(error).__new__(type(error), *error.args)
    own.__dict__.update(error.__dict__)
    return own


def _fail(request: _Request, error: Exception) -> None:
    if not request.future.done():
        request.future.set_exception(error)

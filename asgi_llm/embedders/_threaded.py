"""A model that runs in this process: loaded once, in a thread, and asked in batches there."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from asgi_llm._optional import require
from asgi_llm.embedders._batching import Batcher
from asgi_llm.embedders.base import Embedded, EmbedderError, TextTooLongError
from asgi_llm.errors import ConfigurationError, LLMError

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector, Vectors

__all__ = ["LoadedModel", "ThreadedEmbedder", "check_installed", "cleaned"]

T = TypeVar("T")


class LoadedModel(Protocol):
    """A model in memory, used by one thread at a time."""

    dimension: int
    max_input_tokens: int

    def encode(self, texts: Sequence[str], *, truncate: bool) -> tuple[Vectors, list[int]]:
        """The vectors of ``texts``, and how many tokens each has.

        Args:
            texts: At least one, in valid Unicode.
            truncate: Whether to cut a text that is too long, whose count is then what was read.
                If not, its row is nothing, and its count is that of the whole text.
        """
        ...


class ThreadedEmbedder(ABC):
    """What the embedders of this process have in common; one thread each.

    Args:
        name: See ``Embedder``.
        truncate: Cut texts that are too long, in place of refusing them.
        max_batch_texts: Of one run of the model, at least 1.
        window_seconds: How long the first caller waits for others to join, at least 0.
        max_waiting_texts: What comes on top of so many that wait is refused.

    Raises:
        ConfigurationError: An option is out of range.
    """

    def __init__(
        self,
        *,
        name: str,
        truncate: bool,
        max_batch_texts: int,
        window_seconds: float,
        max_waiting_texts: int,
    ) -> None:
        if not name:
            raise ConfigurationError("name must not be empty", param="name")
        self.name = name
        self._truncate = truncate
        self._batcher = Batcher(
            max_batch_texts=max_batch_texts,
            window_seconds=window_seconds,
            max_waiting_texts=max_waiting_texts,
        )
        self._thread: ThreadPoolExecutor | None = None
        self._model: LoadedModel | None = None
        self._failure: Exception | None = None

    @property
    def dimension(self) -> int | None:
        """Length of a vector; None as long as the model is not loaded."""
        return None if self._model is None else self._model.dimension

    @property
    def max_input_tokens(self) -> int | None:
        """How much of a text the model reads; None as long as it is not loaded."""
        return None if self._model is None else self._model.max_input_tokens

    async def load(self) -> None:
        """Load the model now, in place of at the first call.

        Raises:
            EmbedderError: It could not be loaded.
            ConfigurationError: It is not installed, or not there.
        """
        await self._in_thread(self._loaded)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector of unit length for each of ``texts``, in their order; float32, shape (n, d).

        Raises:
            TextTooLongError: One of them is longer than the model reads.
            EmbedderError: The model could not be loaded or run, or too many texts wait for it.
            ConfigurationError: It is not installed, or not there.
        """
        return (await self.embed_counted(texts)).vectors

    async def embed_counted(self, texts: Sequence[str]) -> Embedded:
        """As ``embed``, with the tokens of each text."""
        rows = await self._batcher.submit(texts, self._run)
        numpy = require("numpy", extra="semantic")
        if not rows:
            if self._model is None:
                await self.load()
            return Embedded(numpy.empty((0, self.dimension), dtype=numpy.float32), ())
        limit = self.max_input_tokens
        for place, (_, tokens) in enumerate(rows):
            if limit is not None and tokens > limit:
                raise TextTooLongError(place, tokens, limit)
        vectors = numpy.stack([vector for vector, _ in rows])
        return Embedded(vectors, tuple([tokens for _, tokens in rows]))

    async def aclose(self) -> None:
        """Refuse those who wait, let the run under way end, and end the thread. Idempotent."""
        await self._batcher.aclose()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False, cancel_futures=True)
        self._model = None
        self._failure = EmbedderError("the embedder is closed")

    @abstractmethod
    def _open(self) -> LoadedModel:
        """Load the model; called in the thread.

        Raises:
            ConfigurationError: It is not installed, or not there.
        """

    async def _run(self, texts: list[str]) -> list[tuple[Vector, int]]:
        return await self._in_thread(lambda: self._encode(texts))

    def _encode(self, texts: list[str]) -> list[tuple[Vector, int]]:
        vectors, counts = self._loaded().encode(
            [cleaned(text) for text in texts], truncate=self._truncate
        )
        return list(zip(vectors, counts, strict=True))

    def _loaded(self) -> LoadedModel:
        """The model. What it failed with once, it fails with again: loading can take seconds."""
        if self._model is None:
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            try:
                self._model = self._open()
            except LLMError as error:
                self._failure = error
                raise
            except Exception as error:
                self._failure = EmbedderError(
                    f"the model {self.name} could not be loaded: {type(error).__name__}: {error}"
                )
                raise self._failure from error
        return self._model

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"embedder-{self.name}")
        loop = asyncio.get_running_loop()
        # What the caller has in its context is not held on to by what runs after it.
        return await loop.run_in_executor(self._thread, contextvars.Context().run, work)


def check_installed(*modules: str, extra: str) -> None:
    """Refuse to go on without ``modules``, which are not imported yet: that can take seconds.

    Raises:
        ConfigurationError: One is missing; the message holds the exact install command.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            require(module, extra=extra)


def cleaned(text: str) -> str:
    """``text`` without halves of surrogate pairs, which no tokenizer takes."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()

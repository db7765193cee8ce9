"""What a cache or a provider asks of a model that turns texts into vectors.

EmbedderError             the model could not be loaded, reached or run
├── EmbedderBusyError     too many texts wait for the model
└── TextTooLongError      the model reads less than the whole text
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors: TypeAlias = npt.NDArray[np.float32]
    """Shape (n, d): a row of unit length for each text."""
    Vector: TypeAlias = npt.NDArray[np.float32]
    """Shape (d,), of unit length."""

__all__ = [
    "CountingEmbedder",
    "Embedded",
    "Embedder",
    "EmbedderBusyError",
    "EmbedderError",
    "TextTooLongError",
]


class EmbedderError(Exception):
    """No vector could be made. Its message holds no key, and nothing of what was to be embedded."""


class EmbedderBusyError(EmbedderError):
    """Too many texts wait for the model already; some of them later there is room again."""


class TextTooLongError(EmbedderError):
    """A text has more tokens than the model reads.

    Its vector would say nothing of what is cut off: two texts with the same beginning would look
    the same.

    Args:
        place: Which of the texts it is, from 0.
        tokens: How many it has.
        limit: How many the model reads.
    """

    def __init__(self, place: int, tokens: int, limit: int) -> None:
        super().__init__(f"text {place} has {tokens} tokens; the model reads {limit}")
        self.place = place
        self.tokens = tokens
        self.limit = limit


class Embedded(NamedTuple):
    """Vectors, and what they were made of."""

    vectors: Vectors
    """Shape (n, d), float32, each row of unit length."""
    tokens: tuple[int, ...]
    """How many tokens the model read of each text, with those that it puts around it."""


class Embedder(Protocol):
    """Turns texts into vectors. One instance serves any number of callers at once, on one loop.

    It may be cancelled at any time, and a deadline is the caller's: ``asyncio.timeout``. What is
    slow runs in a thread, never on the event loop.
    """

    name: str
    """The model. Vectors may be compared where the names are equal: one of other weights, or of
    another precision, has another name."""

    @property
    def dimension(self) -> int | None:
        """Length of a vector; None as long as the model is not loaded, or was not asked yet."""
        ...

    @property
    def max_input_tokens(self) -> int | None:
        """How much of a text the model reads; None where that is not known (yet)."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector of unit length for each of ``texts``, in their order; float32, shape (n, d).

        Raises:
            TextTooLongError: One of them is longer than the model reads.
            EmbedderError: The model could not be loaded, reached or run.
            ConfigurationError: It is not installed, or not there; raised by the first call, too.
        """
        ...

    async def aclose(self) -> None:
        """Close what the embedder itself opened. Idempotent."""
        ...


@runtime_checkable
class CountingEmbedder(Embedder, Protocol):
    """One that knows how many tokens it reads: every model that runs here."""

    async def load(self) -> None:
        """Load the model now, in place of at the first call.

        Raises:
            EmbedderError: It could not be loaded.
            ConfigurationError: It is not installed, or not there.
        """
        ...

    async def embed_counted(self, texts: Sequence[str]) -> Embedded:
        """As ``embed``, with the tokens of each text."""
        ...

"""Embedders and requests that the tests of the semantic cache share."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from asgi_llm.embedders.base import EmbedderError

ALIKE = (
    "How do I reset my password?",
    "How can I reset my password?",
    "What do I have to do to reset my password?",
)
"""Three ways to ask the same."""

NEAR_MISS = "How do I NOT reset my password?"


class WordEmbedder:
    """Texts with many words in common are similar: a vector for each word, and their sum.

    Args:
        delay: Waited for before each answer, if it is given.
        error: Raised in place of an answer, if it is given.
    """

    name = "words-64"
    dimension = 64
    max_input_tokens = None

    def __init__(
        self, *, delay: asyncio.Event | None = None, error: EmbedderError | None = None
    ) -> None:
        self.texts: list[str] = []
        self.delay = delay
        self.error = error

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.texts.extend(texts)
        if self.delay is not None:
            await self.delay.wait()
        if self.error is not None:
            raise self.error
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> npt.NDArray[np.float32]:
        total = np.full(self.dimension, 0.05, dtype=np.float32)
        for word in re.findall(r"\w+", text.lower()):
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
            total += np.random.default_rng(seed).standard_normal(self.dimension).astype(np.float32)
        vector: npt.NDArray[np.float32] = total / np.float32(np.linalg.norm(total))
        return vector

    async def aclose(self) -> None:
        return


def asks(text: str, **fields: Any) -> dict[str, Any]:
    """A chat request of one turn."""
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **fields}

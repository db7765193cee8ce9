"""Whether two answers say the same: what exploring learns from."""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

import msgspec

from asgi_llm._semconv import Operation
from asgi_llm.embedders.base import Embedder
from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._cache_fold import fold_stream
from asgi_llm.stores.cache import StoredAnswer

__all__ = ["AnswerComparison", "EmbeddedAnswers", "Judge", "answer_text"]


class AnswerComparison(Protocol):
    """Compares a new answer with a stored one."""

    async def same(self, prompt: str, old_answer: str, new_answer: str) -> bool:
        """Whether the old answer would have done in the place of the new one.

        Args:
            prompt: The request's text.
            old_answer: The stored one.
            new_answer: The one that the model gave to ``prompt``.

        Raises:
            EmbedderError: It cannot be told.
            StoreError: It cannot be told, because a service that is needed does not answer.
        """
        ...


class Judge(Protocol):
    """A reranker or a model that has the last word on a candidate. It costs a call."""

    async def accepts(self, new_prompt: str, old_prompt: str) -> bool:
        """Whether the answer to ``old_prompt`` answers ``new_prompt``, too.

        Raises:
            StoreError: It cannot be told, because a service that is needed does not answer.
        """
        ...


_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_SPACES: Final = re.compile(r"\s+")
_SHORT: Final = 240
_READ: Final = 800
"""Characters of an answer that are embedded: some 200 tokens, which all models read."""


class EmbeddedAnswers:
    """Equal texts say the same; else those that mean nearly the same, by their embedding.

    Short answers must also hold the same numbers, since that is often all that they say.

    Args:
        embedder: As a rule the cache's own.
        threshold: From 0 to 1: the least cosine of answers that say the same.

    Raises:
        ConfigurationError: The threshold is out of range.
    """

    def __init__(self, embedder: Embedder, *, threshold: float = 0.85) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigurationError(
                f"threshold must be from 0 to 1, not {threshold!r}", param="threshold"
            )
        self._embedder = embedder
        self._threshold = threshold

    async def same(self, prompt: str, old_answer: str, new_answer: str) -> bool:
        """Whether the two answers say the same."""
        old, new = _plain(old_answer), _plain(new_answer)
        if old == new:
            return True
        if not old or not new:
            return False
        short = len(old) <= _SHORT or len(new) <= _SHORT
        if short and sorted(_NUMBER.findall(old)) != sorted(_NUMBER.findall(new)):
            return False
        vectors = await self._embedder.embed([old[:_READ], new[:_READ]])
        return float(vectors[0] @ vectors[1]) >= self._threshold


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text).strip().casefold()


def answer_text(answer: StoredAnswer) -> str | None:
    """What a stored answer says, all choices in order; None: it cannot be read."""
    document: Any
    if answer.is_stream:
        # The operation of an answer that was stored is one of those that can be.
        operation: Operation = "chat" if answer.operation == "chat" else "text_completion"
        document = fold_stream(operation, answer.body)
    else:
        try:
            document = msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
    choices = document.get("choices") if type(document) is dict else None
    if type(choices) is not list:
        return None
    said: list[str] = []
    for choice in choices:
        if type(choice) is not dict:
            return None
        message = choice.get("message")
        if type(message) is dict:
            said.append(str(message.get("content") or message.get("refusal") or ""))
        else:
            said.append(str(choice.get("text") or ""))
    return "\n".join(said)

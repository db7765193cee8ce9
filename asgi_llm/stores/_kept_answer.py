"""An answer as the memory of a process keeps it, and what it takes there."""

from __future__ import annotations

from typing import Final

from asgi_llm.stores.cache import JSON_HEADERS, StoredAnswer
from asgi_llm.types import CacheReport, Usage

__all__ = ["KeptAnswer", "answer_size", "entry_size", "keep_answer"]

# What an answer takes besides its texts: the objects themselves and their heads, a key of 32 bytes,
# a place in an ordered dictionary and its hash table (twice, while that grows). Measured, and
# rounded up.
_ENTRY_BYTES: Final = 1000
_PAIR_BYTES: Final = 132
# Of a character in memory, at most.
_WIDE: Final = 4


class KeptAnswer:
    """An answer as it is kept here: what a ``StoredAnswer`` has, and since when and how long.

    Attributes:
        made_at: When, by the store's clock.
        gone_at: When it runs out.
        size: ``answer_size`` of it.
        may_be_stored: Of an answer that is not in a store yet. False: it may be handed to those who
            asked the same at the same time, and no later.
        report: What those who are served with it are told of it, once somebody was.
        input_tokens: Of that.
        output_tokens: Of that.
    """

    # Filled by whoever makes one: compiled, a call of the class would take longer than all of that.
    __slots__ = (
        "_answer",
        "body",
        "fresh_seconds",
        "gone_at",
        "headers",
        "input_tokens",
        "is_stream",
        "keep_seconds",
        "made_at",
        "may_be_stored",
        "model",
        "namespace",
        "operation",
        "output_tokens",
        "provider",
        "report",
        "response_model",
        "scope",
        "size",
        "tells_usage",
        "usage",
        "written_by",
    )

    _answer: StoredAnswer | None
    body: bytes
    fresh_seconds: float
    gone_at: float
    headers: tuple[tuple[bytes, bytes], ...]
    input_tokens: int
    is_stream: bool
    keep_seconds: float
    made_at: float
    may_be_stored: bool
    model: str
    namespace: str
    operation: str
    output_tokens: int
    provider: str | None
    report: CacheReport | None
    response_model: str | None
    scope: str
    size: int
    tells_usage: bool
    usage: Usage | None
    written_by: str | None

    @property
    def answer(self) -> StoredAnswer:
        """It as all stores have it."""
        if self._answer is None:
            self._answer = StoredAnswer(
                body=self.body,
                operation=self.operation,
                scope=self.scope,
                model=self.model,
                fresh_seconds=self.fresh_seconds,
                keep_seconds=self.keep_seconds,
                is_stream=self.is_stream,
                tells_usage=self.tells_usage,
                headers=self.headers,
                namespace=self.namespace,
                written_by=self.written_by,
                provider=self.provider,
                response_model=self.response_model,
                usage=self.usage,
            )
        return self._answer


def keep_answer(answer: StoredAnswer) -> KeptAnswer:
    """``answer`` as it is kept here."""
    kept = KeptAnswer.__new__(KeptAnswer)
    kept._answer = answer
    kept.report = None
    kept.body = answer.body
    kept.operation = answer.operation
    kept.scope = answer.scope
    kept.model = answer.model
    kept.fresh_seconds = answer.fresh_seconds
    kept.keep_seconds = answer.keep_seconds
    kept.is_stream = answer.is_stream
    kept.tells_usage = answer.tells_usage
    kept.headers = answer.headers
    kept.namespace = answer.namespace
    kept.written_by = answer.written_by
    kept.provider = answer.provider
    kept.response_model = answer.response_model
    kept.usage = answer.usage
    kept.size = answer_size(answer)
    kept.may_be_stored = True
    return kept


def answer_size(answer: StoredAnswer) -> int:
    """What an answer takes in memory, in bytes, with its place in a table. Rather too much."""
    return entry_size(
        answer.body,
        answer.headers,
        answer.scope,
        answer.model,
        answer.namespace,
        answer.written_by,
        answer.provider,
        answer.response_model,
    )


def entry_size(
    body: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
    scope: str,
    model: str,
    namespace: str,
    written_by: str | None,
    provider: str | None,
    response_model: str | None,
) -> int:
    """``answer_size`` of an answer of these parts, as ``StoredAnswer`` has them."""
    letters = len(scope) + len(model) + len(namespace)
    if written_by is not None:
        letters += len(written_by)
    if provider is not None:
        letters += len(provider)
    if response_model is not None:
        letters += len(response_model)
    total = _ENTRY_BYTES + len(body) + _WIDE * letters
    if headers is not JSON_HEADERS:
        for name, value in headers:
            total += _PAIR_BYTES + len(name) + len(value)
    return total

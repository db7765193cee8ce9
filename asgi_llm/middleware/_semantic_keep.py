"""A new answer at a semantic cache: kept, compared with what was stored, and learned from."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from asgi_llm._asgi import Observer
from asgi_llm._tasks import finish
from asgi_llm.errors import RawHeaders
from asgi_llm.middleware._cache_answer import AnswerHead, judge_answer, read_head
from asgi_llm.middleware._cache_replay import LARGE_BYTES, told_headers
from asgi_llm.middleware._cache_request import CacheRequest
from asgi_llm.middleware._semantic_answers import answer_text
from asgi_llm.middleware._semantic_policy import Evidence
from asgi_llm.middleware._semantic_prompt import Prompt
from asgi_llm.middleware._semantic_settings import (
    Candidate,
    SemanticSettings,
    compared,
    explored,
    recorded,
)
from asgi_llm.middleware._semantic_shadow import ShadowRecord
from asgi_llm.state import State
from asgi_llm.stores.cache import StoredAnswer, encode_answer
from asgi_llm.stores.semantic_index import IndexEntry, Learning, Match
from asgi_llm.types import Outcome

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["NewAnswer", "record"]

_UPDATES: Final = 5
"""Tries to write what was learned, while others write, too."""
_VERSION_BITS: Final = 48
"""Every index holds such a version, with the updates that follow, without rounding it."""


class NewAnswer(Observer):
    """Records the answer of the app as it passes.

    Args:
        settings: Of the layer.
        request: As caches see it.
        prompt: Its text, and the rest.
        partition: Digest of all that has to be equal.
        state: Of the request.
        vector: Of the prompt; None: the answer is not to be kept.
        seen: The stored answers that were looked at.
    """

    def __init__(
        self,
        settings: SemanticSettings,
        request: CacheRequest,
        prompt: Prompt,
        partition: bytes,
        state: State,
        *,
        vector: Vector | None,
        seen: Sequence[Candidate],
    ) -> None:
        self._settings = settings
        self._request = request
        self._prompt = prompt
        self._partition = partition
        self._state = state
        self._vector = vector
        self._seen = seen
        self._head: AnswerHead | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._answer: StoredAnswer | None = None
        self._compares = settings.comparison is not None and bool(
            compared(seen, all_of_them=settings.shadow is not None)
        )

    async def on_start(self, status: int, headers: RawHeaders) -> None:
        headers[:] = told_headers({"type": "http.response.start", "headers": headers}, self._state)
        if self._vector is not None or self._compares:
            self._head = read_head(status, headers)

    async def on_body(self, chunk: bytes, more: bool) -> bytes:
        if self._head is None:
            return chunk
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > self._settings.max_entry_bytes:
            self._head = None
            self._chunks.clear()
        elif not more:
            await self._whole(self._head)
        return chunk

    async def on_end(self, outcome: Outcome) -> None:
        if outcome is not Outcome.COMPLETE or self._answer is None:
            self._record()
        else:
            await finish(self._compare(self._answer))

    async def _whole(self, head: AnswerHead) -> None:
        body = b"".join(self._chunks)
        self._chunks.clear()
        if len(body) > LARGE_BYTES:
            answer = await asyncio.to_thread(self._judge, head, body)
        else:
            answer = self._judge(head, body)
        if answer is None:
            return
        if self._compares:
            # Comparing takes a while: the client has its answer first.
            self._answer = answer
        elif self._vector is not None:
            # Before the last byte leaves, so that whoever has read it finds the entry.
            await finish(self._keep(answer, self._vector))

    def _judge(self, head: AnswerHead, body: bytes) -> StoredAnswer | None:
        """The answer to be kept; None: it is none that may be."""
        ttl = self._request.controls.ttl_seconds
        seconds = self._settings.ttl_seconds if ttl is None else ttl
        verdict = judge_answer(self._request, head, body, self._state, seconds, seconds)
        return None if verdict is None or not verdict.may_be_stored else verdict.answer

    async def _keep(self, answer: StoredAnswer, vector: Vector) -> None:
        settings = self._settings
        now = settings.clock()
        text = self._prompt.text
        # The same text replaces what was kept for it, whichever process keeps it.
        digest = hashlib.sha256(self._partition + text.encode("utf-8", "surrogatepass"))
        entry = IndexEntry(
            id=f"sem_{digest.hexdigest()[:32]}",
            partition=self._partition,
            text=text,
            payload=encode_answer(answer),
            model=self._request.model,
            namespace=self._request.controls.namespace,
            scope=self._request.partition,
            created=now,
            expires=now + answer.keep_seconds,
            last_used=now,
            # An id comes back with another answer; the version does not, so that what is learned
            # of the old answer is not written onto the new one.
            learning=Learning(version=secrets.randbits(_VERSION_BITS)),
        )
        settings.counts.writes += 1
        await settings.calls.ask(
            settings.index.add(entry, vector),
            who="index",
            timeout_seconds=settings.index_timeout_seconds,
        )

    async def _compare(self, answer: StoredAnswer) -> None:
        """Compare with the stored ones that were considered, learn, and keep what says more."""
        settings, seen = self._settings, self._seen
        tried = explored(seen)
        new = answer_text(answer)
        if new is not None:
            for candidate in compared(seen, all_of_them=settings.shadow is not None):
                candidate.same = await self._same(candidate, new)
        self._record()
        is_new = True
        if tried is not None and tried.same is not None:
            settings.counts.explored += 1
            settings.counts.confirmed += tried.same
            if tried.evidence is not None:
                await self._learn(tried.match, tried.evidence, tried.same)
            is_new = not tried.same
        if is_new and self._vector is not None:
            await self._keep(answer, self._vector)

    async def _same(self, candidate: Candidate, new: str) -> bool | None:
        settings = self._settings
        old = None if candidate.answer is None else answer_text(candidate.answer)
        if old is None or settings.comparison is None:
            return None
        return await settings.calls.ask(
            settings.comparison.same(self._prompt.text, old, new),
            who="comparison",
            timeout_seconds=settings.judge_timeout_seconds,
        )

    async def _learn(self, match: Match, evidence: Evidence, same: bool) -> None:
        settings, old = self._settings, match.entry
        learning = old.learning
        for _ in range(_UPDATES):
            state = settings.policy.learn(evidence, same, learning.state)
            written = await settings.calls.ask(
                settings.index.update_learning(
                    old.id, expected_version=learning.version, state=state
                ),
                who="index",
                timeout_seconds=settings.index_timeout_seconds,
            )
            if written is None:
                return
            if written:
                settings.policy.generalize(evidence, same, learning.state)
                return
            entry = await settings.calls.ask(
                settings.index.get(old.id),
                who="index",
                timeout_seconds=settings.index_timeout_seconds,
            )
            if entry is None or entry.payload != old.payload:
                return  # What was compared is gone.
            learning = entry.learning

    def _record(self) -> None:
        record(self._settings, self._request, self._prompt, self._state, self._seen)


def record(
    settings: SemanticSettings,
    request: CacheRequest,
    prompt: Prompt,
    state: State,
    seen: Sequence[Candidate],
) -> None:
    """Tell the shadow's sink, if there is one, what was considered for a request."""
    if settings.shadow is None:
        return
    for candidate in recorded(seen):
        entry = candidate.match.entry
        settings.shadow(
            ShadowRecord(
                time=settings.clock(),
                request_id=state.request_id,
                entry_id=entry.id,
                model=request.model,
                similarity=round(candidate.match.similarity, 4),
                guard=candidate.guard,
                served=candidate.verdict == "serve",
                same=candidate.same,
                new_text=prompt.text if settings.records_texts else None,
                old_text=entry.text if settings.records_texts else None,
            )
        )

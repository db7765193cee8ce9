"""One request at a semantic cache: from its text to a stored answer, or to a new one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from starlette.types import Message, Scope, Send

from asgi_llm._asgi import BufferedBody, Observer, observe
from asgi_llm._tasks import finish
from asgi_llm.errors import RawHeaders
from asgi_llm.middleware._agreement import Reading, disagreement
from asgi_llm.middleware._cache_answer import AnswerHead, judge_answer, read_head
from asgi_llm.middleware._cache_replay import (
    LARGE_BYTES,
    answer_body,
    hit_report,
    replay,
    told_headers,
)
from asgi_llm.middleware._cache_request import CacheRequest, digest_request
from asgi_llm.middleware._semantic_answers import answer_text
from asgi_llm.middleware._semantic_policy import Evidence
from asgi_llm.middleware._semantic_prompt import TURN_BORDER, Prompt
from asgi_llm.middleware._semantic_settings import (
    Candidate,
    SemanticSettings,
    compared,
    explored,
    not_stored,
    recorded,
)
from asgi_llm.middleware._semantic_shadow import ShadowRecord
from asgi_llm.middleware._semantic_wording import wording_of
from asgi_llm.state import CACHE_STATUS, UNCACHEABLE, State
from asgi_llm.stores.cache import StoredAnswer, decode_answer, encode_answer
from asgi_llm.stores.semantic_index import IndexEntry, Learning, Match
from asgi_llm.types import CacheReport, Outcome

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["SemanticLookup"]

_MISS: Final = CacheReport(status="miss")
_UPDATES: Final = 5
"""Tries to write what was learned, while others write, too."""
_TURN_WEIGHT: Final = 0.5
"""Of each turn, next to the one after it."""


class SemanticLookup:
    """One request.

    Args:
        settings: Of the layer.
        request: As caches see it.
        prompt: Its text, and the rest.
        scope: With the state in it.
        body: The request's body.
        send: The client's.
        state: Of the request.
    """

    def __init__(
        self,
        settings: SemanticSettings,
        request: CacheRequest,
        prompt: Prompt,
        scope: Scope,
        body: BufferedBody,
        send: Send,
        state: State,
    ) -> None:
        self._settings = settings
        self._request = request
        self._prompt = prompt
        self._scope = scope
        self._body = body
        self._send = send
        self._state = state
        self._partition = digest_request(
            request,
            prompt.rest,
            purpose=f"semantic {len(prompt.turns)} {settings.embedder.name}",
        )

    async def run(self) -> None:
        """Answer the request.

        Raises:
            StoreError: The index failed, and that is to be told.
            RequestError: Only a stored answer would do, and there is none.
        """
        settings, controls = self._settings, self._request.controls
        vector = await self._embed()
        seen: list[Candidate] = []
        if vector is not None and controls.looks:
            seen = await self._look(vector)
            chosen = seen[-1] if seen and seen[-1].verdict == "serve" else None
            if chosen is not None and settings.enforces and await self._serve(chosen):
                self._record(seen)
                return
        if controls.only_cached:
            self._record(seen)
            raise not_stored()
        settings.counts.misses += 1
        if self._state.get(CACHE_STATUS) is None or settings.enforces:
            self._state.set(CACHE_STATUS, _MISS)
        answer = _NewAnswer(self, vector if controls.stores else None, seen)
        await observe(settings.app, self._scope, self._body.receive, self._send, answer)

    async def _embed(self) -> Vector | None:
        """The vector of the prompt; None: it cannot be had in time."""
        settings = self._settings
        vectors = await settings.calls.ask(
            settings.embedder.embed(self._prompt.turns),
            who="embedder",
            timeout_seconds=settings.embed_timeout_seconds,
        )
        if vectors is None:
            return None
        vector: Vector = vectors[-1]
        if len(vectors) > 1:
            weight = 1.0
            for earlier in vectors[-2::-1]:
                weight *= _TURN_WEIGHT
                vector = vector + earlier * weight
            vector = vector / float(vector @ vector) ** 0.5
        return vector

    async def _look(self, vector: Vector) -> list[Candidate]:
        """The candidates that were looked at; of the last the answer may be served or explored."""
        settings = self._settings
        matches = await settings.calls.ask(
            settings.index.search(
                self._partition,
                vector,
                settings.candidates,
                min_similarity=settings.min_similarity,
            ),
            who="index",
            timeout_seconds=settings.index_timeout_seconds,
            denies=True,
        )
        seen: list[Candidate] = []
        if not matches:
            return seen
        turns = [settings.read(turn) for turn in self._prompt.turns]
        wording = wording_of(turns) if settings.policy.learns else b""
        for match in matches:
            candidate = await self._judge(match, turns, wording)
            if candidate is not None:
                seen.append(candidate)
                if candidate.verdict != "skip":
                    break
        return seen

    async def _judge(
        self, match: Match, turns: Sequence[Reading], wording: bytes
    ) -> Candidate | None:
        """What to do with one entry; None: it is none that this request could be answered with."""
        settings, entry = self._settings, match.entry
        answer = decode_answer(entry.payload)
        if (
            answer is None
            or answer.scope != self._request.partition
            or not self._request.controls.allow(max(0.0, settings.clock() - entry.created))
        ):
            return None
        old_turns = entry.text.split(TURN_BORDER)
        if len(old_turns) != len(turns):
            return None
        if entry.text == self._prompt.text:
            # Nothing is left to doubt: it is the same request.
            return Candidate(match, None, "serve", answer)
        readings = [settings.read(turn) for turn in old_turns]
        for new, old in zip(turns, readings, strict=True):
            refusal = disagreement(new, old, settings.guards)
            if refusal is not None:
                settings.counts.refusals[refusal[0]] += 1
                return Candidate(match, refusal[0], "skip", answer)
        evidence = Evidence(
            similarity=match.similarity,
            wording=wording,
            same_wording=wording != b"" and wording == wording_of(readings),
        )
        verdict = settings.policy.decide(evidence, entry.learning.state)
        if (
            verdict == "serve"
            and settings.judge is not None
            and not await settings.calls.ask(
                settings.judge.accepts(self._prompt.text, entry.text),
                who="judge",
                timeout_seconds=settings.judge_timeout_seconds,
            )
        ):
            settings.counts.refusals["judge"] += 1
            return Candidate(match, "judge", "skip", answer)
        return Candidate(match, None, verdict, answer, evidence)

    async def _serve(self, candidate: Candidate) -> bool:
        """Send the stored answer; whether it could be had in the form that is wanted."""
        settings, answer, entry = self._settings, candidate.answer, candidate.match.entry
        body = None if answer is None else await answer_body(answer, self._request)
        if answer is None or body is None:
            return False
        report = hit_report(answer, "semantic")
        settings.counts.note_hit(report.usage)
        # A cache further out must not keep it: nobody could take it back there.
        self._state.set(UNCACHEABLE, "semantic")
        await replay(
            _Told(self._send, candidate.match),
            self._state,
            answer,
            body,
            report=report,
            streams=self._request.streams,
            age_seconds=max(0.0, settings.clock() - entry.created),
            event_seconds=settings.event_seconds,
        )
        await finish(self._touch(entry.id))
        return True

    async def _touch(self, id: str) -> None:
        settings = self._settings
        await settings.calls.ask(
            settings.index.touch(id),
            who="index",
            timeout_seconds=settings.index_timeout_seconds,
        )

    def judge_body(self, head: AnswerHead, body: bytes) -> StoredAnswer | None:
        """The answer to be kept; None: it is none that may be."""
        controls = self._request.controls
        ttl = controls.ttl_seconds
        seconds = self._settings.ttl_seconds if ttl is None else ttl
        verdict = judge_answer(
            self._request,
            head,
            body,
            self._state,
            fresh_seconds=seconds,
            keep_seconds=seconds,
        )
        return None if verdict is None or not verdict.may_be_stored else verdict.answer

    async def keep(self, answer: StoredAnswer, vector: Vector) -> None:
        """Keep a new answer."""
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
        )
        settings.counts.writes += 1
        await settings.calls.ask(
            settings.index.add(entry, vector),
            who="index",
            timeout_seconds=settings.index_timeout_seconds,
        )

    async def compare(self, seen: Sequence[Candidate], answer: StoredAnswer) -> bool:
        """Compare a new answer with the stored ones that were considered, and learn.

        Whether the new one has to be kept: not where a stored one says the same.
        """
        settings = self._settings
        tried = explored(seen)
        new = answer_text(answer)
        if new is not None:
            for candidate in compared(seen, all_of_them=settings.shadow is not None):
                candidate.same = await self._same(candidate, new)
        self._record(seen)
        if tried is None or tried.same is None:
            return True
        settings.counts.explored += 1
        settings.counts.confirmed += tried.same
        if tried.evidence is not None:
            await self._learn(tried.match, tried.evidence, tried.same)
        return not tried.same

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
        settings, id = self._settings, match.entry.id
        learning: Learning | None = match.entry.learning
        for _ in range(_UPDATES):
            if learning is None:
                return
            state = settings.policy.learn(evidence, same, learning.state)
            written = await settings.calls.ask(
                settings.index.update_learning(id, expected_version=learning.version, state=state),
                who="index",
                timeout_seconds=settings.index_timeout_seconds,
            )
            if written is None:
                return
            if written:
                settings.policy.generalize(evidence, same, learning.state)
                return
            learning = await settings.calls.ask(
                settings.index.learning(id),
                who="index",
                timeout_seconds=settings.index_timeout_seconds,
            )

    def _record(self, seen: Sequence[Candidate]) -> None:
        settings = self._settings
        if settings.shadow is None:
            return
        for candidate in recorded(seen):
            entry = candidate.match.entry
            settings.shadow(
                ShadowRecord(
                    time=settings.clock(),
                    request_id=self._state.request_id,
                    entry_id=entry.id,
                    model=self._request.model,
                    similarity=round(candidate.match.similarity, 4),
                    guard=candidate.guard,
                    served=candidate.verdict == "serve",
                    same=candidate.same,
                    new_text=self._prompt.text if settings.records_texts else None,
                    old_text=entry.text if settings.records_texts else None,
                )
            )

    def record(self, seen: Sequence[Candidate]) -> None:
        """Record what was considered, where there is no new answer to compare with."""
        self._record(seen)

    @property
    def settings(self) -> SemanticSettings:
        """Of the layer."""
        return self._settings

    @property
    def state(self) -> State:
        """Of the request."""
        return self._state


class _Told:
    """The ``send`` of a hit: the start says which entry it is, and how similar."""

    __slots__ = ("_match", "_send")

    def __init__(self, send: Send, match: Match) -> None:
        self._send = send
        self._match = match

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            match = self._match
            similarity = b"%.4f" % min(1.0, match.similarity)
            headers = [
                *message["headers"],
                (b"x-cache-similarity", similarity),
                (b"x-cache-entry", match.entry.id.encode("ascii")),
            ]
            message = {**message, "headers": headers}
        await self._send(message)


class _NewAnswer(Observer):
    """Records the answer of the app as it passes."""

    def __init__(
        self, lookup: SemanticLookup, vector: Vector | None, seen: Sequence[Candidate]
    ) -> None:
        self._lookup = lookup
        self._vector = vector
        self._seen = seen
        self._head: AnswerHead | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._answer: StoredAnswer | None = None
        settings = lookup.settings
        self._compares = settings.comparison is not None and bool(
            compared(seen, all_of_them=settings.shadow is not None)
        )

    async def on_start(self, status: int, headers: RawHeaders) -> None:
        headers[:] = told_headers(
            {"type": "http.response.start", "headers": headers}, self._lookup.state
        )
        if self._vector is not None or self._compares:
            self._head = read_head(status, headers)

    async def on_body(self, chunk: bytes, more: bool) -> bytes:
        if self._head is None:
            return chunk
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > self._lookup.settings.max_entry_bytes:
            self._head = None
            self._chunks.clear()
        elif not more:
            await self._whole(self._head)
        return chunk

    async def _whole(self, head: AnswerHead) -> None:
        body = b"".join(self._chunks)
        self._chunks.clear()
        if len(body) > LARGE_BYTES:
            answer = await asyncio.to_thread(self._lookup.judge_body, head, body)
        else:
            answer = self._lookup.judge_body(head, body)
        if answer is None:
            return
        if self._compares:
            # Comparing takes a while: the client has its answer first.
            self._answer = answer
        elif self._vector is not None:
            # Before the last byte leaves, so that whoever has read it finds the entry.
            await finish(self._lookup.keep(answer, self._vector))

    async def on_end(self, outcome: Outcome) -> None:
        if outcome is not Outcome.COMPLETE or self._answer is None:
            self._lookup.record(self._seen)
        else:
            await finish(self._compare(self._answer))

    async def _compare(self, answer: StoredAnswer) -> None:
        is_new = await self._lookup.compare(self._seen, answer)
        if is_new and self._vector is not None:
            await self._lookup.keep(answer, self._vector)

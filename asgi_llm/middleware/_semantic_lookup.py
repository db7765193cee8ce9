"""One request at a semantic cache: from its text to a stored answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from starlette.types import Message, Scope, Send

from asgi_llm._asgi import BufferedBody, observe
from asgi_llm._tasks import finish
from asgi_llm.middleware._agreement import Reading, disagreement
from asgi_llm.middleware._cache_controls import not_cached
from asgi_llm.middleware._cache_replay import MISS, answer_body, hit_report, replay
from asgi_llm.middleware._cache_request import CacheRequest, digest_request
from asgi_llm.middleware._semantic_keep import NewAnswer, record
from asgi_llm.middleware._semantic_policy import Evidence
from asgi_llm.middleware._semantic_prompt import TURN_BORDER, Prompt
from asgi_llm.middleware._semantic_settings import Candidate, SemanticSettings
from asgi_llm.middleware._semantic_wording import wording_of
from asgi_llm.state import CACHE_STATUS, UNCACHEABLE, State
from asgi_llm.stores.cache import decode_answer
from asgi_llm.stores.semantic_index import Match

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["SemanticLookup"]

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
                record(settings, self._request, self._prompt, self._state, seen)
                return
        if controls.only_cached:
            record(settings, self._request, self._prompt, self._state, seen)
            raise not_cached()
        settings.counts.misses += 1
        if self._state.get(CACHE_STATUS) is None or settings.enforces:
            self._state.set(CACHE_STATUS, MISS)
        answer = NewAnswer(
            settings,
            self._request,
            self._prompt,
            self._partition,
            self._state,
            vector=vector if controls.stores else None,
            seen=seen,
        )
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

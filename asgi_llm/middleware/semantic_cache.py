"""Answers that were given before, for requests that ask the same in other words."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Collection
from typing import Final, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody, route_path, send_error
from asgi_llm.embedders.base import Embedder
from asgi_llm.errors import ConfigurationError, InvalidRequestError, LLMError
from asgi_llm.middleware._agreement import GUARDS, GuardName, read
from asgi_llm.middleware._cache_controls import (
    NO_CONTROLS,
    CacheControls,
    not_cached,
    read_controls,
)
from asgi_llm.middleware._cache_replay import ToldAnswer
from asgi_llm.middleware._cache_request import CacheRequest, is_json, read_request
from asgi_llm.middleware._cache_scope import (
    CREDENTIAL_HEADERS,
    CacheScope,
    Partitioner,
    ScopeFinder,
    WithoutPrincipal,
)
from asgi_llm.middleware._semantic_answers import AnswerComparison, EmbeddedAnswers, Judge
from asgi_llm.middleware._semantic_calls import SemanticCalls
from asgi_llm.middleware._semantic_counts import SemanticCounts
from asgi_llm.middleware._semantic_lookup import SemanticLookup
from asgi_llm.middleware._semantic_policy import DecisionPolicy, ThresholdPolicy
from asgi_llm.middleware._semantic_prompt import Prompt, read_prompt
from asgi_llm.middleware._semantic_settings import SemanticSettings, forget
from asgi_llm.middleware._semantic_shadow import ShadowSink
from asgi_llm.middleware._semantic_verified import VerifiedPolicy
from asgi_llm.state import CACHE_STATUS, DEPLOYMENT, FAILURE, PRINCIPAL, State, enter
from asgi_llm.stores.semantic_index import MAX_ID_CHARACTERS, SemanticIndex
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex
from asgi_llm.types import CacheReport

__all__ = ["GUARDED_THRESHOLD", "PLAIN_THRESHOLD", "VERIFIED_THRESHOLD", "SemanticCacheMiddleware"]

logger = logging.getLogger(__name__)

MIB: Final = 1024 * 1024

GUARDED_THRESHOLD: Final = 0.80
"""Least similarity where all guards have to agree, measured with all-MiniLM-L6-v2."""

PLAIN_THRESHOLD: Final = 0.95
"""Least similarity where any guard is left out. It alone tells nothing: see the documentation."""

VERIFIED_THRESHOLD: Final = 0.70
"""Where the policy ``verified`` begins to look."""

ROUTES: Final = frozenset(("/v1/chat/completions", "/v1/completions"))

_BYPASS: Final = CacheReport(status="bypass")
_OBSERVED_SIMILARITY: Final = 0.6


class SemanticCacheMiddleware:
    """Answers requests that ask the same as an earlier one, in other words, with its answer.

    The last user turn is compared by meaning. All else that shapes the answer has to be equal:
    who shares (``scope``), the path with its query, ``X-Cache-Namespace``, and the whole document
    but for that turn and for fields like ``user``. A stored answer is served if its text is similar
    enough, if every guard agrees (numbers, negation, names and so on), and if the policy has no
    doubt.

    Only POSTs of JSON to chat completions and completions are looked at. Requests with images,
    with tools in play or with a temperature above the limit pass, and so does all else. Kept are
    answers that are whole and ended by themselves; never errors and never what was cut off,
    filtered or changed on its way. Put it inside of authentication, limits, meters and the exact
    cache.

    Args:
        embedder: Turns texts into vectors. It is the caller's to close, as the index is.
        index: Where answers are kept and found. Default: one in this process.
        policy: ``threshold`` (what is similar enough is served), ``verified`` (each entry learns
            how far its answer carries), or one of one's own.
        threshold: From 0 to 1: the least similarity, for both policies. Default: 0.80 with all
            guards, else 0.95; for ``verified`` 0.70.
        max_error_rate: For ``verified``: of the requests with a candidate at most this share gets
            a wrong stored answer. Above 0 and below 0.5.
        confidence: For ``verified``: how sure that is, from 0.5 to below 1.
        guards: Which guards have to agree.
        judge: Has the last word on what would be served.
        comparison: Compares answers, for ``verified`` and for shadow records. Default: by equality,
            then by the embedder.
        mode: ``observe`` looks, records and stores, and serves nothing.
        shadow: Gets a record of each candidate, such as a ``ShadowFile``.
        shadow_texts: Whether the records hold the texts.
        scope: Who shares answers; see ``ExactCacheMiddleware``, as for the next three.
        without_principal: Callers that nobody has told apart.
        credential_headers: What counts as credentials.
        client_controls: Whether clients may say of caching what the headers ``Cache-Control``,
            ``X-Cache-TTL`` and ``X-Cache-Namespace`` say, and take an entry back by
            ``X-Cache-Feedback``.
        conversation_turns: How many user turns are compared by meaning, at least 1. With 1, all
            earlier turns have to be equal; with more, what assistants said between those turns is
            left out.
        max_temperature: Requests above it pass; at least 0.
        max_text_characters: Longer texts pass, above 0.
        candidates: How many of the nearest entries are looked at, from 1 to 1000.
        ttl_seconds: How long an answer is served, above 0.
        max_ttl_seconds: What ``X-Cache-TTL`` is cut to, above 0.
        max_entry_bytes: A longer answer is not kept, above 0.
        replay_event_seconds: Between two events of a stream out of the cache, at least 0.
        on_store_error: What becomes of a request when the index fails or is too late: ``allow``
            goes on as if nothing was stored, ``deny`` answers 503.
        embed_timeout_seconds: Deadline of the embedder, above 0; after it the request misses.
        index_timeout_seconds: Deadline of a call of the index, above 0.
        judge_timeout_seconds: Deadline of a judge and of a comparison, above 0.
        max_body_bytes: Cap on a request's body, above 0.
        body_timeout_seconds: How long it may take, above 0.
        counts: Go on from here. Default: from 0.
        clock: Unix time in seconds.

    Attributes:
        index: As given.
        policy: As given, or as chosen.
        counts: Hits, misses, refusals by guard and what was saved, of this process.

    Streaming: chunks pass as they come. Up to ``max_entry_bytes`` of an answer are held until it
    is whole.

    Raises:
        ConfigurationError: An option is wrong; ``param`` names it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        embedder: Embedder,
        index: SemanticIndex | None = None,
        policy: Literal["threshold", "verified"] | DecisionPolicy = "threshold",
        threshold: float | None = None,
        max_error_rate: float = 0.01,
        confidence: float = 0.95,
        guards: Collection[GuardName] = tuple(GUARDS),
        judge: Judge | None = None,
        comparison: AnswerComparison | None = None,
        mode: Literal["enforce", "observe"] = "enforce",
        shadow: ShadowSink | None = None,
        shadow_texts: bool = False,
        scope: CacheScope | ScopeFinder = "organization",
        without_principal: WithoutPrincipal = "by_credentials",
        credential_headers: Collection[str] = CREDENTIAL_HEADERS,
        client_controls: bool = True,
        conversation_turns: int = 1,
        max_temperature: float = 1.0,
        max_text_characters: int = 8000,
        candidates: int = 8,
        ttl_seconds: float = 3600.0,
        max_ttl_seconds: float = 30 * 86400.0,
        max_entry_bytes: int = MIB,
        replay_event_seconds: float = 0.0,
        on_store_error: Literal["allow", "deny"] = "allow",
        embed_timeout_seconds: float = 0.25,
        index_timeout_seconds: float = 0.1,
        judge_timeout_seconds: float = 5.0,
        max_body_bytes: int = 32 * MIB,
        body_timeout_seconds: float = 60.0,
        counts: SemanticCounts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for option, value in (
            ("conversation_turns", conversation_turns),
            ("max_text_characters", max_text_characters),
            ("ttl_seconds", ttl_seconds),
            ("max_ttl_seconds", max_ttl_seconds),
            ("max_entry_bytes", max_entry_bytes),
            ("embed_timeout_seconds", embed_timeout_seconds),
            ("index_timeout_seconds", index_timeout_seconds),
            ("judge_timeout_seconds", judge_timeout_seconds),
            ("max_body_bytes", max_body_bytes),
            ("body_timeout_seconds", body_timeout_seconds),
        ):
            if not 0 < value < math.inf:
                raise ConfigurationError(f"{option} must be above 0, not {value!r}", param=option)
        for option, value in (
            ("max_temperature", max_temperature),
            ("replay_event_seconds", replay_event_seconds),
        ):
            if not value >= 0:
                raise ConfigurationError(
                    f"{option} must be at least 0, not {value!r}", param=option
                )
        if not 1 <= candidates <= 1000:
            raise ConfigurationError(
                f"candidates must be from 1 to 1000, not {candidates!r}", param="candidates"
            )
        if on_store_error not in ("allow", "deny"):
            raise ConfigurationError(
                f"on_store_error must be allow or deny, not {on_store_error!r}",
                param="on_store_error",
            )
        if mode not in ("enforce", "observe"):
            raise ConfigurationError(f"mode must be enforce or observe, not {mode!r}", param="mode")
        asked = _checked_guards(guards)
        self.app = app
        self.counts = SemanticCounts() if counts is None else counts
        self.index: SemanticIndex = MemorySemanticIndex(clock=clock) if index is None else index
        self.policy = _policy(policy, threshold, max_error_rate, confidence, asked)
        if comparison is None and (self.policy.learns or shadow is not None):
            comparison = EmbeddedAnswers(embedder)
        self._partitioner = Partitioner(
            scope, without_principal=without_principal, credential_headers=credential_headers
        )
        self._client_controls = client_controls
        self._turns = conversation_turns
        self._max_temperature = max_temperature
        self._max_characters = max_text_characters
        self._max_ttl = max_ttl_seconds
        self._max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout_seconds
        least = self.policy.min_similarity
        self._settings = SemanticSettings(
            app=app,
            embedder=embedder,
            index=self.index,
            policy=self.policy,
            guards=asked,
            judge=judge,
            comparison=comparison,
            calls=SemanticCalls(self.counts, deny=on_store_error == "deny", logger=logger),
            counts=self.counts,
            read=functools.lru_cache(maxsize=1024)(read),
            enforces=mode == "enforce",
            shadow=shadow,
            records_texts=shadow_texts,
            min_similarity=least if shadow is None else min(least, _OBSERVED_SIMILARITY),
            candidates=candidates,
            ttl_seconds=ttl_seconds,
            max_entry_bytes=max_entry_bytes,
            embed_timeout_seconds=embed_timeout_seconds,
            index_timeout_seconds=index_timeout_seconds,
            judge_timeout_seconds=judge_timeout_seconds,
            event_seconds=replay_event_seconds,
            clock=clock,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        path = route_path(scope)
        if path not in ROUTES:
            await self.app(scope, receive, send)
            return
        scope, state = enter(scope)
        headers = state.headers
        if not is_json(headers):
            await self._bypass(scope, receive, send, state)
            return
        try:
            controls = (
                read_controls(headers, max_ttl_seconds=self._max_ttl)
                if self._client_controls
                else NO_CONTROLS
            )
            body = await BufferedBody.read(
                scope, receive, max_bytes=self._max_body_bytes, timeout_seconds=self._body_timeout
            )
            if body is None:
                return
            found = self._read(path, body.data, scope, state, controls)
            if found is not None:
                request, prompt = found
                await self._take_back(headers.get(b"x-cache-feedback"), request.partition)
                lookup = SemanticLookup(self._settings, request, prompt, scope, body, send, state)
                await lookup.run()
                return
            if controls.only_cached:
                raise not_cached()
        except LLMError as error:
            state.set(FAILURE, error)
            await send_error(send, state, error)
            return
        await self._bypass(scope, body.receive, send, state)

    def _read(
        self, path: str, data: bytes, scope: Scope, state: State, controls: CacheControls
    ) -> tuple[CacheRequest, Prompt] | None:
        """The request as caches see it; None: it is not looked up."""
        partition = self._partitioner.partition(scope, state.get(PRINCIPAL))
        if partition is None:
            return None
        try:
            document = state.document(data)
        except InvalidRequestError:
            # The app refuses it in its own words.
            return None
        request = read_request(
            document,
            path,
            scope.get("query_string", b""),
            partition,
            controls,
            state.get(DEPLOYMENT),
        )
        if request is None:
            return None
        prompt = read_prompt(
            request,
            turns=self._turns,
            max_temperature=self._max_temperature,
            max_characters=self._max_characters,
        )
        return None if prompt is None else (request, prompt)

    async def _take_back(self, told: bytes | None, partition: str) -> None:
        """Remove an entry that a client calls wrong."""
        if told is None or not self._client_controls:
            return
        id = told.decode("ascii", "replace").strip()
        if (
            0 < len(id) <= MAX_ID_CHARACTERS
            and id.isascii()
            and id.isprintable()
            and " " not in id
            and await forget(self._settings, id, partition)
        ):
            self.counts.reported += 1

    async def _bypass(self, scope: Scope, receive: Receive, send: Send, state: State) -> None:
        self.counts.bypasses += 1
        if state.get(CACHE_STATUS) is None:
            state.set(CACHE_STATUS, _BYPASS)
        await self.app(scope, receive, ToldAnswer(send, state))


def _checked_guards(guards: Collection[GuardName]) -> tuple[GuardName, ...]:
    unknown = [name for name in guards if name not in GUARDS]
    if unknown:
        raise ConfigurationError(
            f"guards must be of {', '.join(GUARDS)}, not {unknown[0]!r}", param="guards"
        )
    return tuple(name for name in GUARDS if name in guards)


def _policy(
    policy: Literal["threshold", "verified"] | DecisionPolicy,
    threshold: float | None,
    max_error_rate: float,
    confidence: float,
    guards: tuple[GuardName, ...],
) -> DecisionPolicy:
    if policy == "threshold":
        if threshold is None:
            threshold = GUARDED_THRESHOLD if len(guards) == len(GUARDS) else PLAIN_THRESHOLD
        return ThresholdPolicy(threshold)
    if policy == "verified":
        return VerifiedPolicy(
            max_error_rate=max_error_rate,
            confidence=confidence,
            min_similarity=VERIFIED_THRESHOLD if threshold is None else threshold,
        )
    if isinstance(policy, str):
        raise ConfigurationError(
            f"policy must be threshold or verified, not {policy!r}", param="policy"
        )
    return policy

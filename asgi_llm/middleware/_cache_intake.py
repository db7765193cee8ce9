"""A request as it comes to the exact cache: all that is done with it before anything is awaited.

Most requests are plain ones that are found, or are not, in the memory of the process: with them
this is the whole work of the layer but for their answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Receive, Scope, Send

from asgi_llm._asgi import route_path, send_error
from asgi_llm._body import ArrivingBody, BufferedBody, check_length, take_body
from asgi_llm.errors import InvalidRequestError, LLMError, PermissionDeniedError
from asgi_llm.middleware._cache_controls import (
    NO_CONTROLS,
    CacheControls,
    not_cached,
    read_controls,
)
from asgi_llm.middleware._cache_exact import ExactLookup, serve
from asgi_llm.middleware._cache_headers import are_plain_headers, values_of
from asgi_llm.middleware._cache_lead import LedAnswer
from asgi_llm.middleware._cache_plain import READS_BYTES, read_bytes
from asgi_llm.middleware._cache_replay import MISS, ToldAnswer, replay_kept
from asgi_llm.middleware._cache_request import (
    CACHED_ROUTES,
    CacheRequest,
    digest_request,
    is_any,
    is_deterministic,
    is_json,
    name_of,
    read_request,
)
from asgi_llm.middleware._cache_scope import Partitioner
from asgi_llm.middleware._cache_settings import ExactSettings
from asgi_llm.middleware._model_access import check_unseen_model
from asgi_llm.state import CACHE_STATUS, DEPLOYMENT, FAILURE, PRINCIPAL, SCOPE_KEY, State, enter
from asgi_llm.stores.cache import Found
from asgi_llm.types import CacheReport, Document

__all__ = ["Intake"]

_EMBEDDINGS: Final = "/v1/embeddings"
_LARGEST: Final = 2**31 - 1
# Which documents may be stored: every one, those for which ``is_deterministic`` is true, or those
# that a function picks, which has to see them (and all, where they are not read as bytes).
_ALL: Final = 0
_STEADY: Final = 1
_OTHER: Final = 2
_BYPASS: Final = CacheReport(status="bypass")


class Intake:
    """Takes the requests of one layer in.

    Args:
        settings: Of the layer.
        partitioner: Says who shares.
        cacheable: Says of which documents an answer may be stored.
        client_controls: Whether headers of the client say anything.
        max_ttl_seconds: For ``read_controls``.
        max_body_bytes: Cap on a body.
        body_timeout_seconds: How long it may take.
    """

    __slots__ = (
        "_body_timeout",
        "_cacheable",
        "_client_controls",
        "_max_body_bytes",
        "_max_ttl",
        "_most_plain_bytes",
        "_partitioner",
        "_rule",
        "_settings",
    )

    def __init__(
        self,
        settings: ExactSettings,
        *,
        partitioner: Partitioner,
        cacheable: Callable[[Document], bool],
        client_controls: bool,
        max_ttl_seconds: float,
        max_body_bytes: int,
        body_timeout_seconds: float,
    ) -> None:
        self._settings = settings
        self._partitioner = partitioner
        self._cacheable = cacheable
        self._rule = _OTHER
        if READS_BYTES and cacheable in (is_any, is_deterministic):
            self._rule = _ALL if cacheable is is_any else _STEADY
        self._client_controls = client_controls
        self._max_ttl = max_ttl_seconds
        self._max_body_bytes = max_body_bytes
        self._most_plain_bytes = min(int(max_body_bytes), _LARGEST)
        self._body_timeout = body_timeout_seconds

    def take(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Begin a request; it ends with what is to be awaited."""
        told = scope if type(scope) is dict else dict(scope)
        if told["type"] != "http" or told["method"] != "POST":
            return self._settings.app(scope, receive, send)
        path: str = told["path"]
        if path not in CACHED_ROUTES or told.get("root_path"):
            path = route_path(scope)
            if path not in CACHED_ROUTES:
                return self._settings.app(scope, receive, send)
        state = told.get(SCOPE_KEY)
        if type(state) is not State:
            scope, state = enter(scope)
        controls = NO_CONTROLS
        try:
            if not are_plain_headers(state, self._most_plain_bytes):
                headers = state.headers
                if not is_json(headers):
                    return self._bypass(scope, receive, send, state)
                if self._client_controls:
                    controls = read_controls(headers, max_ttl_seconds=self._max_ttl)
                check_length(scope, self._max_body_bytes)
            data = take_body(receive, self._max_body_bytes)
        except LLMError as error:
            return _refuse(error, send, state)
        if data is None:
            return _leave()
        if isinstance(data, ArrivingBody):
            return self._wait(data, path, controls, scope, receive, send, state)
        return self._begin(data, path, controls, scope, receive, send, state)

    async def _wait(
        self,
        arriving: ArrivingBody,
        path: str,
        controls: CacheControls,
        scope: Scope,
        receive: Receive,
        send: Send,
        state: State,
    ) -> None:
        """A request whose body was not there yet."""
        try:
            data = await arriving.whole(self._body_timeout)
        except LLMError as error:
            await _refuse(error, send, state)
            return
        if data is None:
            return
        await self._begin(data, path, controls, scope, receive, send, state)

    def _begin(
        self,
        data: bytes,
        path: str,
        controls: CacheControls,
        scope: Scope,
        receive: Receive,
        send: Send,
        state: State,
    ) -> Awaitable[None]:
        """A request whose body is there."""
        request = self._read(path, data, scope, state, controls)
        if request is None:
            if controls.only_cached:
                return _refuse(not_cached(), send, state)
            return self._bypass(scope, BufferedBody(data, receive).receive, send, state)
        settings = self._settings
        key = request.key
        if key is None:
            key = digest_request(request)
        found = None
        memory = settings.memory
        if memory is not None and (controls is NO_CONTROLS or controls.looks):
            if path == _EMBEDDINGS:
                # Those are looked up item by item.
                pass
            elif (kept := memory.find(key)) is not None:
                age = memory.age(kept)
                if (
                    age <= kept.fresh_seconds
                    and (controls is NO_CONTROLS or controls.allow(age))
                    and kept.is_stream == request.streams
                    and (not kept.is_stream or kept.tells_usage == request.tells_usage)
                ):
                    # It can be served as it is. No app will read the request, of which others tell.
                    state.document(data)
                    if not kept.is_stream or not settings.event_seconds:
                        return replay_kept(send, state, kept, settings.counts, age)
                    return serve(
                        settings, kept.answer, kept.body, send, state, request.streams, age
                    )
                found = Found(kept.answer, age)
            elif (
                settings.shares
                and (controls is NO_CONTROLS or controls.shares)
                and settings.flights.find(key) is None
            ):
                # What a request comes to as a rule that is not a hit; see ExactLookup.
                led = LedAnswer.__new__(LedAnswer)
                led._set_off(settings, request, key, data, scope, receive, send, state)
                settings.counts.misses += 1
                state.set(CACHE_STATUS, MISS)
                return led.run()
        state.document(data)
        return ExactLookup(settings, request, key, scope, data, receive, send, state).run(found)

    def _read(
        self, path: str, data: bytes, scope: Scope, state: State, controls: CacheControls
    ) -> CacheRequest | None:
        """The request as caches see it; None: it is not looked up."""
        told = scope if type(scope) is dict else dict(scope)
        query = told.get("query_string", b"")
        said = values_of(state)
        principal = said.get(PRINCIPAL)
        partition = self._partitioner.partition(scope, principal)
        if partition is None:
            return None
        deployment = said.get(DEPLOYMENT)
        request: CacheRequest | None = None
        is_of_items = path == _EMBEDDINGS
        try:
            if self._rule != _OTHER and not is_of_items:
                request = read_bytes(
                    data,
                    path,
                    CACHED_ROUTES[path],
                    query,
                    partition,
                    controls,
                    "" if controls is NO_CONTROLS else controls.namespace,
                    "" if deployment is None else name_of(deployment),
                    self._rule == _STEADY,
                )
            if request is None:
                document = state.document(data)
                request = read_request(document, path, query, partition, controls, deployment)
                if request is None or not (is_of_items or self._cacheable(document)):
                    return None
            if principal is not None and principal.models is not None:
                check_unseen_model(state, request.model)
        except (InvalidRequestError, PermissionDeniedError):
            # The app refuses it in its own words.
            return None
        return request

    def _bypass(self, scope: Scope, receive: Receive, send: Send, state: State) -> Awaitable[None]:
        self._settings.counts.bypasses += 1
        state.set(CACHE_STATUS, _BYPASS)
        return self._settings.app(scope, receive, ToldAnswer(send, state))


async def _leave() -> None:
    """The client has left."""


def _refuse(error: LLMError, send: Send, state: State) -> Awaitable[None]:
    state.set(FAILURE, error)
    return send_error(send, state, error)

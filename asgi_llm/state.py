"""What layers tell each other about one request, under typed keys.

The state lives in the scope under ``"asgi_llm"``, in a copy of the scope. It is filled by layers
only, never from client headers. ``scope["state"]`` is not used: the ASGI specification keeps it
for lifespan data and it may be absent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar, cast

from starlette.types import Scope

from asgi_llm import _json
from asgi_llm._ids import draw_ids
from asgi_llm._semconv import Operation
from asgi_llm._sse import EventLog
from asgi_llm.errors import InvalidRequestError, LLMError
from asgi_llm.types import (
    Attempt,
    CacheReport,
    Cost,
    Deployment,
    LimitReport,
    Principal,
    Usage,
    Verdict,
)

__all__ = [
    "ATTEMPTS",
    "CACHE_STATUS",
    "COST",
    "DEPLOYMENT",
    "FAILURE",
    "LIMIT_STATUS",
    "OPERATION",
    "PRINCIPAL",
    "REQUEST_MODEL",
    "RESERVED_FIELD",
    "RESPONSE_MODEL",
    "TRANSLATION_LOSS",
    "UNCACHEABLE",
    "USAGE",
    "VERDICTS",
    "State",
    "StateKey",
    "enter",
    "reserved_field",
]

T = TypeVar("T")

SCOPE_KEY = "asgi_llm"

RESERVED_FIELD = SCOPE_KEY
"""The one key of a document that layers write and clients may not send."""

_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


# To draw each by itself would cost more than all else about it.
_new_ids: list[str] = []

# A forked process would give the same ids again.
os.register_at_fork(after_in_child=_new_ids.clear)


class StateKey(Generic[T]):
    """A key of the state, compared by identity, so that anyone may add one without a clash.

    Args:
        name: For messages and debugging only.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"StateKey({self.name!r})"


class State:
    """The mutable record of one request. Values are frozen; a layer replaces, never edits them."""

    __slots__ = (
        "_deferred",
        "_document",
        "_document_source",
        "_event_log",
        "_header_map",
        "_headers",
        "_request_id",
        "_values",
    )

    def __init__(self, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._headers = headers
        self._header_map: dict[bytes, bytes] | None = None
        self._values: dict[StateKey[Any], Any] = {}
        self._deferred: dict[StateKey[Any], Callable[[], Any]] | None = None
        self._request_id: str | None = None
        self._document_source: bytes | None = None
        self._document: Any = None
        self._event_log: EventLog | None = None

    @property
    def request_id(self) -> str:
        """Our own id of the request: ``req_`` and 32 hex digits. Never the client's."""
        if self._request_id is None:
            if not _new_ids:
                _new_ids.extend(draw_ids("req_"))
            self._request_id = _new_ids.pop()
        return self._request_id

    @property
    def event_log(self) -> EventLog:
        """What was decoded of the response's events, for every ``_sse.EventReader`` to share."""
        if self._event_log is None:
            self._event_log = EventLog()
        return self._event_log

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The request's headers by name, for those of which one is enough: the last one counts."""
        if self._header_map is None:
            self._header_map = dict(self._headers)
        return self._header_map

    @property
    def client_request_id(self) -> str | None:
        """The client's ``X-Request-ID``, if it is sane: a label to log and to echo, never a key."""
        value = self.headers.get(b"x-request-id")
        return value.decode() if value is not None and _SANE_ID.fullmatch(value) else None

    def get(self, key: StateKey[T]) -> T | None:
        """The value under ``key``, or None where no layer has set one."""
        value: T | None = self._values.get(key)
        if value is None and self._deferred is not None and key in self._deferred:
            value = self._values[key] = self._deferred.pop(key)()
        return value

    @property
    def values(self) -> Mapping[StateKey[Any], Any]:
        """All values by their keys, for who reads several. Read-only."""
        if self._deferred is not None:
            deferred, self._deferred = self._deferred, None
            for key, make in deferred.items():
                self._values.setdefault(key, make())
        return self._values

    def set(self, key: StateKey[T], value: T) -> None:
        """Set the value under ``key``."""
        self._values[key] = value

    def defer(self, key: StateKey[T], make: Callable[[], T]) -> None:
        """Set the value under ``key`` to what ``make`` gives, which is called if anybody reads it.

        Args:
            key: The key.
            make: Gives the value, at any later time, and does not fail.
        """
        self._values.pop(key, None)
        if self._deferred is None:
            self._deferred = {key: make}
        else:
            self._deferred[key] = make

    def update(self, values: Mapping[StateKey[Any], Any]) -> None:
        """Set several values at once."""
        self._values.update(values)

    def discard(self, *keys: StateKey[Any]) -> None:
        """Take values back, whether they are there or not: what they tell of was not the end."""
        values = cast("dict[StateKey[Any], Any]", self.values)
        for key in keys:
            values.pop(key, None)

    def fork(self) -> State:
        """A state for a request of a layer's own, made for this one: it has an id of its own."""
        forked = State(self._headers)
        forked._values = dict(self.values)
        return forked

    @property
    def last_document(self) -> Any:
        """What ``document`` gave last; None where no layer has asked for it. Read-only."""
        return self._document

    def branch(self) -> State:
        """A state for one of several attempts at this same request, made at the same time."""
        branched = self.fork()
        branched._request_id = self.request_id
        branched._document_source = self._document_source
        branched._document = self._document
        return branched

    def adopt(self, branched: State) -> None:
        """Go by what a branch says from now on, as if all of it had been said here."""
        self._values = branched._values
        self._deferred = branched._deferred
        self._event_log = branched._event_log

    def document(self, data: bytes) -> Any:
        """The parsed JSON of a request body, parsed once for all layers that see these bytes.

        Keyed on the identity of the bytes object: whoever rewrites the body hands on another
        object, and the next reader parses that one. The result is read-only.

        What is read first is what the client sent, and may not hold ``RESERVED_FIELD``. What other
        bytes hold a layer has written: one that rewrites a body has read it here before.

        Raises:
            InvalidRequestError: ``data`` is not acceptable JSON, or the client sent what only
                layers may write (``reserved_field``).
        """
        if data is not self._document_source:
            document = _json.decode(data)
            if (
                self._document_source is None
                and type(document) is dict
                and RESERVED_FIELD in document
            ):
                raise reserved_field()
            self._document = document
            self._document_source = data
        return self._document


def reserved_field() -> InvalidRequestError:
    """The error for a client that sends ``RESERVED_FIELD``."""
    return InvalidRequestError(
        f"{RESERVED_FIELD}: this field is reserved and cannot be sent",
        param=RESERVED_FIELD,
        code="reserved_field",
    )


def enter(scope: Scope) -> tuple[Scope, State]:
    """The state of this request, and a scope that carries it; made here if no layer did so yet."""
    state = scope.get(SCOPE_KEY)
    if isinstance(state, State):
        return scope, state
    state = State(scope.get("headers", ()))
    return {**cast("Mapping[str, Any]", scope), SCOPE_KEY: state}, state


PRINCIPAL: StateKey[Principal] = StateKey("principal")
"""Who is calling. Writer: AuthMiddleware, or a host's own authentication. Readers: limits, meters,
caches, logs."""

OPERATION: StateKey[Operation] = StateKey("operation")
"""What is asked for, as in ``gen_ai.operation.name``. Writer: ProviderApp. Readers: logs."""

REQUEST_MODEL: StateKey[str] = StateKey("request_model")
"""The model's name as the client gave it. Writer: ProviderApp. Readers: meters, logs."""

DEPLOYMENT: StateKey[Deployment] = StateKey("deployment")
"""Where to call. Writer: RouterMiddleware, anew for each attempt, else ProviderApp, which then
resolves the model's name itself.
Readers: ProviderApp, logs."""

USAGE: StateKey[Usage] = StateKey("usage")
"""Tokens as the provider reported them, set when the answer is over; an estimate, and flagged as
one, where a stream broke off before they came. Writer: ProviderApp, or a cache that asked another
app for a part of what was wanted. Readers: whoever meters or logs."""

RESPONSE_MODEL: StateKey[str] = StateKey("response_model")
"""The model that was called, in the provider's words. Writer: ProviderApp. Readers: meters,
logs."""

ATTEMPTS: StateKey[tuple[Attempt, ...]] = StateKey("attempts")
"""Every call made for this request so far, in order. Writers: ProviderApp, which appends one, and
RouterMiddleware, which gives those that it ended their cause. Readers: logs, RouterMiddleware."""

TRANSLATION_LOSS: StateKey[tuple[str, ...]] = StateKey("translation_loss")
"""Fields of the request that its provider could not be told, without indexes, as in
``messages.name``. Writer: ProviderApp. Readers: logs, meters."""

FAILURE: StateKey[LLMError] = StateKey("failure")
"""What kept the request from a whole answer, also after a stream had begun and could only end with
an error event. Writer: whoever refuses or fails. Readers: logs, meters, caches."""

LIMIT_STATUS: StateKey[LimitReport] = StateKey("limit_status")
"""What the limits said of the request. Writer: RateLimitMiddleware. Readers: logs, meters."""

UNCACHEABLE: StateKey[str] = StateKey("uncacheable")
"""Why the answer must not be kept, in one word such as ``guardrail`` or ``semantic``, set before
its last byte leaves. Placeholders that become originals again do not count. Writer: whoever has
changed the answer or cut it off. Readers: caches."""

CACHE_STATUS: StateKey[CacheReport] = StateKey("cache_status")
"""Whether the answer is a stored one. Writer: a cache, before the answer begins. Readers: meters,
logs."""

COST: StateKey[Cost] = StateKey("cost")
"""What all calls for the request cost together, set before its last byte leaves. Writer:
CostMiddleware. Readers: logs, meters."""

VERDICTS: StateKey[tuple[Verdict, ...]] = StateKey("verdicts")
"""What the guards found, at most 256, the request's first. Set before the app inside is called and
again before the last byte leaves. Writer: GuardrailsMiddleware. Readers: logs, meters, caches."""
